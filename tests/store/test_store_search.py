"""The state of search indices, and the passes over them."""

from datetime import UTC, datetime

import psycopg
import pytest

from include.errors import LinkBusy
from include.store import search
from include.store.locks import index_lock, link_lock

HERE = ("APP", "offers")
MOVE = {"id": "m1", "at": "2026-06-01T12:00:00Z", "source": "tmp", "task_id": 7}
REPORT = {
    "read": 10,
    "changed": 3,
    "patches": {"p": {"changed": 3, "left_alone": 1, "values": {"x": 3}, "remarks": {}}},
}


@pytest.fixture
def index(connection):
    search.load_state(connection, *HERE)
    return connection


def begin(connection, where=HERE, **fields):
    usual = {"reason": "move", "moves": [MOVE], "patches": ["p"], "run_id": "r1"}
    return search.open_pass(connection, *where, **{**usual, **fields})


def test_an_index_that_was_never_seen(connection):
    for _ in range(2):
        assert search.load_state(connection, *HERE) == search.IndexState(None, [], None, 0, [])
    assert connection.execute("SELECT application_id, index_name FROM search_index").fetchall() == [HERE]


def test_the_state_comes_back_as_it_was_saved(index):
    state = search.IndexState(datetime(2026, 6, 1, 12, tzinfo=UTC), [MOVE], 5000, 3, ["é", "b"])
    search.save_state(index, *HERE, state)
    assert search.load_state(index, *HERE) == state
    assert search.load_state(index, "APP", "other").records is None
    assert search.load_state(index, "OTHER", "offers").records is None


def test_settings_change_once(index):
    assert search.settings_changed(index, *HERE, "a")
    search.save_settings(index, *HERE, "a")
    assert not search.settings_changed(index, *HERE, "a")
    assert search.settings_changed(index, *HERE, "b")
    search.save_state(index, *HERE, search.IndexState(None, [], None, 0, []))
    assert not search.settings_changed(index, *HERE, "a")
    assert not search.settings_changed(index, "APP", "never seen", "a")


def test_a_pass_from_begin_to_end(index):
    assert search.find_open_pass(index, *HERE) is None
    number = begin(index)
    assert search.find_open_pass(index, *HERE) == search.OpenPass(number, "move", [MOVE], ["p"], None, 0)
    search.save_checkpoint(index, number, {"cursor": "c", "tasks": [1], "report": REPORT})
    search.record_error(index, number, "boom")
    search.resume_pass(index, number, "r2")
    left = search.find_open_pass(index, *HERE)
    assert (left.checkpoint["cursor"], left.checkpoint["report"]) == ("c", REPORT)
    assert index.execute("SELECT run_id, error, report FROM search_pass").fetchone() == ("r2", None, REPORT)
    search.restart_pass(index, number, reason="move", moves=[MOVE, {**MOVE, "id": "m2"}], patches=["p", "q"])
    again = search.find_open_pass(index, *HERE)
    assert (again.checkpoint, again.restarts, len(again.moves), again.patches) == (None, 1, 2, ["p", "q"])
    search.finish_pass(index, number, REPORT)
    assert search.find_open_pass(index, *HERE) is None
    row = index.execute("SELECT state, mark, report, finished_at >= started_at FROM search_pass").fetchone()
    assert row == ("done", None, REPORT, True)


def test_one_open_pass_per_index(index):
    begin(index)
    with pytest.raises(psycopg.errors.UniqueViolation):
        begin(index)
    search.load_state(index, "APP", "other")
    begin(index, ("APP", "other"))
    number = search.find_open_pass(index, *HERE).id
    search.finish_pass(index, number, {}, "superseded")
    assert begin(index) > number


def test_a_dry_run_is_no_open_pass(index):
    search.record_dry_run(index, *HERE, reason="manual", patches=["p"], report=REPORT, run_id="r1")
    assert search.find_open_pass(index, *HERE) is None
    row = index.execute("SELECT state, dry_run, report, finished_at IS NULL FROM search_pass").fetchone()
    assert row == ("done", True, REPORT, False)


def test_old_passes_go_open_ones_stay(index):
    for days in (1, 89, 91, 400):
        search.finish_pass(index, begin(index), REPORT)
        index.execute(
            "UPDATE search_pass SET finished_at = now() - make_interval(days => %s)"
            " WHERE id = (SELECT max(id) FROM search_pass)",
            (days,),
        )
    begin(index)
    index.execute("UPDATE search_pass SET started_at = now() - interval '1 year' WHERE state = 'open'")
    assert search.purge_passes(index, 90) == 2
    assert search.purge_passes(index, 90) == 0
    assert index.execute("SELECT count(*) FROM search_pass").fetchone() == (3,)


def test_the_report_has_a_line_per_patch(index):
    report = {**REPORT, "batches": 2, "seconds": 1.5, "refused_count": 4}
    report["patches"] = {**REPORT["patches"], "q": {"changed": 0, "left_alone": 9, "values": {}, "remarks": {"odd": 2}}}
    search.finish_pass(index, begin(index), report)
    begin(index, moves=[])
    rows = index.execute(
        'SELECT patch, records_read, changed, left_alone, refused, "values", remarks, batches, seconds, moved_at, state'
        " FROM search_report ORDER BY id, patch"
    ).fetchall()
    moved = datetime(2026, 6, 1, 12, tzinfo=UTC)
    assert rows == [
        ("p", 10, 3, 1, 4, {"x": 3}, {}, 2, 1.5, moved, "done"),
        ("q", 10, 0, 9, 4, {}, {"odd": 2}, 2, 1.5, moved, "done"),
        (None, None, None, None, None, None, None, None, None, None, "open"),
    ]


def test_the_lock_is_given_back_by_an_error_and_by_a_connection_that_ends(connect):
    mine, theirs = connect(), connect()
    with pytest.raises(ValueError, match="boom"), index_lock(mine, *HERE):
        raise ValueError("boom")
    with index_lock(theirs, *HERE, wait_seconds=0):
        pass
    with index_lock(mine, *HERE):
        with index_lock(theirs, "OTHER", "offers", wait_seconds=0):
            pass
        mine.close()
        with index_lock(theirs, *HERE, wait_seconds=2):
            pass


def test_locks_of_links_are_others(connect):
    mine, theirs = connect(), connect()
    lock, requested = link_lock(mine, 1, 2), link_lock(theirs, 1, 2, wait_seconds=0)
    with lock, index_lock(theirs, *HERE, wait_seconds=0), pytest.raises(LinkBusy), requested:
        pass
