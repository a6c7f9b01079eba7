"""Names and e-mail addresses, as source fields give them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import idna

NOT_IN_FULL_NAME = frozenset({"salutation", "calling_name", "latin_transcription"})
LEGACY_PARTS = ("given_name", "family_name")


def part_label(part: str) -> str:
    """`given_name` → Given name."""
    return part.replace("_", " ").capitalize()


def name_part(parts: Mapping[str, Any], part: str) -> str:
    """One part of a name, "" without it."""
    return str(parts.get(part) or "")


def full_name(parts: Mapping[str, Any], scheme: Sequence[str]) -> str:
    """A name in one piece: its parts in the order of the scheme, a degree after a comma.

    A name that has none of the scheme's parts, because the scheme changed, is put together from those it has.
    """
    if parts.get("full_name"):
        return str(parts["full_name"])
    wanted = scheme if any([parts.get(part) for part in scheme]) else list(parts)
    words = [
        str(parts[part]) for part in wanted if parts.get(part) and part != "degree" and part not in NOT_IN_FULL_NAME
    ]
    degree = name_part(parts, "degree")
    return ", ".join(filter(None, (" ".join(words), degree)))


def legacy_part(name: str, part: str) -> str:
    """The given or family name of a name in one piece, which is split at its last space."""
    given, space, family = name.rpartition(" ")
    if not space:
        given, family = name, ""
    return given if part == "given_name" else family


def ascii_email(email: str | None) -> str | None:
    """The address with its host in punycode; what is no such address is left as it is."""
    if not email:
        return None
    if email.isascii() or email.count("@") != 1:
        return email
    user, _, host = email.partition("@")
    try:
        return f"{user}@{idna.encode(host, uts46=True).decode()}"
    except idna.IDNAError:
        return email


def email_domain(email: str | None) -> str | None:
    """The host of an address in punycode."""
    address = ascii_email(email)
    return (address.rpartition("@")[2] or None) if address and "@" in address else None
