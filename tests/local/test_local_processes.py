"""Real processes, real signals: a process is stopped with all its descendants."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from local.processes import Processes, Started, describe_exit, old_log, rotate_logs

FOREVER = "import time; time.sleep(300)"
# A child in a process group of its own, like Airflow's tasks; it prints its pid and outlives its parent.
ORPHAN = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {FOREVER!r}], process_group=0)
print(child.pid, flush=True)
"""
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(300)"
POLITE = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (print("bye", flush=True), sys.exit(0)))
print("ready", flush=True)
time.sleep(300)
"""


@pytest.fixture
def processes(tmp_path):
    found = Processes(tmp_path / "processes.json")
    yield found
    found.stop_all(0)


def start(processes: Processes, tmp_path: Path, code: str, name: str = "one") -> Started:
    return processes.start(
        name, [sys.executable, "-c", code], env=os.environ, cwd=tmp_path, log=tmp_path / f"{name}.log"
    )


def wait_for(condition, seconds: float = 20):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.02)
    return found


def printed(started: Started) -> list[str]:
    return Path(started.log).read_text().split()


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_process_is_asked_first(processes, tmp_path):
    started = start(processes, tmp_path, POLITE)
    wait_for(lambda: printed(started))
    assert processes.stop(started, 10)
    assert printed(started) == ["ready", "bye"]
    assert is_gone(started.pid)
    assert processes.started == []


def test_a_deaf_process_is_killed_in_time(processes, tmp_path):
    started = start(processes, tmp_path, DEAF)
    wait_for(lambda: printed(started))
    begin = time.monotonic()
    assert not processes.stop(started, 0.3)
    assert time.monotonic() - begin < 60
    assert is_gone(started.pid)


def test_orphans_of_another_process_group_are_ended_too(processes, tmp_path):
    started = start(processes, tmp_path, ORPHAN)
    (orphan,) = map(int, wait_for(lambda: printed(started)))
    wait_for(lambda: not started.is_running())
    assert not is_gone(orphan)
    processes.stop(started, 1)
    assert is_gone(orphan)


def test_a_child_that_left_the_session_is_ended_with_its_parent(processes, tmp_path):
    code = ORPHAN.replace("process_group=0", "start_new_session=True") + "\nchild.wait()"
    started = start(processes, tmp_path, code)
    (child,) = map(int, wait_for(lambda: printed(started)))
    processes.stop(started, 1)
    assert is_gone(child)


def test_what_a_killed_run_left_is_ended_by_the_next(tmp_path):
    code = f"""
import os, sys, time
from pathlib import Path
from local.processes import Processes
processes = Processes(Path("processes.json"))
for name in ("a", "b"):
    processes.start(name, [sys.executable, "-c", {FOREVER!r}], env=os.environ, cwd=Path(), log=Path(name + ".log"))
print(*(started.pid for started in processes.started), flush=True)
time.sleep(300)
"""
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=env, stdout=subprocess.PIPE) as killed:
        pids = [int(pid) for pid in killed.stdout.readline().split()]
        killed.send_signal(signal.SIGKILL)
    assert not any(map(is_gone, pids))
    assert Processes(tmp_path / "processes.json").end_leftovers() == ["a", "b"]
    assert all(map(is_gone, pids))
    assert Processes(tmp_path / "processes.json").end_leftovers() == []


def test_a_stranger_with_a_recycled_id_is_left_alone(tmp_path):
    with subprocess.Popen([sys.executable, "-c", FOREVER], start_new_session=True) as stranger:
        try:
            ours = Started("gone", stranger.pid, psutil.Process(stranger.pid).create_time() - 3600, "log")
            assert ours.family() == []
            assert not ours.is_running()
        finally:
            stranger.kill()


def test_a_broken_ledger_is_no_obstacle(tmp_path):
    (tmp_path / "processes.json").write_text('[{"pid": 1')
    assert Processes(tmp_path / "processes.json").end_leftovers() == []


def test_a_log_is_moved_away_when_it_is_large_while_its_process_appends_to_it(processes, tmp_path):
    code = "import os, time\nprint('x' * 999, flush=True)\nwhile not os.path.exists('rotated'): time.sleep(0.05)\n"
    started = start(processes, tmp_path, code + "print('later', flush=True)")
    log = Path(started.log)
    wait_for(lambda: log.stat().st_size == 1000)
    rotate_logs([log, tmp_path / "none.log"], 1000)
    assert not old_log(log).exists()
    rotate_logs([log], 999)
    assert old_log(log).stat().st_size == 1000
    (tmp_path / "rotated").touch()
    wait_for(lambda: log.read_bytes() == b"later\n")


def test_the_log_before_is_kept_when_a_process_is_started_again(processes, tmp_path):
    for number in (1, 2, 3):
        started = start(processes, tmp_path, f"print({number})")
        wait_for(lambda started=started: processes.exit_status(started) == 0)
    assert (tmp_path / "one.log").read_text() == "3\n"
    assert (tmp_path / "one.log.old").read_text() == "2\n"


@pytest.mark.parametrize(
    ("code", "description"),
    [
        ("raise SystemExit(3)", "exited with status 3"),
        ("import os; os.kill(os.getpid(), 9)", "was killed (signal 9)"),
        ("", "exited with status 0"),
    ],
)
def test_an_exit_is_described(processes, tmp_path, code, description):
    started = start(processes, tmp_path, code)
    wait_for(lambda: not started.is_running())
    assert describe_exit(processes.finish(started)) == description
    assert processes.started == []
