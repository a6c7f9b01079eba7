"""Waits print what they wait for, and give up late."""

import pytest

from local.checkout import LocalError
from local.waiting import Wait


def test_a_wait_prints_every_fifteen_seconds_what_it_waits_for():
    printed: list[str] = []
    now = [0.0]
    wait = Wait("Airflow's api-server", printed.append, limit_seconds=60, clock=lambda: now[0])
    for second in range(46):
        now[0] = second
        wait.still("no response")
    assert printed == [f"  waiting for Airflow's api-server: no response for {seconds} s" for seconds in (15, 30, 45)]
    now[0] = 61
    with pytest.raises(LocalError, match=r"^Airflow's api-server: no response for 61 s$"):
        wait.still("no response")
