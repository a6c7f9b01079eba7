"""What one attempt to save a chunk counts: objects by result, rejections, and the differences of a dry run."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any

import psycopg

from include.errors import FatalError, ProviderSyncError, RetryableError, SkipObject
from include.inbound.differences import difference
from include.inbound.images import ChunkImages
from include.inbound.rejections import Rejection
from include.masking import Fields
from include.models import Providable
from include.models.report import SAMPLE_SIZE, SyncReport, count_reason
from include.providers.base import ProvidableInfo
from include.store.rows import RowsRefused
from include.store.tables import Table

log = logging.getLogger(__name__)


class Tally:
    """Counts of one attempt; `add_to` adds them to the run's report once the chunk is written."""

    def __init__(self, masking: Fields, *, rejection_prefix: str = "") -> None:
        self.records = self.chunks = 0
        self.checked = self.created = self.updated = self.unchanged = self.skipped = 0
        self.rekeyed = self.removed = 0
        self.rejections: list[Rejection] = []
        self.differences: list[dict[str, Any]] = []
        self.compare_seconds = self.write_seconds = 0.0
        self.images = ChunkImages()
        self.image_changes: dict[tuple[type[Providable], str], tuple[int, int]] = {}
        """Images created and updated, per object."""
        self.written: Counter[str] = Counter()
        """Rows written, by table."""
        self._overridden = 0
        self._overridden_fields: Counter[str] = Counter()
        self._differing: Counter[type[Providable]] = Counter()
        self._masking = masking
        self._rejection_prefix = rejection_prefix

    def count_overrides(self, table: Table, names: Sequence[str]) -> None:
        """Count an object of which these fields keep a manual override that differs from the provider's value."""
        if names:
            self._overridden += 1
            self._overridden_fields.update([f"{table.name}.{name}" for name in names])

    def set_aside(self, info: ProvidableInfo, error: Exception) -> None:
        """Skip or reject an object that could not be filled; re-raise errors that affect more than this object."""
        if isinstance(error, SkipObject):
            self.skipped += 1
        elif isinstance(error, (FatalError, RetryableError, psycopg.Error, RowsRefused)):
            raise error
        elif isinstance(error, ProviderSyncError):
            self.reject(info, error.message)
        else:
            log.debug("Could not fill %s %s", info.type.__name__, info.id_at_providers, exc_info=error)
            self.reject(info, f"{type(error).__name__}: {error}")

    def reject(self, info: ProvidableInfo, reason: str) -> None:
        """Reject an object, with the record that describes it."""
        self.image_changes.pop((info.type, info.id_at_providers), None)
        reason = f"{self._rejection_prefix}{reason}"
        self.rejections.append(Rejection(info.type.__name__, info.id_at_providers, reason, info.record))

    def note_difference(
        self,
        info: ProvidableInfo,
        obj: Providable,
        before: Sequence[Any],
        *,
        change: str = "",
        stored_key: str | None = None,
    ) -> None:
        """Note what a dry run would change, for the first `SAMPLE_SIZE` objects of a table; see `difference`.

        `change` defaults to "create" or "update"; `stored_key` is the row's key if it would take over that of `info`.
        """
        self._differing[info.type] += 1
        if self._differing[info.type] <= SAMPLE_SIZE:
            change = change or ("create" if before[0] is None else "update")
            found = difference(info.id_at_providers, change, obj, before, self._masking)
            if stored_key is not None:
                found["fields"]["id_at_providers"] = [stored_key, info.id_at_providers]
            self.differences.append(found)

    def add_to(self, report: SyncReport) -> None:
        """Add the counts to a report, which takes the first `SAMPLE_SIZE` differences per table and kind of change."""
        report.records += self.records
        report.chunks += self.chunks
        report.checked += self.checked
        report.created += self.created
        report.updated += self.updated
        report.moved += self.rekeyed
        report.gone += self.removed
        report.count_unchanged(self.unchanged)
        report.skipped += self.skipped
        report.rejected += len(self.rejections)
        report.diff_seconds += self.compare_seconds
        report.upsert_seconds += self.write_seconds
        for table, rows in self.written.items():
            report.count_written(table, rows)
        report.count_held_back(self._overridden, self._overridden_fields)
        for rejection in self.rejections:
            count_reason(report.reasons, rejection.reason)
        report.checked_thumbs += self.images.checked
        report.failed_thumbs += self.images.failed
        report.thumb_seconds += self.images.seconds
        for reason, number in self.images.errors.items():
            count_reason(report.thumb_errors, reason, number)
        for created, updated in self.image_changes.values():
            report.created_thumbs += created
            report.updated_thumbs += updated
        reported = Counter(_kind(one) for one in report.differences)
        for one in self.differences:
            reported[_kind(one)] += 1
            if reported[_kind(one)] <= SAMPLE_SIZE:
                report.differences.append(one)


def _kind(difference: dict[str, Any]) -> tuple[str, bool]:
    """What the sample size applies to: the removals of a table, and its other changes."""
    return difference["table"], difference["change"] == "gone"
