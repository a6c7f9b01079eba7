"""The records of an index: storage, partial updates, and selection of attributes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

_encode = msgspec.json.encode
_decode = msgspec.json.decode


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
        if record is not None or create:
            self.put(object_id, (_decode(record) if record else {}) | attributes)

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
