"""The ledger: states of loads, where a next try goes on, markers, and what is kept of it all."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import ClassVar

import pytest

from include.errors import ConfigurationError, FatalError, LinkBusy, ServiceUnavailable
from include.inbound import loads
from include.inbound.run import sync_provider
from include.providers import load_provider
from include.store import ledger
from include.store.ledger import LoadParameters
from include.store.locks import link_lock
from include.store.providers import find_links, load_link, register_provider
from tests.inbound.items import CursorItems, Items, day, item


class Linked(CursorItems):
    """A provider with venue links; what it lists stands in `listings`, by the venue's id at the provider."""

    name = "Linked"
    needs_venue = True
    window = "since"
    listings: ClassVar[dict] = {}
    error_allowance = 7

    def __init__(self, venue_provider):
        super().__init__(type(self).listings.get(venue_provider.venue_id_at_offer_provider, ()), venue_provider)


@pytest.fixture
def links(link):
    """Three venues, linked to Linked."""
    Linked.listings = {f"v{n}": [item(f"v{n}-{i}") for i in range(4)] for n in range(3)}
    return [link(Linked, f"v{n}", name=f"V{n}", siret=f"{n:014d}").id for n in range(3)]


@pytest.fixture
def linked(connection, links):
    """Linked, for the link of this number."""
    return lambda number=0: Linked(load_link(connection, links[number]))


@pytest.fixture
def run(connection):
    """Open a load or find it, run what is left of it, close it; returns the summary."""

    def run(run_id="r", provider_class=Linked, **asked):
        load = loads.open_load(connection, provider_class, LoadParameters(**asked), run_id=run_id)
        for instance in ledger.pending_instances(connection, load, 0):
            if ledger.past_error_limit(connection, load):
                break
            provider = provider_class(load_link(connection, instance.venue_provider_id))
            with suppress(FatalError, ServiceUnavailable):
                sync_provider(provider, connection, instance_id=instance.id, chunk_size=2)
        return loads.close_load(connection, load)

    return run


@pytest.fixture
def events(connection):
    return lambda: connection.execute("SELECT type, payload FROM local_provider_event ORDER BY id").fetchall()


@pytest.fixture
def watermark(connection):
    def read(table="provider"):
        which = "ORDER BY last_sync_date LIMIT 1"  # of those that have one
        return connection.execute(f"SELECT last_sync_date FROM {table} {which}").fetchone()[0]

    return read


