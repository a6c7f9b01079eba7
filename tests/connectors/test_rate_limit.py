from __future__ import annotations

import threading

import pytest

from include.connectors.rate_limit import InProcessRateLimiter
from include.errors import ConfigurationError


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_requests_are_evenly_apart(clock):
    limiter = InProcessRateLimiter(4, clock=clock)
    assert [limiter.acquire() for _ in range(4)] == [0.0, 0.25, 0.5, 0.75]


def test_time_that_passed_is_not_saved_up(clock):
    limiter = InProcessRateLimiter(4, clock=clock)
    limiter.acquire()
    clock.now += 60
    assert [limiter.acquire() for _ in range(3)] == [0.0, 0.25, 0.5]


def test_hold_moves_what_comes_next(clock):
    limiter = InProcessRateLimiter(4, clock=clock)
    limiter.pause(30)
    assert [limiter.acquire(), limiter.acquire()] == [30.0, 30.25]


def test_shorter_hold_does_not_cut_a_longer_one(clock):
    limiter = InProcessRateLimiter(4, clock=clock)
    limiter.pause(30)
    limiter.pause(1)
    assert limiter.acquire() == 30.0


def test_no_moment_is_given_twice(clock):
    limiter = InProcessRateLimiter(1, clock=clock)
    waits: list[float] = []
    threads = [threading.Thread(target=lambda: waits.extend([limiter.acquire() for _ in range(500)])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(waits) == list(range(2000))


@pytest.mark.parametrize("rate", [0, -1, float("nan")])
def test_rate_must_be_positive(rate):
    with pytest.raises(ConfigurationError, match="above 0"):
        InProcessRateLimiter(rate)


def test_a_moment_too_far_away_is_not_taken(clock):
    limiter = InProcessRateLimiter(0.1, clock=clock)
    assert [limiter.acquire(15) for _ in range(4)] == [0.0, 10.0, 20.0, 20.0]
