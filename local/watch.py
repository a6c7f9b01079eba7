"""Restarts components that exit while the stack is running, PostgreSQL before those that depend on it."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from local import postgres, storage
from local.checkout import LocalError
from local.processes import Processes, Started, describe_exit, rotate_logs
from local.signals import Signals
from local.waiting import Wait

MAX_RESTARTS = 3
WINDOW_SECONDS = 600
AFTERMATH_SECONDS = 120
"""How long after an outage of PostgreSQL the exit of a component counts as its consequence."""
ROTATE_SECONDS = 60
REMOVE_SECONDS = 86_400
NEXT_STEP = "Then run the same command again: under `make up`, unfinished runs continue"


@dataclass
class Component:
    """A watched process."""

    started: Started
    start: Callable[[], Started]
    on_restart: Callable[[Started], None]
    """Called after each restart; may wait."""


class Watch:
    """Watches the embedded PostgreSQL and the processes that were added; `check` restarts those that have exited."""

    def __init__(
        self,
        data: Path,
        logs: Path,
        processes: Processes,
        *,
        task_logs: Path,
        notify: Callable[[str], None],
        signals: Signals,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Watch the server of the folder `data`, rotate the logs in `logs`, and remove old logs in `task_logs`."""
        self.data = data
        self.logs = logs
        self.task_logs = task_logs
        self.processes = processes
        self.components: dict[str, Component] = {}
        self._notify = notify
        self._signals = signals
        self._clock = clock
        self._restarts: dict[str, list[float]] = defaultdict(list)
        self._server_restarted = -float("inf")
        self._rotated = clock()
        self._removed = -float("inf")

    def add(
        self, name: str, start: Callable[[], Started], on_restart: Callable[[Started], None] = lambda _: None
    ) -> Started:
        """Start a process and watch it; `on_restart` is called after each restart."""
        component = self.components[name] = Component(start(), start, on_restart)
        return component.started

    def check(self) -> None:
        """Restart what has exited; raise `LocalError` with the cause if that happens too often."""
        self._tidy()
        if not postgres.is_running(self.data):
            self._restart_server()
        for name, component in self.components.items():
            status = self.processes.exit_status(component.started)
            if status is not None:
                self._restart(name, component, describe_exit(status))

    def _tidy(self) -> None:
        now = self._clock()
        if now - self._rotated > ROTATE_SECONDS:
            self._rotated = now
            rotate_logs([*self.logs.rglob("*.log"), self.data / "log"])
        if now - self._removed > REMOVE_SECONDS:
            self._removed = now
            storage.remove_old_logs(self.task_logs, self.logs / "dag-files")

    def _restart_server(self) -> None:
        ended = postgres.how_it_ended(self.data)
        self._count("PostgreSQL", ended, postgres.last_error(self.data), self.data / "log")
        self._notify(f"PostgreSQL {ended}: restarting it")
        begin = self._clock()
        start_postgres(self.data, self._notify, self._signals)
        self._server_restarted = self._clock()
        self._notify(f"  PostgreSQL is back after {self._clock() - begin:.1f} s")

    def _restart(self, name: str, component: Component, ended: str) -> None:
        log = Path(component.started.log)
        why = ""
        if self._clock() - self._server_restarted < AFTERMATH_SECONDS:
            why = " after PostgreSQL stopped"
        else:
            self._count(name, ended, last_error(log), log)
        self._notify(f"{name} {ended}{why}: restarting it")
        with self._signals.hold():
            # Its children must not run next to its successor, since a new scheduler reruns the tasks of a killed one.
            self.processes.stop(component.started, 0)
            component.started = component.start()
        component.on_restart(component.started)

    def _count(self, name: str, ended: str, reason: str, log: Path) -> None:
        storage.check_room(self.data.parent)
        now = self._clock()
        times = self._restarts[name] = [each for each in self._restarts[name] if now - each < WINDOW_SECONDS]
        if len(times) >= MAX_RESTARTS:
            if "signal 9" in ended:
                reason = "it was killed from outside, often by the system when memory runs out"
            raise LocalError(
                f"{name} {ended}, after {len(times)} restarts within {WINDOW_SECONDS // 60} minutes"
                f"{': ' + reason if reason else ''}\n  log: {log}\n  {NEXT_STEP}"
            )
        times.append(now)


def start_postgres(data: Path, notify: Callable[[str], None], signals: Signals) -> postgres.Server:
    """Start the embedded server and wait until it is ready. A signal interrupts the wait, not the start."""
    wait = Wait("PostgreSQL", notify)

    def waiting(_: float) -> None:
        signals.raise_pending()
        wait.still("not accepting connections")

    with signals.hold():
        return postgres.start(data, waiting=waiting)


def last_error(log: Path) -> str:
    """Return the last line of a component's log that looks like an error; empty if there is none."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return ""
    for line in reversed(lines):
        if re.match(r"([\w.]+\.)?\w*(Error|Exception|Exit|Interrupt)\b", line) or "[error " in line:
            return line.strip()
    return ""
