"""Patching a search index: this project beside the helpers of the service's own client, on the sandbox's index."""