class TestStates:
    @pytest.mark.parametrize(
        ("failing", "state", "done"), [((), "loaded", 3), ((1,), "partially loaded", 2), ((0, 1, 2), "failed", 0)]
    )
    def test_a_load_is_loaded_partially_loaded_or_failed(self, run, links, connection, failing, state, done):
        for number in failing:
            Linked.listings[f"v{number}"].insert(3, ServiceUnavailable("gone"))
        summary = run()
        assert (summary.state, summary.done, summary.failed, summary.skipped) == (state, done, 3 - done, 0)
        assert {venue.partition(" (link ")[0]: error for venue, error in summary.errors.items()} == {
            f"V{n}": "gone" for n in failing
        }
        assert summary.counts["created"] == 4 * done + 2 * (3 - done)
        states = connection.execute("SELECT state FROM catalog WHERE parent_id IS NULL").fetchall()
        assert states == [(state,)]

    def test_a_load_of_no_links_is_loaded(self, run, connection):
        summary = run()
        assert (summary.state, summary.done) == ("loaded", 0)

    def test_a_load_opened_again_does_what_is_left(self, run, links, connection, rows):
        Linked.listings["v1"].insert(3, ServiceUnavailable("gone"))
        assert run().state == "partially loaded"
        before = connection.execute("SELECT id_at_providers, xmin::text FROM item").fetchall()
        Linked.listings["v1"][3:4] = []
        summary = run()
        assert (summary.state, summary.done) == ("loaded", 3)
        assert (summary.counts["created"], summary.counts["records"]) == (12, 12)
        assert set(before) <= set(connection.execute("SELECT id_at_providers, xmin::text FROM item").fetchall())
        attempts = connection.execute("SELECT venue, attempts FROM load_report ORDER BY 1").fetchall()
        assert attempts == [("V0", 1), ("V1", 2), ("V2", 1)]
        assert connection.execute("SELECT count(*) FROM catalog WHERE parent_id IS NULL").fetchone() == (1,)
        assert run().counts["unchanged"] == 12  # what is loaded is not opened again
        assert connection.execute("SELECT count(*) FROM catalog WHERE parent_id IS NULL").fetchone() == (2,)

    def test_past_the_error_limit_of_the_scheme_or_its_own_a_load_stops(self, run, links, connection):
        run("first")
        connection.execute("UPDATE catalog_scheme SET error_limit = 0")
        for number in (0, 1):
            Linked.listings[f"v{number}"].insert(0, ServiceUnavailable("gone"))
        summary = run("limit of the scheme")
        assert (summary.done, summary.failed) == (0, 3)
        assert list(summary.errors.values())[-1] == "not started"
        assert (run("second", error_limit=1).done, run("third", error_limit=2).done) == (0, 1)
        assert list(run("fourth", error_limit=1).errors.values())[-1] == "not started"
        connection.execute("UPDATE catalog_scheme SET error_limit = NULL")
        assert (run("fifth", error_limit=0).done, run("sixth").done) == (0, 1)

    def test_batches_share_the_links(self, connection, links):
        load = loads.open_load(connection, Linked, LoadParameters(), at_most_batches=2)
        batches = [[i.venue_provider_id for i in ledger.pending_instances(connection, load, n)] for n in (0, 1)]
        assert list(ledger.batch_labels(connection, load)) == [0, 1]
        assert batches == [[links[0], links[2]], [links[1]]]

    def test_parameters_come_back_as_they_were(self, connection, links):
        interval = {"interval_start": day(1), "interval_end": day(2)}
        asked = LoadParameters(venue_links=(str(links[0]),), limit=5, dry_run=True, **interval)
        load = loads.open_load(connection, Linked, asked)
        assert ledger.load_parameters(connection, load) == asked

    def test_links_by_id_and_siret(self, connection, links):
        provider_id = register_provider(connection, "Linked", "Linked")
        found = find_links(connection, provider_id, [str(links[0]), f"{2:014d}"])
        assert [link.id for link in found] == [links[0], links[2]]
        connection.execute("UPDATE venue_provider SET is_active = false WHERE id = %s", (links[1],))
        with pytest.raises(ConfigurationError, match=r"(?s)No active venue link.*00000000000001.*V0"):
            find_links(connection, provider_id, [f"{1:014d}"])

    def test_a_link_deactivated_meanwhile_is_skipped_without_an_event(
        self, connection, opened, sync, linked, links, events, rows
    ):
        load, instance = opened(Linked)
        connection.execute("UPDATE venue_provider SET is_active = false WHERE id = %s", (links[0],))
        assert sync(linked(), instance_id=instance).state == "skipped"
        assert (events(), rows()) == ([], {})
        assert ledger.load_instance(connection, instance).state == "skipped"
        summary = loads.close_load(connection, load)
        assert (summary.skipped, summary.failed) == (1, 2)

    @pytest.mark.parametrize("table", ["provider", "venue_provider"])
    def test_what_is_not_active_is_skipped_without_a_trace(self, sync, connection, linked, events, rows, table):
        connection.execute(f"UPDATE {table} SET is_active = false")
        assert sync(linked()).state == "skipped"
        assert (events(), rows()) == ([], {})

    def test_events_and_results(self, run, links, connection, events):
        Linked.listings["v1"].insert(3, FatalError("no \0 good"))
        run(venue_links=(str(links[1]),))
        Linked.listings["v1"][3:4] = []
        run(venue_links=(str(links[1]),))
        found = events()
        assert [kind for kind, _ in found] == ["SyncStart", "SyncError", "SyncStart", "SyncEnd"]
        assert "good" in found[1][1]
        assert "4 records" in found[3][1]
        results = "SELECT attempt, state, (report -> 'created')::int FROM catalog_operation_instance_result ORDER BY id"
        assert connection.execute(results).fetchall() == [(1, "failed", 2), (2, "done", 4)]


LISTING = [
    *(item(f"k{n:02d}", quantity=n) for n in range(12)),
    None,
    item("bad", price=-1),
    KeyError("unreadable"),
    *(item(f"k{n:02d}", quantity=-n) for n in range(15)),
    item("old", date=day(1)),
]


