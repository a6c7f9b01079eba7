"""The sandbox starts, advances and stops, in a thread and as a process."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from sandbox.__main__ import arguments
from sandbox.suppliers.stock_api import rows
from sandbox.testing import process, serving
from sandbox.world import START, Settings, World

ROOT = Path(__file__).parents[2]


@contextmanager
def started(*options):
    command = [sys.executable, "-m", "sandbox", "--port", "0", *options]
    running = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with running:
        try:
            yield running
        finally:
            running.kill()


def get(url, **query):
    return requests.get(url, params=query, timeout=10).json()


def test_a_process_serves_the_world_of_its_settings():
    settings = Settings(seed=3, venues=2, books=20, valid_until=True)
    world = World(settings)
    with process(settings) as url:
        assert get(f"{url}/sandbox/state")["venues"] == world.sirets
        found = get(f"{url}/titelive/stocks/{world.sirets[1]}")["stocks"]
    assert [stock["ref"] for stock in found] == [row.ref for row in rows(world, world.sirets[1])]
    with pytest.raises(requests.ConnectionError):
        requests.get(url, timeout=1)


def test_a_process_that_cannot_start_prints_why(capfd):
    with pytest.raises(RuntimeError, match="exit status 1"), process(Settings(books=0)):
        pass
    assert capfd.readouterr().err == "sandbox: venues, books, max_available and max_limit must be at least 1\n"


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_at_once_and_silently(ending):
    with started() as running:
        line = running.stdout.readline()
        url = line.split()[-1]
        assert line == f"sandbox ready at {url}\n"
        rule = {"fault": "delay", "seconds": 60}
        requests.post(f"{url}/sandbox/faults", json=[rule], timeout=10)
        siret = get(f"{url}/sandbox/state")["venues"][0]
        with pytest.raises(requests.ReadTimeout):  # the server keeps waiting for the delay
            requests.get(f"{url}/titelive/stocks/{siret}", timeout=0.2)
        with requests.Session() as session:
            session.get(f"{url}/sandbox/state", timeout=10)  # an open connection
            start = time.monotonic()
            running.send_signal(ending)
            rest, errors = running.communicate(timeout=10)
            assert time.monotonic() - start < 2
        assert (rest, errors) == ("", "")


def test_a_thread_ends_while_a_request_is_under_way():
    world = World(Settings(books=10))
    results = []

    def call(address):
        try:
            results.append(requests.get(address, timeout=10).status_code)
        except requests.ConnectionError as error:
            results.append(error)

    with serving(world) as url:
        requests.post(f"{url}/sandbox/faults", json=[{"fault": "delay", "seconds": 30}], timeout=10)
        thread = threading.Thread(target=call, args=[f"{url}/titelive/stocks/{world.sirets[0]}"])
        thread.start()
        while not get(f"{url}/sandbox/requests"):
            time.sleep(0.01)
        start = time.monotonic()
    thread.join()
    assert time.monotonic() - start < 2
    assert results
    assert results != [200]


def test_the_latency_is_added_to_every_response_of_a_service():
    world = World(Settings(books=10, latency_ms=60))
    with serving(world) as url:
        for siret, status in ((world.sirets[0], 200), ("unknown", 404)):
            response = requests.get(f"{url}/titelive/stocks/{siret}", timeout=10)
            assert response.status_code == status
            assert response.elapsed.total_seconds() >= 0.06


def test_advance_and_reset_over_http():
    world = World(Settings(books=200))
    with serving(world) as url:
        state = get(f"{url}/sandbox/state")
        assert state["generations"] == [{"at": "2024-01-01T00:00:00Z", "percent": 100.0}]
        assert state["settings"]["books"] == 200
        before = list(rows(world, world.sirets[0]))
        moved = requests.post(f"{url}/sandbox/advance", json={"percent": 1.0}, timeout=10).json()
        assert moved["generation"] == 1
        assert sum(old != new for old, new in zip(before, rows(world, world.sirets[0]), strict=True)) == 2
        address = f"{url}/titelive/stocks/{world.sirets[0]}"
        assert get(address, modifiedSince=moved["at"])["total"] == 2
        for body in (
            {"at": "2024-01-02T00:00:00Z"},
            {"at": "soon"},
            {"percent": 0},
            {"percent": 101},
            {"per_cent": 2},
        ):
            assert requests.post(f"{url}/sandbox/advance", json=body, timeout=10).status_code == 422
        requests.post(f"{url}/sandbox/reset", timeout=10)
        assert list(rows(world, world.sirets[0])) == before


def test_the_generations_outlive_the_process_in_their_file(tmp_path):
    settings = Settings(books=100, state=str(tmp_path / "new" / "state.json"))
    world = World(settings)
    world.advance(5, START.replace(year=2025))
    world.advance(2.5)
    again = World(settings)
    assert again.generations == world.generations
    assert list(rows(again, again.sirets[0])) == list(rows(world, world.sirets[0]))
    again.reset()
    assert World(settings).generations == World(Settings()).generations


def test_a_corrupt_state_file_is_an_error_with_its_path(tmp_path):
    path = tmp_path / "state.json"
    path.write_text("[{}")
    with started("--state", str(path)) as running:
        _, errors = running.communicate(timeout=10)
    assert running.returncode == 1
    assert errors.startswith("sandbox: ")
    assert str(path) in errors
    assert "Traceback" not in errors


def test_options_come_from_the_command_line_then_the_environment(monkeypatch):
    for name in list(os.environ):
        if name.startswith("SANDBOX_"):
            monkeypatch.delenv(name)
    assert (arguments([]).port, arguments([]).books, arguments([]).latency_ms) == (8765, 3000, 0)
    monkeypatch.setenv("SANDBOX_BOOKS", "70")
    monkeypatch.setenv("SANDBOX_PORT", "0")
    monkeypatch.setenv("SANDBOX_VALID_UNTIL", "true")
    options = arguments(["--books", "80", "--latency-ms", "2.5"])
    assert (options.port, options.books, options.latency_ms, options.valid_until) == (0, 80, 2.5, True)
    with pytest.raises(SystemExit):
        arguments(["--books", "many"])
