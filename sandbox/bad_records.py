"""Bad records of a listing, whatever it lists: the fault `bad_records` and its kinds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sandbox.faults import Rule
from sandbox.world import salt, scatter

Spoiler = Callable[[Mapping[str, Any]], bytes]


def write(record: object) -> bytes:
    """Return a record as JSON; what is no Unicode in it is escaped."""
    try:
        return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        return json.dumps(record, separators=(",", ":")).encode()


def kinds(*names: str) -> dict[str, Spoiler]:
    """Return kinds of bad records for objects with these keys: one missing, null or a list, or no object at all."""

    def spoiler(name: str, value: object) -> Spoiler:
        return lambda record: write({k: v for k, v in (record | {name: value}).items() if v is not ...})

    found = {
        f"{what}_{name}": spoiler(name, value)
        for name in names
        for what, value in (("missing", ...), ("null", None), ("list", ["?"]))
    }
    return {**found, "not_an_object": lambda _record: b'"nothing"'}


def bad_kind(seed: int, key: str, kinds: Sequence[str], share: float = 1.0) -> str | None:
    """Return how `bad_records` spoils the record of a key; None: it leaves it alone."""
    drawn = scatter(int(key) if key.isdecimal() else salt(key), salt(seed, "bad"))
    return kinds[drawn % len(kinds)] if drawn < share * 2**32 else None


def render(
    seed: int,
    page: Iterable[Mapping[str, Any]],
    key: Callable[[Mapping[str, Any]], str],
    fired: Mapping[str, Rule],
    spoilers: Mapping[str, Spoiler],
) -> list[bytes]:
    """Return the records of a page as JSON, some of them spoilt if the fault `bad_records` struck."""
    rule = fired.get("bad_records")
    if rule is None:
        return [write(record) for record in page]
    chosen = ((record, bad_kind(seed, key(record), rule.kinds, rule.share)) for record in page)
    return [write(record) if kind is None else spoilers[kind](record) for record, kind in chosen]
