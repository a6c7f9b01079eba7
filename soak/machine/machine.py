"""Random stories of sources, runs, kills and manual edits; after each step the tables must be those of the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from itertools import count
from typing import Any, ClassVar
from unittest import mock

import psycopg
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from psycopg.rows import dict_row

from include.errors import DatabaseUnavailable, LinkBusy, ServiceUnavailable
from include.inbound import loads, run
from include.models.report import SyncReport
from include.store import ledger
from include.store.ledger import LoadParameters
from include.store.locks import link_lock
from soak.machine.model import COLUMNS, DAY, PARTS, SHARED, Feed, Model, chunks, is_refused
from soak.machine.supplier import PROVIDERS, TABLES, Record, Visit

HOUR = 3600.0
SAME = 600.0
"""Seconds by which a time in the database may differ from that of the model. Different times are hours apart."""
WAIT = 60

KEYS = ("a", "b", "c", "d", 'e","\\', "f")
BAD_KEYS = ("", "\0")
FIELDS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "gadget": {
        "name": st.sampled_from(["one", "two", None, "x" * 30]),
        "quantity": st.sampled_from([1, 2, 3, None]),
        "price": st.sampled_from([Decimal(1), Decimal("2.50"), None, Decimal(-1)]),
        "extra": st.sampled_from([None, {}, {"seen": [1, {"b": None}]}]),
    },
    "part": {"amount": st.sampled_from([1, 2, None, -1])},
    "product": {
        "name": st.sampled_from(["one", "two", None]),
        "description": st.sampled_from(["short", "long", None]),
        "duration_minutes": st.sampled_from([90, 120, None, 0]),
    },
}
TABLE_OF = {name: provider.model.table_name for name, provider in PROVIDERS.items()}
PROVIDER = st.sampled_from(list(PROVIDERS))
SIZE = st.sampled_from([1, 2, 3, 1000])
DATE = st.sampled_from([None, None, -5 * DAY, -4 * DAY, -3 * DAY, -2 * DAY, -DAY, DAY / 2, 3 * DAY])
FLAW = st.sampled_from([""] * 12 + ["unreadable", "empty", "left out", "skipped", "broken", "naive"])
HOW = st.sampled_from(["breaks", "cut", "cut filling", "breaks filling"])
STALE = st.sampled_from([0.0] * 4 + [2 * HOUR, 30 * HOUR, 100 * HOUR])
"""How many seconds ago the pages of a run were requested."""
UNTIL = st.sampled_from([2 * HOUR, 30 * HOUR, 100 * HOUR])
"""How many seconds ago the interval of a backfill ended."""

_EMPTY = """
    DO $$ BEGIN
        SET LOCAL session_replication_role = replica;
        DELETE FROM part; DELETE FROM gadget; DELETE FROM product; DELETE FROM rejected_record;
        DELETE FROM local_provider_event; DELETE FROM catalog_operation_instance_result;
        DELETE FROM catalog_scheme_operation_instance; DELETE FROM catalog;
        UPDATE provider SET last_sync_date = NULL;
    END $$
"""
_NUMBERS = count(1)


@st.composite
def drawn_fields(draw: st.DrawFn, table: str, *, good: bool = False) -> dict[str, Any]:
    """Draw fields that a source or a person sets. Some are absent, required ones rarely."""
    fields = draw(st.fixed_dictionaries({}, optional=FIELDS[table]))
    if table != "part" and draw(st.booleans()):
        fields.setdefault("name", "one")
    if good:
        fields = {name: it for name, it in fields.items() if not is_refused(table, "a", {"name": "a", name: it})}
    return fields


@st.composite
def drawn_record(draw: st.DrawFn, provider: str) -> Record:
    """Draw a record of a provider's source."""
    table = TABLE_OF[provider]
    has_part = table == "gadget" and draw(st.booleans())
    return Record(
        key=draw(st.sampled_from(KEYS * 4 + BAD_KEYS)),
        date=draw(DATE),
        fields=draw(drawn_fields(table)),
        part=draw(drawn_fields("part")) if has_part else None,
        flaw=draw(FLAW),
        is_create_only=has_part and draw(st.integers(0, 5)) == 0,
    )


