"""One command per checkout, also after a kill."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from local.lock import Busy, CheckoutLock

ROOT = Path(__file__).parents[2]
HOLDER = """
import sys, time
from pathlib import Path
from local.lock import CheckoutLock
lock = CheckoutLock(Path(sys.argv[1]))
lock.acquire("up")
lock.publish(url="http://127.0.0.1:8080")
print("locked", flush=True)
time.sleep(300)
"""


def test_a_second_command_is_refused_and_learns_who_runs(tmp_path):
    path = tmp_path / "state" / "lock"
    with subprocess.Popen([sys.executable, "-c", HOLDER, path], cwd=ROOT, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"locked\n"
        with pytest.raises(Busy, match=rf"`make up` is already running in .* \(process {holder.pid}\)") as busy:
            CheckoutLock(path).acquire("run")
        assert busy.value.holder["url"] == "http://127.0.0.1:8080"
        holder.send_signal(signal.SIGKILL)
    lock = CheckoutLock(path)
    assert "url" in path.read_text()
    assert lock.holder() == {}  # no owner, whatever the file says
    lock.acquire("run")  # released by the kernel
    assert "url" not in lock.holder()
    lock.release()


def test_a_child_that_outlives_the_owner_does_not_keep_the_lock(tmp_path):
    child = "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)'], close_fds=False)\n"
    code = "import subprocess\n" + HOLDER.replace('print("locked"', child + "time.sleep(0.2)\nprint(child.pid")
    with subprocess.Popen([sys.executable, "-c", code, tmp_path / "lock"], cwd=ROOT, stdout=subprocess.PIPE) as holder:
        orphan = int(holder.stdout.readline())
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        try:
            CheckoutLock(tmp_path / "lock").acquire("run")
        finally:
            os.kill(orphan, signal.SIGKILL)


def test_published_facts_can_become_shorter(tmp_path):
    lock = CheckoutLock(tmp_path / "lock")
    lock.acquire("up")
    lock.publish(url="x" * 100)
    lock.publish(url="y")
    assert lock.holder()["url"] == "y"
    lock.release()
    assert lock.holder() == {}
