"""Counts of a pass over an index."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

MAX_SAMPLES = 20
MAX_VALUES = 100
"""Different values, or remarks, that are counted separately; all further ones count as `OTHERS`."""
OTHERS = "(others)"


class PatchCounts(msgspec.Struct):
    """Counts of one patch: records that differ, records left unchanged, and the frequency of each value and remark."""

    changed: int = 0
    left_alone: int = 0
    values: dict[str, int] = {}
    remarks: dict[str, int] = {}


class PassReport(msgspec.Struct):
    """Counts of one pass. They are stored with its checkpoint, so that a resumed pass continues to count.

    :param read: records read.
    :param total: records of the index, as Algolia announced them.
    :param changed: records with at least one value that differs.
    :param batches: batches that Algolia accepted.
    :param samples: the first changes, each with `objectID`, `before` and `after`.
    :param refused: by `objectID`, why the first records could not be patched: Algolia's message, or the patch's error.
    :param refused_count: records that could not be patched.
    """

    read: int = 0
    total: int | None = None
    changed: int = 0
    batches: int = 0
    seconds: float = 0.0
    patches: dict[str, PatchCounts] = {}
    samples: list[dict[str, Any]] = []
    refused: dict[str, str] = {}
    refused_count: int = 0

    def add_sample(self, record: Mapping[str, Any], changes: Mapping[str, Any]) -> None:
        """Add a change to the samples until they are full. `before` lacks attributes that the record lacks."""
        if len(self.samples) < MAX_SAMPLES:
            before = {name: record[name] for name in changes if name in record}
            self.samples.append({"objectID": record.get("objectID"), "before": before, "after": dict(changes)})

    def add_refused(self, object_id: object, reason: str) -> None:
        """Count a record that could not be patched."""
        self.refused_count += 1
        if len(self.refused) < MAX_SAMPLES:
            self.refused[str(object_id)] = reason


def count(counts: dict[str, int], value: object) -> None:
    """Count a value, under its text or its JSON, among at most `MAX_VALUES` different ones."""
    key = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    if key not in counts and len(counts) >= MAX_VALUES:
        key = OTHERS
    counts[key] = counts.get(key, 0) + 1


def readable(value: str) -> str:
    """Return a counted value for people: quoted if it is empty or has spaces at an end."""
    return value if value and value == value.strip() else repr(value)
