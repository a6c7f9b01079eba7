"""The demo venues and products, as rows of the database."""

from __future__ import annotations


def load(conninfo: str) -> None:
    """Add what is missing."""
