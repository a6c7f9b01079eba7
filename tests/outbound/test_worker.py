"""Emptying the queue: outcomes, log entries, and targets that are down."""

import threading
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from include.errors import (
    ConfigurationError,
    RateLimited,
    RecoverableSyncError,
    SyncConfigError,
    UnrecoverableSyncError,
)
from include.outbound import buffer, worker
from include.outbound import mappings as stored_mappings
from include.outbound.worker import drain
from include.store import queue as store
from include.targets.base import OutboundSyncProvider, StaticMapping, backoff
from include.targets.fields import data_fields
from tests.outbound.conftest import ORDERS, TICKETS, down, entry, fail

FIELDS = {model: data_fields(None, model) for model in ("Order", "OrderPosition")}


# Outcomes


@pytest.mark.parametrize(
    ("error", "reason", "message"),
    [
        (UnrecoverableSyncError(["Bad address"]), "permanent", "Bad address"),
        (SyncConfigError(["No such list"]), "config", "No such list"),
        (ZeroDivisionError("division by zero"), "internal", "ZeroDivisionError: division by zero"),
        (RecoverableSyncError(["Not now"]), None, "Not now"),
    ],
)
def test_each_kind_of_failure(make_target, shop, send, rows, error, reason, message):
    target = make_target(answer=fail(error))
    order = shop.order("A1")
    report = send(target, order)
    assert report.orders == ({"parked": 1} if reason else {"retry": 1})
    assert report.parked == ({reason: 1} if reason else {})
    assert report.objects == {"failed": 1}
    assert report.examples == [f"A1: {message}"]
    assert rows("need_manual_retry, failed_attempts, messages, in_flight, claimed_by") == [
        (reason, 1, [message], False, None)
    ]
    logged = rows("outcome, mapping_id, reason, messages, attempt, next_try_at IS NULL", "outbound_log")
    assert logged == [
        ("failed", 1, None, [message], None, True),
        ("failed" if reason else "retry", None, reason, [message], 1, reason is not None),
    ]
    state = "waits for a person" if reason else "tried again by itself"
    assert rows("code, event, state, reason, messages", "outbound_problems") == [
        ("A1", "show", state, reason, [message])
    ]


def test_recoverable_beats_permanent_and_what_was_sent_is_not_sent_again(make_target, shop, send, rows, make_due):
    errors = {"A1-1": RecoverableSyncError(["Busy"]), "A1-2": UnrecoverableSyncError(["Unwanted"])}

    def answer(self, call):
        if error := errors.get(call.id_value):
            raise error
        return {"x": 1}

    target = make_target(mappings=[ORDERS, TICKETS], answer=answer)
    send(target, shop.order("A1", attendees=[("A", None), ("B", None)]))
    assert rows("need_manual_retry, messages") == [(None, ["Busy", "Unwanted"])]
    del errors["A1-1"]
    make_due()
    send(target)
    assert [call.id_value for call in target.calls] == ["A1", "A1-1", "A1-2", "A1-1", "A1-2"]
    assert rows("need_manual_retry, failed_attempts") == [("permanent", 2)]


def test_waits_grow_until_the_attempts_are_exceeded(make_target, shop, send, rows, make_due):
    target = make_target(answer=fail(RecoverableSyncError(["no"])), max_attempts=3)
    send(target, shop.order("A1"))
    for attempts, reason, longest in ((1, None, 60), (2, None, 240), (3, "exceeded", 0)):
        ((*state, wait),) = rows("failed_attempts, need_manual_retry, extract(epoch FROM not_before - now())::float")
        assert state == [attempts, reason]
        assert reason or longest / 2 - 5 < wait <= longest
        make_due()
        send(target)
    assert len(target.calls) == 3
    assert rows("attempt, reason", "outbound_log", "mapping_id IS NULL ORDER BY id") == [
        (1, None), (2, None), (3, "exceeded"),
    ]  # fmt: skip


def test_a_queue_row_of_an_order_that_is_gone(make_target, shop, send, rows, queue, connection):
    target, gone = make_target(), shop.order("A1")
    queue(target, gone)
    connection.execute("DELETE FROM customer_order")
    report = send(target, shop.order("A2"))
    assert report.orders == {"gone": 1, "sent": 1}
    assert rows("id") == []


@pytest.mark.parametrize(("table", "left"), [("customer_order", [1]), ("outbound_queue", [])])
def test_an_order_that_is_deleted_or_canceled_while_it_is_sent(make_target, shop, send, rows, connect, table, left):
    other = connect()

    def answer(self, call):
        other.execute(f"DELETE FROM {table}")
        raise RecoverableSyncError(["no"])

    order = shop.order("A1")
    assert send(make_target(answer=answer), order).orders == {"retry": 1}
    assert rows("failed_attempts") == left
    assert rows("code", "outbound_problems") == [str(order) for _ in left]


