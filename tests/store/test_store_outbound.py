"""The queue, the results and the log of outbound targets in PostgreSQL."""

import threading
from datetime import UTC, datetime, timedelta

import pytest

from include.models.outbound import FailedRow, LogEntry, StoredResult
from include.outbound.worker import drain
from include.store import queue, results, runs
from tests.outbound.conftest import Recording, Shop

TARGET = "crm"


@pytest.fixture
def put(connection):
    """A function that puts an object into the queue; returns its row."""

    def put(source_id, **more):
        more = {"target": TARGET, "source": "order", "event_id": 1, "triggered_by": "placed", **more}
        return queue.enqueue(connection, source_id=source_id, **more)[0]

    return put


@pytest.fixture
def rows(connection):
    def rows(columns="source_id, in_flight, failed_attempts, need_manual_retry, messages"):
        return connection.execute(f"SELECT {columns} FROM outbound_queue ORDER BY id").fetchall()

    return rows


def failed(row, attempts, *, seconds=0.0, reason=None, messages=("no",)):
    return FailedRow(row.id, attempts, seconds, reason, list(messages))


def take(connection, count=10, key=1, **more):
    return queue.claim(connection, TARGET, key, count, **more)


def test_one_waiting_row_per_object_and_target(connection, put, rows):
    first = put(1)
    assert put(1, triggered_by="paid").id == first.id
    put(1, target="other")
    put(1, source="offer")
    put(2)
    assert rows("source_id, target, source, triggered_by") == [
        (1, "crm", "order", "paid"), (1, "other", "order", "placed"), (1, "crm", "offer", "placed"),
        (2, "crm", "order", "placed"),
    ]  # fmt: skip


def test_one_running_and_one_waiting_row(connection, put, rows):
    put(1)
    (running,) = take(connection)
    waiting = put(1, triggered_by="paid")
    assert waiting.id != running.id
    assert put(1).id == waiting.id
    assert rows("in_flight") == [(True,), (False,)]
    assert take(connection) == []
    queue.remove(connection, [running.id])
    assert [row.id for row in take(connection)] == [waiting.id]


def test_attempts_survive_being_queued_again(connection, put, rows):
    put(1)
    (row,) = take(connection)
    queue.release(connection, [failed(row, 3, reason="exceeded")])
    again = put(1)
    assert (again.failed_attempts, again.need_manual_retry, again.in_flight) == (3, None, False)


def test_attempts_survive_being_queued_again_while_running(connection, put, rows):
    put(1)
    (row,) = take(connection)
    put(1, triggered_by="paid")
    queue.release(connection, [failed(row, 3, seconds=600, reason="permanent")])
    assert rows("triggered_by, in_flight, failed_attempts, need_manual_retry") == [("paid", False, 3, None)]
    assert rows("not_before > now() + interval '9 minutes'") == [(True,)]


def test_a_later_time_of_the_waiting_row_is_kept(connection, put, rows):
    put(1)
    (row,) = take(connection)
    later = datetime.now(UTC) + timedelta(days=1)
    put(1, not_before=later)
    queue.release(connection, [failed(row, 1, seconds=5)])
    assert rows("not_before") == [(later,)]


def test_retry_resets_the_attempts(connection, put, rows):
    for number, reason in enumerate(["exceeded", "config", None, "exceeded"], 1):
        put(number)
        (row,) = take(connection)
        queue.release(connection, [failed(row, 4, seconds=3600, reason=reason)])
    put(5)
    assert queue.retry(connection, TARGET, reason="config") == 1
    assert rows("failed_attempts, need_manual_retry, not_before <= now()") == [
        (4, "exceeded", False), (0, None, True), (4, None, False), (4, "exceeded", False), (0, None, True),
    ]  # fmt: skip
    assert queue.retry(connection, "other") == 0
    assert queue.retry(connection, TARGET) == 3
    assert {row[0] for row in rows("failed_attempts")} == {0}
    assert len(take(connection)) == 5


def test_retry_leaves_what_is_running(connection, put, rows):
    put(1)
    connection.execute("UPDATE outbound_queue SET failed_attempts = 2")
    take(connection)
    assert queue.retry(connection, TARGET) == 0
    assert rows("failed_attempts, in_flight") == [(2, True)]


