"""Corrupt records of any listing: the fault `bad_records` and its kinds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sandbox.faults import Rule
from sandbox.world import salt, scatter

Corruption = Callable[[Mapping[str, Any]], bytes]
"""Turns a good record into the JSON of a bad one."""


def write(record: object) -> bytes:
    """Return a record as compact JSON; lone surrogates, which UTF-8 cannot encode, are escaped."""
    try:
        return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        return json.dumps(record, separators=(",", ":")).encode()


def kinds(*names: str) -> dict[str, Corruption]:
    """Return corruptions for objects with these keys: each key missing, null or a list; or not an object at all."""

    def corruption(name: str, value: object) -> Corruption:
        return lambda record: write({k: v for k, v in (record | {name: value}).items() if v is not ...})

    found = {
        f"{what}_{name}": corruption(name, value)
        for name in names
        for what, value in (("missing", ...), ("null", None), ("list", ["?"]))
    }
    return {**found, "not_an_object": lambda _record: b'"nothing"'}


def bad_kind(seed: int, key: str, kinds: Sequence[str], share: float = 1.0) -> str | None:
    """Return the kind of corruption that `bad_records` applies to the record of a key; None if it stays good."""
    drawn = scatter(int(key) if key.isdecimal() else salt(key), salt(seed, "bad"))
    return kinds[drawn % len(kinds)] if drawn < share * 2**32 else None


def render(
    seed: int,
    page: Iterable[Mapping[str, Any]],
    key: Callable[[Mapping[str, Any]], str],
    active: Mapping[str, Rule],
    corruptions: Mapping[str, Corruption],
) -> list[bytes]:
    """Return the records of a page as JSON, corrupted as the fault `bad_records` says if it is active."""
    rule = active.get("bad_records")
    if rule is None:
        return [write(record) for record in page]
    chosen = ((record, bad_kind(seed, key(record), rule.kinds, rule.share)) for record in page)
    return [write(record) if kind is None else corruptions[kind](record) for record, kind in chosen]
