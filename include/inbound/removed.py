"""Rows that a complete listing no longer has: marked with `gone_since`, and filled with what follows from it.

A run that reads a whole listing notes which keys it named. What else the database holds of the same provider and
venue, and is not history yet, is gone. It is not believed when the listing was not wholly readable, when the rows
might be those of another link, or when too much would be gone at once: what a source with new keys for everything
looks like, or one that answers with a part or with nothing. That share is taken of all live rows, and of those that
were there when a listing was last believed: else the rows that a refused listing created would outvote the others in
the next run.

A row that stays on sale when it is gone, since it has bookings say, is filled again by each listing that lacks it
still: when its bookings were cancelled or became more, something else follows. It does not count as gone again.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from time import perf_counter
from typing import Any

import psycopg
from msgspec.structs import astuple

from include.errors import (
    ConfigurationError,
    FatalError,
    ListingShrank,
    ProviderSyncError,
    RetryableError,
    SkipObject,
)
from include.inbound.chunk import Chunk
from include.inbound.differences import changes, difference, keep_protected, own_copy
from include.inbound.read import Rejection
from include.models import Providable
from include.models.report import SAMPLE_SIZE, SyncReport
from include.providers.base import LocalProvider
from include.store import removed as store
from include.store.ledger import Connection, Instance
from include.store.removed import Missing, Scope
from include.store.rows import is_usable_key, write_or_raise, write_or_reject
from include.store.tables import DATE, HELD, ID, KEY, Table, table_of

log = logging.getLogger(__name__)

A_HANDFUL = 5
"""So many rows may be gone whatever their share, if the listing names any: the last showtimes of a film, say."""


class CompleteListing:
    """The keys that a run's listing named, and what is gone by it. One at a time per connection."""

    def __init__(self, connection: Connection, provider: LocalProvider, instance: Instance) -> None:
        for model in provider.complete_tables:
            if not model.can_be_gone:
                raise ConfigurationError(f"{type(provider).__name__}.complete_tables: {model.__name__} cannot be gone")
        assert instance.started_at is not None
        link = provider.venue_provider
        self.tables = [table_of(model) for model in provider.complete_tables]
        self.scope, self._cannot_tell_links = Scope(instance.provider_id, None, instance.started_at), False
        if link is not None:
            others = store.other_links(connection, instance.provider_id, link.venue_id, link.id)
            marks = _marks(provider, link.venue_id_at_offer_provider)
            # The mark @5 is in keys with @55 too, which are those of another link.
            longer = [mark for other in others for mark in _marks(provider, other) if any(own in mark for own in marks)]
            self.scope = self.scope._replace(venue_id=link.venue_id, marks=marks, other_marks=tuple(longer))
            self._cannot_tell_links = bool(others and not marks)
        self._connection = connection
        self._provider = provider
        self._instance = instance
        self._unreadable = ""
        store.begin_listing(connection)

    def note(self, chunk: Chunk) -> None:
        """Note what a saved chunk named, also what was skipped or rejected of it."""
        for table in self.tables:
            infos = chunk.infos.get(table.model, ())
            keys = {info.id_at_providers for info in infos if is_usable_key(info.id_at_providers)}
            keys.update(key for model, key in chunk.kept_keys if model is table.model)
            if keys:
                store.note_keys(self._connection, table, keys)
            if bad := [info for info in infos if not is_usable_key(info.id_at_providers)]:
                self._unreadable = self._unreadable or f"the key {bad[0].id_at_providers!r:.100} is not a usable text"
        references = set()
        for rejection in chunk.rejections:
            if rejection.reference and is_usable_key(rejection.reference):
                references.add(rejection.reference)
            else:
                self._unreadable = self._unreadable or rejection.reason
        if references:
            store.note_references(self._connection, references)

    def why_not_believed(self) -> str | None:
        """Why nothing can be taken for gone after this listing; None when it can."""
        if self._unreadable:
            return f"not all of the listing could be read ({self._unreadable})"
        if self._cannot_tell_links:
            return "the venue has another link of this provider, and rows do not tell from which they are"
        return None

    def find(self, known_up_to: dict[str, int], *, accept_shrunk: bool) -> bool:
        """Find what is gone; returns whether anything is, or was before and is to be looked at again.

        Raises:
            ListingShrank: it is more than the provider's `max_removed_share`, or all of a table of which the listing
                names nothing; and that is not to be accepted.
        """
        found = {
            table: store.find_gone(self._connection, table, self.scope, known_up_to.get(table.name, 0))
            for table in self.tables
        }
        for table, missing in found.items():
            if not accept_shrunk and (why_not := self._why_unbelievable(missing)):
                raise ListingShrank(
                    f"The listing lacks {missing.gone} of {missing.live} live rows ({missing.known_gone} of "
                    f"{missing.known_live} that were there before), {why_not}: nothing was marked as gone. Check the "
                    "source; when it is right, trigger the load with accept_shrunk",
                    table=table.name,
                )
        return any(missing.gone or missing.gone_before for missing in found.values())

    def _why_unbelievable(self, missing: Missing) -> str | None:
        if missing.gone and not missing.is_named:
            return "and names none at all"
        most = self._provider.max_removed_share
        if (missing.gone > A_HANDFUL and missing.gone > most * missing.live) or (
            missing.known_gone > A_HANDFUL and missing.known_gone > most * missing.known_live
        ):
            return f"more than the share of {most} that is believed"
        return None

    def chunks(self, size: int, *, is_dry_run: bool) -> Iterator[GoneChunk]:
        """What is gone, in chunks to be saved one after the other."""
        for table in self.tables:
            ids = store.next_gone(self._connection, table, 0, size)
            while ids:
                yield GoneChunk(self._provider, table, ids, self.scope, is_dry_run=is_dry_run)
                ids = store.next_gone(self._connection, table, ids[-1], size)

    def known_up_to(self) -> dict[str, int]:
        """`SyncReport.known_up_to` as it is now."""
        return {table.name: store.highest_id(self._connection, table) for table in self.tables}

    def end(self) -> None:
        """Forget the keys."""
        store.end_listing(self._connection)


