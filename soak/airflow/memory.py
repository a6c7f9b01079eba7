"""The memory of Airflow's tasks, sampled while they run."""

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
    """The largest values so far, in MiB of RSS, which counts shared pages once per process."""

    largest: float = 0.0
    """The process of one task."""
    together: float = 0.0
    """All processes of tasks at the same time."""
    most_tasks: int = 0
    """The number of processes of tasks at the same time."""

    def sample(self, scheduler: psutil.Process) -> None:
        """Take a sample: the executor's workers are the scheduler's children, each task is a child of its worker."""
        tasks = [task.memory_info().rss / MIB for worker in scheduler.children() for task in worker.children()]
        self.largest = max([self.largest, *tasks])
        self.together = max(self.together, sum(tasks))
        self.most_tasks = max(self.most_tasks, len(tasks))


@contextmanager
def sampled(scheduler_pid: int) -> Iterator[Memory]:
    """Sample the scheduler's tasks while the block runs."""
    seen, is_over, scheduler = Memory(), threading.Event(), psutil.Process(scheduler_pid)

    def keep_sampling() -> None:
        while not is_over.wait(EVERY_SECONDS):
            with suppress(psutil.Error):  # a process that has ended meanwhile: the next sample comes soon
                seen.sample(scheduler)

    thread = threading.Thread(target=keep_sampling, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        is_over.set()
        thread.join()
