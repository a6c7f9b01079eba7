"""Processes killed with SIGKILL between the write at the service and the commit: every order ends sent, once.

`python -m tests.outbound.test_worker_kills` is the process that is killed.
"""

import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest
import requests

from include.connectors.http import HttpConnector
from include.outbound import buffer, worker
from include.outbound.worker import drain
from include.store import queue, results
from include.targets.mailing_list import MailingList
from sandbox.testing import serving
from sandbox.world import Settings, World
from tests.search.killed import kill_at

ROOT = Path(__file__).parents[2]
ORDERS = 30
OTHERS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
"""


def main(conninfo, url, what, number, when):
    buffer.FLUSH_ROWS, worker.CLAIM_ROWS = 4, 8
    owner = {"request": HttpConnector, "save_results": results}.get(what, queue)
    kill_at(owner, what, int(number), after=when == "after")
    connector = HttpConnector(f"{url}/brevo/v3", headers={"api-key": "sandbox-brevo"})
    with psycopg.connect(conninfo, autocommit=True) as connection:
        drain(MailingList, connection, connector=connector)


@pytest.fixture(scope="module")
def served():
    with serving(World(Settings(books=10, offers=0))) as url:
        yield url


@pytest.fixture
def url(served):
    assert requests.post(f"{served}/sandbox/reset", timeout=10).ok
    return served


@pytest.fixture
def run(database, url):
    """A function that starts a process that is killed at a moment."""

    def run(*moment):
        command = [sys.executable, "-m", "tests.outbound.test_worker_kills", database, url, *moment]
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    return run


def was_killed(process):
    _, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, errors
    return True


@pytest.fixture
def queued(shop, queue):
    orders = [shop.order(f"A{n}", email=f"b{n}@example.org") for n in range(ORDERS)]
    queue(MailingList, *orders)
    return orders


@pytest.fixture
def go_on(url, connection):
    """A function that empties the queue in this process, once the server has noticed that the others are gone."""

    def go_on():
        deadline = time.monotonic() + 10
        while connection.execute(OTHERS).fetchone()[0] and time.monotonic() < deadline:
            time.sleep(0.02)
        connector = HttpConnector(f"{url}/brevo/v3", headers={"api-key": "sandbox-brevo"})
        try:
            return drain(MailingList, connection, connector=connector)
        finally:
            connector.close()

    return go_on


@pytest.fixture
def right(url, rows):
    """A function that checks that each order is at the service, created once, and known here."""

    def right():
        shown = requests.get(f"{url}/sandbox/brevo", timeout=10).json()
        assert {each["email"] for each in shown["contacts"]} == {f"b{n}@example.org" for n in range(ORDERS)}
        assert (shown["count"], shown["created"]) == (ORDERS, ORDERS)
        assert sorted(rows("source_id", "outbound_result")) == sorted(rows("id", "customer_order"))
        assert rows("id") == []
        return shown["updated"]

    return right


@pytest.mark.parametrize(
    "moment",
    [
        ("claim", "1", "after"),
        ("request", "9", "after"),
        ("save_results", "2", "before"),
        ("remove", "2", "after"),
        ("release", "3", "after"),
    ],
    ids=" ".join,
)
def test_killed_between_the_service_and_the_commit(run, queued, go_on, right, rows, moment):
    assert was_killed(run(*moment))
    left = rows("count(*)::int, count(*) FILTER (WHERE in_flight)::int")
    assert left[0][1] > 0
    report = go_on()
    assert report.released == left[0][1]
    assert report.orders == {"sent": left[0][0]}
    assert right() <= left[0][1]  # so many were sent twice


def test_killed_again_and_again(run, queued, go_on, right, rows):
    for number in ("2", "3"):
        assert was_killed(run("save_results", number, "after"))
    assert rows("max(failed_attempts)") == [1]
    go_on()
    right()


def test_two_at_once_of_which_one_is_killed(run, queued, go_on, right, rows, url, monkeypatch):
    """The other one takes what is left, and what the first had is for the next run."""
    fault = [{"fault": "delay", "service": "brevo", "seconds": 0.05}]
    assert requests.post(f"{url}/sandbox/faults", json=fault, timeout=10).ok
    first = run("save_results", "1", "before")
    deadline = time.monotonic() + 60
    while not any(rows("in_flight")) and time.monotonic() < deadline:
        time.sleep(0.005)
    monkeypatch.setattr(sys.modules[__name__], "OTHERS", "SELECT 0")
    report = go_on()
    assert report.released == 0
    monkeypatch.undo()
    assert was_killed(first)
    left = len(rows("id"))
    assert 8 <= left < ORDERS
    assert report.orders == {"sent": ORDERS - left}
    assert go_on().released == left
    assert right() <= left


if __name__ == "__main__":
    main(*sys.argv[1:])