def _marks(provider: LocalProvider, venue_id_at_offer_provider: str) -> tuple[str, ...]:
    return tuple(mark.format(venue_id_at_offer_provider) for mark in provider.key_patterns)


class GoneChunk:
    """Some rows that are gone; to be saved as a `Chunk` is."""

    def __init__(
        self, provider: LocalProvider, table: Table, ids: list[int], scope: Scope, *, is_dry_run: bool
    ) -> None:
        self.provider = provider
        self.table = table
        self.ids = ids
        self.scope = scope
        self.asked_at = scope.started_at
        self.is_dry_run = is_dry_run

    def save(self, connection: Connection, begin: Callable[[], None], *, careful: bool) -> GoneOutcome:
        """Lock the rows, fill what follows from their being gone, and mark them.

        What somebody wrote meanwhile is left alone, and so is what the provider skips. Rows that were gone before are
        written only if something else follows now, and are not counted; a dry run's differences have them too.
        """
        started = perf_counter()
        table, outcome = self.table, GoneOutcome(self.table)
        self.provider.record = None
        begin()
        pending: list[tuple[str, Providable]] = []
        before: dict[int, Sequence[Any]] = {}
        columns: set[str] = set()
        newly_gone: set[str] = set()
        for row in store.lock_gone(connection, table, self.scope, self.ids):
            values = row[ID:]
            obj = table.model(*own_copy(values))
            self.provider.key = row[KEY]
            try:
                self.provider.fill_removed_attributes(obj)
            except Exception as error:
                outcome.put_aside(row[KEY], error)
                continue
            if row[HELD]:
                outcome.count_held_back(keep_protected(table, obj, values, row[HELD]))
            changed = changes(table.columns, astuple(obj), values)
            if row[DATE] is None:
                newly_gone.add(row[KEY])
            elif not changed:
                continue
            columns.update(changed)
            before[row[ID]] = values
            obj.id = row[ID]
            pending.append((row[KEY], obj))
        if forbidden := columns - set(table.writable):
            raise ConfigurationError(
                f"{type(self.provider).__name__} sets {', '.join(sorted(forbidden))} of {table.name}, which it may not"
            )
        names = tuple(name for name in table.writable if name in columns)

        def write(some: Sequence[tuple[str, Providable]]) -> None:
            rows = [(obj.id, *[getattr(obj, name) for name in names]) for _, obj in some]
            store.mark_rows(connection, table, rows, names)

        refused: set[str] = set()
        if pending and careful:
            key_constraint = f"{table.name}_id_at_providers_key"
            for (key, _), reason in write_or_reject(connection, pending, write, key_constraint=key_constraint):
                outcome.reject(key, reason)
                refused.add(key)
        elif pending:
            write_or_raise(pending, write)
        outcome.gone = len(newly_gone - refused)
        outcome.written = len(pending) - len(refused)
        for key, obj in pending if self.is_dry_run else ():
            if key not in refused and obj.id is not None and len(outcome.differences) < SAMPLE_SIZE:
                outcome.differences.append(difference(key, "gone", obj, before[obj.id], self.provider.masking()))
        outcome.seconds = perf_counter() - started
        return outcome


class GoneOutcome:
    """What one attempt to mark rows did."""

    def __init__(self, table: Table) -> None:
        self.gone = self.written = self.held_back = 0
        self.rejections: list[Rejection] = []
        self.differences: list[dict[str, Any]] = []
        self.seconds = 0.0
        self._table = table
        self._held_back_fields: Counter[str] = Counter()

    def put_aside(self, key: str, error: Exception) -> None:
        """Leave a row that could not be filled as it is; raise again what does not concern it alone."""
        if isinstance(error, SkipObject):
            return
        if isinstance(error, (FatalError, RetryableError, psycopg.Error)):
            raise error
        self.reject(key, error.message if isinstance(error, ProviderSyncError) else f"{type(error).__name__}: {error}")

    def reject(self, key: str, reason: str) -> None:
        """Note that a row could not be marked; without a payload, since there is no record to be replayed."""
        self.rejections.append(Rejection(self._table.model.__name__, key, f"gone from the listing: {reason}", None))

    def count_held_back(self, names: Sequence[str]) -> None:
        """Count a row of which these fields were kept."""
        if names:
            self.held_back += 1
            self._held_back_fields.update([f"{self._table.name}.{name}" for name in names])

    def add_to(self, report: SyncReport) -> None:
        """Add these counts to a report; what could not be marked was checked and rejected."""
        report.gone += self.gone
        report.count_written(self._table.name, self.written)
        report.checked += len(self.rejections)
        report.rejected += len(self.rejections)
        report.upsert_seconds += self.seconds
        report.count_held_back(self.held_back, self._held_back_fields)
        for rejection in self.rejections:
            report.count_reason(rejection.reason)
        told = sum(one["change"] == "gone" and one["table"] == self._table.name for one in report.differences)
        report.differences.extend(self.differences[: max(0, SAMPLE_SIZE - told)])
