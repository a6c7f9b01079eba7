"""What is loaded through a whole Airflow, and what the soak of it makes of what it saw."""

import os
import subprocess
import sys
import time

import psutil
import pytest

from bench.serving import serving
from bench.venues import standin
from bench.venues.data import SUPPLIERS, Shops, fill, held_sums, siret
from bench.venues.memory import sampled
from bench.venues.soak_airflow import DAGS, DagRun, Task, add_pools, told
from include.connectors.http import HttpConnector
from include.inbound.run import sync_provider
from include.providers import load_provider
from include.store.providers import find_links

SHOPS = Shops(3, 30)


def test_each_supplier_leaves_what_it_lists(connection):
    fill(connection, SHOPS)
    with standin.running(SHOPS) as url, HttpConnector(url) as connector:
        for again in (False, True):
            for name in SUPPLIERS:
                provider_class = load_provider(f"include.providers.{DAGS[name]}.{name}")
                query = "SELECT id FROM provider WHERE local_class = %s"
                provider_id = connection.execute(query, (name,)).fetchone()[0]
                for link in find_links(connection, provider_id):
                    report = sync_provider(provider_class(link, connector), connection)
                    assert (report.records, report.created) == ((0, 0) if again else (30, 60))
    assert held_sums(connection) == dict.fromkeys(SUPPLIERS, SHOPS.sums())


def test_long_listings_have_pages():
    answer = standin.answers(Shops(2, 1500))
    first = answer(f"/{siret(0, 1)}?limit=1000")
    last = first.rpartition(b'"ref":"')[2][:13].decode()
    second = answer(f"/{siret(0, 1)}?limit=1000&after={last}")
    assert (first.count(b"ref"), second.count(b"ref")) == (1000, 500)
    last = second.rpartition(b'"ref":"')[2][:13].decode()
    assert answer(f"/{siret(0, 1)}?limit=1000&after={last}").count(b"ref") == 0


def dag_run(dag_id, *, start, end):
    tasks = [Task(dag_id, "sync_venues", "success", at, at + 1, at + 5) for at in (start, start + 5)]
    return DagRun(dag_id, "success", start, end, tasks, 10, 2000, 6.0, 5.0)


def test_it_is_told_where_the_time_went():
    class Seen:
        largest, together, workers, most_tasks = 170.0, 300.0, 500.0, 2

    runs, parts, memory = told("first load", [dag_run("a", start=0, end=10), dag_run("b", start=0, end=20)], Seen(), 2)
    assert [row[:6] for row in runs[1]] == [
        ["a", "10.0", "10", "2,000", "200", "2"],
        ["b", "20.0", "10", "2,000", "100", "2"],
        ["all", "20.0", "20", "4,000", "200", "4"],
    ]
    assert parts[0][0] == "of 40 s, 2 slots in 20.0 s"
    assert [row[1:] for row in parts[1]] == [
        ["10.0", "25", "500 a link"],
        ["2.0", "5", "100 a link"],
        ["4.0", "10", "1,000 a task"],
        ["24.0", "60", "6,000 a task"],
    ]
    assert memory[1][0][1] == "170"


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
    assert seen.workers > seen.together >= seen.largest


class Api:
    """Airflow's API with one pool."""

    def __init__(self):
        self.imported = []

    def request(self, method, path, *, params):
        assert (method, path, params) == ("GET", "/pools", {"limit": 100})
        return {"pools": [{"name": "titelive_stocks"}]}

    def import_settings(self, settings, _overridden):
        self.imported += [pool.name for pool in settings.pools]


def test_pools_that_are_missing_are_made():
    api = Api()
    add_pools(api)
    assert api.imported == ["fnac_stocks", "libraires_stocks", "praxiel_stocks"]


def test_a_server_that_does_not_start_is_told():
    with pytest.raises(RuntimeError, match="standin did not start"), serving("bench.venues.standin", "x"):
        pass
