"""Removal detection: rows that a complete listing lacks are marked with `gone_since` and filled accordingly.

A run that reads a complete listing stores the keys that it names. Every other row of the same provider and venue that
is not yet in the past was removed at the source. The listing is refused instead if part of it could not be read, if the
rows might belong to another link, or if too many rows would be removed at once: that is what a source looks like that
changed all its keys, or that sent a part of its listing, or nothing. The share is taken of all live rows, and also of
those that existed when a listing was last accepted: otherwise the rows that a refused listing created would hide the
missing ones in the next run.

A removed row that stays on sale, for example because it has bookings, is filled again by every listing that still lacks
it, since the right values change with its bookings. It is not counted as removed again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from time import perf_counter
from typing import Any

from msgspec.structs import astuple

from include.errors import ConfigurationError, ListingShrank, SkipObject
from include.inbound.chunk import Chunk
from include.inbound.differences import changes, keep_overrides, own_copy
from include.inbound.tally import Tally
from include.inbound.write import write_rows, written_columns
from include.models import Providable
from include.providers.base import LocalProvider, ProvidableInfo
from include.store import Connection
from include.store import removed as store
from include.store.ledger import Instance
from include.store.removed import REMOVED_SINCE, Missing, Scope
from include.store.rows import is_usable_key
from include.store.tables import ID, KEY, OVERRIDES, Table, table_of

ALWAYS_ACCEPTED = 5
"""Removals up to this number (a film's last showtimes) are accepted whatever their share, unless the listing names no
row at all."""


class CompleteListing:
    """The keys that a run's listing names, and the rows that it lacks. One at a time per connection."""

    def __init__(self, connection: Connection, provider: LocalProvider, instance: Instance) -> None:
        for model in provider.complete_tables:
            if not model.can_be_gone:
                raise ConfigurationError(
                    f"{type(provider).__name__}.complete_tables: {model.__name__} lacks gone_since"
                )
        assert instance.started_at is not None
        link = provider.venue_provider
        self._tables = [table_of(model) for model in provider.complete_tables]
        self._scope, self._is_ambiguous = Scope(instance.provider_id, None, instance.started_at), False
        if link is not None:
            others = store.other_links(connection, instance.provider_id, link.venue_id, link.id)
            own = _key_parts(provider, link.venue_id_at_offer_provider)
            # Keys with @55 also contain @5, but belong to another link.
            longer = [
                part for other in others for part in _key_parts(provider, other) if any(one in part for one in own)
            ]
            self._scope = self._scope._replace(venue_id=link.venue_id, key_parts=own, other_key_parts=tuple(longer))
            self._is_ambiguous = bool(others and not own)
        self._connection = connection
        self._provider = provider
        self._unreadable = ""
        store.begin_listing(connection)

    def add(self, chunk: Chunk) -> None:
        """Store the keys that a saved chunk names, including those of skipped and rejected objects."""
        for table in self._tables:
            infos = chunk.infos.get(table.model, ())
            keys = {info.id_at_providers for info in infos if is_usable_key(info.id_at_providers)}
            keys.update(key for model, key in chunk.kept_keys if model is table.model)
            if keys:
                store.add_keys(self._connection, table.name, keys)
            if bad := [info for info in infos if not is_usable_key(info.id_at_providers)]:
                self._unreadable = self._unreadable or f"the key {bad[0].id_at_providers!r:.100} is not a usable text"
        references = set()
        for rejection in chunk.rejections:
            if rejection.reference and is_usable_key(rejection.reference):
                references.add(rejection.reference)
            else:
                self._unreadable = self._unreadable or rejection.reason
        if references:
            store.add_keys(self._connection, store.REFERENCES, references)

    def why_not_conclusive(self) -> str | None:
        """Return why this listing cannot prove that rows were removed; None if it can."""
        if self._unreadable:
            return f"part of the listing could not be read ({self._unreadable})"
        if self._is_ambiguous:
            return "the venue has another link to this provider, and the keys do not contain the link's id"
        return None

    def find(self, known_up_to: Mapping[str, int], *, accept_shrunk: bool) -> bool:
        """Find the rows that the listing lacks; returns whether `chunks` has any, counting earlier removals on sale.

        `known_up_to` has, per table, the highest primary key when a listing was last accepted. Raises ListingShrank
        if the listing lacks more than the provider's `max_removed_share`, or names no row of a table at all.
        """
        found = {
            table: store.find_missing(self._connection, table, self._scope, known_up_to.get(table.name, 0))
            for table in self._tables
        }
        for table, missing in found.items():
            if not accept_shrunk and (why_refused := self._why_refused(missing)):
                raise ListingShrank(
                    f"The listing lacks {missing.removed} of {missing.live} live rows ({missing.known_removed} of "
                    f"{missing.known_live} that existed before), {why_refused}: no row was marked as removed. Check "
                    "the source; if it is right, trigger the load with accept_shrunk",
                    table=table.name,
                )
        return any(missing.removed or missing.removed_before for missing in found.values())

    def _why_refused(self, missing: Missing) -> str | None:
        if missing.removed and not missing.names_any:
            return "and names none at all"
        share = self._provider.max_removed_share
        for removed, live in ((missing.removed, missing.live), (missing.known_removed, missing.known_live)):
            if removed > ALWAYS_ACCEPTED and removed > share * live:
                return f"more than the accepted share of {share}"
        return None

    def chunks(self, size: int, *, is_dry_run: bool) -> Iterator[RemovalChunk]:
        """Yield the rows to mark as removed, in chunks of `size`; each must be saved before the next."""
        for table in self._tables:
            ids = store.next_missing(self._connection, table, 0, size)
            while ids:
                yield RemovalChunk(self._provider, table, ids, self._scope, is_dry_run=is_dry_run)
                ids = store.next_missing(self._connection, table, ids[-1], size)

    def known_up_to(self) -> dict[str, int]:
        """Return the highest primary key per table: `SyncReport.known_up_to`."""
        return {table.name: store.highest_id(self._connection, table) for table in self._tables}

    def close(self) -> None:
        """Delete the keys."""
        store.end_listing(self._connection)


def _key_parts(provider: LocalProvider, venue_id_at_offer_provider: str) -> tuple[str, ...]:
    """Return the texts of which each key of a venue link contains one."""
    return tuple(pattern.format(venue_id_at_offer_provider) for pattern in provider.key_patterns)


class RemovalChunk:
    """Some rows that the listing lacks; saved as a `Chunk` is."""

    def __init__(
        self, provider: LocalProvider, table: Table, ids: list[int], scope: Scope, *, is_dry_run: bool
    ) -> None:
        self.requested_at = scope.started_at
        self._provider = provider
        self._table = table
        self._ids = ids
        self._scope = scope
        self._is_dry_run = is_dry_run

    def save(self, connection: Connection, begin: Callable[[], None], *, is_careful: bool) -> Tally:
        """Lock the rows, fill them as removed, and mark them; returns the counts.

        Rows that another session has written since the listing began are left alone. Rows that were removed before are
        written only if their values change, and are not counted; the differences of a dry run include them.
        """
        started = perf_counter()
        table, provider = self._table, self._provider
        masking = provider.masking()
        tally = Tally(masking, rejection_prefix="removed from the listing: ")
        provider.record = None
        begin()
        pending = [
            filled
            for row in store.lock_missing(connection, table, self._scope, self._ids)
            if (filled := self._filled(row, tally)) is not None
        ]
        columns = {name for _, obj, row in pending for name in changes(table.columns, astuple(obj), row[ID:])}
        names = written_columns(provider, table, columns)

        def write(some: Sequence[tuple[ProvidableInfo, Providable, Sequence[Any]]]) -> None:
            lines = [(row[ID], *[getattr(obj, name) for name in names]) for _, obj, row in some]
            store.mark_rows(connection, table, lines, names)

        refused = write_rows(connection, tally, table, pending, write, is_careful=is_careful) if pending else set()
        written = [(info, obj, row) for info, obj, row in pending if info.id_at_providers not in refused]
        tally.removed = sum(row[REMOVED_SINCE] is None for *_, row in written)
        tally.written[table.name] += len(written)
        tally.checked = len(tally.rejections)  # removed rows were not listed, so only rejected ones count as checked
        if self._is_dry_run:
            for info, obj, row in written:
                tally.note_difference(info, obj, row[ID:], change="gone")
        tally.write_seconds = perf_counter() - started
        return tally

    def _filled(self, row: Sequence[Any], tally: Tally) -> tuple[ProvidableInfo, Providable, Sequence[Any]] | None:
        """Fill a locked row; returns None for one that was skipped or rejected, or has nothing to be written."""
        table, values = self._table, row[ID:]
        info, obj = ProvidableInfo(table.model, row[KEY]), table.model(*own_copy(values))
        self._provider.key = row[KEY]
        try:
            self._provider.fill_removed_attributes(obj)
        except SkipObject:
            return None
        except Exception as error:
            tally.set_aside(info, error)
            return None
        if row[OVERRIDES]:
            tally.count_overrides(table, keep_overrides(table, obj, values, row[OVERRIDES]))
        if row[REMOVED_SINCE] is not None and not changes(table.columns, astuple(obj), values):
            return None
        return info, obj, row
