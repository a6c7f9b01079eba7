"""A provider's limiter holds for all connections together."""

import threading
import time

import pytest

from include.store.rate_limit import PostgresRateLimiter


def test_slots_are_shared_between_connections(connect):
    limiters = [PostgresRateLimiter(connect(), "service", 10) for _ in range(2)]
    waits = [limiters[number % 2].acquire() for number in range(10)]
    assert waits[0] == 0
    for number, wait in enumerate(waits):
        assert number * 0.1 - 0.5 < wait <= number * 0.1
    assert waits == sorted(waits)


def test_the_rate_holds_for_workers_at_once(connect):
    rate, each = 100, 15
    sent = []

    def work(limiter):
        for _ in range(each):
            time.sleep(limiter.acquire())
            sent.append(time.monotonic())

    threads = [threading.Thread(target=work, args=(PostgresRateLimiter(connect(), "service", rate),)) for _ in range(2)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(sent) == 2 * each
    assert max(sent) - began >= (2 * each - 1) / rate - 0.01


def test_services_do_not_wait_for_each_other(connect):
    connection = connect()
    one, other = (PostgresRateLimiter(connection, name, 1) for name in ("one", "other"))
    one.acquire()
    assert one.acquire() > 0.5
    assert other.acquire() == 0


def test_time_that_passed_is_not_made_up_for(connect, connection):
    limiter = PostgresRateLimiter(connect(), "service", 10)
    connection.execute("UPDATE service_pace SET next_at = now() - interval '1 hour'")
    assert limiter.acquire() == 0
    assert limiter.acquire() == pytest.approx(0.1, abs=0.09)


def test_a_hold_is_obeyed_by_all_and_never_shortened(connect):
    one, other = (PostgresRateLimiter(connect(), "service", 1000) for _ in range(2))
    one.pause(50)
    other.pause(1)
    for limiter in (one, other):
        assert 45 < limiter.acquire() < 51


def test_without_a_rate_nobody_waits_but_holds_count(connect):
    limiter = PostgresRateLimiter(connect(), "service", None)
    assert [limiter.acquire() for _ in range(3)] == [0, 0, 0]
    limiter.pause(5)
    assert limiter.acquire() > 4


def test_a_place_in_the_queue_survives_the_worker(connect):
    connection = connect()
    limiter = PostgresRateLimiter(connection, "service", 0.1)
    limiter.acquire()
    connection.close()
    assert PostgresRateLimiter(connect(), "service", 0.1).acquire() > 8


def test_a_slot_too_far_away_is_not_taken(connect):
    limiter = PostgresRateLimiter(connect(), "service", 0.1)
    waits = [limiter.acquire(longest=25) for _ in range(8)]
    assert [round(wait, -1) for wait in waits] == [0, 10, 20, 30, 30, 30, 30, 30]
    assert 25 < limiter.acquire(longest=25) < 31