class TestGoingOn:
    @pytest.mark.parametrize("provider_class", [CursorItems, Items])
    @pytest.mark.parametrize("chunk_size", [1, 4, 1000])
    @pytest.mark.parametrize("at", [0, 1, 4, 5, 12, 13, 14, 15, 20, 31])
    def test_counts_are_those_of_an_undisturbed_run(
        self, connection, sync, opened, rows, rejections, provider_class, at, chunk_size
    ):
        """With a cursor the next try goes on; without, it reads all again, and writes again what changes twice."""
        load, instance = opened(provider_class)
        broken = [*LISTING[:at], ServiceUnavailable("gone"), *LISTING[at:]]
        with pytest.raises((ServiceUnavailable, FatalError)):
            sync(broken, provider_class, instance_id=instance, chunk_size=chunk_size)
        loads.close_load(connection, load)
        assert opened(provider_class) == (load, instance)
        report = sync(LISTING, provider_class, instance_id=instance, chunk_size=chunk_size)
        assert report.created == 16
        if provider_class is CursorItems or at < 20:
            counts = (report.records, report.checked, report.updated, report.unchanged)
            assert counts == (31, 31, 11, 1)  # k00 comes as -0: the same again
            assert (report.skipped, report.rejected) == (1, 2)
        assert len(rejections()) == 2
        assert rows("item", "quantity") == {**{f"k{n:02d}": -n for n in range(15)}, "old": None}

    def test_a_limit_holds_over_tries(self, sync, opened, rows):
        options = {"instance_id": opened(CursorItems)[1], "chunk_size": 2, "limit": 7}
        with pytest.raises(ServiceUnavailable):
            sync([*LISTING[:5], ServiceUnavailable("gone")], CursorItems, **options)
        report = sync(LISTING, CursorItems, **options)
        assert (report.records, report.created, len(rows())) == (7, 7, 7)

    def test_an_older_try_writes_nothing_after_a_newer_one_began(self, connection, sync, connect, opened, rows):
        _, instance = opened(CursorItems)
        newer = connect()

        class TakenOver(CursorItems):
            def __next__(self):
                if self.place == takeover:
                    loads.begin_attempt(newer, instance, self, LoadParameters())
                return super().__next__()

        for takeover in (3, len(LISTING)):
            with pytest.raises(LinkBusy, match="taken over"):
                sync(TakenOver(LISTING), instance_id=instance, chunk_size=2)
            if takeover == 3:
                assert list(rows()) == ["k00", "k01"]
        assert ledger.load_instance(connection, instance).state == "running"


class Since(CursorItems):
    name = "Since"
    window = "since"
    seen: ClassVar[list] = []

    def open(self):
        type(self).seen.append((self.since, self.until))
        super().open()


class Between(Since):
    name = "Between"
    window = "between"


class Whole(Since):
    name = "Whole"
    window = "none"


class TestMarker:
    @pytest.fixture(autouse=True)
    def nothing_seen(self):
        for provider_class in (Since, Between, Whole):
            provider_class.seen = []

    def test_it_is_the_start_of_the_run(self, sync, watermark):
        class Slow(Since):
            def __next__(self):
                self.read_at = datetime.now(UTC)
                return super().__next__()

        before = datetime.now(UTC)
        provider = Slow([item("a")])
        sync(provider)
        assert before <= watermark() < provider.read_at

    def test_the_next_run_reads_from_it_with_overlap(self, sync, watermark):
        sync([item("a")], Since)
        first = watermark()
        sync([item("a")], Since)
        sync([item("a")], Since, full_refresh=True)
        assert Since.seen == [(None, None), (first - Since.overlap, None), (None, None)]
        assert Since.overlap == timedelta(minutes=5)
        assert watermark() > first

    @pytest.mark.parametrize("options", [{"limit": 1}, {"limit": 99}, {"dry_run": True}])
    def test_it_stays_for_runs_that_are_not_whole(self, sync, watermark, options):
        sync([item("a"), item("b")], Since, **options)
        assert watermark() is None
        sync([item("a")], Since)
        first = watermark()
        sync([item("a"), item("b")], Since, **options)
        assert watermark() == first

    def test_it_stays_after_a_failure_and_goes_back_to_the_first_try(self, sync, opened, watermark):
        _, instance = opened(Since)
        with pytest.raises(ServiceUnavailable):
            sync([item("a"), item("b"), ServiceUnavailable("x")], Since, instance_id=instance, chunk_size=1)
        assert watermark() is None
        between = datetime.now(UTC)
        sync([item("a"), item("b"), item("c")], Since, instance_id=instance)
        assert watermark() < between

    @pytest.mark.parametrize("table", ["provider", "venue_provider"])
    def test_it_never_moves_back(self, sync, watermark, connection, linked, table):
        def run():
            sync(linked() if table == "venue_provider" else Since([]))

        run()
        future = datetime.now(UTC) + timedelta(days=1)
        connection.execute(f"UPDATE {table} SET last_sync_date = %s", (future,))
        run()
        assert watermark(table) == future

    @pytest.mark.parametrize(
        ("provider_class", "seen"),
        [(Since, (day(5), None)), (Between, (day(5), day(6))), (Whole, (None, None))],
        ids=["since", "between", "none"],
    )
    def test_a_backfill_reads_its_own_interval(self, sync, provider_class, seen):
        sync([], provider_class, interval=(day(5), day(6)))
        assert provider_class.seen == [seen]

    @pytest.mark.parametrize(
        ("provider_class", "start", "moves"),
        [
            (Since, "before", True),  # from before the watermark until now: all that changed since
            (Since, "after", False),  # leaves a gap
            (Between, "before", False),
            (Whole, "after", True),  # reads everything anyway
        ],
    )
    def test_a_backfill_moves_it_only_without_a_gap(self, sync, watermark, provider_class, start, moves):
        sync([], provider_class)
        first = watermark()
        begin = first + timedelta(hours=-1 if start == "before" else 1)
        sync([], provider_class, interval=(begin, begin + timedelta(hours=2)))
        assert (watermark() > first) == moves

    def test_a_backfill_before_the_first_run_leaves_it_empty(self, sync, watermark):
        sync([], Since, interval=(day(5), None))
        assert watermark() is None

    def test_a_backfill_of_last_month_does_not_undo_today(self, counts, rows):
        counts([item("a", quantity=2)], Between)
        old = (day(5), day(6))
        assert counts([item("a", quantity=1), item("b", quantity=1)], Between, interval=old) == (1, 0, 1, 0, 0)
        assert rows("item", "quantity") == {"a": 2, "b": 1}
        assert counts([item("b", quantity=2)], Between) == (0, 1, 0, 0, 0)

    def test_each_link_has_its_own(self, sync, connection, linked):
        sync(linked(1))
        found = connection.execute("SELECT last_sync_date IS NOT NULL FROM venue_provider ORDER BY id").fetchall()
        assert found == [(False,), (True,), (False,)]
        assert connection.execute("SELECT last_sync_date FROM provider").fetchone() == (None,)


