"""Components that exit are restarted, PostgreSQL first; repeated exits are reported with their cause."""

import os
import signal
import sys
import tempfile
import time
from collections import defaultdict
from functools import partial
from pathlib import Path

import psutil
import psycopg
import pytest

from local import postgres
from local.checkout import LocalError
from local.processes import LOG_BYTES, Processes, Started, old_log
from local.signals import Signals
from local.watch import WINDOW_SECONDS, Watch, last_error

FOREVER = "import time; time.sleep(300)"
# Exits when its database is gone, like Airflow's components.
CLIENT = """
import sys, time, psycopg
connection = psycopg.connect(sys.argv[1])
print("connected", flush=True)
while True:
    connection.execute("SELECT 1")
    time.sleep(0.1)
"""
WITH_A_TASK = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {FOREVER!r}], process_group=0)
print(child.pid, flush=True)
child.wait()
"""


@pytest.fixture(scope="module")
def data():
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        path = Path(folder) / "postgres"
        postgres.start(path)
        yield path
        postgres.stop(path)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Running:
    def __init__(self, data: Path, folder: Path) -> None:
        self.folder = folder
        self.printed: list[str] = []
        self.clock = Clock()
        self.processes = Processes(folder / "processes.json")
        self.watch = Watch(
            data,
            folder,
            self.processes,
            task_logs=folder / "tasks",
            notify=self.printed.append,
            signals=Signals(),
            clock=self.clock,
        )
        self.starts: dict[str, int] = defaultdict(int)

    def add(self, name: str, code: str, *options: str) -> None:
        self.watch.add(name, partial(self._start, name, code, *options))

    def _start(self, name: str, code: str, *options: str) -> Started:
        self.starts[name] += 1
        return self.processes.start(
            name,
            [sys.executable, "-c", code, *options],
            env=os.environ,
            cwd=self.folder,
            log=self.folder / f"{name}.log",
        )

    def wait_for_exit(self, name: str) -> None:
        deadline = time.monotonic() + 60
        while self.processes.exit_status(self.watch.components[name].started) is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def wait_for_output(self, name: str) -> str:
        deadline = time.monotonic() + 60
        while not (text := (self.folder / f"{name}.log").read_text()):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return text


@pytest.fixture
def running(data, tmp_path):
    found = Running(data, tmp_path)
    yield found
    found.processes.stop_all(0)


def test_what_is_killed_is_restarted_without_what_it_had_started(running):
    running.add("the scheduler", WITH_A_TASK)
    task = int(running.wait_for_output("the scheduler"))
    running.watch.check()
    assert running.printed == []
    os.kill(running.watch.components["the scheduler"].started.pid, signal.SIGKILL)
    running.wait_for_exit("the scheduler")
    assert psutil.pid_exists(task)
    running.watch.check()
    assert running.printed == ["the scheduler was killed (signal 9): restarting it"]
    assert running.starts["the scheduler"] == 2
    assert not psutil.pid_exists(task) or psutil.Process(task).status() == psutil.STATUS_ZOMBIE
    running.watch.check()
    assert running.starts["the scheduler"] == 2


def test_the_fourth_exit_within_ten_minutes_is_the_last(running):
    running.add("the sandbox", "raise ValueError('no such port')")
    for _ in range(3):
        running.wait_for_exit("the sandbox")
        running.watch.check()
        running.clock.now += 100
    running.wait_for_exit("the sandbox")
    with pytest.raises(LocalError) as raised:
        running.watch.check()
    problem, log, what_to_do = str(raised.value).splitlines()
    assert problem == ("the sandbox exited with status 1, after 3 restarts within 10 minutes: ValueError: no such port")
    assert log.endswith("the sandbox.log")
    assert "run the same command again" in what_to_do
    running.clock.now = WINDOW_SECONDS + 1
    running.watch.check()  # the first exit no longer counts
    assert running.starts["the sandbox"] == 5


def test_a_stopped_server_is_restarted_first_and_blamed_for_what_exits_with_it(running, data):
    running.add("the dag-processor", CLIENT, postgres.start(data).conninfo("postgres"))
    running.wait_for_output("the dag-processor")
    os.kill(int((data / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
    running.wait_for_exit("the dag-processor")
    running.watch.check()
    assert [line.partition(" after 0.0")[0] for line in running.printed] == [
        "PostgreSQL was killed (signal 9): restarting it",
        "  PostgreSQL is back",
        "the dag-processor exited with status 1 after PostgreSQL stopped: restarting it",
    ]
    with psycopg.connect(postgres.start(data).conninfo("postgres")) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert len(running.watch._restarts["the dag-processor"]) == 0
    assert len(running.watch._restarts["PostgreSQL"]) == 1


def test_a_server_that_cannot_start_ends_it_with_the_servers_reason(running, data):
    postgres.stop(data)
    configuration = data / "postgresql.auto.conf"
    before = configuration.read_text()
    configuration.write_text("shared_buffers = 'a lot'\n")
    try:
        with pytest.raises(LocalError, match='PostgreSQL did not start: invalid value for parameter "shared_buffers"'):
            running.watch.check()
    finally:
        configuration.write_text(before)
        postgres.start(data)
    assert running.printed == ["PostgreSQL was shut down: restarting it"]


@pytest.mark.parametrize(
    ("log", "error"),
    [
        ("fine\nTraceback (most recent call last):\n  File x\nx.DatabaseError: gone\n\nbye\n", "x.DatabaseError: gone"),
        ("2026-01-01 [error    ] it broke [x] loc=1\nnothing more\n", "2026-01-01 [error    ] it broke [x] loc=1"),
        ("all is well\n", ""),
    ],
)
def test_the_last_error_of_a_log(tmp_path, log, error):
    (tmp_path / "x.log").write_text(log)
    assert last_error(tmp_path / "x.log") == error
    assert last_error(tmp_path / "none.log") == ""


def test_logs_are_rotated_and_removed_while_it_runs(running, tmp_path):
    running.watch.check()
    log, run = tmp_path / "dag-files" / "large.log", tmp_path / "tasks" / "dag_id=d" / "run_id=r"
    log.parent.mkdir()
    log.write_bytes(b"x" * (LOG_BYTES + 1))
    run.mkdir(parents=True)
    os.utime(run, (0, 0))
    running.watch.check()
    assert log.stat().st_size == LOG_BYTES + 1
    running.clock.now += 61
    running.watch.check()
    assert log.stat().st_size == 0
    assert old_log(log).stat().st_size == LOG_BYTES + 1
    assert run.exists()
    running.clock.now += 86_400
    running.watch.check()
    assert not run.exists()