def test_a_claim_is_fair_over_events(connection, put):
    for number in range(50):
        put(number, event_id=1)
    for number in range(50, 54):
        put(number, event_id=2 + number % 2)
    first = take(connection, 6)
    assert sorted(row.event_id for row in first) == [1, 1, 2, 2, 3, 3]
    assert {row.event_id for row in take(connection, 3, after_event=1)} == set()
    assert [row.event_id for row in take(connection, 3)] == [1, 1, 1]


def test_claims_go_around_events(connection, put):
    for event in (1, 2, 3):
        for number in range(3):
            put(10 * event + number, event_id=event)
    assert [row.event_id for row in take(connection, 2, after_event=1)] == [2, 3]
    assert [row.event_id for row in take(connection, 1, after_event=2)] == [3]


def test_the_oldest_of_an_event_first(connection, put):
    now = datetime.now(UTC)
    for number, minutes in ((1, 5), (2, 30), (3, 1)):
        put(number, not_before=now - timedelta(minutes=minutes))
    put(4, not_before=now + timedelta(minutes=1))
    assert [[row.source_id for row in take(connection, 1)] for _ in range(4)] == [[2], [1], [3], []]


def test_more_events_than_one_claim_looks_at(connection, put, monkeypatch):
    monkeypatch.setattr(queue, "MAX_EVENTS", 3)
    for event in range(1, 8):
        put(event, event_id=event)
    assert [row.event_id for row in take(connection, 100)] == [1, 2, 3]
    assert [row.event_id for row in take(connection, 100, after_event=3)] == [4, 5, 6]


def test_parked_and_other_targets_are_not_claimed(connection, put):
    put(1, target="other")
    put(2)
    connection.execute("UPDATE outbound_queue SET need_manual_retry = 'internal' WHERE source_id = 2")
    assert take(connection) == []
    assert queue.count_due(connection, TARGET, 10) == 0
    assert queue.count_due(connection, "other", 10) == 1


def test_a_row_that_another_worker_has_locked_is_skipped(connect, put):
    for number in range(3):
        put(number)
    one, other = connect(), connect()
    with one.transaction():
        first = take(one, 2, key=1)
        rest = take(other, 3, key=2)  # does not wait
    assert len(first) == 2
    assert {row.source_id for row in rest} == {0, 1, 2} - {row.source_id for row in first}


def wait_for_lock(connection):
    """Until some statement waits for a lock."""
    for _ in range(500):
        if connection.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone()[0]:
            return
        threading.Event().wait(0.01)
    raise TimeoutError


class Target(Recording):
    identifier = TARGET
    calls, noted, lock = [], [], threading.Lock()


def test_queued_again_at_the_very_moment_of_the_release(connect, connection, put, rows):
    """The release waits for the other transaction, and then finds the waiting row."""
    shop = Shop(connection)
    order = shop.order("A1")
    event = shop.load(order).event_id
    put(order, event_id=event)
    other, problems = connect(), []

    def answer(self, call):
        other.execute("BEGIN")
        queue.enqueue(other, TARGET, "order", order, event_id=event, triggered_by="paid")
        raise RuntimeError("no")

    def work():
        try:
            drain(type("Target", (Target,), {"answer": answer}), connection)
        except Exception as error:
            problems.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    watching = connect()
    wait_for_lock(watching)
    other.execute("COMMIT")
    thread.join()
    assert problems == []
    found = watching.execute("SELECT triggered_by, in_flight, failed_attempts FROM outbound_queue").fetchall()
    assert found == [("paid", False, 1)]


def test_rows_of_a_dead_worker_are_released_at_once(connect, connection, put, rows):
    put(1)
    put(2)
    dead, alive = connect(), connect()
    with queue.worker_key(alive) as living:
        take(alive, 1, key=living)
        with queue.worker_key(dead) as key:
            take(dead, 1, key=key)
            connection.execute("SELECT pg_terminate_backend(%s, 5000)", (dead.info.backend_pid,))
            dead.close()
        assert runs.release_stuck(connection, TARGET, 5) == 1
        assert runs.release_stuck(connection, TARGET, 5) == 0
        message = "The worker was interrupted while it sent this; whether it arrived is unknown"
        assert rows() == [(1, True, 0, None, []), (2, False, 1, None, [message])]