def test_purging_clears_old_payloads_and_gives_up_what_waits(sync, connection, rejections):
    sync([item(key, price=-1) for key in "abc"])
    connection.execute("UPDATE rejected_record SET created_at = now() - interval '31 days' WHERE id_at_providers < 'c'")
    connection.execute(
        "UPDATE rejected_record SET resolution = 'replayed', resolved_at = '2026-01-01 UTC' WHERE id_at_providers = 'b'"
    )
    assert ledger.purge(connection, 30) == 2
    assert {key: payload is None for key, _, payload in rejections()} == {"a": True, "b": True, "c": False}
    found = connection.execute("SELECT resolution, resolved_at FROM rejected_record ORDER BY id").fetchall()
    assert [resolution for resolution, _ in found] == ["given up", "replayed", None]
    assert found[0][1] is not None
    assert found[1][1] == day(1)
    assert ledger.purge(connection, 30) == 0


def test_a_run_is_looked_up_by_its_index(connection, run, links):
    """Loads are kept for months: they are not all read for each task."""
    run("r")
    plans = []

    class Explaining:
        def execute(self, statement, parameters):
            plans.append("\n".join(row[0] for row in connection.execute(f"EXPLAIN {statement}", parameters)))
            return connection.execute(statement, parameters)

    # Enough loads that no other index, read to its end, is cheaper.
    connection.execute(
        "INSERT INTO catalog (catalog_scheme_id, run_id)"
        " SELECT catalog_scheme_id, 'x' || n FROM catalog, generate_series(1, 2000) AS n"
    )
    connection.execute("ANALYZE catalog")
    assert [ledger.was_opened(Explaining(), run_id) for run_id in ("r", "s")] == [True, False]
    assert all("catalog_run_id" in plan for plan in plans)


def test_registering_can_be_repeated(connection):
    for _ in range(2):
        loads.register_providers(connection)
    assert ("TiteLiveStocks",) in connection.execute("SELECT local_class FROM provider").fetchall()


def test_a_new_structure_is_a_new_scheme(sync, connection):
    class Versioned(Items):
        pass

    for Versioned.scheme_version in (1, 1, 2):
        sync([item("a")], Versioned)
    assert connection.execute("SELECT version FROM catalog_scheme ORDER BY 1").fetchall() == [(1,), (2,)]


