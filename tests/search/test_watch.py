"""Runs on an index that an indexer rebuilds: when they patch it, and when they do not."""

import threading
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from include.errors import ConfigurationError, DatabaseUnavailable, FatalError, IndexBusy
from include.patches.base import Patch
from include.patches.customer_dispo import CUSTOMER_DISPO
from include.search import stored_pass, watch
from include.search.watch import default_compare_every
from include.store import search as store
from tests.search.conftest import APPLICATION, OFFERS, SMALL

BATCH, BROWSE = "/1/indexes/offers/batch", "/1/indexes/offers/browse"
PAGES = 3
GONE = "offers_gone"


def asked(site, path):
    return sum(seen == path for _, seen, _ in site.requests())


class EditedLog:
    """An index whose log a test edits."""

    def __init__(self, index, change):
        self._index = index
        self._change = change

    def __getattr__(self, name):
        return getattr(self._index, name)

    def logs(self, offset, length):
        return self._change(self._index.logs(0, 1000))[offset : offset + length]


def shifted(entry, **by):
    at = datetime.fromisoformat(entry["timestamp"]) + timedelta(**by)
    return {**entry, "timestamp": at.strftime("%Y-%m-%dT%H:%M:%SZ")}


def is_move(entry):
    return entry["url"].endswith("/operation") and '"move"' in entry["query_body"]


# What makes a run patch


def test_first_quiet_moved_quiet(site, look, passes, state):
    first = look(site)
    assert (first.reason, first.is_finished) == ("first run", True)
    assert first.report.read == first.report.total == OFFERS
    assert first.summary.startswith("Patched offers (first run): 690 records read, ")
    assert site.is_right()
    assert state("records", "runs_since_comparison") == (OFFERS, 0)

    site.requests()
    quiet = look(site)
    assert (quiet.report, quiet.reason, quiet.moves) == (None, "", [])
    assert quiet.summary.startswith("Nothing to do: no move onto offers in ")
    assert quiet.summary.endswith("; next comparison of the whole index in 14 runs")
    assert [path for _, path, _ in site.requests()] == ["/1/logs", "/1/logs"]

    site.rebuild()
    moved = look(site)
    assert (moved.reason, [move.source for move in moved.moves], moved.report.read) == ("move", ["offers_1"], OFFERS)
    assert " s after the move" in moved.summary
    assert site.is_right()
    assert look(site).report is None
    assert passes() == [("first run", "done", None), ("move", "done", None)]


def test_every_check_is_stored_whatever_it_finds(site, look, state, connection):
    looks = []
    for settings in ({}, {}, {"dry_run": True}):
        connection.execute("UPDATE search_index SET checked_at = NULL")
        look(site, **settings)
        looks.append(state("checked_at"))
    assert None not in looks
    assert looks == sorted(looks)


def test_counts_are_those_of_the_records(site, look):
    report = look(site).report
    expected = list(site.expected().values())
    counts = report.patches["customer_dispo"]
    assert counts.left_alone == sum("customerDispo" not in each for each in expected) > 0
    assert counts.changed == report.changed == OFFERS - counts.left_alone
    assert counts.values["disponible"] == sum(each.get("customerDispo") == "disponible" for each in expected) > 0
    assert counts.values["null"] == sum(each.get("customerDispo", 0) is None for each in expected) > 0
    assert sum(counts.values.values()) == counts.changed
    assert sum(counts.remarks.values()) > 0
    assert report.batches == PAGES


def test_pages_and_batches_are_of_a_thousand(serve, look, set_page):
    set_page(1000)
    site = serve(offers=2300)
    index = site.index()
    assert look(site, index=index).report.read == 2300
    assert [len(batch) for batch in index.batches][:2] == [1000, 1000]
    assert (index.pages, len(index.batches)) == (3, 3)
    assert site.is_right()


