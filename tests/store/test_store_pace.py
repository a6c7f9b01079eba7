"""A provider's pace holds for all connections together."""

import threading
import time

import pytest

from include.store.pace import PostgresPace


def test_slots_are_shared_between_connections(connect):
    paces = [PostgresPace(connect(), "service", 10) for _ in range(2)]
    waits = [paces[number % 2].reserve() for number in range(10)]
    assert waits[0] == 0
    for number, wait in enumerate(waits):
        assert number * 0.1 - 0.5 < wait <= number * 0.1
    assert waits == sorted(waits)


def test_the_rate_holds_for_workers_at_once(connect):
    rate, each = 100, 15
    sent = []

    def work(pace):
        for _ in range(each):
            time.sleep(pace.reserve())
            sent.append(time.monotonic())

    threads = [threading.Thread(target=work, args=(PostgresPace(connect(), "service", rate),)) for _ in range(2)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(sent) == 2 * each
    assert max(sent) - began >= (2 * each - 1) / rate - 0.01


def test_services_do_not_wait_for_each_other(connect):
    connection = connect()
    one, other = (PostgresPace(connection, name, 1) for name in ("one", "other"))
    one.reserve()
    assert one.reserve() > 0.5
    assert other.reserve() == 0


def test_time_that_passed_is_not_made_up_for(connect, connection):
    pace = PostgresPace(connect(), "service", 10)
    connection.execute("UPDATE service_pace SET next_at = now() - interval '1 hour'")
    assert pace.reserve() == 0
    assert pace.reserve() == pytest.approx(0.1, abs=0.09)


def test_a_hold_is_obeyed_by_all_and_never_shortened(connect):
    one, other = (PostgresPace(connect(), "service", 1000) for _ in range(2))
    one.hold(50)
    other.hold(1)
    for pace in (one, other):
        assert 45 < pace.reserve() < 51


def test_without_a_rate_nobody_waits_but_holds_count(connect):
    pace = PostgresPace(connect(), "service", None)
    assert [pace.reserve() for _ in range(3)] == [0, 0, 0]
    pace.hold(5)
    assert pace.reserve() > 4


def test_a_place_in_the_queue_survives_the_worker(connect):
    connection = connect()
    pace = PostgresPace(connection, "service", 0.1)
    pace.reserve()
    connection.close()
    assert PostgresPace(connect(), "service", 0.1).reserve() > 8


def test_a_slot_too_far_away_is_not_taken(connect):
    pace = PostgresPace(connect(), "service", 0.1)
    waits = [pace.reserve(longest=25) for _ in range(8)]
    assert [round(wait, -1) for wait in waits] == [0, 10, 20, 30, 30, 30, 30, 30]
    assert 25 < pace.reserve(longest=25) < 31
