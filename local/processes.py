"""Child processes that never outlive the local run: each has its own session and is stopped with its descendants.

Airflow's tasks change their process group but keep the session, so the session finds them even after their parent has
ended. The running processes are also recorded on disk, so that a later command can stop what a killed one left behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from local.checkout import write_private

LOG_BYTES = 5_000_000
"""Size above which a log is moved to `<name>.old`, replacing the previous one."""
CLOCK_SLACK = 2.0
"""Seconds by which a child may seem older than its parent: start times have the resolution of kernel ticks."""


@dataclass(frozen=True)
class Started:
    """A process that we started. Its pid is also its session id."""

    name: str
    pid: int
    created: float
    log: str

    def is_running(self) -> bool:
        """Return True until the process itself has ended; its descendants may still run."""
        process = _process(self.pid)
        return process is not None and self._is_ours(process) and _is_alive(process)

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return bool(abs(process.create_time() - self.created) < CLOCK_SLACK)
        except psutil.NoSuchProcess:
            return False

    def family(self) -> list[psutil.Process]:
        """Return the running processes of its session, and their descendants in other sessions."""
        leader = _process(self.pid)
        if leader is not None and not self._is_ours(leader):
            return []
        found: dict[int, psutil.Process] = {}
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, ProcessLookupError, PermissionError):
                if os.getsid(process.pid) == self.pid and process.create_time() >= self.created - CLOCK_SLACK:
                    found[process.pid] = process
                    found |= {child.pid: child for child in process.children(recursive=True)}
        return [process for process in found.values() if _is_alive(process)]


class Processes:
    """The processes of a local run, in the order in which they were started."""

    def __init__(self, ledger: Path) -> None:
        self.ledger = ledger
        self.started: list[Started] = []
        self._children: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: Path) -> Started:
        """Start a command in its own session, with its output in `log`. A previous log is renamed to `.old`."""
        log.parent.mkdir(parents=True, exist_ok=True)
        if log.exists() and log.stat().st_size:
            log.replace(old_log(log))
        with log.open("ab") as output:  # append mode: rotation truncates the file while the process writes to it
            child = subprocess.Popen(
                command,
                env=dict(env),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._children[child.pid] = child
        try:
            created = psutil.Process(child.pid).create_time()
        except psutil.NoSuchProcess:
            created = time.time()
        started = Started(name, child.pid, created, str(log))
        self.started.append(started)
        self._save()
        return started

    def finish(self, started: Started) -> int | None:
        """Return the exit status of a command that ends by itself, and forget it; None while it runs."""
        status = self.exit_status(started)
        if status is not None:
            self._forget(started)
        return status

    def exit_status(self, started: Started) -> int | None:
        """Return the exit status; None while the process runs."""
        return self._children[started.pid].poll()

    def stop(self, started: Started, timeout: float) -> bool:
        """Stop a process and its family, see `end_family`. Return False if the process had to be killed."""
        clean = end_family(started, timeout)
        if child := self._children.pop(started.pid, None):
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(1)
        self._forget(started)
        return clean

    def stop_all(self, timeout: float) -> None:
        """Stop all remaining processes, newest first."""
        for started in reversed(self.started.copy()):
            self.stop(started, timeout)

    def end_leftovers(self, timeout: float = 5) -> list[str]:
        """Stop the processes that a killed command left behind; return their names."""
        try:
            old = [Started(**entry) for entry in json.loads(self.ledger.read_text(encoding="utf-8"))]
        except (FileNotFoundError, json.JSONDecodeError, TypeError):
            old = []
        found = [started for started in old if started.family()]
        for started in found:
            with contextlib.suppress(ProcessLookupError):
                if started.is_running():
                    os.kill(started.pid, signal.SIGTERM)
        for started in found:
            end_family(started, timeout)
        self.ledger.unlink(missing_ok=True)
        return [started.name for started in found]

    def _forget(self, started: Started) -> None:
        self.started = [other for other in self.started if other != started]
        with contextlib.suppress(OSError):  # a full disk must not prevent the shutdown
            self._save()

    def _save(self) -> None:
        write_private(self.ledger, json.dumps([asdict(started) for started in self.started]))


def old_log(log: Path) -> Path:
    """Return the path of a log's older part."""
    return log.with_name(f"{log.name}.old")


def rotate_logs(logs: Iterable[Path], limit_bytes: int = LOG_BYTES) -> None:
    """Move the content of each log above the limit to its `.old` file, while its process keeps appending."""
    for log in logs:
        with contextlib.suppress(OSError):  # missing or not writable now: retried at the next rotation
            if log.stat().st_size > limit_bytes:
                shutil.copyfile(log, old_log(log))
                os.truncate(log, 0)


def end_family(started: Started, timeout: float) -> bool:
    """Send TERM, wait up to `timeout` seconds, then KILL the rest of its session and its descendants."""
    family = {process.pid: process for process in started.family()}
    if started.is_running():
        with contextlib.suppress(ProcessLookupError):
            os.kill(started.pid, signal.SIGTERM)
        deadline = time.monotonic() + timeout
        while started.is_running() and time.monotonic() < deadline:
            time.sleep(0.05)
    clean = not started.is_running()
    for _ in range(20):  # a process may start another one before it is killed
        family |= {process.pid: process for process in started.family()}
        alive = [process for process in family.values() if _is_alive(process)]
        if not alive:
            break
        for process in alive:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(alive, timeout=0.5)
    return clean


def _process(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except psutil.NoSuchProcess:
        return None


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def describe_exit(status: int) -> str:
    """Return how a process ended, as a verb phrase: `exited with status 1`, `was killed (signal 9)`."""
    if status < 0:
        return f"was killed (signal {-status})"
    return f"exited with status {status}"
