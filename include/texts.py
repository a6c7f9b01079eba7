"""Texts that people read."""

from __future__ import annotations


def shortened(text: str, max_length: int) -> str:
    """Return `text` with at most `max_length` characters; a longer one ends in an ellipsis."""
    return text if len(text) <= max_length else f"{text[: max_length - 1]}…"
