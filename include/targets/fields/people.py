"""Names and e-mail addresses, in the form in which source fields return them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import idna

from include.models.orders import Inputs
from include.targets.fields.field import TEXT, Category, Field

NOT_IN_FULL_NAME = frozenset({"salutation", "calling_name", "latin_transcription"})
LEGACY_PARTS = ("given_name", "family_name")


def name_fields(
    make: Callable[..., Field],
    key: str,
    label: str,
    category: Category,
    *,
    scheme: Sequence[str],
    parts_of: Callable[[Inputs], Mapping[str, str]],
    missing: str | None = "",
) -> list[Field]:
    """Return the fields of a person's name: the full name (`missing` if there is none), and each of its parts.

    `scheme` are the parts that the event collects; LEGACY_PARTS that it does not collect are split off the full name.
    """

    def name(inputs: Inputs) -> str:
        return full_name(parts_of(inputs), scheme)

    def part_field(part: str) -> Field:
        def value(inputs: Inputs) -> str:
            return str(parts_of(inputs).get(part) or "") if part in scheme else _legacy_part(name(inputs), part)

        part_label = part.replace("_", " ").capitalize()
        is_deprecated = part not in scheme or len(scheme) == 1
        return make(f"{key}_{part}", f"{label}: {part_label}", TEXT, category, value, is_deprecated=is_deprecated)

    parts = [*scheme, *[part for part in LEGACY_PARTS if part not in scheme]]
    return [make(key, label, TEXT, category, lambda inputs: name(inputs) or missing), *map(part_field, parts)]


def full_name(parts: Mapping[str, str], scheme: Sequence[str]) -> str:
    """Return the full name: its parts in the order of the scheme, and a degree after a comma.

    A name without any of the scheme's parts (the scheme changed since) is composed of the parts it has.
    """
    if parts.get("full_name"):
        return str(parts["full_name"])
    used = scheme if any([parts.get(part) for part in scheme]) else list(parts)
    words = [str(parts[part]) for part in used if parts.get(part) and part != "degree" and part not in NOT_IN_FULL_NAME]
    return ", ".join(filter(None, (" ".join(words), parts.get("degree"))))


def _legacy_part(name: str, part: str) -> str:
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