@pytest.mark.parametrize(
    "change", ["venue_id_at_offer_provider = 'new'", "settings = '{\"a\": 1}'"], ids=["id", "settings"]
)
def test_a_link_that_was_changed_while_its_run_waited_is_read_by_a_next_try(
    connection, links, linked, opened, sync, change
):
    """Its provider was made for the old id and settings."""
    _, instance = opened(Linked, venue_links=(str(links[0]),))
    stale = linked()
    connection.execute(f"UPDATE venue_provider SET {change} WHERE id = %s", (links[0],))
    with pytest.raises(LinkBusy, match="was changed while the run began") as raised:
        sync(stale, instance_id=instance)
    assert raised.value.retry_after == 1
    assert connection.execute("SELECT count(*) FROM item").fetchone() == (0,)
    Linked.listings["new"] = Linked.listings["v0"]
    assert sync(linked(), instance_id=instance).created == 4


class Renamed(Linked):
    """The second version of what Linked lists: names in capitals."""

    local_class = "Linked"
    scheme_version = 2
    error_share = 0.7

    def fill_object_attributes(self, obj):
        super().fill_object_attributes(obj)
        obj.name = obj.name.upper()


class TestSchemeVersions:
    def test_a_second_version_runs_next_to_an_open_load_of_the_first(
        self, run, opened, links, connection, rows, watermark
    ):
        first, _ = opened(Linked)
        Linked.listings["v1"].insert(3, ServiceUnavailable("gone"))
        assert run().state == "partially loaded"
        Linked.listings["v1"][3:4] = []

        summary = run("second", Renamed)
        assert (summary.state, summary.done, summary.counts["updated"]) == ("loaded", 3, 10)
        assert {name.split()[0] for name in rows("item", "name").values()} == {"NAME"}
        assert connection.execute("SELECT count(*) FROM provider WHERE local_class = 'Linked'").fetchone() == (1,)
        seen = watermark("venue_provider")

        assert opened(Linked)[0] == first
        (left,) = ledger.pending_instances(connection, first, 0)
        assert load_provider(left.operation) is Linked
        summary = run()
        assert (summary.catalog_id, summary.state, summary.done) == (first, "loaded", 3)
        assert watermark("venue_provider") >= seen

        reports = "SELECT run_id, provider, venue, state, records, scheme_version FROM load_report ORDER BY instance_id"
        assert connection.execute(reports).fetchall() == [
            (run_id, "Linked", f"V{n}", "done", 4, version)
            for run_id, version in (("r", 1), ("second", 2))
            for n in range(3)
        ]
        results = (
            "SELECT state, count(report -> 'created') FROM catalog_operation_instance_result GROUP BY 1 ORDER BY 1"
        )
        assert connection.execute(results).fetchall() == [("done", 6), ("failed", 1)]

    def test_they_exclude_each_other_on_a_link(self, connection, connect, links):
        provider_id = register_provider(connection, Renamed.row_name(), Renamed.name)
        with link_lock(connect(), provider_id, links[0]), pytest.raises(LinkBusy):
            sync_provider(Renamed(load_link(connection, links[0])), connection)
        assert register_provider(connection, Linked.row_name(), Linked.name) == provider_id

    def limits(self, connection):
        return connection.execute(
            "SELECT version, error_limit, error_allowance, error_share FROM catalog_scheme AS scheme"
            " JOIN catalog_scheme_operation AS operation ON catalog_scheme_id = scheme.id ORDER BY version"
        ).fetchall()

    def test_a_new_one_takes_over_the_limits_that_a_person_set(self, connection, links):
        loads.open_load(connection, Linked, LoadParameters())
        assert self.limits(connection) == [(1, None, 7, 0.1)]  # those of its class
        connection.execute("UPDATE catalog_scheme SET error_limit = 3")
        connection.execute("UPDATE catalog_scheme_operation SET error_allowance = 5, error_share = 0.5")
        for _ in range(2):
            loads.open_load(connection, Renamed, LoadParameters())
            assert self.limits(connection) == [(1, 3, 5, 0.5), (2, 3, 5, 0.5)]
        connection.execute("UPDATE catalog_scheme SET error_limit = 9 WHERE version = 2")
        loads.open_load(connection, Renamed, LoadParameters())
        assert self.limits(connection)[1][:2] == (2, 9)


def test_what_is_not_there_is_named(connection):
    with pytest.raises(ConfigurationError, match="no load 7"):
        ledger.load_parameters(connection, 7)
    with pytest.raises(ConfigurationError, match="no operation instance 7"):
        sync_provider(Items([]), connection, instance_id=7)
    with pytest.raises(ConfigurationError, match="Venue link 7"):
        load_link(connection, 7)
