"""What a sync did: counts of objects, seconds per step, and a sample of differences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

MAX_REASON_LENGTH = 120
"""Characters of a rejection's reason in a report."""
SAMPLE_SIZE = 20
"""Differences of a table, and reasons, kept for a report."""


class SyncReport(msgspec.Struct):
    """Counts and seconds of one operation instance, over all its tries.

    `records` are what the source listed; `checked` are the objects that they describe, and
    checked = created + updated + unchanged + skipped + rejected.
    `moved` are those of `updated` whose row took over another key.
    `gone` are marked rows that a complete listing did not have: they were not listed, so they are not among `checked`.
    Those that were gone before and are filled anew, since their bookings changed say, are counted nowhere.
    `held_back` are objects of which something was kept as a person edited it, though the provider says otherwise.
    `fetch_seconds` is the time the engine waited for pages, which are fetched while the database works.
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
    """Dry run only: the first changes of each table, each with table, key and per field the old and the new value."""
    reasons: dict[str, int] = {}
    """Why records were rejected, with how many for each reason; the rarest are left out."""
    checked_thumbs: int = 0
    """Pictures that records have; of them created_thumbs are new, updated_thumbs replaced others, failed_thumbs could
    not be had or used. Their objects are counted as if these had none."""
    created_thumbs: int = 0
    updated_thumbs: int = 0
    failed_thumbs: int = 0
    thumb_errors: dict[str, int] = {}
    """Why pictures failed, with how many for each reason; the rarest are left out."""
    thumb_seconds: float = 0.0
    state: str = "done"
    gone: int = 0
    held_back: int = 0
    held_back_fields: dict[str, int] = {}
    """Which fields of which tables were held back, with how many of each."""
    known_up_to: dict[str, int] = {}
    """Complete listings only: highest primary key per table when one was last accepted. See `inbound.removed`."""
    written: dict[str, int] = {}
    """Rows created, updated or marked as removed, by table; in a dry run, those that would be."""
    done_before: int = 0
    """Created or updated by earlier tries that listed the source from its start too, and not met again yet."""
    moved: int = 0

    def count_unchanged(self, count: int) -> None:
        """Count unchanged objects, less those that an earlier try created or updated: they are counted already."""
        met_again = min(count, self.done_before)
        self.done_before -= met_again
        self.unchanged += count - met_again

    def count_written(self, table: str, rows: int) -> None:
        """Count rows of a table that were written."""
        if rows:
            self.written[table] = self.written.get(table, 0) + rows

    def count_held_back(self, objects: int, fields: Mapping[str, int]) -> None:
        """Count objects of which something was held back, and the fields."""
        self.held_back += objects
        for name, number in fields.items():
            self.held_back_fields[name] = self.held_back_fields.get(name, 0) + number

    def count_reason(self, reason: str) -> None:
        """Count a rejection under the beginning of its reason."""
        _count(self.reasons, reason, 1)

    def count_image_error(self, reason: str, count: int) -> None:
        """Count pictures that failed, in the same way."""
        _count(self.thumb_errors, reason, count)

    def start_again(self) -> None:
        """Prepare for listing the source once more from its start.

        What earlier tries created and updated will be met again as unchanged, and is counted once.
        """
        self.done_before = self.created + self.updated
        self.records = self.checked = self.unchanged = self.skipped = self.rejected = 0
        self.reasons = {}
        self.held_back, self.held_back_fields = 0, {}
        self.checked_thumbs = self.failed_thumbs = 0
        self.thumb_errors = {}

    def copy(self) -> SyncReport:
        """A report of its own that can be counted on."""
        return msgspec.structs.replace(
            self,
            reasons=dict(self.reasons),
            differences=list(self.differences),
            held_back_fields=dict(self.held_back_fields),
            thumb_errors=dict(self.thumb_errors),
            written=dict(self.written),
        )

    def end(self) -> None:
        """Add up at the end of a listing: what earlier tries did and this one did not meet again was checked too."""
        self.checked += self.done_before
        self.done_before = 0

    def saved(self) -> dict[str, Any]:
        """As kept in the ledger: without the differences, which are for the log."""
        return {name: value for name, value in msgspec.structs.asdict(self).items() if name != "differences"}

    @property
    def records_per_second(self) -> float:
        """Records listed per second of wall time."""
        return self.records / self.seconds if self.seconds else 0.0

    def summary(self) -> str:
        """Return one line for logs: what needs a look comes first, counts of zero are left out."""
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
        pictured = f"; images: {_listed(images)}" if self.checked_thumbs else ""
        return (
            f"{'Dry run, nothing written: ' if self.dry_run else ''}{_listed(counts)}{pictured}; "
            f"{self.records:,} records in {self.seconds:.1f} s ({self.records_per_second:,.0f}/s)"
        )


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number:,} {words}" for words, number in counts.items() if number) or "none"


def _count(counts: dict[str, int], reason: str, count: int) -> None:
    reason = storable(reason)
    general = reason if len(reason) <= MAX_REASON_LENGTH else f"{reason[:MAX_REASON_LENGTH]}…"
    if general in counts or len(counts) < SAMPLE_SIZE:
        counts[general] = counts.get(general, 0) + count


def storable(text: str) -> str:
    """A text that PostgreSQL can hold: without NUL and lone surrogates."""
    return text.replace("\x00", "\\u0000").encode("utf-8", "replace").decode()