def test_a_forced_run_patches_without_a_move(site, look, passes):
    look(site)
    broken = next(each for each in site.records().values() if each.get("customerDispo") == "disponible")
    site.write([{**broken, "customerDispo": "wrong"}])
    index = site.index()
    done = look(site, index=index, force=True)
    assert (done.reason, done.report.read, done.report.changed) == ("forced", OFFERS, 1)
    assert index.batches == [[{"objectID": broken["objectID"], "customerDispo": "disponible"}]]
    assert site.is_right()
    assert passes()[-1] == ("forced", "done", None)


@pytest.mark.parametrize(("every", "runs"), [(1, [True] * 4), (3, [False, False, True] * 2), (0, [False] * 4)])
def test_every_nth_run_compares(site, look, every, runs):
    look(site)
    assert [look(site, compare_every=every).reason == "comparison" for _ in runs] == runs


def test_a_comparison_finds_what_the_log_does_not_have(site, look, state):
    look(site)
    site.rebuild()
    hidden = EditedLog(site.index(), lambda entries: [entry for entry in entries if not is_move(entry)])
    assert look(site, index=hidden, compare_every=2).report is None
    done = look(site, index=hidden, compare_every=2)
    assert (done.reason, done.moves) == ("comparison", [])
    assert site.is_right()
    assert state("runs_since_comparison") == 0


@pytest.mark.parametrize(
    ("records", "runs"),
    [(None, 15), (0, 15), (5000, 15), (10_001, 17), (100_000, 150), (1_000_000, 1440), (10**8, 1440)],
)
def test_by_default_the_size_of_the_index_says_how_often(records, runs):
    assert default_compare_every(records) == runs


def test_the_size_is_that_of_the_last_pass(site, look, state, connection):
    look(site)
    connection.execute("UPDATE search_index SET records = 100000, runs_since_comparison = 148")
    assert look(site).report is None
    assert look(site).reason == "comparison"
    assert state("records") == OFFERS


# Dry runs


def test_a_manual_dry_run_reads_and_leaves_everything_as_it_is(site, look, state, connection):
    before = site.records()
    index = site.index("no-addObject")
    for _ in range(2):
        done = look(site, index=index, dry_run=True, is_manual=True)
        assert done.summary.startswith("Dry run (first run): 690 records read, ")
        assert done.summary.endswith("; nothing was written")
        assert done.report.changed == done.report.patches["customer_dispo"].changed
        assert (done.report.batches, done.dry_run) == (0, True)
    assert site.records() == before
    assert state("checkpoint_at") is None
    passes = connection.execute("SELECT state, dry_run, finished_at IS NOT NULL FROM search_pass").fetchall()
    assert passes == [("done", True, True)] * 2
    look(site)
    manual = look(site, dry_run=True, is_manual=True)
    assert (manual.reason, manual.report.changed) == ("manual", 0)


def test_a_scheduled_dry_run_shows_each_move_once_and_does_not_move_on(site, look, state):
    def reads():
        return look(site, dry_run=True, compare_every=0).report is not None

    assert [reads() for _ in range(3)] == [True, False, False]
    site.rebuild()
    assert [reads() for _ in range(3)] == [True, False, False]
    assert state("checkpoint_at") is None
    look(site)
    checkpoint = state("checkpoint_at")
    assert site.is_right()
    assert not reads()
    site.rebuild()
    site.rebuild()
    assert [reads() for _ in range(3)] == [True, False, False]
    again = look(site, dry_run=True, compare_every=0)
    assert again.summary == "Nothing to do: an earlier dry run has shown what would change (move)"
    assert state("checkpoint_at") == checkpoint
    done = look(site)
    assert (done.reason, len(done.moves)) == ("move", 2)
    assert site.is_right()


def test_a_scheduled_dry_run_compares_every_nth_time(site, look):
    look(site)
    assert [look(site, dry_run=True, compare_every=3).reason for _ in range(4)] == ["", "", "comparison", ""]


