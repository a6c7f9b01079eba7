"""One chunk: look up what is known, compare, create and update. All of it in the caller's transaction.

The rows of a chunk are handled table by table, parents first. Per table: one look-up without locks; records that are
unknown, newer or different are filled; new rows are copied in; changed ones are locked, read again, filled from what
is there now, and updated. Rows that did not change cost nothing but their look-up.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import chain, count
from time import perf_counter
from typing import Any, TypeVar

import psycopg
from msgspec.structs import astuple

from include.errors import ConfigurationError, FatalError, ProviderSyncError, RetryableError, SkipObject
from include.inbound.differences import changes, difference, keep_protected, own_copy
from include.inbound.images import ChunkThumbs, ThumbStep, take_thumbs
from include.inbound.read import Reading, Rejection
from include.inbound.rekeyed import find_moves, row_is_newer
from include.models import Providable
from include.models.report import SAMPLE_SIZE, SyncReport
from include.providers.base import LocalProvider, ProvidableInfo
from include.store.rows import (
    ChunkConflict,
    Connection,
    RowsRefused,
    find_rows,
    insert_contested_rows,
    insert_rows,
    is_usable_key,
    lock_rows,
    rename_rows,
    reserve_ids,
    update_rows,
    write_or_raise,
    write_or_reject,
)
from include.store.tables import DATE, HELD, ID, KEY, Table, table_of

log = logging.getLogger(__name__)

P = TypeVar("P", bound=Providable)

FUTURE_TOLERANCE = timedelta(days=1)
"""A date further ahead of our clock than this is not believed: it would keep later corrections out."""

FILLED_AT_ONCE = 128
"""New rows that are filled and sent together; PostgreSQL works on them while the next ones are filled."""


class Chunk:
    """The objects of some records, and what becomes of them.

    `reading` is what the provider gave; `marker` that of its link, a dry run's outcome has differences. Moved keys are
    looked for only `in_whole_listing`, of which the chunks before this one are noted (`CompleteListing.note`).
    """

    def __init__(
        self,
        provider: LocalProvider,
        reading: Reading,
        *,
        provider_id: int,
        marker: datetime | None,
        is_dry_run: bool,
        in_whole_listing: bool = False,
        thumbs: ThumbStep | None = None,
    ) -> None:
        self.provider = provider
        self.provider_id = provider_id
        self.marker = marker
        self.rejections = reading.rejections
        self.asked_at = reading.asked_at
        self.is_dry_run = is_dry_run
        self.in_whole_listing = in_whole_listing
        self.thumbs = ChunkThumbs()
        self._thumb_step = thumbs
        self.records = len(reading.lists) + len(reading.rejections)
        self.empty_records = len(reading.lists) - sum(map(bool, reading.lists))
        self.lists = reading.lists
        self.infos = _by_model(reading.lists)
        self.kept_keys: set[tuple[type[Providable], str]] = set()
        """Keys of rows that were not named and are not gone for it: they moved, but that was rejected or a dry run."""

    def save(self, connection: Connection, begin: Callable[[], None], *, careful: bool) -> Outcome:
        """Bring the database in step; to be repeated after a ChunkConflict, in a new transaction.

        `begin` is called before the first write, since looking up needs no transaction. Only when it is `careful` it
        finds the rows that PostgreSQL refuses; otherwise RowsRefused asks for another try.
        """
        outcome = Outcome(self, connection, begin, careful=careful)
        if self._thumb_step is not None:  # once, before anything has begun: what it did holds for further tries too
            self.thumbs = self._thumb_step.prepare(connection, self.provider_id, self.infos, outcome.is_not_older)
            self._thumb_step = None
        self.provider.known = outcome
        try:
            last = next(reversed(self.infos), None)
            for model, infos in self.infos.items():
                outcome.handle(model, infos, is_parent=model is not last)
        finally:
            self.provider.known = None
        outcome.checked += self.empty_records + len(self.rejections)
        outcome.skipped += self.empty_records
        outcome.rejections = [*self.rejections, *outcome.rejections]
        return outcome


class Outcome:
    """What one attempt to save a chunk did, and what it knows of the chunk's rows meanwhile."""

    def __init__(self, chunk: Chunk, connection: Connection, begin: Callable[[], None], *, careful: bool) -> None:
        self.chunk = chunk
        self.begin = begin
        self.careful = careful
        self.provider = chunk.provider
        self.connection = connection
        self.checked = self.created = self.updated = self.unchanged = self.skipped = 0
        self.moved = 0
        self.written: Counter[str] = Counter()
        self.rejections: list[Rejection] = []
        self.differences: list[dict[str, Any]] = []
        self.held_back = 0
        self.held_back_fields: Counter[str] = Counter()
        self._noted: Counter[type[Providable]] = Counter()
        self.diff_seconds = 0.0
        self.upsert_seconds = 0.0
        self._ids: dict[type[Providable], dict[str, int]] = {}
        self._references: dict[type[Providable], dict[str, Providable]] = {}
        self._is_copying = False
        self._made_up_ids = count(-1, -1)
        self._recognises = (
            chunk.in_whole_listing and type(chunk.provider).match_rekeyed is not LocalProvider.match_rekeyed
        )
        self._thumbs_taken: dict[tuple[type[Providable], str], tuple[int, int]] = {}
        self._latest_date = chunk.asked_at + FUTURE_TOLERANCE
        until = self.provider.until
        self.guard_date = chunk.asked_at if until is None else min(chunk.asked_at, until)
        self._guard_time = self.guard_date.timestamp()
        # Only the end of an interval is compared with the marker: the time of a request is told by another clock.
        self._undated_is_old = until is not None and chunk.marker is not None and self.guard_date < chunk.marker

    def add_to(self, report: SyncReport) -> None:
        """Add these counts and seconds to a report."""
        report.records += self.chunk.records
        report.checked += self.checked
        report.created += self.created
        report.updated += self.updated
        report.moved += self.moved
        for table, rows in self.written.items():
            report.count_written(table, rows)
        report.count_unchanged(self.unchanged)
        report.skipped += self.skipped
        report.rejected += len(self.rejections)
        report.chunks += 1
        report.diff_seconds += self.diff_seconds
        report.upsert_seconds += self.upsert_seconds
        report.count_held_back(self.held_back, self.held_back_fields)
        for rejection in self.rejections:
            report.count_reason(rejection.reason)
        thumbs = self.chunk.thumbs
        report.checked_thumbs += thumbs.checked
        report.created_thumbs += sum(created for created, _ in self._thumbs_taken.values())
        report.updated_thumbs += sum(updated for _, updated in self._thumbs_taken.values())
        report.failed_thumbs += thumbs.failed
        report.thumb_seconds += thumbs.seconds
        for reason, number in thumbs.errors.items():
            report.count_thumb_error(reason, number)
        told = Counter(one["table"] for one in report.differences)
        for one in self.differences:
            told[one["table"]] += 1
            if told[one["table"]] <= SAMPLE_SIZE:
                report.differences.append(one)

    # What providers ask while they fill

    def id_of(self, model: type[Providable], id_at_providers: str) -> int:
        """Primary key of an object of this chunk; SkipObject when there is none."""
        ids = self._ids.get(model)
        if ids is None:
            rows = self._load_references(model)
            ids = self._ids[model] = {key: row.id for key, row in rows.items() if row.id is not None}
        try:
            return ids[id_at_providers]
        except KeyError:
            raise SkipObject(f"its {model.__name__} {id_at_providers} is not in the database") from None

    def row_of(self, model: type[P], id_at_providers: str) -> P:
        """An object of this chunk as the database holds it; SkipObject when there is none."""
        row = self._load_references(model).get(id_at_providers)
        if row is None:
            raise SkipObject(f"its {model.__name__} {id_at_providers} is not in the database")
        return row  # type: ignore[return-value]

    def _load_references(self, model: type[Providable]) -> dict[str, Providable]:
        """All rows of a model that the chunk names: looked up once, when the first of them is asked for."""
        loaded = self._references.get(model)
        if loaded is None:
            if self._is_copying:
                raise RowsRefused(f"{model.__name__} rows are asked for while others are copied")
            infos = self.chunk.infos.get(model)
            if infos is None:
                raise ConfigurationError(
                    f"{type(self.provider).__name__} asks for a {model.__name__} that its records do not name: "
                    f"add self.create_reference({model.__name__}, …) to the list that __next__ returns"
                )
            keys = [*{info.id_at_providers for info in infos if is_usable_key(info.id_at_providers)}]
            table = table_of(model)
            found = find_rows(self.connection, table, self.chunk.provider_id, keys, columns=True)
            loaded = self._references[model] = {row[KEY]: model(*row[ID:]) for row in found}
        return loaded

    # One table

    def handle(self, model: type[Providable], infos: list[ProvidableInfo], *, is_parent: bool) -> None:
        """Bring the rows of one table in step."""
        roles = {info.role for info in infos}
        if "reference" in roles:
            infos = [info for info in infos if info.role != "reference"]
        if not infos:
            return
        self.checked += len(infos)
        infos = self._with_good_dates(self._with_good_keys(infos))
        for some in _each_key_once(infos) if self.careful else [infos]:
            self._bring_in(table_of(model), some, is_parent=is_parent)

    def _bring_in(self, table: Table, infos: list[ProvidableInfo], *, is_parent: bool) -> None:
        started = perf_counter()
        firsts = {info.id_at_providers: info for info in infos}  # in the order of the listing: so indexes grow best
        later: dict[str, list[ProvidableInfo]] = {}
        if len(firsts) < len(infos):
            firsts = {}
            for info in infos:
                if firsts.setdefault(info.id_at_providers, info) is not info:
                    later.setdefault(info.id_at_providers, []).append(info)
        has_undated = any([info.date_modified_at_provider is None and info.role == "sync" for info in infos])
        rows = find_rows(self.connection, table, self.chunk.provider_id, list(firsts), columns=has_undated)
        new, changed = self._compare(table, firsts, later, {row[KEY]: row for row in rows})
        if is_parent:
            self._ids.setdefault(table.model, {}).update({row[KEY]: row[ID] for row in rows})
        moved: dict[int, str] = {}
        if new and self._recognises and table.model.parent and table.model in self.provider.complete_tables:
            new, moves = find_moves(self, table, new, later)
            moved = {row[ID]: row[KEY] for row, _ in moves}
            changed += [(row[ID], [info, *later.get(info.id_at_providers, ())]) for row, info in moves]
        self.diff_seconds += perf_counter() - started
        if new or changed:
            started = perf_counter()
            if new:
                self._create(table, new, later, is_parent=is_parent)
            if changed:
                self._update(table, changed, moved)
            self.upsert_seconds += perf_counter() - started

    def _with_good_keys(self, infos: list[ProvidableInfo]) -> list[ProvidableInfo]:
        """Reject the objects whose key PostgreSQL could not even be asked for."""
        try:
            if "".join([info.id_at_providers for info in infos]).isprintable():
                return infos
        except TypeError:
            pass
        good = []
        for info in infos:
            if is_usable_key(info.id_at_providers):
                good.append(info)
            else:
                self._reject(info, f"the key {info.id_at_providers!r:.100} is not a usable text")
        return good

    def _with_good_dates(self, infos: list[ProvidableInfo]) -> list[ProvidableInfo]:
        """Reject objects whose date has no time zone; take dates from the future off, so that the content decides."""
        latest = self._latest_date
        try:
            dates = [date for info in infos if (date := info.date_modified_at_provider) is not None]
            if max(dates, default=latest) <= latest:
                return infos
        except TypeError:
            pass
        good = []
        for info in infos:
            date = info.date_modified_at_provider
            if date is not None and not (isinstance(date, datetime) and date.tzinfo is not None):
                self._reject(info, f"the date {date!r:.100} is not a time with a time zone")
                continue
            if date is not None and date > latest:
                info.date_modified_at_provider = None
            good.append(info)
        return good

    def _compare(
        self,
        table: Table,
        firsts: dict[str, ProvidableInfo],
        later: dict[str, list[ProvidableInfo]],
        rows: dict[str, Sequence[Any]],
    ) -> tuple[list[ProvidableInfo], list[tuple[int, list[ProvidableInfo]]]]:
        """The infos to create, and per known row (by primary key) those that seem to change it.

        Every record of a listing comes through here, most of them unchanged: nothing is called that is not needed.
        """
        new: list[ProvidableInfo] = []
        changed: list[tuple[int, list[ProvidableInfo]]] = []
        unchanged = 0
        find, provider, model = rows.get, self.provider, table.model
        fill, has_documents = provider.fill_object_attributes, table.documents
        guard_time, undated_is_old = self._guard_time, self._undated_is_old
        thumbs = self.chunk.thumbs.wanted.get(model, {})
        for key, info in firsts.items():
            row = find(key)
            if row is None:
                new.append(info)
                continue
            held = row[DATE]
            if later and key in later:
                changed.append((row[ID], [info, *later[key]]))
            elif info.role == "create only":
                unchanged += 1
            elif (thumbs and key in thumbs) or (
                (date := info.date_modified_at_provider) is not None and (held is None or held < date.timestamp())
            ):
                changed.append((row[ID], [info]))
            elif date is not None or undated_is_old or (held is not None and held > guard_time):
                unchanged += 1
            else:
                values = row[ID:]
                obj = model(*(own_copy(values) if has_documents else values))
                provider.record, provider.key = info.record, key
                try:
                    fill(obj)
                except Exception as error:
                    self.put_aside(info, error)
                    continue
                after = astuple(obj)
                try:
                    is_same = after == values
                except ArithmeticError:  # a signalling NaN
                    is_same = False
                if is_same and held is not None:
                    unchanged += 1
                elif (
                    held is not None
                    and (protected := row[HELD])
                    and set(names := changes(table.columns, after, values)).issubset(protected)
                ):
                    unchanged += 1
                    self._count_held_back(table, names)
                else:
                    changed.append((row[ID], [info]))
        self.unchanged += unchanged
        if new and not provider.can_create:
            self.skipped += sum([1 + len(later.get(info.id_at_providers, ())) for info in new])
            new = []
        return new, changed

    def _may_change(self, info: ProvidableInfo, held: float | None) -> bool:
        """Whether a record may change a row that was written at this time."""
        if info.role == "create only":
            return False
        date = info.date_modified_at_provider
        if date is None:
            return self._undated_may_be_newer(held)
        return held is None or held < date.timestamp()

    def _undated_may_be_newer(self, held: float | None) -> bool:
        """Whether records without a date may change a row written at this time.

        Their date is when their page was asked for, or the end of the interval that they were asked for. A complete
        run since then has seen all there was to see, so they can tell nothing new of a row we hold.
        """
        return not self._undated_is_old and (held is None or held <= self._guard_time)

    def is_not_older(self, info: ProvidableInfo, held: float | None) -> bool:
        """Whether a record's picture may replace that of a row of this date: the record is not older than the row."""
        date = info.date_modified_at_provider
        if date is None:
            return self._undated_may_be_newer(held)
        return held is None or held <= date.timestamp()

    def _take_thumbs(self, info: ProvidableInfo, obj: Providable) -> bool:
        """Set the pictures that the chunk has for an object; False if it lacks none of them."""
        wanted = self.chunk.thumbs.wanted.get(info.type, {}).get(info.id_at_providers)
        taken = take_thumbs(obj, wanted) if wanted else None
        if taken is None:
            return False
        self._thumbs_taken[info.type, info.id_at_providers] = taken
        return True

    def _pictured(self, table: Table, info: ProvidableInfo, values: Sequence[Any]) -> Providable | None:
        """An object with these values and the pictures of the chunk; None if it lacks none of them."""
        if info.id_at_providers not in self.chunk.thumbs.wanted.get(info.type, ()):
            return None
        obj = table.model(*own_copy(values))
        return obj if self._take_thumbs(info, obj) else None

    def _filled(self, table: Table, info: ProvidableInfo, values: Sequence[Any]) -> Providable | None:
        """An object with these values, filled from its own record; None if that was skipped or rejected."""
        obj = table.model(*(own_copy(values) if table.documents else values))
        self.provider.record, self.provider.key = info.record, info.id_at_providers
        try:
            self.provider.fill_object_attributes(obj)
        except Exception as error:
            self.put_aside(info, error)
            return None
        return obj

    def put_aside(self, info: ProvidableInfo, error: Exception) -> None:
        """Skip or reject an object that could not be filled; raise again what does not concern it alone."""
        if isinstance(error, SkipObject):
            self.skipped += 1
        elif isinstance(error, (FatalError, RetryableError, psycopg.Error, RowsRefused)):
            raise error
        elif isinstance(error, ProviderSyncError):
            self._reject(info, error.message)
        else:
            log.debug("%s could not fill %s", type(self.provider).__name__, info.id_at_providers, exc_info=error)
            self._reject(info, f"{type(error).__name__}: {error}")

    def _create(
        self,
        table: Table,
        infos: list[ProvidableInfo],
        later: dict[str, list[ProvidableInfo]],
        *,
        is_parent: bool,
    ) -> None:
        """Copy the new rows in; those that no other table waits for while PostgreSQL takes the ones before them."""
        is_streamed = not (is_parent or self.careful)
        made: list[tuple[ProvidableInfo, Providable]] = []
        filled = 0
        while filled < len(infos) and not (is_streamed and made):
            made += self._new_objects(table, infos[filled : filled + FILLED_AT_ONCE], later)
            filled += FILLED_AT_ONCE
        if not made:
            return
        self.begin()
        has_ids = is_parent or self.chunk.is_dry_run
        if has_ids:
            self._give_ids(table, made)
        if is_streamed:
            self._load_all_references()  # nothing can be looked up while rows are copied

        def batches(some: list[tuple[ProvidableInfo, Providable]]) -> Iterator[list[tuple[Any, ...]]]:
            yield self._lines(table, some, with_id=has_ids)
            for start in range(filled, len(infos), FILLED_AT_ONCE):
                more = self._new_objects(table, infos[start : start + FILLED_AT_ONCE], later)
                if has_ids:
                    self._give_ids(table, more)
                made.extend(more)
                yield self._lines(table, more, with_id=has_ids)

        taken: set[int] = set()

        def write(some: list[tuple[ProvidableInfo, Providable]]) -> None:
            if is_parent and table.model.is_shared:
                inserted = insert_contested_rows(self.connection, table, batches(some))
                taken.update(id(info) for info, _ in some if info.id_at_providers not in inserted)
                return
            self._is_copying = is_streamed
            try:
                insert_rows(self.connection, table, batches(some), with_id=has_ids)
            finally:
                self._is_copying = False

        refused = self._write(table, made, write)
        created = len(made) - len(refused) - len(taken)
        self.created += created
        self.written[table.name] += created
        if taken:
            self._take_as_known(table, [info for info, _ in made if id(info) in taken])
        known = self._ids.get(table.model)
        if known is None and not self.chunk.is_dry_run:
            return
        defaults = astuple(table.model())
        for info, obj in made:
            if id(info) in refused or id(info) in taken:
                continue
            if known is not None and obj.id is not None:
                known[info.id_at_providers] = obj.id
            if self.chunk.is_dry_run:
                self._note_difference(info, obj, defaults)

    def _take_as_known(self, table: Table, infos: Sequence[ProvidableInfo]) -> None:
        """Compare objects with the rows that somebody else made of them since the look-up."""
        firsts = {info.id_at_providers: info for info in infos}
        rows = find_rows(self.connection, table, self.chunk.provider_id, list(firsts), columns=True)
        if len(rows) < len(firsts):
            raise ChunkConflict(f"rows of {table.name} were made and deleted again by somebody else")
        _, changed = self._compare(table, firsts, {}, {row[KEY]: row for row in rows})
        self._ids[table.model].update({row[KEY]: row[ID] for row in rows})
        if changed:
            self._update(table, changed, {})

    def _give_ids(self, table: Table, made: Sequence[tuple[ProvidableInfo, Providable]]) -> None:
        """Primary keys for new objects; those of a dry run are made up, since a sequence does not roll back."""
        ids = self._made_up_ids if self.chunk.is_dry_run else iter(reserve_ids(self.connection, table, len(made)))
        for _, obj in made:
            obj.id = next(ids)

    def _load_all_references(self) -> None:
        for model, infos in self.chunk.infos.items():
            if infos[0].role == "reference":
                self._load_references(model)

    def _new_objects(
        self,
        table: Table,
        infos: Sequence[ProvidableInfo],
        later: dict[str, list[ProvidableInfo]],
    ) -> list[tuple[ProvidableInfo, Providable]]:
        """The objects to create, filled, with the last record of each."""
        defaults = astuple(table.model())
        made: list[tuple[ProvidableInfo, Providable]] = []
        for info in infos:
            obj = self._filled(table, info, defaults)
            if later and info.id_at_providers in later:
                info, obj = self._refill(table, info, obj, later[info.id_at_providers])  # noqa: PLW2901
            if obj is not None:
                self._take_thumbs(info, obj)
                made.append((info, obj))
        return made

    def _lines(
        self, table: Table, made: Sequence[tuple[ProvidableInfo, Providable]], *, with_id: bool
    ) -> list[tuple[Any, ...]]:
        """The new rows, in the order of `Table.copy_new`."""
        model, provider_id, guard_date = table.model, self.chunk.provider_id, self.guard_date
        is_plain = not (model.is_shared or model.has_venue_reference or with_id)
        last = 1 + len(table.writable)
        lines: list[tuple[Any, ...]] = []
        for info, obj in made:
            values = astuple(obj)
            date = info.date_modified_at_provider or guard_date
            if is_plain:
                lines.append((info.id_at_providers, provider_id, date, *values[1:last]))
                continue
            line = (*values[: 1 if with_id else 0], info.id_at_providers, provider_id, date)
            if model.is_shared:
                line += ({str(provider_id): date},)
            if model.has_venue_reference:
                line += (info.new_id_at_provider or None,)
            lines.append(line + values[1:last])
        return lines

    def _refill(
        self, table: Table, info: ProvidableInfo, obj: Providable | None, more: list[ProvidableInfo]
    ) -> tuple[ProvidableInfo, Providable | None]:
        """Apply further records of the same new object, as if each had come in a chunk of its own."""
        for again in more:
            if obj is None:
                info, obj = again, self._filled(table, again, astuple(table.model()))
                continue
            before = astuple(obj)
            dated = again.date_modified_at_provider
            if not self._may_change(again, (info.date_modified_at_provider or self.guard_date).timestamp()):
                self.unchanged += 1
                continue
            filled = self._filled(table, again, before)
            if filled is None:
                continue
            if dated is None and not changes(filled.__struct_fields__, astuple(filled), before):
                self.unchanged += 1
            else:
                info, obj = again, filled
                self.updated += 1
        return info, obj

    def _update(self, table: Table, changed: list[tuple[int, list[ProvidableInfo]]], moved: Mapping[int, str]) -> None:
        """Lock the rows, fill from what they hold now, and write what differs.

        `moved` has by primary key the key of those that take over another one.
        """
        infos_by_id = dict(changed)
        pending: list[tuple[ProvidableInfo, datetime, bool, Providable]] = []
        columns: set[str] = set()
        before: dict[int, Sequence[Any]] = {}
        self.begin()
        rows = lock_rows(self.connection, table, self.chunk.provider_id, list(infos_by_id), with_key=bool(moved))
        for row in rows:
            change = self._change_of(table, row, infos_by_id.pop(row[ID]), moved)
            if change is not None:
                pending.append(change)
                columns.update(changes(table.columns, astuple(change[3]), row[ID:]))
                if self.chunk.is_dry_run:
                    before[id(change[0])] = row[ID:]
        for infos in infos_by_id.values():  # deleted since the look-up: the next run will find them unknown
            self.skipped += len(infos)
        if forbidden := columns - set(table.writable):
            raise ConfigurationError(
                f"{type(self.provider).__name__} sets {', '.join(sorted(forbidden))} of {table.name}, which it may not"
            )
        if not pending:
            return
        names = tuple(name for name in table.writable if name in columns)
        places = [table.columns.index(name) for name in names]

        written = 0

        def write(some: Sequence[tuple[ProvidableInfo, datetime, bool, Providable]]) -> None:
            nonlocal written
            lines = []
            for _, date, must_write, obj in some:
                values = astuple(obj)
                lines.append((values[0], date, must_write, *[values[place] for place in places]))
            if moved:
                self._rename(table, [(info, obj) for info, _, _, obj in some if obj.id in moved])
            written += update_rows(
                self.connection, table, self.chunk.provider_id, lines, names, as_json=not self.careful
            )

        refused = self._write(table, pending, write)
        self.updated -= len(pending) - written
        self.written[table.name] += written
        self.unchanged += len(pending) - len(refused) - written
        if moved:
            self._note_moved(table, [(info, obj) for info, _, _, obj in pending], refused, moved)
        if self.chunk.is_dry_run:
            for info, _, _, obj in pending:
                if id(info) not in refused:
                    self._note_difference(info, obj, before[id(info)], moved.get(before[id(info)][0]))

    def _change_of(
        self, table: Table, row: Sequence[Any], infos: list[ProvidableInfo], moved: Mapping[int, str]
    ) -> tuple[ProvidableInfo, datetime, bool, Providable] | None:
        """What the records of a locked row make of it together: the last that counts, its date, whether the row is to
        be written even if it holds the same, and the filled object. None when it stays as it is."""
        date, values, held = row[DATE], row[ID:], row[HELD] or ()
        is_moved, rejected = row[ID] in moved, len(self.rejections)
        if is_moved:
            self._check_can_move(row, moved[row[ID]], infos[0])
            date = None  # also a record of the same date has to be written
        change: tuple[ProvidableInfo, datetime, bool, Providable] | None = None
        must_write = row[DATE] is None or is_moved
        for info in infos:
            applied = self._apply(table, info, date, values, held)
            if applied is not None:
                obj, new_date = applied
                must_write |= info.date_modified_at_provider is not None
                change = (info, new_date, must_write, obj)
                date, values = new_date.timestamp(), astuple(obj)
        if is_moved and len(self.rejections) > rejected:
            self.chunk.kept_keys.add((table.model, row[KEY]))
        return change

    def _check_can_move(self, row: Sequence[Any], held_key: str, info: ProvidableInfo) -> None:
        """Raise ChunkConflict if a locked row is not as it was when it was looked up."""
        if row[KEY] != held_key or row_is_newer(self, row[DATE], info):
            raise ChunkConflict(f"{held_key} was changed before it could take over another key")

    def _rename(self, table: Table, moves: Sequence[tuple[ProvidableInfo, Providable]]) -> None:
        """Give rows the keys of the infos that they turned out to be."""
        renamed = [(obj.id, info.id_at_providers, info.new_id_at_provider) for info, obj in moves if obj.id is not None]
        if renamed:
            rename_rows(self.connection, table, renamed)

    def _note_moved(
        self,
        table: Table,
        written: Sequence[tuple[ProvidableInfo, Providable]],
        refused: set[int],
        moved: Mapping[int, str],
    ) -> None:
        """Note what became of the rows that take over another key: children ask for them by the new one."""
        known = self._ids.get(table.model, {})
        for info, obj in written:
            if obj.id is not None and obj.id in moved:
                if id(info) in refused or self.chunk.is_dry_run:
                    self.chunk.kept_keys.add((table.model, moved[obj.id]))
                if id(info) not in refused:
                    self.moved += 1
                    known[info.id_at_providers] = obj.id

    def _apply(
        self,
        table: Table,
        info: ProvidableInfo,
        held_date: float | None,
        values: Sequence[Any],
        protected: Sequence[str],
    ) -> tuple[Providable, datetime] | None:
        """A record on a locked row: the filled object and its date, or None when it changes nothing."""
        date = info.date_modified_at_provider
        if not self._may_change(info, held_date):
            is_as_old = info.role != "create only" and date is not None and held_date == date.timestamp()
            pictured = self._pictured(table, info, values) if is_as_old and "thumbs" not in protected else None
            if pictured is None or date is None:
                self.unchanged += 1
                return None
            self.updated += 1
            return pictured, date
        obj = self._filled(table, info, values)
        if obj is None:
            return None
        if "thumbs" not in protected:
            self._take_thumbs(info, obj)
        if protected:
            self._count_held_back(table, keep_protected(table, obj, values, protected))
        if date is None and held_date is not None and not changes(obj.__struct_fields__, astuple(obj), values):
            self.unchanged += 1
            return None
        self.updated += 1
        return obj, date or self.guard_date

    def _write(self, table: Table, pending: Sequence[Any], write: Any) -> set[int]:
        """Write and reject what PostgreSQL refuses; returns the identities of the refused infos."""
        if not self.careful:
            write_or_raise(pending, write)
            return set()
        refused = write_or_reject(self.connection, pending, write, key_constraint=f"{table.name}_id_at_providers_key")
        for one, reason in refused:
            self._reject(one[0], reason)
        return {id(one[0]) for one, _ in refused}

    def _count_held_back(self, table: Table, names: Sequence[str]) -> None:
        """Count an object of which these fields were kept though the provider says otherwise."""
        if names:
            self.held_back += 1
            self.held_back_fields.update([f"{table.name}.{name}" for name in names])

    def _reject(self, info: ProvidableInfo, reason: str) -> None:
        self._thumbs_taken.pop((info.type, info.id_at_providers), None)
        self.rejections.append(Rejection(info.type.__name__, info.id_at_providers, reason, info.record))

    def _note_difference(
        self, info: ProvidableInfo, obj: Providable, before: Sequence[Any], held_key: str | None = None
    ) -> None:
        self._noted[info.type] += 1
        if self._noted[info.type] <= SAMPLE_SIZE:
            change = "create" if before[0] is None else "update"
            told = difference(info.id_at_providers, change, obj, before, self.provider.masking())
            if held_key is not None:
                told["fields"]["id_at_providers"] = [held_key, info.id_at_providers]
            self.differences.append(told)


