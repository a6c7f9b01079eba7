"""Names and e-mail addresses, in the form in which source fields return them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import idna

NOT_IN_FULL_NAME = frozenset({"salutation", "calling_name", "latin_transcription"})
LEGACY_PARTS = ("given_name", "family_name")


def part_label(part: str) -> str:
    """Return the label of a name part: `given_name` → "Given name"."""
    return part.replace("_", " ").capitalize()


def name_part(parts: Mapping[str, str], part: str) -> str:
    """Return one part of a name, "" if it is missing."""
    return str(parts.get(part) or "")


def full_name(parts: Mapping[str, str], scheme: Sequence[str]) -> str:
    """Return the full name: its parts in the order of the scheme, and a degree after a comma.

    A name without any of the scheme's parts (the scheme changed since) is composed of the parts it has.
    """
    if parts.get("full_name"):
        return str(parts["full_name"])
    used = scheme if any([parts.get(part) for part in scheme]) else list(parts)
    words = [str(parts[part]) for part in used if parts.get(part) and part != "degree" and part not in NOT_IN_FULL_NAME]
    degree = name_part(parts, "degree")
    return ", ".join(filter(None, (" ".join(words), degree)))


def legacy_part(name: str, part: str) -> str:
    """Return the given or family name from a full name, which is split at its last space."""
    given, space, family = name.rpartition(" ")
    if not space:
        given, family = name, ""
    return given if part == "given_name" else family


def ascii_email(email: str | None) -> str | None:
    """Return the address with its host in punycode; anything but a valid address is unchanged."""
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
    """Return the host of an address in punycode, None if there is none."""
    address = ascii_email(email)
    return (address.rpartition("@")[2] or None) if address and "@" in address else None
