"""The harness of the kill tests: SIGKILL at random moments, until nothing is left to do; then everything must be right.

A module with a kill test runs its `work` in a process of its own, through `worker`.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from bench import database
from bench.database import Database
from bench.measuring import WrongResult

ROOT = Path(__file__).parents[1]
READY = "ready"


@dataclass(frozen=True)
class Ended:
    """How a process ended: by a kill or by itself, after how many seconds, and what it printed and logged."""

    was_killed: bool
    seconds: float
    output: str
    log: str


class KillTest(ABC):
    """Kills the process of an engine over and over, lets the last one finish, and checks what all of them left."""

    module: ClassVar[str]
    """Its process is `python -m <module> <arguments>`."""
    unit: ClassVar[str]
    usual_size: ClassVar[int]

    def __init__(self, database: Database, service: Any, size: int, seed: int) -> None:
        self.database = database
        self.service = service
        self.size = size
        self.random = random.Random(seed)
        self.killed = 0

    @classmethod
    @abstractmethod
    def serving(cls, size: int) -> AbstractContextManager[Any]:
        """Start the service that the process talks to."""

    @abstractmethod
    def begin(self) -> None:
        """Prepare the database and the service."""

    @abstractmethod
    def step(self) -> str:
        """Kill one process or a few; returns what happened."""

    @abstractmethod
    def finish(self) -> str:
        """Let the last process finish, and check everything; returns a summary."""

    def run(self, count: int) -> None:
        """Kill this many processes."""
        self.begin()
        while self.killed < count:
            print(f"{self.killed:>4} {self.step()}", flush=True)
        print(self.finish(), flush=True)

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        """Start a process; returns when it has its connections and is about to begin its work."""
        command = [sys.executable, "-m", self.module, *map(str, arguments)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if process.stdout is None or process.stdout.readline() != f"{READY}\n":
            raise RuntimeError(f"the process did not start: {process.communicate()[1]}")
        return process

    def kill(self, max_seconds: float, *arguments: object) -> Ended:
        """Start a process and kill it at a random moment."""
        seconds = self.random.uniform(0, max_seconds)
        process = self.start(*arguments)
        self.wait(seconds)
        process.send_signal(signal.SIGKILL)
        output, log = process.communicate()
        if process.returncode not in (0, -signal.SIGKILL):
            raise WrongResult(f"a process failed with {process.returncode}: {log[-2000:]}")
        self.killed += process.returncode != 0
        return Ended(process.returncode != 0, seconds, output, log)

    def wait(self, seconds: float) -> None:
        """Wait for the moment of the kill."""
        time.sleep(seconds)

    def let_finish(self, *arguments: object) -> Ended:
        """Run a process to its end."""
        process = self.start(*arguments)
        began = time.perf_counter()
        output, log = process.communicate()
        if process.returncode:
            raise WrongResult(f"a process failed with {process.returncode}: {log[-2000:]}")
        return Ended(False, time.perf_counter() - began, output, log)


def run(kind: type[KillTest], count: int, seed: int | None = None) -> bool:
    """Run a kill test on a PostgreSQL of its own; returns whether everything is right. Without a seed, one is drawn."""
    seed = random.SystemRandom().randrange(10**6) if seed is None else seed
    print(f"seed {seed}, {kind.usual_size:,} {kind.unit}")
    with (
        tempfile.TemporaryDirectory(prefix="provider-sync-soak-") as folder,
        database.running(Path(folder)) as running,
        kind.serving(kind.usual_size) as service,
    ):
        try:
            kind(running, service, kind.usual_size, seed).run(count)
        except WrongResult as wrong:
            print(f"WRONG: {wrong}", flush=True)
            return False
    return True


def worker(work: Callable[..., object]) -> None:
    """Call `work` with the arguments of the command line. It calls `ready` when it is about to begin."""
    work(*sys.argv[1:])


def ready() -> None:
    """Report that the work is about to begin: from here on the process can be killed."""
    print(READY, flush=True)