@pytest.mark.parametrize("left", ["move", "forced", "comparison"])
def test_a_scheduled_dry_run_shows_a_pass_that_was_left_open_once(site, look, left):
    look(site)
    if left == "move":
        site.rebuild()
    else:
        site.write([{"objectID": "1", "disponibiliteForFO": "en stock"}])
    site.fault("status", status=403, call="batch")
    with pytest.raises(FatalError):
        look(site, force=left == "forced", compare_every=1 if left == "comparison" else 0)
    site.heal()
    shown = [look(site, dry_run=True, compare_every=0).report is not None for _ in range(3)]
    assert shown == [True, False, False]


# What the log can keep from us


@pytest.mark.parametrize("rebuilt", [True, False])
def test_a_log_that_no_longer_reaches_back(serve, look, connection, caplog, rebuilt):
    site = serve(algolia_log_entries=30)
    look(site)
    if rebuilt:
        site.rebuild()
    for number in range(31):
        site.write([{"objectID": str(number)}], "cars")
    connection.execute("UPDATE search_index SET checkpoint_at = checkpoint_at - interval '1 hour'")
    shown = look(site, dry_run=True, compare_every=0)
    assert (shown.report is not None) is rebuilt
    if rebuilt:
        assert look(site, dry_run=True, compare_every=0).report is None
    done = look(site, compare_every=0)
    if rebuilt:
        assert (done.reason, done.moves) == ("a move missing in the log", [])
        assert "no longer reaches back to" in caplog.text
    else:
        assert done.report is None
        assert "no longer reaches back to" in done.summary
        assert f"but the {OFFERS:,} records read from offers are up to date" in done.summary
    assert site.is_right()
    after = look(site, compare_every=0)
    assert (after.report, "reaches back" in after.summary) == (None, False)


def test_only_a_part_is_read_to_learn_whether_a_move_is_missing(serve, look, connection, monkeypatch):
    monkeypatch.setattr(watch, "SAMPLE_PAGES", 2)
    site = serve(algolia_log_entries=5)
    look(site)
    for number in range(9):
        site.write([{"objectID": str(number)}], "cars")
    connection.execute("UPDATE search_index SET checkpoint_at = checkpoint_at - interval '1 hour'")
    site.requests()
    assert "but the 600 records read" in look(site).summary
    assert asked(site, BROWSE) <= 3  # one may be read ahead


def test_an_empty_log_is_no_reason_to_read_the_index(site, look):
    look(site)
    empty = EditedLog(site.index(), lambda entries: [])
    assert "no longer reaches back" in look(site, index=empty).summary
    site.requests()
    assert look(site, index=empty).summary.startswith("Nothing to do: no move onto offers in 0 log entries")
    assert asked(site, BROWSE) == 0
    site.rebuild()
    assert look(site).reason == "move"
    assert site.is_right()


def test_a_first_run_with_an_empty_log(serve, look):
    site = serve(offers=0)
    site.settings = site.settings.__class__(**{**vars(site.settings), "offers": 20})
    site.rebuild()
    empty = EditedLog(site.index(), lambda entries: [])
    assert look(site, index=empty).reason == "first run"
    assert look(site, index=empty).report is None
    assert site.is_right()
    site.rebuild()
    assert look(site).reason == "move"
    assert site.is_right()


def test_an_entry_that_appears_late_with_an_older_stamp(site, look):
    look(site)
    site.rebuild()
    others = lambda entries: [entry for entry in entries if not is_move(entry)]  # noqa: E731
    assert look(site, index=EditedLog(site.index(), others)).report is None
    late = lambda entries: [shifted(e, minutes=-4) if is_move(e) else e for e in entries]  # noqa: E731
    done = look(site, index=EditedLog(site.index(), late))
    assert (done.reason, len(done.moves)) == ("move", 1)
    assert site.is_right()
    assert look(site, index=EditedLog(site.index(), late)).report is None


