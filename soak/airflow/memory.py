"""How much memory Airflow's tasks take, sampled while they run."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psutil  # type: ignore[import-untyped]

EVERY_SECONDS = 0.5
MIB = 2**20


@dataclass
class Memory:
    """The largest figures seen so far, in MiB: RSS, in which pages count again in each process that shares them."""

    largest: float = 0.0
    """Of one task's process."""
    together: float = 0.0
    """Of all processes of tasks at once."""
    workers: float = 0.0
    """Of all the executor's processes at once, those of tasks included."""
    most_tasks: int = 0
    """Processes of tasks at once."""

    def see(self, scheduler: psutil.Process) -> None:
        """Look once: the executor's workers are the scheduler's children, and each task is a child of its worker."""
        workers = [_rss(one) for one in scheduler.children()]
        tasks = [_rss(task) for one in scheduler.children() for task in _children(one)]
        self.largest = max([self.largest, *tasks])
        self.together = max(self.together, sum(tasks))
        self.workers = max(self.workers, sum(workers) + sum(tasks))
        self.most_tasks = max(self.most_tasks, len(tasks))


@contextmanager
def sampled(scheduler_pid: int) -> Iterator[Memory]:
    """Look at the scheduler's tasks while the block runs."""
    seen, is_over, scheduler = Memory(), threading.Event(), psutil.Process(scheduler_pid)

    def look() -> None:
        while not is_over.wait(EVERY_SECONDS):
            with suppress(psutil.Error):
                seen.see(scheduler)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        is_over.set()
        thread.join()


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children())
    except psutil.Error:
        return []


def _rss(process: psutil.Process) -> float:
    try:
        return float(process.memory_info().rss) / MIB
    except psutil.Error:
        return 0.0
