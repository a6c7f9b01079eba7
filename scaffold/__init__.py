"""Writes a new inbound provider that already runs: `make new-provider NAME=acme`."""