def _by_model(lists: Sequence[Sequence[ProvidableInfo]]) -> dict[type[Providable], list[ProvidableInfo]]:
    """The objects table by table, parents first: as far back as any record names them."""
    infos = list(chain.from_iterable(lists))
    models = {info.type for info in infos}
    if len(models) <= 1:
        return dict.fromkeys(models, infos)
    place_of = dict.fromkeys(models, 0)
    for order in {tuple([info.type for info in infos]) for infos in lists}:
        for place, model in enumerate(order):
            place_of[model] = max(place_of[model], place)
    grouped: dict[type[Providable], list[ProvidableInfo]] = {
        model: [] for model in sorted(place_of, key=lambda model: (place_of[model], model.table_name))
    }
    for info in infos:
        grouped[info.type].append(info)
    return grouped


def _each_key_once(infos: Sequence[ProvidableInfo]) -> list[list[ProvidableInfo]]:
    """The first info of each key, then the second of those that have one, and so on.

    One after the other, so that one that PostgreSQL refuses does not cost the others of its key.
    """
    rounds: list[list[ProvidableInfo]] = []
    times: Counter[str] = Counter()
    for info in infos:
        if times[info.id_at_providers] == len(rounds):
            rounds.append([])
        rounds[times[info.id_at_providers]].append(info)
        times[info.id_at_providers] += 1
    return rounds