def test_too_long_in_flight(connect, connection, put, rows):
    for number in (1, 2, 3):
        put(number)
    with queue.worker_key(connect()) as key:
        take(connection, key=key)
        connection.execute(
            "UPDATE outbound_queue SET failed_attempts = 5 - source_id, in_flight_since = now()"
            " - make_interval(mins => CASE source_id WHEN 3 THEN 21 ELSE 19 END)"
        )
        assert runs.release_stuck(connection, "other", 5) == 0
        assert runs.release_stuck(connection, TARGET, 4) == 1
        assert rows("source_id, in_flight, failed_attempts, need_manual_retry") == [
            (1, True, 4, None), (2, True, 3, None), (3, False, 3, None),
        ]  # fmt: skip
        connection.execute("UPDATE outbound_queue SET in_flight_since = now() - interval '21 minutes' WHERE in_flight")
        assert runs.release_stuck(connection, TARGET, 5) == 2
        assert rows("failed_attempts, need_manual_retry") == [(5, "timeout"), (4, None), (3, None)]


def test_a_stuck_row_with_a_waiting_one(connection, put, rows):
    put(1)
    take(connection)
    put(1, triggered_by="paid")
    connection.execute("UPDATE outbound_queue SET in_flight_since = now() - interval '1 day' WHERE in_flight")
    assert runs.release_stuck(connection, TARGET, 5) == 1
    assert rows("triggered_by, in_flight, failed_attempts") == [("paid", False, 1)]


def test_the_lock_of_a_worker_key_is_released_with_it(connect, connection):
    with queue.worker_key(connection) as key:
        assert connect().execute("SELECT pg_try_advisory_lock(%s)", (key,)).fetchone() == (False,)
    assert connect().execute("SELECT pg_try_advisory_lock(%s)", (key,)).fetchone() == (True,)


def test_cancel_keeps_history(connection, put, rows):
    put(1)
    (row,) = take(connection)
    queue.release(connection, [failed(row, 2, reason="permanent", messages=["Bad", "Worse"])])
    put(2)
    take(connection)
    put(3)
    put(1, target="other")
    assert queue.cancel(connection, TARGET, "order", [1, 2]) == 1
    assert rows("source_id, target") == [(2, TARGET), (3, TARGET), (1, "other")]
    found = connection.execute("SELECT source_id, outcome, reason, messages, attempt FROM outbound_history").fetchall()
    assert found == [(1, "canceled", "permanent", ["Bad", "Worse"], 2)]


def result(**more):
    given = {
        "source": "order", "source_id": 1, "position_id": None, "target": TARGET, "mapping_id": 1,
        "external_object_type": "deal", "external_id_field": "code", "id_value": "A1",
    }  # fmt: skip
    return StoredResult(**{**given, **more})


def test_results_are_stored_over_those_that_were_there(connection):
    results.save_results(connection, [result(sync_info={"n": 1}, sent={"mail": "x"}), result(position_id=5)])
    first = connection.execute("SELECT id, transmitted_at FROM outbound_result ORDER BY id").fetchall()
    results.save_results(connection, [result(id_value="A2", sync_info={"n": 2})])
    results.save_results(connection, [result(target="other"), result(source="offer"), result(mapping_id=2)])
    found = results.load_results(connection, TARGET, "order", [1, 2])
    assert set(found) == {(1, None, 1), (1, 5, 1), (1, None, 2)}
    assert (found[1, None, 1].id_value, found[1, None, 1]["n"], found[1, None, 1].sent) == ("A2", 2, {})
    again = connection.execute("SELECT id, transmitted_at FROM outbound_result ORDER BY id").fetchall()
    assert again[0][0] == first[0][0]
    assert again[0][1] > first[0][1]
    assert again[1] == first[1]