ANY_RECORD = PROVIDER.flatmap(lambda provider: st.tuples(st.just(provider), drawn_record(provider)))


def set_up(conninfo: str) -> None:
    """Create the machine's own tables in a migrated database."""
    with psycopg.connect(conninfo) as connection:
        connection.execute(TABLES)


@dataclass
class Load:
    """A run, and what its attempts have done so far."""

    provider: str
    visit: Visit
    feed: Feed
    size: int
    options: dict[str, Any] = field(default_factory=dict)
    began: int = 0
    """The number of the source's last change before the run began."""
    listing: Sequence[Record] = ()
    saved: list[tuple[int, Counter[str]]] = field(default_factory=list)
    """Per saved chunk: the place after it, and its counts."""
    before: Counter[str] = field(default_factory=Counter)
    """What earlier attempts created and updated that started from the beginning as well."""
    instance_id: int = 0
    one_by_one: bool = False
    """Whether this attempt has met a row that the database refuses."""


class InboundMachine(RuleBasedStateMachine):
    """The engine on one side, the model on the other. `machine_on` sets the class variables."""

    conninfo: ClassVar[str]
    connection: ClassVar[psycopg.Connection[Any]]
    done: ClassVar[Counter[str]]
    """How often each thing happened, over all stories."""

    def __init__(self) -> None:
        super().__init__()
        self.connection.execute(_EMPTY)
        self.beginning = datetime.now(UTC)
        self.model = Model()
        self.sources: dict[str, list[Record]] = {name: [] for name in PROVIDERS}
        self.changes = count(1)
        self.attempts = count(1)
        self.last_change = 0
        self.killed: dict[str, Load] = {}
        self.old_watermarks: dict[str, datetime] = {}
        self.done["stories"] += 1

    # Sources

    @initialize(records=st.lists(ANY_RECORD, min_size=10, max_size=30), again=st.booleans())
    def sources_begin(self, records: list[tuple[str, Record]], again: bool) -> None:
        """The sources begin with some records; with `again`, keys can be listed twice."""
        for provider, record in records:
            self._put(provider, record, again=again)

    @rule(changed=st.lists(ANY_RECORD, min_size=1, max_size=5), again=st.booleans())
    def source_changes(self, changed: list[tuple[str, Record]], again: bool) -> None:
        """Records are added or replaced; with `again`, a key is listed twice."""
        for provider, record in changed:
            self._put(provider, record, again=again)

    @rule(provider=PROVIDER, date=DATE)
    def source_dates_all_records(self, provider: str, date: float | None) -> None:
        """All records of a source get another date: later, earlier or none."""
        for record in list(self.sources[provider]):
            self._put(provider, replace(record, date=date), again=False)

    @rule(provider=PROVIDER, key=st.sampled_from(KEYS), flaw=FLAW)
    def source_breaks_or_repairs(self, provider: str, key: str, flaw: str) -> None:
        """A record becomes bad, or good again."""
        for record in [record for record in self.sources[provider] if record.key == key][-1:]:
            self._put(provider, replace(record, flaw=flaw), again=False)

    @rule(provider=PROVIDER, key=st.sampled_from(KEYS))
    def source_removes(self, provider: str, key: str) -> None:
        """A key disappears from the listing."""
        self.sources[provider] = [record for record in self.sources[provider] if record.key != key]

    def _put(self, provider: str, record: Record, *, again: bool) -> None:
        self.last_change = next(self.changes)
        record = replace(record, changed=self.last_change, stamp=datetime.now(UTC))
        listing = self.sources[provider]
        if again:
            listing.append(record)
            return
        places = [place for place, one in enumerate(listing) if one.key == record.key]
        if places:
            listing[places[0]] = record
            for place in reversed(places[1:]):
                del listing[place]
        else:
            listing.append(record)

    # Manual edits

    @precondition(lambda self: any(self.model.tables.values()))
    @rule(data=st.data())
    def person_edits(self, data: st.DataObject) -> None:
        """A person changes fields of a row."""
        table, key = self._draw_row(data)
        self._edit(table, key, data.draw(drawn_fields(table, good=True), label="edited"))

    @precondition(lambda self: any(row.overrides for rows in self.model.tables.values() for row in rows.values()))
    @rule(data=st.data())
    def person_releases(self, data: st.DataObject) -> None:
        """A person releases overrides of a row."""
        edited = [(name, key) for name, rows in self.model.tables.items() for key, row in rows.items() if row.overrides]
        table, key = data.draw(st.sampled_from(edited), label="row")
        overrides = sorted(self.model.tables[table][key].overrides)
        fields = data.draw(st.lists(st.sampled_from(overrides), unique=True), label="released")
        if table in SHARED:
            statement = "SELECT release_fields(%s, id, VARIADIC %s::text[]) FROM product WHERE id_at_providers = %s"
            self.connection.execute(statement, (table, fields, key))
        else:
            self.connection.execute(
                f"UPDATE {table} SET date_modified_at_last_provider = NULL, fields_updated = ARRAY("
                " SELECT field FROM unnest(fields_updated) AS field WHERE cardinality(%(fields)s::text[]) > 0"
                " AND field <> ALL(%(fields)s::text[])) WHERE id_at_providers = %(key)s",
                {"fields": fields, "key": key},
            )
        self.model.release(table, key, fields)

    @precondition(lambda self: any(self.model.tables.values()))
    @rule(data=st.data())
    def person_deletes(self, data: st.DataObject) -> None:
        """A person deletes a row."""
        table, key = self._draw_row(data)
        self.connection.execute(f"DELETE FROM {table} WHERE id_at_providers = %s", (key,))
        self.model.remove(table, key)

    def _draw_row(self, data: st.DataObject) -> tuple[str, str]:
        existing = [(name, key) for name, rows in self.model.tables.items() for key in rows]
        return data.draw(st.sampled_from(existing), label="row")

    def _edit(self, table: str, key: str, values: dict[str, Any], connection: Any = None) -> None:
        if values and key in self.model.tables[table]:
            given = {name: psycopg.types.json.Jsonb(value) if isinstance(value, dict) else value
                     for name, value in values.items()}  # fmt: skip
            assignments = ", ".join(f"{name} = %({name})s" for name in given)
            (connection or self.connection).execute(
                f"UPDATE {table} SET {assignments} WHERE id_at_providers = %(key)s", {**given, "key": key}
            )
            self.model.edit(table, key, values)

    # Runs

    @rule(provider=PROVIDER, size=SIZE, stale=STALE, can_create=st.integers(0, 5).map(bool), full=st.booleans())
    def run(self, provider: str, size: int, stale: float, can_create: bool, full: bool) -> None:
        """A run reads from the watermark on, or everything; its pages may be old."""
        self._run(self._load(provider, size, stale=stale, can_create=can_create, full_refresh=full))

    @rule(provider=PROVIDER, size=SIZE)
    def run_twice(self, provider: str, size: int) -> None:
        """The second run of the same listing writes nothing."""
        self._run(self._load(provider, size, full_refresh=True))
        expected = deepcopy(self.model)
        load = self._load(provider, size, full_refresh=True)
        versions = self._versions()
        report = self._run(load)
        keys = [record.key for record in load.listing]
        if len(set(keys)) == len(keys):
            assert (report.created, report.updated) == (0, 0), report
            assert self._versions() == versions
            assert self.model.tables == expected.tables

    @rule(provider=PROVIDER, size=SIZE, limit=st.integers(1, 6))
    def run_with_a_limit(self, provider: str, size: int, limit: int) -> None:
        """A run stops after a number of records, and does not move the watermark."""
        self._run(self._load(provider, size, limit=limit), read=limit, moves=False)

    @rule(provider=PROVIDER, size=SIZE, full=st.booleans())
    def dry_run(self, provider: str, size: int, full: bool) -> None:
        """A dry run counts everything and writes nothing."""
        load = self._load(provider, size, dry_run=True, full_refresh=full)
        versions = self._versions()
        report = self._sync(load)
        assert self._versions() == versions
        counts: Counter[str] = Counter()
        for begin, end, _ in chunks(load.listing, size):
            model = deepcopy(self.model)  # no chunk sees what an earlier one would have written
            some, load.one_by_one = model.apply(load.feed, load.listing[begin:end], one_by_one=load.one_by_one)
            counts += some
        assert _counts(report) == _plain(counts), (report, counts)

    @rule(records=st.lists(drawn_record("Gadgets"), max_size=6), size=SIZE, until=UNTIL)
    def backfill(self, records: list[Record], size: int, until: float) -> None:
        """Old data arrives late: it changes only rows without newer data."""
        end = self.beginning - timedelta(seconds=until)
        interval = (end - timedelta(1), end)
        self._run(self._load("Gadgets", size, until=-until, archive=_distinct(records), interval=interval), moves=False)

    @rule(size=SIZE, is_late=st.booleans())
    def catch_up(self, size: int, is_late: bool) -> None:
        """A backfill of a source without an upper limit: from long ago until now, or from a time that leaves a gap."""
        start = self.beginning + timedelta(hours=1 if is_late else -1)
        load = self._load("Texts", size, interval=(start, None), full_listing=not is_late)
        read = 0 if is_late else len(load.listing)
        self._run(load, read=read, moves=not is_late and "Texts" in self.model.watermarks)

    @rule(provider=PROVIDER, size=SIZE, place=st.integers(0, 12), data=st.data())
    def run_while_a_person_edits(self, provider: str, size: int, place: int, data: st.DataObject) -> None:
        """An edit between two chunks affects all chunks after it."""
        table = TABLE_OF[provider]
        key = data.draw(st.sampled_from(KEYS), label="key")
        values = data.draw(drawn_fields(table, good=True), label="edited")
        load = self._load(provider, size)
        load.visit.interrupted_at = place

        def edit() -> None:
            self._saved(load, place, closed_only=True)
            with psycopg.connect(self.conninfo, autocommit=True) as person:
                self._edit(table, key, values, person)

        load.visit.interrupt = edit
        self._run(load)

    @rule(provider=PROVIDER, size=SIZE, place=st.integers(0, 4))
    def two_runs_at_once(self, provider: str, size: int, place: int) -> None:
        """The second run of a link finds it busy and changes nothing."""
        load = self._load(provider, size)
        load.visit.interrupted_at = place

        def second() -> None:
            other = Visit(lambda *_: [Record("a", fields={"name": "busy"})], self.beginning)
            with psycopg.connect(self.conninfo, autocommit=True) as connection, pytest.raises(LinkBusy):
                run.sync_provider(PROVIDERS[provider](other), connection)
            self.done["busy links"] += 1

        load.visit.interrupt = second
        with mock.patch.object(run, "link_lock", partial(link_lock, wait_seconds=0)):  # else it waits three seconds
            self._run(load)

    @rule(sizes=st.tuples(SIZE, SIZE), stale=st.tuples(STALE, STALE), can_create=st.booleans())
    def two_providers_at_once(self, sizes: tuple[int, int], stale: tuple[float, float], can_create: bool) -> None:
        """Two providers feed one table: each row ends as if one of them had run before the other."""
        given = zip(("Texts", "Pictures"), sizes, stale, (True, can_create), strict=True)
        loads = [
            self._load(provider, size, stale=old, full_refresh=True, distinct=True, can_create=may_create)
            for provider, size, old, may_create in given
        ]
        with ThreadPoolExecutor(2) as pool, psycopg.connect(self.conninfo, autocommit=True) as other:
            pairs = zip(loads, (self.connection, other), strict=True)
            running = [pool.submit(self._sync, load, connection) for load, connection in pairs]
            reports = [each.result(WAIT) for each in running]
        self.done["runs at once"] += 1
        ends: list[tuple[Model, list[Counter[str]]]] = []
        for order in (loads, loads[::-1]):
            model = deepcopy(self.model)
            counts = {load.provider: _total(model, load) for load in order}
            ends.append((model, [counts[load.provider] for load in loads]))
        found = self._found("product")
        rows = self.model.tables["product"]
        first, second = (model.tables["product"] for model, _ in ends)
        for key in first.keys() | second.keys() | found.keys():
            fitting = [row for row in (first.get(key), second.get(key)) if _is(row, found.get(key), self.beginning)]
            assert fitting, (key, found.get(key), first.get(key), second.get(key))
            if first.get(key) == second.get(key) and fitting[0] is not None:
                rows[key] = fitting[0]
            else:  # a story must continue in the same way each time that it is run
                self.connection.execute("DELETE FROM product WHERE id_at_providers = %s", (key,))
                rows.pop(key, None)
        for place, (load, report) in enumerate(zip(loads, reports, strict=True)):
            allowed = [counts[place]["rejected"] for _, counts in ends]
            assert min(allowed) <= report.rejected <= max(allowed), (report, allowed)
            self.model.rejected[load.instance_id] = report.rejected
            self.model.watermarks[load.provider] = load.began

    # Runs that are killed, and their next attempts

    @rule(provider=PROVIDER, size=SIZE, cursor=st.booleans(), place=st.integers(0, 6), how=HOW, at_once=st.booleans())
    def run_is_killed(self, *, provider: str, size: int, cursor: bool, place: int, how: str, at_once: bool) -> None:
        """A run of everything is killed; its next attempt comes at once or at any time later."""
        load = self._load(provider, size, in_ledger=True, full_refresh=True)
        load.visit.has_cursor = cursor
        self._attempt(load, place, how)
        if at_once and load.provider in self.killed:
            self._attempt_again(self.killed.pop(load.provider), None, how)

    @precondition(lambda self: self.killed)
    @rule(data=st.data(), size=SIZE, place=st.none() | st.integers(0, 8), how=HOW)
    def next_attempt(self, data: st.DataObject, size: int, place: int | None, how: str) -> None:
        """The next attempt resumes from the cursor, or starts over; it may be killed too."""
        load = self.killed.pop(data.draw(st.sampled_from(sorted(self.killed)), label="provider"))
        load.size = size
        self._attempt_again(load, place, how)

    def _attempt_again(self, load: Load, place: int | None, how: str) -> None:
        rows = self._rows("SELECT cursor FROM catalog_scheme_operation_instance WHERE id = %s", load.instance_id)
        cursor = rows[0][0] if rows else None
        assert load.visit.has_cursor or cursor is None
        if cursor is None:
            for _, counts in load.saved:
                load.before += Counter({name: counts[name] for name in ("created", "updated")})
            load.saved = []
            load.began = self.last_change
            load.feed = self._feed(load.provider, 0)
            load.listing = self._listing(load.provider, everything=self._reads_all(load))
            self.model.rejected[load.instance_id] = 0
            load.visit = self._visit(load, has_cursor=load.visit.has_cursor)
            self.done["started over"] += 1
        else:
            uncounted = [counts for end, counts in load.saved if end > int(cursor)]
            written = ("created", "updated", "rejected")
            assert not any(counts[name] for counts in uncounted for name in written), uncounted
            load.saved = [(end, counts) for end, counts in load.saved if end <= int(cursor)]
            assert int(cursor) == max(end for end, _ in load.saved)
            listing = load.listing
            load.visit = replace(
                load.visit, listing=lambda *_: listing, interrupted_at=None, has_interrupted=False, resumed_from=None
            )
            self.done["resumed"] += 1
        load.one_by_one = False
        self._attempt(load, place, how)
        assert load.visit.resumed_from == cursor

    def _attempt(self, load: Load, place: int | None, how: str) -> None:
        visit = load.visit
        visit.interrupted_at, visit.is_interrupted_filling = place, how.endswith("filling")
        with psycopg.connect(self.conninfo, autocommit=True) as connection:

            def end() -> None:
                if how.startswith("breaks"):
                    raise ServiceUnavailable("the stream broke")
                self.connection.execute("SELECT pg_terminate_backend(%s, 5000)", (connection.info.backend_pid,))

            visit.interrupt = end
            try:
                report = self._sync(load, connection)
            except (ServiceUnavailable, DatabaseUnavailable):
                assert visit.has_interrupted
                assert place is not None
                self.done[f"kills: {how}"] += 1
                self._saved(load, place, closed_only=True)
                self.killed[load.provider] = load
                return
        assert not visit.has_interrupted
        self._saved(load, len(load.listing))
        self._finished(load, report)

    # What all runs share

    def _run(self, load: Load, *, read: int | None = None, moves: bool = True) -> SyncReport:
        """Run a load to its end, of which the engine reads everything or a number of records."""
        report = self._sync(load)
        load.listing = load.listing[:read]
        self._saved(load, len(load.listing))
        self._finished(load, report, moves=moves)
        return report

    def _load(
        self, provider: str, size: int, *, stale: float = 0.0, until: float | None = None, can_create: bool = True,
        archive: list[Record] | None = None, full_listing: bool = False, distinct: bool = False,
        in_ledger: bool = False, **options: Any,
    ) -> Load:  # fmt: skip
        number = next(self.attempts)
        feed = self._feed(provider, stale, until=until, can_create=can_create, number=number)
        load = Load(provider, Visit(lambda *_: [], self.beginning), feed, size, options, began=self.last_change)
        everything = full_listing or self._reads_all(load)
        load.listing = archive if archive is not None else self._listing(provider, everything=everything)
        if distinct:
            load.listing = _distinct(load.listing)
        load.visit = self._visit(load, requested=feed.requested if stale else None, archive=archive, distinct=distinct)
        self.done["runs"] += 1
        if in_ledger:
            run_id = f"run {next(_NUMBERS)}"
            catalog_id = loads.open_load(self.connection, PROVIDERS[provider], LoadParameters(), run_id=run_id)
            load.instance_id = ledger.single_instance(self.connection, catalog_id)
        return load

    def _feed(
        self, provider: str, stale: float, *, until: float | None = None, can_create: bool = True, number: int = 0
    ) -> Feed:
        number = number or next(self.attempts)
        requested = -stale + number if stale else number / 1000
        return Feed(provider, TABLE_OF[provider], requested, until, provider in self.model.watermarks, can_create)

    def _visit(
        self, load: Load, *, requested: float | None = None, archive: list[Record] | None = None,
        distinct: bool = False, has_cursor: bool = False,
    ) -> Visit:  # fmt: skip
        """Return a visit that lists what belongs to the window it is given; the model computes that independently."""

        def listing(since: datetime | None, until: datetime | None) -> Sequence[Record]:
            if archive is not None:
                assert until is not None
                return archive
            assert until is None
            usable = _good_together(self.sources[load.provider])
            listed = [record for record in usable if since is None or (record.stamp and record.stamp >= since)]
            return _distinct(listed) if distinct else listed

        return Visit(listing, self.beginning, has_cursor, load.feed.can_create, requested)

    def _reads_all(self, load: Load) -> bool:
        return bool(load.options.get("full_refresh")) or PROVIDERS[load.provider].window == "none"

    def _listing(self, provider: str, *, everything: bool) -> list[Record]:
        since = None if everything else self.model.watermarks.get(provider)
        usable = _good_together(self.sources[provider])
        return [record for record in usable if since is None or record.changed > since]

    def _sync(self, load: Load, connection: Any = None) -> SyncReport:
        connection = connection or self.connection
        options = dict(load.options)
        if load.instance_id:
            options["instance_id"] = load.instance_id
        provider = PROVIDERS[load.provider](load.visit)
        try:
            report = run.sync_provider(provider, connection, chunk_size=load.size, **options)
        finally:
            if "interval" not in load.options:
                listed, expected = (
                    [(record.key, record.changed) for record in some] for some in (provider.listed, load.listing)
                )
                assert listed == expected
        if not load.instance_id:
            ((load.instance_id,),) = self._rows(
                "SELECT max(instance.id) FROM catalog_scheme_operation_instance AS instance"
                " JOIN catalog_scheme_operation AS operation ON operation.id = instance.operation_id"
                " WHERE operation.name LIKE %s AND instance.state = 'done'",
                f"%.{load.provider}",
                connection=connection,
            )
        return report

    def _saved(self, load: Load, place: int, *, closed_only: bool = False) -> None:
        """Apply to the model the chunks up to a place that were not saved before."""
        done = max([end for end, _ in load.saved], default=0)
        for begin, end, is_closed in chunks(load.listing[done:], load.size):
            if done + end <= place and (is_closed or not closed_only):
                some = load.listing[done + begin : done + end]
                counts, load.one_by_one = self.model.apply(load.feed, some, one_by_one=load.one_by_one)
                load.saved.append((done + end, counts))
                self.model.rejected[load.instance_id] += counts["rejected"]

    def _finished(self, load: Load, report: SyncReport, *, moves: bool = True) -> None:
        """Compare the counts of a run that ended with those of the model; move its watermark."""
        counts: Counter[str] = Counter()
        for _, some in load.saved:
            counts += some
        met_again = min(counts["unchanged"], load.before.total())
        counts += load.before
        counts["unchanged"] -= met_again
        assert _counts(report) == _plain(counts), (report, counts)
        assert report.records == len(load.listing)
        self.model.rejected[load.instance_id] += self.model.rejected.pop(0, 0)
        if moves:
            self.model.watermarks[load.provider] = max(load.began, self.model.watermarks.get(load.provider, 0))

    # What is true after every step

    @invariant()
    def tables_are_those_of_the_model(self) -> None:
        """The tables have exactly the rows of the model, with their values, dates and overrides."""
        self.done["steps"] += 1
        for table, rows in self.model.tables.items():
            found = self._found(table)
            assert found.keys() == rows.keys(), table
            for key, row in rows.items():
                assert _is(row, found[key], self.beginning), (table, key, found[key], row)

    @invariant()
    def parts_belong_to_their_gadgets(self) -> None:
        """A part belongs to the gadget with its own key."""
        assert not self._rows(
            "SELECT part.id_at_providers FROM part JOIN gadget ON gadget.id = gadget_id"
            " WHERE gadget.id_at_providers <> part.id_at_providers"
        )

    @invariant()
    def the_ledger_adds_up(self) -> None:
        """The number of rejected records is right, watermarks never move back, counts add up."""
        counted = self._rows(
            "SELECT instance_id, count(*) FILTER (WHERE resolved_at IS NULL), count(*) FROM rejected_record"
            " GROUP BY instance_id"
        )
        stored = {instance: (unresolved, every) for instance, unresolved, every in counted}
        for instance in stored.keys() | (+self.model.rejected).keys():  # a later complete listing resolves earlier ones
            unresolved, every = stored.get(instance, (0, 0))
            assert unresolved <= self.model.rejected[instance] <= every, (instance, stored, self.model.rejected)
        watermarks = dict(
            self._rows("SELECT local_class, last_sync_date FROM provider WHERE last_sync_date IS NOT NULL")
        )
        assert watermarks.keys() == self.model.watermarks.keys()
        for provider, watermark in watermarks.items():
            assert watermark >= self.old_watermarks.get(provider, watermark)
        self.old_watermarks = watermarks
        assert not self._rows(
            "SELECT report FROM catalog_operation_instance_result WHERE state = 'done'"
            " AND (report ->> 'checked')::int <>"
            " (report ->> 'created')::int + (report ->> 'updated')::int + (report ->> 'unchanged')::int"
            " + (report ->> 'skipped')::int + (report ->> 'rejected')::int"
        )

    def _rows(self, statement: str, *parameters: object, connection: Any = None) -> list[Any]:
        return (connection or self.connection).execute(statement, parameters).fetchall()  # type: ignore[arg-type]

    def _found(self, table: str) -> dict[str, dict[str, Any]]:
        with self.connection.cursor(row_factory=dict_row) as cursor:
            rows = cursor.execute(
                f"SELECT stored.*, provider.local_class FROM {table} AS stored"
                " LEFT JOIN provider ON provider.id = last_provider_id"
            ).fetchall()
        ids = dict(self._rows("SELECT id::text, local_class FROM provider"))
        for row in rows:
            dates = row.get("provider_dates", {})
            row["dates"] = {ids[number]: datetime.fromisoformat(date) for number, date in dates.items()}
        return {row["id_at_providers"]: row for row in rows}

    def _versions(self) -> list[Any]:
        selects = [f"SELECT '{table}', id, (xmin, ctid)::text FROM {table}" for table in COLUMNS]
        return self._rows(" UNION ALL ".join(selects) + " ORDER BY 1, 2")


