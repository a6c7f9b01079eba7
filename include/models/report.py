"""The report of a sync: counts of objects, seconds per step, and a sample of differences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

MAX_REASON_LENGTH = 120
"""Length at which a rejection's reason is cut in a report."""
SAMPLE_SIZE = 20
"""Differences per table, and reasons, that a report has at most."""


class SyncReport(msgspec.Struct):
    """Counts and seconds of one operation instance, over all its attempts. The ledger stores these names.

    `records` is what the source listed; `checked` counts the objects that they describe, and
    checked = created + updated + unchanged + skipped + rejected.
    `moved` counts those of `updated` whose row took over another key.
    `gone` counts rows marked as removed because a complete listing lacks them; they are not among `checked`. Rows that
    were removed before and are only filled again are not counted.
    `held_back` counts objects that keep a manual override which differs from the provider's value.

    Seconds per step: `fetch_seconds` waiting for pages, which are downloaded while the database works;
    `iterate_seconds` for *read*; `diff_seconds` for *compare*; `upsert_seconds` for *fill* and *write*.
    """

    records: int = 0
    checked: int = 0
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    skipped: int = 0
    rejected: int = 0
    chunks: int = 0
    fetch_seconds: float = 0.0
    iterate_seconds: float = 0.0
    diff_seconds: float = 0.0
    upsert_seconds: float = 0.0
    seconds: float = 0.0
    dry_run: bool = False
    differences: list[dict[str, Any]] = []
    """Dry run only: the first changes per table, each with table, key, and per field the old and the new value."""
    reasons: dict[str, int] = {}
    """Rejected records by reason; see `count_reason`."""
    checked_thumbs: int = 0
    """Images that records have. Of them, `created_thumbs` are new, `updated_thumbs` replaced others, and
    `failed_thumbs` could not be downloaded or used; their objects are counted as if they had none."""
    created_thumbs: int = 0
    updated_thumbs: int = 0
    failed_thumbs: int = 0
    thumb_errors: dict[str, int] = {}
    """Failed images by reason."""
    thumb_seconds: float = 0.0
    state: str = "done"
    gone: int = 0
    held_back: int = 0
    held_back_fields: dict[str, int] = {}
    """Fields with a manual override that was kept, as `table.field`, with the number of objects."""
    known_up_to: dict[str, int] = {}
    """Complete listings only: highest primary key per table when a listing was last accepted. See `inbound.removed`."""
    written: dict[str, int] = {}
    """Rows created, updated or marked as removed, by table; in a dry run, the rows that would be."""
    done_before: int = 0
    """Objects created or updated by earlier attempts, which this one has not read again yet."""
    moved: int = 0

    def count_unchanged(self, count: int) -> None:
        """Count unchanged objects, except those that an earlier attempt created or updated: they are counted."""
        read_again = min(count, self.done_before)
        self.done_before -= read_again
        self.unchanged += count - read_again

    def count_written(self, table: str, rows: int) -> None:
        """Count rows of a table that were written."""
        if rows:
            self.written[table] = self.written.get(table, 0) + rows

    def count_held_back(self, objects: int, fields: Mapping[str, int]) -> None:
        """Count objects that keep a manual override, and the fields."""
        self.held_back += objects
        for name, number in fields.items():
            self.held_back_fields[name] = self.held_back_fields.get(name, 0) + number

    def start_again(self) -> None:
        """Prepare for reading the source from its start: what earlier attempts wrote will come again as unchanged."""
        self.done_before = self.created + self.updated
        self.records = self.checked = self.unchanged = self.skipped = self.rejected = 0
        self.reasons = {}
        self.held_back, self.held_back_fields = 0, {}
        self.checked_thumbs = self.failed_thumbs = 0
        self.thumb_errors = {}

    def copy(self) -> SyncReport:
        """Return a copy that shares no counts with this report."""
        return msgspec.structs.replace(
            self,
            reasons=dict(self.reasons),
            differences=list(self.differences),
            held_back_fields=dict(self.held_back_fields),
            thumb_errors=dict(self.thumb_errors),
            written=dict(self.written),
        )

    def end(self) -> None:
        """End a listing: objects that earlier attempts wrote, and this one did not read again, were checked too."""
        self.checked += self.done_before
        self.done_before = 0

    def saved(self) -> dict[str, Any]:
        """Return what the ledger stores: all fields but the differences, which are for the log."""
        return {name: value for name, value in msgspec.structs.asdict(self).items() if name != "differences"}

    def summary(self) -> str:
        """Return one line for logs: what may need attention comes first, counts of zero are left out."""
        fields = sorted(self.held_back_fields.items(), key=lambda one: (-one[1], one[0]))
        overrides = ", ".join(f"{name} {number:,}" for name, number in fields)
        counts = {
            "rejected": self.rejected,
            "removed": self.gone,
            "created": self.created,
            "updated": self.updated,
            "moved to another key": self.moved,
            "unchanged": self.unchanged,
            "skipped": self.skipped,
            f"with manual overrides kept ({overrides})": self.held_back,
        }
        images = {"failed": self.failed_thumbs, "stored": self.created_thumbs + self.updated_thumbs}
        rate = self.records / self.seconds if self.seconds else 0.0
        pictured = f"; images: {_listed(images)}" if self.checked_thumbs else ""
        return (
            f"{'Dry run, nothing written: ' if self.dry_run else ''}{_listed(counts)}{pictured}; "
            f"{self.records:,} records in {self.seconds:.1f} s ({rate:,.0f}/s)"
        )


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number:,} {words}" for words, number in counts.items() if number) or "none"


def count_reason(counts: dict[str, int], reason: str, count: int = 1) -> None:
    """Count a reason, which is cut; reasons after the first `SAMPLE_SIZE` are left out."""
    reason = storable(reason)
    general = reason if len(reason) <= MAX_REASON_LENGTH else f"{reason[:MAX_REASON_LENGTH]}…"
    if general in counts or len(counts) < SAMPLE_SIZE:
        counts[general] = counts.get(general, 0) + count


def storable(text: str) -> str:
    """Return a text that PostgreSQL can store: without NUL and lone surrogates."""
    return text.replace("\x00", "\\u0000").encode("utf-8", "replace").decode()