def test_forgetting_what_was_sent(connection):
    sent = {"mail": "x"}
    results.save_results(
        connection, [result(sent=sent), result(position_id=5, sent=sent), result(target="other", sent=sent)]
    )
    results.forget_sent(connection, TARGET, "order", [(1, 5, 1), (2, None, 1)])
    assert {key: row.sent for key, row in results.load_results(connection, TARGET, "order", [1]).items()} == {
        (1, None, 1): sent, (1, 5, 1): {},
    }  # fmt: skip
    results.forget_sent(connection, TARGET, "order", [(1, None, 1)])
    assert results.load_results(connection, TARGET, "order", [1])[1, None, 1].sent == {}
    assert results.load_results(connection, "other", "order", [1])[1, None, 1].sent == sent


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("a\0b\0\0c", "abc"),
        (r"a\u0000b", r"a\u0000b"),
        ("\\\0x", "\\x"),
        ("\ud800!", "?!"),
        ("\0\udfff😀", "?😀"),
        ("é" * 100_000,) * 2,
    ],
    ids=["NUL", "escaped", "backslash and NUL", "half", "both", "long"],
)
def test_characters_that_postgresql_does_not_take(connection, put, rows, text, kept):
    results.save_results(connection, [result(id_value=text[:9], sync_info={"k": [text]}, sent={"mail": text})])
    found = results.load_results(connection, TARGET, "order", [1])[1, None, 1]
    assert (found.sync_info, found.sent, found.id_value) == ({"k": [kept]}, {"mail": kept}, kept[:9])
    results.write_log(
        connection,
        [LogEntry(None, TARGET, "order", 1, "failed", messages=[text], payload={text[:3]: text}, code=text)],
    )
    assert connection.execute("SELECT messages, code, payload FROM outbound_log").fetchall() == [
        ([kept], kept, {text[:3].replace("\0", "").encode(errors="replace").decode(): kept})
    ]
    put(1)
    (row,) = take(connection)
    queue.release(connection, [failed(row, 1, messages=[text])])
    assert rows("messages") == [([kept],)]
    run = runs.open_run(connection, TARGET, "run")
    runs.close_run(connection, run, {"down": text})
    assert connection.execute("SELECT counts, finished_at IS NOT NULL FROM outbound_run").fetchall() == [
        ({"down": kept}, True)
    ]


def test_counts_of_all_workers_of_a_run(connection):
    counts = {"orders": {"sent": 2, "parked": 1}, "objects": {"sent": 5}, "parked": {"config": 1}, "seconds": 1.5}
    for down in (None, "It is down", None):
        runs.close_run(connection, runs.open_run(connection, TARGET, "d/1"), {**counts, "down": down})
    runs.open_run(connection, TARGET, "d/1")  # was killed
    runs.close_run(connection, runs.open_run(connection, TARGET, "d/2"), counts)
    assert runs.run_counts(connection, "d/1") == {
        "runs": 4,
        "orders": {"sent": 6, "parked": 3},
        "objects": {"sent": 15},
        "parked": {"config": 3},
        "seconds": 4.5,
        "down": "It is down",
    }
    assert runs.run_counts(connection, "d/3")["runs"] == 0
    found = connection.execute("SELECT run_id, claimers, orders_sent, down FROM outbound_report ORDER BY 1").fetchall()
    assert found == [("d/1", 4, 6, "It is down"), ("d/2", 1, 2, None)]


def test_the_log_is_kept_for_some_days(connection):
    for outcome in ("sent", "failed"):
        results.write_log(connection, [LogEntry(None, TARGET, "order", 1, outcome)])
    connection.execute("UPDATE outbound_log SET at = now() - interval '91 days' WHERE outcome = 'sent'")
    for run_id in ("old", "new"):
        runs.close_run(connection, runs.open_run(connection, TARGET, run_id), {})
    connection.execute("UPDATE outbound_run SET finished_at = now() - interval '91 days' WHERE run_id = 'old'")
    assert results.purge_log(connection, 90) == 1
    assert connection.execute("SELECT outcome FROM outbound_log").fetchall() == [("failed",)]
    assert connection.execute("SELECT run_id FROM outbound_run").fetchall() == [("new",)]


def test_many_at_once(connection, rows):
    shop = Shop(connection)
    ids = shop.orders(3)
    assert queue.enqueue_orders(connection, TARGET, ids[:2], triggered_by="user") == 2
    connection.execute(
        "UPDATE outbound_queue SET failed_attempts = 5, need_manual_retry = 'exceeded', messages = '{x}'"
    )
    assert queue.enqueue_orders(connection, TARGET, [*ids, ids[2] + 1], triggered_by="user") == 3
    assert rows() == [(each, False, 0, None, []) for each in ids]
    assert queue.waiting_ids(connection, TARGET, "order", 2) == ids[:2]
    assert queue.count_due(connection, TARGET, 2) == 2


def test_nothing_to_write_is_no_statement(connection):
    connection.close()
    queue.release(connection, [])
    queue.remove(connection, [])
    results.save_results(connection, [])
    results.write_log(connection, [])
    results.forget_sent(connection, TARGET, "order", [])