def _is(row: Any, found: dict[str, Any] | None, beginning: datetime) -> bool:
    """Return whether a row equals that of the model; None stands for no row."""
    if row is None or found is None:
        return row is found
    return (
        {name: found[name] for name in row.values} == row.values
        and found["local_class"] == row.last
        and _is_time(row.date, found["date_modified_at_last_provider"], beginning)
        and found["dates"].keys() == row.dates.keys()
        and all(_is_time(row.dates[name], date, beginning) for name, date in found["dates"].items())
        and sorted(found["fields_updated"]) == sorted(row.overrides)
    )


def _is_time(expected: float | None, found: datetime | None, beginning: datetime) -> bool:
    if expected is None or found is None:
        return expected is found
    return abs((found - beginning).total_seconds() - expected) < SAME


def _distinct(records: Sequence[Record]) -> list[Record]:
    return list({record.key: record for record in records}.values())


def _good_together(records: Sequence[Record]) -> list[Record]:
    """Drop repeated keys that have values which the database refuses, except for the last record of each."""
    times = Counter(record.key for record in records)

    def is_bad(record: Record) -> bool:
        sent = {"gadget": {"name": None, **record.fields}, "part": record.part or {}}
        return any(is_refused(name, record.key, values) for name, values in {**sent, "product": sent["gadget"]}.items())

    bad = {record.key for record in records if times[record.key] > 1 and is_bad(record)}
    last = {record.key: record for record in records}
    return [record for record in records if record.key not in bad or last[record.key] is record]


def _total(model: Model, load: Load) -> Counter[str]:
    counts: Counter[str] = Counter()
    one_by_one = False
    for begin, end, _ in chunks(load.listing, load.size):
        some, one_by_one = model.apply(load.feed, load.listing[begin:end], one_by_one=one_by_one)
        counts += some
    return counts


def _counts(report: SyncReport) -> dict[str, int]:
    assert report.checked == sum(getattr(report, name) for name in PARTS), report
    return {name: getattr(report, name) for name in PARTS}


def _plain(counts: Counter[str]) -> dict[str, int]:
    return {name: counts[name] for name in PARTS}


@contextmanager
def machine_on(conninfo: str) -> Iterator[type[InboundMachine]]:
    """Yield the machine on a database with its tables, which nothing else may use meanwhile."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        InboundMachine.conninfo, InboundMachine.connection, InboundMachine.done = conninfo, connection, Counter()
        yield InboundMachine