@pytest.mark.parametrize("minutes", [-4, 4, 60 * 24])
def test_a_clock_that_is_off(site, look, minutes):
    """Of the service: its stamps lie before or behind ours."""

    def off(entries):
        return [shifted(entry, minutes=minutes) for entry in entries]

    look(site, index=EditedLog(site.index(), off))
    for _ in range(2):
        assert look(site, index=EditedLog(site.index(), off)).report is None
        site.rebuild()
        done = look(site, index=EditedLog(site.index(), off))
        assert (done.reason, len(done.moves)) == ("move", 1)
        assert site.is_right()
    assert look(site, index=EditedLog(site.index(), off)).report is None


def test_a_stamp_of_the_future_does_not_hide_later_moves(site, look):
    def odd(entries):
        return [shifted(entry, days=3000 if entry is entries[0] else 0) for entry in entries]

    look(site, index=EditedLog(site.index(), odd))
    site.rebuild()
    assert look(site).reason == "move"
    assert site.is_right()
    assert look(site).report is None


def test_a_move_that_the_log_lost_while_it_was_patched_is_not_patched_twice(site, look):
    look(site)
    site.rebuild()
    gone = []
    index = site.index()
    index.on_page = {PAGES: lambda: gone.append(True)}
    edited = EditedLog(index, lambda entries: [e for e in entries if not (gone and is_move(e))])
    assert look(site, index=edited).reason == "move"
    assert look(site).report is None


# The index changes while it is patched


def test_a_second_move_during_the_patch_restarts_it(site, look, connection):
    site.rebuild()
    index = site.index()
    index.on_page = {2: site.rebuild}
    done = look(site, index=index)
    assert (done.restarts, done.is_finished, done.reason) == (1, True, "move")
    assert [move.source for move in done.moves] == ["offers_1", "offers_2"]
    assert index.pages == 2 * PAGES
    assert site.is_right(overtaken=True)
    assert look(site).report is None
    assert connection.execute("SELECT state, restarts, jsonb_array_length(moves) FROM search_pass").fetchall() == [
        ("done", 1, 2)
    ]


def test_a_pass_that_was_overtaken_is_not_read_to_its_end(site, look, monkeypatch):
    monkeypatch.setattr(stored_pass, "LOG_CHECK_SECONDS", 0)
    site.rebuild()
    index = site.index()
    index.on_page = {1: site.rebuild}
    done = look(site, index=index)
    assert (done.restarts, done.is_finished) == (1, True)
    assert index.pages < 2 * PAGES
    assert site.is_right(overtaken=True)


@pytest.mark.parametrize("seconds", [0, 15])
def test_a_move_every_few_seconds_is_given_up_for_this_run(site, look, monkeypatch, passes, state, seconds, caplog):
    monkeypatch.setattr(stored_pass, "LOG_CHECK_SECONDS", seconds)
    look(site)
    index = site.index()
    index.on_page = {"every": site.rebuild}
    done = look(site, index=index, force=True, max_restarts=2)
    assert (done.restarts, done.is_finished) == (2, False)
    assert done.summary.startswith(
        "The index is rebuilt faster than it can be patched: a move interrupted 3 passes; the next run continues"
    )
    assert done.summary in caplog.text
    assert passes()[-1][1] == "superseded"
    assert state("records") == OFFERS
    after = look(site)
    assert (after.reason, after.is_finished) == ("move", True)
    assert site.is_right(overtaken=True)
    assert look(site).report is None


@pytest.mark.parametrize("page", [1, 2, 3])
def test_a_record_deleted_while_it_is_patched_does_not_come_back(site, look, page):
    gone = [object_id for place, object_id in enumerate(site.records()) if place % 100 == 7]
    index = site.index()
    index.on_page = {page: lambda: site.delete(*gone)}
    done = look(site, index=index)
    assert any([record["objectID"] in gone for batch in index.batches for record in batch])
    assert done.is_finished
    assert site.is_right(without=gone)


@pytest.mark.parametrize("page", [1, 2])
def test_a_record_added_while_the_index_is_patched(site, look, page):
    usual = {"disponibiliteForFO": "en stock", "customerDispo": "?"}
    new = [{"objectID": f"new {n}", "nature": n, **usual} for n in range(9)]
    index = site.index()
    index.on_page = {page: lambda: site.write(new)}
    assert look(site, index=index).report.read == OFFERS + 9
    assert site.is_right(more=new)


