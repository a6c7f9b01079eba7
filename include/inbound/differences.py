"""What differs between two versions of an object, and how a dry run tells it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec.structs import astuple

from include.masking import MASK, Fields, is_personal, masked
from include.models import Providable
from include.store.tables import Table


def changes(names: Sequence[str], after: Sequence[Any], before: Sequence[Any]) -> list[str]:
    """The names of the values that differ."""
    try:
        return [name for name, a, b in zip(names, after, before, strict=True) if a is not b and a != b]
    except ArithmeticError:  # a signalling NaN cannot be compared: it differs
        return [name for name, a, b in zip(names, after, before, strict=True) if a is not b and repr(a) != repr(b)]


def own_copy(values: Sequence[Any]) -> list[Any]:
    """The values, with documents and lists that a provider may change without changing what we compare with."""
    return [_copied(value) if isinstance(value, (dict, list)) else value for value in values]


def _copied(document: dict[str, Any] | list[Any]) -> Any:
    """A document of its own: what `copy.deepcopy` makes of JSON, in a third of the time."""
    if isinstance(document, dict):
        return {name: _copied(part) if isinstance(part, (dict, list)) else part for name, part in document.items()}
    return [_copied(part) if isinstance(part, (dict, list)) else part for part in document]


def difference(key: str, change: str, obj: Providable, before: Sequence[Any], masking: Fields) -> dict[str, Any]:
    """What a dry run tells of an object: its table, key, change, and per field the old and the new value."""
    after = dict(zip(obj.__struct_fields__, astuple(obj), strict=True))
    held = dict(zip(obj.__struct_fields__, before, strict=True))
    fields = {
        name: [MASK, MASK] if is_personal(name, masking) else masked([held[name], after[name]], masking)
        for name in changes(obj.__struct_fields__, astuple(obj), before)
        if name != "id"
    }
    return {"table": type(obj).table_name, "key": key, "change": change, "fields": msgspec.to_builtins(fields)}


def keep_protected(table: Table, obj: Providable, values: Sequence[Any], protected: Sequence[str]) -> list[str]:
    """Give the protected fields of a filled object back what the row holds; returns those that differed."""
    names = [name for name in protected if name in table.writable]
    held = [values[table.columns.index(name)] for name in names]
    differing = changes(names, [getattr(obj, name) for name in names], held)
    for name, value in zip(names, held, strict=True):
        setattr(obj, name, value)
    return differing
