"""Encoding for jsonb parameters, which must not fail on text that came from elsewhere."""

from __future__ import annotations

import re
from typing import Any

import msgspec

_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")


def to_jsonb(value: object) -> str:
    """Encode as JSON without NUL characters or lone surrogates, which PostgreSQL rejects."""
    try:
        encoded = msgspec.json.encode(value, enc_hook=str).decode()
    except UnicodeEncodeError:
        encoded = msgspec.json.encode(_without_surrogates(msgspec.to_builtins(value, enc_hook=str))).decode()
    return _NUL.sub(r"\1", encoded) if "\\u0000" in encoded else encoded


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(each) for key, each in value.items()}
    return [_without_surrogates(each) for each in value] if isinstance(value, list) else value