def test_two_runs_at_once(site, look, connect, monkeypatch):
    monkeypatch.setattr(watch, "index_lock", partial(watch.index_lock, wait_seconds=0.1))
    begun, go_on = threading.Event(), threading.Event()
    index = site.index()
    index.on_page = {1: lambda: (begun.set(), go_on.wait(20))}
    done = []
    first = threading.Thread(target=lambda: done.append(look(site, index=index, on=connect())))
    first.start()
    assert begun.wait(20)
    with pytest.raises(IndexBusy, match="at work on the index offers") as busy:
        look(site)
    assert busy.value.retry_after
    other = site.index(name="cars")
    site.write([{"objectID": "1"}], "cars")
    assert look(site, index=other).report.read == 1  # another index is not locked
    go_on.set()
    first.join()
    assert done[0].report.read == OFFERS
    assert look(site).report is None
    assert site.is_right()


# Tasks


@pytest.mark.parametrize("key", ["patch", "admin"])
def test_it_waits_for_the_move_before_it_reads_and_for_its_own_tasks_at_the_end(serve, look, key):
    site = serve(algolia_task_ms=200)
    look(site)
    assert site.is_right()
    site.write([{**each, "customerDispo": None} for each in site.expected().values()], GONE)
    site.move(GONE)
    done = look(site, index=site.index(key))
    assert done.reason == "move"
    assert done.report.changed > OFFERS / 2
    found = site.records()
    for name, each in site.expected().items():
        if "disponibiliteForFO" in each:
            assert found[name]["customerDispo"] == each["customerDispo"]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ('{"taskID": 999999}', "Task 999999 cannot be looked up at index offers"),
        ('{"updatedAt": "2026-01', "Not waiting for the move from offers_1: the log does not name its task"),
    ],
)
def test_a_move_without_a_known_task_is_patched_all_the_same(site, look, caplog, answer, message):
    look(site)
    site.rebuild()
    caplog.set_level("INFO")
    edited = EditedLog(site.index(), lambda entries: [{**e, "answer": answer} if is_move(e) else e for e in entries])
    assert look(site, index=edited).reason == "move"
    assert message in caplog.text
    assert site.is_right()


# Passes that were left open


@pytest.fixture
def leave(eager, site, look, connection):
    """A function that leaves a pass open in the middle; returns the number of pages before its checkpoint."""

    def leave(request=16, **settings):
        site.fault("status", status=403, call="batch", request=request)
        with pytest.raises(FatalError, match="lacks the right"):
            look(site, **settings)
        site.heal()
        row = connection.execute("SELECT mark, error FROM search_pass WHERE state = 'open'").fetchone()
        assert "lacks the right (ACL) 'addObject'" in row[1]
        return row[0]["report"]["read"] // SMALL

    return leave


@pytest.mark.parametrize("how", ["first run", "move", "forced"])
def test_an_open_pass_is_resumed_from_its_checkpoint(site, look, leave, passes, how):
    if how != "first run":
        look(site)
        site.rebuild()
    before = leave(force=how == "forced")
    assert before >= 5
    index = site.index()
    done = look(site, index=index)
    assert (done.reason, done.report.read, index.pages) == ({"forced": "move"}.get(how, how), OFFERS, 23 - before)
    assert site.is_right()
    assert passes()[-1][1:] == ("done", None)
    assert look(site).report is None


RESTARTS = {
    "a lost log": "UPDATE search_index SET checkpoint_at = '2026-01-01'",
    "an unknown cursor": """UPDATE search_pass SET mark = mark || '{"cursor": "stale"}'""",
    "an unknown task": """UPDATE search_pass SET mark = mark || '{"tasks": [987654321]}'""",
}


