"""Mask personal data wherever values are stored or shown for diagnosis: payloads, differences of a dry run, logs."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

MASK = "***"


class Fields(NamedTuple):
    """How a source differs from the default: additional personal fields, and fields that are public there."""

    personal: frozenset[str] = frozenset()
    public: frozenset[str] = frozenset()


USUAL = Fields()


PERSONAL_FIELDS = frozenset(
    {"email", "mail", "phone", "telephone", "mobile", "firstname", "lastname", "fullname", "address", "street",
     "birthdate", "dateofbirth", "iban", "password", "token"}
)  # fmt: skip
_ENDINGS = ("email", "phone", "telephone", "mobile", "address", "password", "token")
_NAMED_VALUE = re.compile(
    r"""((?:["']?)(?<![\w-])([\w-]+)["']?\s*[:=]\s*)("(?:[^"\\]|\\.)*"?|'(?:[^'\\]|\\.)*'?|[^,}\s]+)"""
)


def masked(value: Any, fields: Fields = USUAL) -> Any:
    """Return a copy of a plain value (dictionaries and lists, nested) in which personal fields are masked."""
    if isinstance(value, dict):
        return {
            key: MASK if isinstance(key, str) and is_personal(key, fields) else masked(item, fields)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [masked(item, fields) for item in value]
    return value


def masked_text(text: str, fields: Fields = USUAL) -> str:
    """Return a text with personal fields masked. Fields are recognized by pattern: `"email": "…"`, `email=…`."""
    return _NAMED_VALUE.sub(lambda match: f"{match[1]}{MASK}" if is_personal(match[2], fields) else match[0], text)


def is_personal(name: str, fields: Fields = USUAL) -> bool:
    """Return whether a field of this name is masked: `booking_email`, `bookingEmail` and `email` are treated alike."""
    plain = _plain(name)
    if plain in map(_plain, fields.personal):
        return True
    return (plain in PERSONAL_FIELDS or plain.endswith(_ENDINGS)) and plain not in map(_plain, fields.public)


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")
