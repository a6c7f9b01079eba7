"""A listing as one iterator of records, with the next page fetched while the current one is worked on."""

from __future__ import annotations

import contextvars
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from queue import SimpleQueue
from threading import Event, Semaphore, Thread
from typing import Generic, TypeVar

from include.connectors import cancellation
from include.connectors.decoding import Rejected
from include.errors import RejectRecord

T = TypeVar("T")

AHEAD = 2
"""Pages fetched ahead: one is ready while the next is asked for."""
SWITCH_INTERVAL = 0.0005
"""Seconds after which Python lets another thread have a turn, at most, in a process that reads a stream.

With Python's usual 5 ms a thread that fetches waits that long after each read from the socket while the other side
computes: 200 pages with 3 ms of work each took 1.3 s, and 0.75 s with this.
"""


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """The records of one answer. `asked_at` is the time just before the request, with its time zone."""

    records: Sequence[T | Rejected]
    asked_at: datetime
    number: int


class RecordStream(Iterator[T]):
    """The good records of `pages`, one after the other.

    A bad record raises `RejectRecord` in its place, and the next call goes on after it. Any other error that `pages`
    raises is raised after the records fetched before it, and again at each further call: a listing that broke off
    never looks like one that ended.

    `pages` runs in a thread of its own, from the first call on and never more than `AHEAD` pages ahead; it is closed
    there. `close` returns at once: a request that is under way ends by itself, and no other follows.
    """

    asked_at: datetime
    """When the page of the current record was asked for; there once the first page is."""
    page_number: int
    waited: float
    """Seconds that this side spent waiting for pages."""

    def __init__(self, pages: Iterator[Page[T]]) -> None:
        self.page_number = 0
        self.waited = 0.0
        self._pages = pages
        self._rows: Iterator[T | Rejected] = iter(())
        self._ready: SimpleQueue[Page[T] | BaseException] = SimpleQueue()
        self._wanted = Semaphore(AHEAD)
        self._stop = Event()
        self._thread: Thread | None = None
        self._outcome: BaseException | None = None

    def __next__(self) -> T:
        for record in self._rows:
            if type(record) is Rejected:
                raise RejectRecord(record.reason, payload=record.raw, page=self.page_number)
            return record  # type: ignore[return-value]  # mypy does not narrow on type()
        return self._next_of_next_page()

    def _next_of_next_page(self) -> T:
        while True:
            if self._outcome is not None:
                raise self._outcome
            if self._thread is None:
                self._start()
            began = time.perf_counter()
            arrived = self._ready.get()
            self.waited += time.perf_counter() - began
            if isinstance(arrived, BaseException):
                self._outcome = arrived
                del arrived  # a frame that holds the error it raises keeps itself, and the whole listing, alive
                continue
            self._wanted.release()
            self.asked_at = arrived.asked_at
            self.page_number = arrived.number
            self._rows = iter(arrived.records)
            if arrived.records:
                return self.__next__()

    def _start(self) -> None:
        sys.setswitchinterval(min(SWITCH_INTERVAL, sys.getswitchinterval()))
        context = contextvars.copy_context()
        work = (_fetch, self._pages, self._ready, self._wanted, self._stop)
        self._thread = Thread(target=context.run, args=work, name="fetch pages", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Read no further. Returns at once, whatever the other side is doing."""
        self._stop.set()
        self._wanted.release()
        self._rows = iter(())
        self._outcome = ValueError("the stream of records is closed")
        self._ready.put(self._outcome)

    def __del__(self) -> None:
        if hasattr(self, "_outcome"):
            self.close()


def _fetch(
    pages: Iterator[Page[T]], ready: SimpleQueue[Page[T] | BaseException], wanted: Semaphore, stop: Event
) -> None:
    """Put page after page, each as soon as the one before it was taken; last, what ended the listing."""
    cancellation.bind(stop)
    try:
        while True:
            wanted.acquire()
            cancellation.raise_if_cancelled()
            ready.put(next(pages))
    except cancellation.Cancelled:
        pass
    except BaseException as outcome:  # StopIteration too: the consumer raises it
        ready.put(outcome)
    finally:
        if close := getattr(pages, "close", None):
            close()
