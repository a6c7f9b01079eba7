"""Personal data is masked wherever values are kept or shown for diagnosis: payloads, and differences of a dry run."""

from __future__ import annotations

import re
from typing import Any

MASK = "***"
PERSONAL_FIELDS = frozenset(
    {"email", "mail", "phone", "telephone", "mobile", "firstname", "lastname", "fullname", "address", "street",
     "birthdate", "dateofbirth", "iban", "password", "token"}
)  # fmt: skip
_ENDINGS = ("email", "phone", "telephone", "mobile", "address", "password", "token")
_NAMED_VALUE = re.compile(
    r"""((?:["']?)(?<![\w-])([\w-]+)["']?\s*[:=]\s*)("(?:[^"\\]|\\.)*"?|'(?:[^'\\]|\\.)*'?|[^,}\s]+)"""
)


def masked(value: Any, more_fields: frozenset[str] = frozenset()) -> Any:
    """Plain values (dictionaries, lists and what is in them) with those of personal fields replaced."""
    if isinstance(value, dict):
        return {
            key: MASK if isinstance(key, str) and is_personal(key, more_fields) else masked(item, more_fields)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [masked(item, more_fields) for item in value]
    return value


def masked_text(text: str, more_fields: frozenset[str] = frozenset()) -> str:
    """Text in which personal fields are told by pattern: `"email": "…"`, `email=…`."""
    return _NAMED_VALUE.sub(lambda match: f"{match[1]}{MASK}" if is_personal(match[2], more_fields) else match[0], text)


def is_personal(name: str, more_fields: frozenset[str] = frozenset()) -> bool:
    """Whether a field of this name is masked: `booking_email`, `bookingEmail` and `email` alike."""
    plain = _plain(name)
    return plain in PERSONAL_FIELDS or plain.endswith(_ENDINGS) or plain in {_plain(field) for field in more_fields}


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")
