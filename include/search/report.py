"""What a pass over an index found and did."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

MAX_SAMPLES = 20
MAX_VALUES = 100
"""Different values, or remarks, that are counted one by one."""
OTHERS = "(others)"


class PatchCounts(msgspec.Struct):
    """What one patch found: records to change, left alone, and how often each value and remark came."""

    changed: int = 0
    left_alone: int = 0
    values: dict[str, int] = {}
    remarks: dict[str, int] = {}


class PassReport(msgspec.Struct):
    """Counts of one pass. It is what is kept in PostgreSQL, so that a pass that was killed goes on counting.

    `samples` are the first changes, `refused` the first records that could not be patched, and why: what Algolia said,
    or what the patch raised.
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

    def add_sample(self, object_id: object, held: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
        """Keep a change, if it is one of the first; an attribute that was not there is left out of `before`."""
        if len(self.samples) < MAX_SAMPLES:
            before = {name: held[name] for name in wanted if name in held}
            self.samples.append({"objectID": object_id, "before": before, "after": dict(wanted)})

    def add_refused(self, object_id: object, reason: str) -> None:
        """Note a record that could not be patched."""
        self.refused_count += 1
        if len(self.refused) < MAX_SAMPLES:
            self.refused[str(object_id)] = reason


def count(counts: dict[str, int], value: object) -> None:
    """Count a value among at most a hundred different ones."""
    shown = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    if shown not in counts and len(counts) >= MAX_VALUES:
        shown = OTHERS
    counts[shown] = counts.get(shown, 0) + 1


def shown(value: str) -> str:
    """A counted value as people read it: quoted if it would not be seen whole."""
    return value if value and value == value.strip() else repr(value)
