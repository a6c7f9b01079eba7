"""The long runs through Airflow: how they judge and summarize what they saw, and their stand-ins for the suppliers."""

import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import psutil
import psycopg
import pytest

from include.connectors.http import HttpConnector
from include.inbound.sync import sync_provider
from include.providers import load_provider
from include.store.providers import find_links
from soak.airflow import minutes, server
from soak.airflow.loads import DagRun, Task, summarize
from soak.airflow.memory import Memory, sampled
from soak.airflow.minutes import Minute, draw_moment, judge, scheduled, wait_for_pass
from soak.airflow.shops import PROVIDERS, Shops, fill, read_sums, siret

BEGIN = datetime(2026, 11, 20, 12, tzinfo=UTC)
SHOPS = Shops(3, 30)


def minute(number, *, delay=2.0, seconds=3.0, state="success"):
    at = BEGIN + timedelta(minutes=number)
    start = at + timedelta(seconds=delay)
    return Minute(at, state, start, start + timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("watched", "is_good", "words"),
    [
        ([minute(0), minute(1, delay=4.0), minute(2, delay=9.0)], True, "2.0 / 4.0 / 9.0 s after the minute"),
        ([minute(0, seconds=59), minute(1, delay=0.5)], False, "1 overlapped"),
        ([minute(0), minute(1, state="failed")], False, "1 failed"),
        ([minute(0), minute(3)], False, "2 minutes had no run"),
        ([minute(0), minute(1, delay=31)], False, "31.0 s after the minute"),
        ([], False, "No scheduled run"),
    ],
)
def test_minutes_are_judged(watched, is_good, words, capsys):
    assert judge([10.0, 60.0, 20.0], watched) is is_good
    output = capsys.readouterr().out
    assert "3 moves: the last record patched 10.0 / 20.0 / 60.0 s later" in output
    assert words in output


def test_moves_are_in_order_and_leave_time_for_the_last():
    moments = [draw_moment(number, 20, 10) for number in range(1, 11)]
    assert moments == sorted(moments)
    assert 0 <= moments[0] < 60
    assert moments[-1] < 20 * 60 - 90


class Api:
    """Airflow's API with some runs, of which it returns two per page."""

    def __init__(self, runs):
        self.runs = runs

    def request(self, method, path, *, params):
        assert (method, path) == ("GET", "/dags/algolia_customer_dispo/dagRuns")
        page = self.runs[params["offset"] : params["offset"] + 2]
        return {"dag_runs": page, "total_entries": len(self.runs)}

    def tasks(self, _dag_id, run_id):
        at = datetime.fromisoformat(run_id)
        return [{"start_date": str(at + timedelta(seconds=1)), "end_date": str(at + timedelta(seconds=4))}]


def a_run(number, kind="scheduled", state="success"):
    moment = str(BEGIN + timedelta(minutes=number))
    return {"run_type": kind, "state": state, "run_after": moment, "dag_run_id": moment}


def test_scheduled_runs_that_ended_count_except_the_first():
    runs = [a_run(3, state="running"), a_run(2), a_run(1, "manual"), a_run(1), a_run(0)]
    assert [(each.at.minute, each.delay) for each in scheduled(Api(runs))] == [(1, 1.0), (2, 1.0)]


def test_a_pass_is_found_by_its_move(database, monkeypatch):
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("INSERT INTO search_index (application_id, index_name) VALUES ('a', 'b')")
        add = (
            "INSERT INTO search_pass (application_id, index_name, reason, moves, patches, state, finished_at)"
            " VALUES ('a', 'b', %s, %s::jsonb, '{p}', 'done', %s)"
        )
        connection.execute(add, ("comparison", "[]", BEGIN))
        connection.execute(add, ("move", f'[{{"at": "{BEGIN}"}}]', BEGIN + timedelta(seconds=30)))
        assert wait_for_pass(connection, None) == BEGIN
        assert wait_for_pass(connection, BEGIN + timedelta(seconds=0.9)) == BEGIN + timedelta(seconds=30)
        monkeypatch.setattr(minutes, "MAX_SECONDS", 0)
        with pytest.raises(RuntimeError, match="no pass ended"):
            wait_for_pass(connection, BEGIN + timedelta(seconds=10))


def test_each_supplier_leaves_what_it_lists(connection):
    fill(connection, SHOPS)
    with server.running(SHOPS) as url, HttpConnector(url) as connector:
        for expected in ((30, 60), (0, 0)):
            for dag_id, name in PROVIDERS.items():
                provider_class = load_provider(f"include.providers.{dag_id}.{name}")
                query = "SELECT id FROM provider WHERE local_class = %s"
                provider_id = connection.execute(query, (name,)).fetchone()[0]
                for link in find_links(connection, provider_id):
                    report = sync_provider(provider_class(link, connector), connection)
                    assert (report.records, report.created) == expected
    assert read_sums(connection) == dict.fromkeys(PROVIDERS.values(), SHOPS.sums())


def test_long_listings_have_pages():
    handle, after, sizes = server.handler(Shops(2, 1500)), "", []
    for _ in range(3):
        page = handle("GET", f"/{siret(0, 1)}?limit=1000{after}", b"")
        sizes.append(page.count(b"ref"))
        after = "&after=" + page.rpartition(b'"ref":"')[2][:13].decode()
    assert sizes == [1000, 500, 0]


def test_the_summary_shows_where_the_time_went():
    def dag_run(dag_id, start, end):
        tasks = [Task(at, at + 1, at + 5) for at in (start, start + 5)]
        return DagRun(dag_id, "success", start, end, tasks, 10, 2000, 6.0, 5.0)

    loaded = [dag_run("a", 0, 10), dag_run("b", 0, 20)]
    assert [*summarize("first load", loaded, Memory(170.0, 300.0, 2), 2)] == [
        "first load: 20.0 s, 20 venues, 4,000 records, 4 tasks, which were queued for 1.0 s (maximum: 1.0 s)",
        "Of 40 s, 2 slots in 20.0 s:",
        "  the engine, reading and writing listings: 10.0 s, 25 %, 500 ms a link",
        "  the engine, starting and finishing links: 2.0 s, 5 %, 100 ms a link",
        "  Airflow, in tasks: starting them, and what each does once: 4.0 s, 10 %, 1,000 ms a task",
        "  Airflow, between tasks: 24.0 s, 60 %, 6,000 ms a task",
        "The largest process of a task has 170 MiB; up to 2 of them at the same time have 300 MiB",
    ]


def test_memory_is_that_of_the_processes_of_tasks():
    script = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
    task = "x = bytearray(60_000_000); import time; time.sleep(20)"
    with sampled(os.getpid()) as seen, subprocess.Popen([sys.executable, "-c", script, task]) as worker:
        try:
            deadline = time.monotonic() + 15
            while seen.largest < 60_000_000 / 2**20 and time.monotonic() < deadline:
                time.sleep(0.1)
        finally:
            for each in (*psutil.Process(worker.pid).children(), worker):
                each.kill()
    assert 57 < seen.largest < 200
    assert seen.together >= seen.largest