@pytest.mark.parametrize("reason", ["a newer move", *RESTARTS])
def test_an_open_pass_that_cannot_be_resumed_starts_from_scratch(site, look, leave, connection, caplog, reason):
    leave()
    if reason in RESTARTS:
        connection.execute(RESTARTS[reason])
    else:
        site.rebuild()
    index = site.index()
    assert look(site, index=index).report.read == OFFERS
    assert index.pages == 23
    assert ("starting from scratch" in caplog.text) is ("unknown" in reason)
    assert site.is_right()


def test_another_patch_restarts_an_open_pass(site, look, leave):
    leave()
    index = site.index()
    other = Patch("other", ("nature",), ("seen",), lambda _: {"seen": True})
    look(site, index=index, patches=[CUSTOMER_DISPO, other])
    assert index.pages == 23
    assert site.records() == {name: {**each, "seen": True} for name, each in site.expected().items()}


def test_a_database_that_goes_away_leaves_the_pass_open(eager, site, look, connect, connection):
    mine = connect()

    def cut():
        connection.execute("SELECT pg_terminate_backend(%s, 5000)", (mine.info.backend_pid,))

    index = site.index()
    index.on_page = {9: cut}
    with pytest.raises(DatabaseUnavailable, match="connection to PostgreSQL was lost") as lost:
        look(site, index=index, on=mine)
    assert lost.value.retry_after
    done = look(site, index=(again := site.index()))
    assert (done.reason, done.report.read) == ("first run", OFFERS)
    assert again.pages < 23
    assert site.is_right()


# Odd indices


def test_an_empty_index(site, look):
    site.call("POST", "/1/indexes/offers/clear")
    done = look(site)
    assert (done.reason, done.report.read, done.report.changed) == ("first run", 0, 0)
    assert look(site).report is None
    assert site.records() == {}


def test_an_index_that_there_is_not(site, look, passes):
    site.call("DELETE", "/1/indexes/offers")
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="Algolia has no index 'offers' in application SANDBOX"):
            look(site)
    assert [(reason, state) for reason, state, _ in passes()] == [("first run", "open")]
    assert "has no index" in passes()[0][2]
    site.rebuild()
    assert look(site).reason == "first run"
    assert site.is_right()


def test_an_index_with_an_odd_name(site, look):
    name = "offres de l'été/1 %"
    site.write(list(site.records().values()), "tmp")
    site.move("tmp", name)
    assert look(site, index=site.index(name=name)).report.read == OFFERS
    assert look(site, index=site.index(name=name)).report is None
    site.write([{"objectID": "1", "disponibiliteForFO": "en stock"}], "tmp")
    site.move("tmp", name)
    assert look(site, index=site.index(name=name)).reason == "move"
    available = {"objectID": "1", "disponibiliteForFO": "en stock", "customerDispo": "disponible"}
    assert site.records(name) == {"1": available}


def test_settings_that_cannot_be_are_refused_before_anything_is_asked(site, look):
    site.requests()
    with pytest.raises(ConfigurationError, match="No patch is given"):
        look(site, patches=[])
    assert site.requests() == []


def test_old_passes_are_purged(site, look, connection):
    look(site)
    connection.execute("UPDATE search_pass SET finished_at = now() - interval '91 days'")
    look(site, force=True)
    assert connection.execute("SELECT reason FROM search_pass").fetchall() == [("forced",)]


def test_the_report_in_sql(site, look, connection):
    site.rebuild()
    done = look(site)
    row = connection.execute(
        "SELECT index_name, reason, state, dry_run, patch, records_read, changed, refused, batches, restarts,"
        " moved_at, \"values\" ->> 'disponible', application_id FROM search_report"
    ).fetchone()
    assert row == (
        "offers", "first run", "done", False, "customer_dispo", OFFERS, done.report.changed, 0, PAGES, 0,
        done.moves[-1].at, str(done.report.patches["customer_dispo"].values["disponible"]), APPLICATION,
    )  # fmt: skip
    assert store.find_open_pass(connection, APPLICATION, "offers") is None
    assert done.moves[-1].at <= datetime.now(UTC)
