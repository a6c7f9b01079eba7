"""How venue links, search indices and outbound targets stand."""

from datetime import UTC, datetime, timedelta

import pytest

from include.store import queue, runs, search, status
from include.store.locks import link_lock
from tests.store.conftest import TITELIVE

INDEX = ("APP", "offers")


def one(connection, link=1):
    (row,) = (row for row in status.link_statuses(connection) if row.venue_provider_id == link)
    return row


def test_before_the_first_load_every_link_has_a_line(connection, world):
    rows = status.link_statuses(connection)
    assert [(row.provider, row.venue, row.state, row.read_at) for row in rows] == [
        ("Register", None, None, None),
        ("TiteLive", "Au Fil", None, None),
        ("TiteLive", "La Plume", None, None),
    ]
    assert not any(row.is_abandoned for row in rows)


def test_a_link_shows_its_watermark_and_its_last_load(connection, world):
    read = datetime(2026, 6, 1, tzinfo=UTC)
    connection.execute("UPDATE venue_provider SET last_sync_date = %s WHERE id = 1", (read,))
    world(1, "failed", error="too early")
    world(1, "done", progress='{"checked": 9, "created": 5, "updated": 1, "rejected": 2}')
    row = one(connection)
    assert (row.read_at, row.state, row.error) == (read, "done", None)
    assert (row.checked, row.created, row.updated, row.rejected) == (9, 5, 1, 2)
    assert row.run_id == "titelive_stocks/r"
    assert one(connection, 2).state is None


@pytest.mark.parametrize("parameters", ['{"dry_run": true}', '{"replay": true}'])
def test_dry_runs_and_replays_do_not_tell_how_a_venue_stands(connection, world, parameters):
    world(1, "done")
    world(1, "failed", parameters=parameters, error="no")
    assert one(connection).state == "done"


def test_a_provider_without_venue_links_has_its_own_load_and_nobody_elses(connection, world):
    world(1, "done")
    world(None, "failed", provider="Register", error="down")
    connection.execute("UPDATE provider SET last_sync_date = now() WHERE local_class = 'Register'")
    (row,) = status.link_statuses(connection, ["Register"])
    assert (row.venue, row.state, row.error, row.read_at is None) == (None, "failed", "down", False)


def test_only_the_providers_asked_for_are_shown(connection, world):
    assert {row.local_class for row in status.link_statuses(connection, [TITELIVE])} == {TITELIVE}
    assert status.link_statuses(connection, []) == []


@pytest.mark.parametrize("table", ["provider", "venue_provider"])
def test_a_link_is_inactive_with_its_provider(connection, world, table):
    assert one(connection).is_active
    connection.execute(f"UPDATE {table} SET is_active = false WHERE id = 1")
    assert not one(connection).is_active


def test_a_load_whose_process_is_gone_is_abandoned(connection, connect, world):
    world(1, "running", closed=False)
    with link_lock(connect(), world.providers[TITELIVE], 1):
        assert not one(connection).is_abandoned
    assert one(connection).is_abandoned


def test_a_link_that_a_stopped_load_did_not_begin_is_abandoned(connection, world):
    world(1, "new", closed=False)
    assert not one(connection).is_abandoned
    world(1, "new", closed=True)
    assert one(connection).is_abandoned


def test_an_index_shows_the_last_look_rebuild_and_patch(connection):
    search.load_state(connection, *INDEX)
    (row,) = status.index_statuses(connection)
    assert (row.checked_at, row.rebuilt_at, row.patched_at, row.changed) == (None, None, None, None)
    search.record_check(connection, *INDEX)
    move = {"id": "m", "at": "2026-06-01T12:00:00Z", "source": "tmp", "task_id": 7}
    report = {"patches": {"p": {"changed": 3}, "q": {"changed": 4}}}
    done = search.open_pass(connection, *INDEX, reason="move", moves=[move], patches=["p", "q"], run_id="dispo/r")
    search.finish_pass(connection, done, report)
    search.record_dry_run(connection, *INDEX, reason="move", patches=["p"], report={}, run_id="dispo/r")
    search.record_error(
        connection, search.open_pass(connection, *INDEX, reason="force", moves=[], patches=[], run_id="x/r"), "403: no"
    )
    (row,) = status.index_statuses(connection)
    assert row.checked_at > datetime.now(UTC) - timedelta(minutes=1)
    assert row.rebuilt_at == datetime(2026, 6, 1, 12, tzinfo=UTC)
    assert row.patched_at is not None
    assert (row.changed, row.error) == (7, "403: no")
    assert len(status.index_statuses(connection, "dispo")) == 1
    assert status.index_statuses(connection, "disp") == []


def test_a_target_shows_its_queue_and_its_last_run(connection):
    for source_id, change in enumerate(
        (
            "not_before = now()",
            "failed_attempts = 1, not_before = now() + interval '1 h'",
            "need_manual_retry = 'config', failed_attempts = 3",
            "in_flight = true, in_flight_since = now()",
        )
    ):
        queue.enqueue(connection, target="crm", source="order", source_id=source_id, event_id=1, triggered_by="paid")
        connection.execute(f"UPDATE outbound_queue SET {change} WHERE source_id = %s", (source_id,))
    for run_id, sent, down in (("dag/1", 7, None), ("dag/2", 0, "503")):
        run = runs.open_run(connection, "crm", run_id)
        runs.close_run(connection, run, {"orders": {"sent": sent}, "down": down})
        connection.execute("UPDATE outbound_run SET started_at = started_at - interval '1 h' WHERE run_id = 'dag/1'")
    crm, mail = status.target_statuses(connection, ["mail"])
    assert (crm.target, crm.queued, crm.to_retry, crm.parked, crm.sending) == ("crm", 1, 1, 1, 1)
    assert (crm.sent, crm.down, crm.ran_at is None) == (0, "503", False)
    assert (mail.target, mail.queued, mail.ran_at, mail.down) == ("mail", 0, None, None)
    assert [row.target for row in status.target_statuses(connection, ["mail"], only_these=True)] == ["mail"]
