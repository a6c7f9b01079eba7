"""Patching a search index: this project next to the helpers of the service's own client, on the sandbox's index."""

APPLICATION = "SANDBOX"
KEY, PATCHING_KEY = "sandbox-admin", "sandbox-patch"
"""The key of the harness, and the one that the competitors use."""
