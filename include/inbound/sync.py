"""The public import path of the engine: `from include.inbound.sync import sync_provider`."""

from include.inbound.run import sync_provider

__all__ = ["sync_provider"]
