"""The records of an index: storage, partial updates, and selection of attributes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

_encode = msgspec.json.encode
_decode = msgspec.json.decode


NUMBER_OPERATIONS: dict[str, Callable[[float, float], float]] = {
    "Increment": lambda number, operand: number + operand,
    "Decrement": lambda number, operand: number - operand,
    "IncrementFrom": lambda number, _: number + 1,
    "IncrementSet": lambda _, operand: operand,
}
LIST_OPERATIONS = ("Add", "Remove", "AddUnique")


class Records:
    """The records of one index, as JSON, in the order in which they were added.

    A record keeps its place when it changes, and the place of a deleted one stays empty. A browse that continues from a
    place therefore neither misses nor repeats a record that existed all the time.
    """

    def __init__(self) -> None:
        self._places: dict[str, int] = {}
        self._stored: list[bytes | None] = []

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[bytes]:
        return (record for record in self._stored if record is not None)

    def copy(self) -> Records:
        """Return a copy. It shares the encoded records, which are immutable."""
        other = Records()
        other._places, other._stored = self._places.copy(), self._stored.copy()
        return other

    def get(self, object_id: str) -> bytes | None:
        """Return a record, or None if there is none."""
        place = self._places.get(object_id)
        return None if place is None else self._stored[place]

    def put(self, object_id: str, attributes: dict[str, Any]) -> None:
        """Add or replace a record."""
        record = _encode(attributes)
        place = self._places.setdefault(object_id, len(self._stored))
        if place == len(self._stored):
            self._stored.append(record)
        else:
            self._stored[place] = record

    def patch(self, object_id: str, attributes: dict[str, Any], *, create: bool) -> None:
        """Replace first-level attributes of a record. Add a missing record if `create`, otherwise ignore it."""
        record = self.get(object_id)
        if record is None and not create:
            return
        merged = merge(_decode(record) if record else None, attributes)
        if merged is not None:
            self.put(object_id, merged)

    def remove(self, object_id: str) -> None:
        """Delete a record, if it exists."""
        place = self._places.pop(object_id, None)
        if place is not None:
            self._stored[place] = None

    def page(self, first: int, size: int) -> tuple[list[bytes], int | None]:
        """Return up to `size` records from a place on, and the place of the next one; None if there is no next one."""
        found: list[bytes] = []
        for place in range(first, len(self._stored)):
            record = self._stored[place]
            if record is not None:
                if len(found) == size:
                    return found, place
                found.append(record)
        return found, None


def merge(record: dict[str, Any] | None, attributes: dict[str, Any]) -> dict[str, Any] | None:
    """Return the record (None: a new one) with other attributes; None if an operation forbids the change."""
    merged = dict(record or {})
    for name, value in attributes.items():
        if not (isinstance(value, dict) and "_operation" in value):
            merged[name] = value
            continue
        operation, operand, current = value["_operation"], value["value"], merged.get(name)
        number = _number(current)
        if (operation == "IncrementFrom" and operand != number) or (operation == "IncrementSet" and operand <= number):
            return None
        if operation in LIST_OPERATIONS:
            merged[name] = _list_operation(operation, current if isinstance(current, list) else [], operand)
        else:
            merged[name] = NUMBER_OPERATIONS[operation](number, operand)
    return merged


def _number(value: Any) -> float:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else 0


def _list_operation(operation: str, current: list[Any], operand: Any) -> list[Any]:
    if operation == "Remove":
        return [value for value in current if value != operand]
    if operation == "AddUnique" and operand in current:
        return current
    return [*current, operand]


def check_operations(attributes: dict[str, Any]) -> None:
    """Raise ValueError for a built-in operation that is unknown or has no valid value."""
    for name, value in attributes.items():
        if isinstance(value, dict) and "_operation" in value:
            operation, operand = value["_operation"], value.get("value")
            if operation not in (*NUMBER_OPERATIONS, *LIST_OPERATIONS):
                raise ValueError(f"Unknown operation {operation!r} for attribute {name}")
            if "value" not in value:
                raise ValueError(f"Operation {operation} for attribute {name} has no value")
            if operation in NUMBER_OPERATIONS and (isinstance(operand, bool) or not isinstance(operand, int | float)):
                raise ValueError(f"Operation {operation} for attribute {name} needs a number")


def show(records: Iterable[bytes], attributes: Sequence[str] | None) -> Raw:
    """Return records as a JSON array with objectID and these first-level attributes; None or `*`: all attributes."""
    array = b"[%b]" % b",".join(records)
    if attributes is None or "*" in attributes:
        return Raw(array)
    return Raw(_encode(_narrow(tuple(dict.fromkeys(["objectID", *attributes]))).decode(array)))


@lru_cache(maxsize=64)
def _narrow(attributes: tuple[str, ...]) -> msgspec.json.Decoder[Any]:
    """Return a decoder for these attributes only; their values stay encoded."""
    names = {f"attribute_{number}": attribute for number, attribute in enumerate(attributes)}
    fields = [(name, Raw | UnsetType, UNSET) for name in names]
    return msgspec.json.Decoder(list[msgspec.defstruct("Narrowed", fields, rename=names, gc=False)])  # type: ignore[misc]
