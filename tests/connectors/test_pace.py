from __future__ import annotations

import threading

import pytest

from include.connectors.pace import LocalPace
from include.errors import ConfigurationError


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_requests_are_evenly_apart(clock):
    pace = LocalPace(4, clock=clock)
    assert [pace.reserve() for _ in range(4)] == [0.0, 0.25, 0.5, 0.75]


def test_time_that_passed_is_not_saved_up(clock):
    pace = LocalPace(4, clock=clock)
    pace.reserve()
    clock.now += 60
    assert [pace.reserve() for _ in range(3)] == [0.0, 0.25, 0.5]


def test_hold_moves_what_comes_next(clock):
    pace = LocalPace(4, clock=clock)
    pace.hold(30)
    assert [pace.reserve(), pace.reserve()] == [30.0, 30.25]


def test_shorter_hold_does_not_cut_a_longer_one(clock):
    pace = LocalPace(4, clock=clock)
    pace.hold(30)
    pace.hold(1)
    assert pace.reserve() == 30.0


def test_no_moment_is_given_twice(clock):
    pace = LocalPace(1, clock=clock)
    waits: list[float] = []
    threads = [threading.Thread(target=lambda: waits.extend([pace.reserve() for _ in range(500)])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(waits) == list(range(2000))


@pytest.mark.parametrize("rate", [0, -1, float("nan")])
def test_rate_must_be_positive(rate):
    with pytest.raises(ConfigurationError, match="above 0"):
        LocalPace(rate)


def test_a_moment_too_far_away_is_not_taken(clock):
    pace = LocalPace(0.1, clock=clock)
    assert [pace.reserve(15) for _ in range(4)] == [0.0, 10.0, 20.0, 20.0]