def test_changed_while_it_is_sent(make_target, shop, send, rows, connect):
    other = connect()

    def answer(self, call):
        if len(target.calls) == 1:
            other.execute("UPDATE customer_order SET email = 'new@example.org'")
            store.enqueue_orders(other, "recording", [call.inputs["order"].order_id], triggered_by="modified")
        return {"x": 1}

    target = make_target(answer=answer)
    send(target, shop.order("A1"))
    send(target)
    assert [call.properties[0][1] for call in target.calls] == ["ada@example.org", "new@example.org"]
    assert rows("triggered_by", "outbound_log", "true ORDER BY id") == ["placed", "modified"]
    assert rows("id") == []


def test_a_constructor_that_fails_concerns_its_event_only(make_target, shop, send, rows):
    def init(self, event):
        OutboundSyncProvider.__init__(self, event)
        if event.slug == "bad":
            raise RuntimeError("no settings")

    target = make_target(__init__=init)
    report = send(target, *shop.orders(15, event="bad"), *shop.orders(15, event="good"))
    assert report.orders == {"parked": 15, "sent": 15}
    assert set(rows("event, reason, messages::text", "outbound_problems")) == {
        ("bad", "internal", '{"RuntimeError: no settings"}')
    }


@pytest.mark.parametrize("what", ["close", "next_retry_date"])
def test_what_else_a_target_may_break(make_target, shop, send, rows, caplog, what):
    def wrong(self, *_):
        raise RuntimeError("broken")

    target = make_target(**{what: wrong}, answer=fail(RecoverableSyncError(["no"])))
    assert send(target, shop.order("A1"), shop.order("A2", event="other")).orders == {"retry": 2}
    assert f"{what} of recording failed: broken" in caplog.text


def test_long_payloads_and_strange_characters(make_target, shop, send, rows):
    def answer(self, call):
        return {"note": "\0" + "é" * 100_000, "external_link_href": "https://x/\0", "external_link_display_name": "\0"}

    def get_properties(self, inputs, entries):
        return [("total", "x" * 100_000 + "\0", "overwrite"), ("mail", {"a": object()}, "overwrite")]

    order = shop.order("A1")
    target = make_target(answer=answer, get_properties=get_properties)
    assert send(target, order).orders == {"sent": 1}
    assert rows("sync_info ->> 'note', external_link_href", "outbound_result") == [("é" * 100_000, "https://x/")]
    assert rows("payload ->> 'total'", "outbound_log") == ["x" * 100_000]
    bad = make_target("bad", answer=fail(UnrecoverableSyncError(["a\0b", "\ud800", "y" * 100_000])))
    assert send(bad, order).parked == {"permanent": 1}
    assert rows("messages", where="target = 'bad'") == [["ab", "?", "y" * 100_000]]


# What the target holds after a failure


def test_what_was_called_in_vain_is_sent_again_though_it_equals_what_was_sent(make_target, shop, send, make_due):
    """After a cut connection nobody knows whether the change arrived; then it is taken back."""
    order = shop.order("A1")
    held = {}

    def answer(self, call):
        held[call.id_value] = call.properties[0][1]
        if call.properties[0][1] == "new@example.org":
            raise RecoverableSyncError(["The connection was cut"])
        return {"x": 1}

    target = make_target(answer=answer)
    send(target, order)
    shop.change(order, "new@example.org")
    send(target, order)
    shop.change(order, "ada@example.org")
    make_due()
    assert send(target).orders == {"sent": 1}
    assert held == {"A1": "ada@example.org"}
    assert send(target, order).orders == {"nothing_to_do": 1}


def test_what_a_killed_worker_sent_is_sent_again_even_if_it_equals_what_was_sent(
    make_target, shop, send, queue, connection, rows
):
    order, target = shop.order("A1"), make_target()
    send(target, order)
    queue(target, order)
    store.claim(connection, "recording", 12345, 1)  # the worker is dead
    report = send(target)
    assert (report.released, report.orders, len(target.calls)) == (1, {"sent": 1}, 2)
    assert rows("code, outcome, reason, attempt", "outbound_log", "true ORDER BY id")[1] == ("A1", "retry", None, 1)


def test_what_a_person_asks_for_is_sent_changed_or_not(make_target, shop, send, queue):
    order, target = shop.order("A1"), make_target()
    send(target, order)
    queue(target, order, by="user")
    assert send(target).orders == {"sent": 1}
    assert send(target, order).orders == {"nothing_to_do": 1}
    assert send(target, order, force=True).orders == {"sent": 1}


