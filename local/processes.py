"""Starting processes that outlive nobody: each in a session of its own, ended with all that it started.

The scheduler's tasks change their process group but keep the session, so the session finds them even after the process
that started them is gone. What is running is also kept on disk: a later command ends what a killed one left behind.
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
"""From which size on a log is moved to `<name>.old`, which replaces the one before."""
CLOCK_SLACK = 2.0
"""Seconds by which a process may seem older than the one that started it: the kernel counts in ticks since boot."""


@dataclass(frozen=True)
class Started:
    """A process we started. Its id is also the id of its session."""

    name: str
    pid: int
    created: float
    log: str

    def is_running(self) -> bool:
        """True until the process itself has ended; what it started may still be there."""
        process = _process(self.pid)
        return process is not None and self._is_ours(process) and _is_alive(process)

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return bool(abs(process.create_time() - self.created) < CLOCK_SLACK)
        except psutil.NoSuchProcess:
            return False

    def family(self) -> list[psutil.Process]:
        """The living processes of its session, and what they started elsewhere."""
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
    """The processes of one local run, in the order they were started."""

    def __init__(self, ledger: Path) -> None:
        self.ledger = ledger
        self.started: list[Started] = []
        self._children: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: Path) -> Started:
        """Start a command in a session of its own; what it prints goes to `log`. The log before is kept as `.old`."""
        log.parent.mkdir(parents=True, exist_ok=True)
        if log.exists() and log.stat().st_size:
            log.replace(old_log(log))
        with log.open("ab") as output:  # appending: the file may be emptied while the process writes to it
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
        """The exit status of a command that ends by itself; None while it runs."""
        status = self.exit_status(started)
        if status is not None:
            self._forget(started)
        return status

    def exit_status(self, started: Started) -> int | None:
        """The exit status if the process has ended."""
        return self._children[started.pid].poll()

    def stop(self, started: Started, timeout: float) -> bool:
        """Ask the process to end, then end all of its family. False if some of it had to be killed."""
        clean = end_family(started, timeout)
        if child := self._children.pop(started.pid, None):
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(1)
        self._forget(started)
        return clean

    def stop_all(self, timeout: float) -> None:
        """End whatever is left, the newest first."""
        for started in reversed(self.started.copy()):
            self.stop(started, timeout)

    def end_leftovers(self, timeout: float = 5) -> list[str]:
        """End what an earlier, killed run left behind; returns the names of what was found."""
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
        with contextlib.suppress(OSError):  # a full disk does not keep the rest from being ended
            self._save()

    def _save(self) -> None:
        write_private(self.ledger, json.dumps([asdict(started) for started in self.started]))


def old_log(log: Path) -> Path:
    """Where the older part of a log is kept."""
    return log.with_name(f"{log.name}.old")


def rotate_logs(logs: Iterable[Path], limit_bytes: int = LOG_BYTES) -> None:
    """Move the content of each log that has outgrown the limit to its `.old` file, while its process appends to it."""
    for log in logs:
        with contextlib.suppress(OSError):  # what is gone or cannot be written now is seen to the next time
            if log.stat().st_size > limit_bytes:
                shutil.copyfile(log, old_log(log))
                os.truncate(log, 0)


def end_family(started: Started, timeout: float) -> bool:
    """TERM to the process, a bounded wait, then KILL to what is left of its session and its descendants."""
    family = {process.pid: process for process in started.family()}
    if started.is_running():
        with contextlib.suppress(ProcessLookupError):
            os.kill(started.pid, signal.SIGTERM)
        deadline = time.monotonic() + timeout
        while started.is_running() and time.monotonic() < deadline:
            time.sleep(0.05)
    clean = not started.is_running()
    for _ in range(20):  # what is killed may have started something in between
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


def describe_exit(status: int | None) -> str:
    """How a process ended, as a verb phrase: `exited with status 1`, `was killed (signal 9)`."""
    if status is None:
        return "ended"
    if status < 0:
        return f"was killed (signal {-status})"
    return f"exited with status {status}"