# Targets that are down


def test_a_target_that_is_down(make_target, shop, send, rows):
    target = make_target(answer=fail(down))
    orders = shop.orders(150)
    report = send(target, *orders)
    assert report.down == "The service is down"
    assert 10 <= len(target.calls) <= 12
    assert rows("sum(failed_attempts)::int, count(*)::int, bool_or(in_flight)") == [(0, 150, False)]
    assert rows("count(*)::int", where="messages <> '{}' AND not_before > now()") == [len(target.calls)]
    assert rows("code", "outbound_problems") == []
    assert report.orders == {"retry": len(target.calls)}
    assert threading.active_count() < 20
    target.answer = lambda self, call: {"x": 1}
    assert send(target).orders == {"sent": 150 - len(rows("id"))}


def test_a_slow_death_costs_no_attempts_either(make_target, shop, send, rows, monkeypatch):
    """What fails is kept back until it is known whether the target is down, however long that takes."""
    monkeypatch.setattr(buffer, "FLUSH_SECONDS", 0.0)
    send(make_target(answer=fail(down)), *shop.orders(30))
    assert rows("max(failed_attempts)") == [0]


def test_fewer_failures_in_a_row_do_count(make_target, shop, send, rows, monkeypatch):
    monkeypatch.setattr(buffer, "FLUSH_SECONDS", 0.0)

    def answer(self, call):
        if int(call.id_value.removeprefix("SHOW")) % 10:
            raise down()
        return {"x": 1}

    target = make_target(answer=answer)
    report = send(target, *shop.orders(40))
    assert (report.down, len(target.calls), report.orders) == (None, 40, {"sent": 4, "retry": 36})
    assert rows("min(failed_attempts), max(failed_attempts)") == [(1, 1)]


def test_messages_of_earlier_failures_are_kept_by_what_is_given_back(make_target, shop, send, rows, connection, queue):
    target = make_target(answer=fail(down))
    queue(target, *shop.orders(40))
    connection.execute("UPDATE outbound_queue SET failed_attempts = 1, messages = '{Earlier}'")
    send(target)
    assert set(rows("failed_attempts, messages::text")) == {(1, "{Earlier}"), (1, '{"The service is down"}')}


# Waits


@pytest.mark.parametrize("count", [1, 20])
def test_retry_after_is_respected(make_target, shop, send, rows, count):
    """Also when the target is down."""
    target = make_target(answer=fail(lambda: RateLimited("Slow down", retry_after=5000)))
    send(target, *shop.orders(count))
    waits = rows("extract(epoch FROM not_before - now())::float", where="messages <> '{}'")
    assert len(waits) >= min(count, 10)
    assert all([4990 < each <= 5000 for each in waits])


def test_a_longer_rule_of_the_target_goes_before_a_short_retry_after(make_target, shop, send, rows):
    target = make_target(
        answer=fail(lambda: RateLimited("Slow down", retry_after=5)),
        next_retry_date=lambda self, row: datetime.now(UTC) + timedelta(hours=1),
    )
    send(target, shop.order("A1"))
    assert rows("not_before > now() + interval '59 minutes'") == [True]


def test_waits_grow_with_jitter():
    assert [backoff(n, jitter=lambda: 1.0) for n in range(1, 8)] == [60, 240, 960, 3840, 15360, 21600, 21600]
    assert backoff(1, jitter=lambda: 0.0) == 30
    assert backoff(0, jitter=lambda: 1.0) == 60
    assert backoff(500, jitter=lambda: 1.0) == 21600
    assert len({backoff(3) for _ in range(20)}) > 1


# Several targets, limits, concurrency


def test_a_limit(make_target, shop, send, rows):
    target = make_target()
    assert send(target, *shop.orders(7), limit=3).orders == {"sent": 3}
    assert send(target, limit=0).orders == {}
    assert len(rows("id")) == 4
    assert send(target, limit=100).orders == {"sent": 4}


def test_no_more_time(make_target, shop, send, rows):
    target = make_target()
    assert send(target, *shop.orders(3), seconds=-1.0).orders == {}
    assert rows("in_flight") == [False] * 3


def test_calls_side_by_side(make_target, shop, send):
    together = threading.Barrier(4, timeout=20)
    target = make_target(concurrency=4, answer=lambda self, call: together.wait() is not None and {"x": 1})
    report = send(target, *shop.orders(8))
    assert report.orders == {"sent": 8}
    assert len({call.thread for call in target.calls}) == 4


def test_no_more_calls_than_a_worker_may_make(make_target, shop, send):
    busy, most, lock = [0], [0], threading.Lock()

    def answer(self, call):
        with lock:
            busy[0] += 1
            most[0] = max(most[0], busy[0])
        threading.Event().wait(0.005)
        with lock:
            busy[0] -= 1
        return {"x": 1}

    send(make_target(concurrency=8, answer=answer), *shop.orders(20), calls_at_once=2)
    assert most == [2]


def test_two_drains_at_once(make_target, shop, queue, connect, rows):
    target = make_target()
    queue(target, *shop.orders(150), *shop.orders(150, event="other"))
    reports = []
    threads = [threading.Thread(target=lambda: reports.append(drain(target, connect()))) for _ in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sum(report.orders["sent"] for report in reports) == 300
    assert len({call.id_value for call in target.calls}) == len(target.calls) == 300
    assert [report.released for report in reports] == [0, 0]
    assert rows("id") == []


# Mappings


def save(connection, *mappings):
    return stored_mappings.save(connection, "recording", mappings, fields=FIELDS)


def test_mappings_changed_while_a_run_is_on(make_target, shop, send, connect, connection, monkeypatch):
    """The orders that are claimed from then on are sent by the new ones."""
    monkeypatch.setattr(worker, "CLAIM_ROWS", 5)
    other = connect()

    def answer(self, call):
        if len(target.calls) == 7:
            save(other, StaticMapping(1, "Order", "deal", "order_code", "code", [entry("order_code", "new")]))
        return {"x": 1}

    target = make_target(mappings=OutboundSyncProvider.mappings, answer=answer)
    save(connection, StaticMapping(1, "Order", "deal", "order_code", "code", [entry("order_total", "old")]))
    assert send(target, *shop.orders(40)).orders == {"sent": 40}
    sent = [call.properties[0][0] for call in target.calls]
    assert set(sent) == {"old", "new"}
    assert sent == sorted(sent, reverse=True)
    assert 7 <= sent.count("old") <= 20


# Runs


def test_a_run_is_recorded_and_what_it_sent_is_logged_with_its_link(make_target, shop, send, rows):
    order = shop.order("A1", attendees=[("Ada L", "a@example.org")])
    report = send(make_target(mappings=[ORDERS, TICKETS]), order, run_id="dag/run")
    assert rows("run_id, counts, finished_at IS NOT NULL", "outbound_run") == [("dag/run", report.counts(), True)]
    assert rows("run_id, code, outcome", "outbound_history") == [("dag/run", "A1", "sent")] * 2
    assert rows("code, mapping_id, payload, link", "outbound_log", "true ORDER BY id") == [
        ("A1", 1, {"mail": "***", "total": "23.00"}, "https://x.example/A1"),
        ("A1", 2, {"name": "***", "mail": "***", "product": "Seat"}, "https://x.example/A1-1"),
    ]


def test_a_view_that_is_wrong_leaves_nothing_in_flight(make_target, shop, send, rows, connection, queue):
    target = make_target()
    queue(target, *shop.orders(3))
    connection.execute("ALTER VIEW source_position RENAME TO gone")
    with pytest.raises(ConfigurationError, match="source_position"):
        send(target)
    assert rows("in_flight, failed_attempts") == [(False, 0)] * 3
    connection.execute("ALTER VIEW gone RENAME TO source_position")
    assert send(target).orders == {"sent": 3}


def test_a_lost_connection_ends_the_drain_and_the_next_one_goes_on(make_target, shop, queue, connect, connection, rows):
    victim = connect()

    def answer(self, call):
        if len(target.calls) == 5:
            connection.execute("SELECT pg_terminate_backend(%s, 5000)", (victim.info.backend_pid,))
        return {"x": 1}

    target = make_target(answer=answer)
    queue(target, *shop.orders(20))
    with pytest.raises(psycopg.OperationalError):
        drain(target, victim)
    assert target.noted[-1] == ("closed", "show")
    report = drain(target, connection)
    assert report.released == 20
    assert report.orders == {"sent": 20}
    assert rows("id") == []
    assert {call.id_value for call in target.calls} == {f"SHOW{number}" for number in range(20)}


def test_a_stuck_order_waits_for_a_person_in_the_end(make_target, shop, queue, connection, rows, send):
    target = make_target(max_attempts=2)
    queue(target, shop.order("A1"))
    connection.execute("UPDATE outbound_queue SET failed_attempts = 1")
    store.claim(connection, "recording", 12345, 1)
    report = send(target)
    assert (report.released, target.calls) == (1, [])
    message = "The worker was interrupted while it sent this; whether it arrived is unknown"
    assert rows("reason, failed_attempts, messages", "outbound_problems") == [("timeout", 2, [message])]
    assert rows("code, outcome, reason, attempt, messages, next_try_at", "outbound_history") == [
        ("A1", "failed", "timeout", 2, [message], None)
    ]
