"""A listing as one iterator of records, which prefetches the next page while the current one is processed."""

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
"""Pages prefetched: one is ready while the next is being requested."""
SWITCH_INTERVAL = 0.0005
"""Longest time in seconds before Python switches threads, in a process that reads a stream.

With Python's default of 5 ms, the fetching thread waits that long after each read from its socket while the other
thread computes: 200 pages with 3 ms of work each took 1.3 s, and 0.75 s with this value.
"""


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """The records of one response. `requested_at` is the time just before the request, with its time zone."""

    records: Sequence[T | Rejected]
    requested_at: datetime
    number: int


class RecordStream(Iterator[T]):
    """The good records of `pages`, in order.

    A bad record raises `RejectRecord` in its place, and the next call continues after it. Any other error that `pages`
    raises is raised after the records fetched before it, and again on every further call: a listing that broke off
    never looks like one that ended.

    `pages` runs in its own thread, from the first call on and at most `AHEAD` pages ahead, and is closed there. `close`
    returns at once: a request in flight finishes by itself, and no other follows.
    """

    requested_at: datetime
    """Time at which the page of the current record was requested; set once the first page has arrived."""
    page_number: int
    waited: float
    """Seconds that the consumer spent waiting for pages."""

    def __init__(self, pages: Iterator[Page[T]]) -> None:
        self.page_number = 0
        self.waited = 0.0
        self._pages = pages
        self._rows: Iterator[T | Rejected] = iter(())
        self._ready: SimpleQueue[Page[T] | BaseException] = SimpleQueue()
        self._free = Semaphore(AHEAD)
        self._stop = Event()
        self._thread: Thread | None = None
        self._end: BaseException | None = None

    def __next__(self) -> T:
        for record in self._rows:
            if type(record) is Rejected:
                raise RejectRecord(record.reason, payload=record.raw, page=self.page_number)
            return record  # type: ignore[return-value]  # mypy does not narrow on type()
        return self._next_of_next_page()

    def _next_of_next_page(self) -> T:
        while True:
            if self._end is not None:
                raise self._end
            if self._thread is None:
                self._start()
            began = time.perf_counter()
            arrived = self._ready.get()
            self.waited += time.perf_counter() - began
            if isinstance(arrived, BaseException):  # how the listing ended, or why it broke off
                self._end = arrived
                del arrived  # a frame that refers to the error it raises would keep itself and the listing alive
                continue
            self._free.release()
            self.requested_at = arrived.requested_at
            self.page_number = arrived.number
            self._rows = iter(arrived.records)
            if arrived.records:
                return self.__next__()

    def _start(self) -> None:
        sys.setswitchinterval(min(SWITCH_INTERVAL, sys.getswitchinterval()))
        context = contextvars.copy_context()
        work = (_fetch, self._pages, self._ready, self._free, self._stop)
        self._thread = Thread(target=context.run, args=work, name="fetch pages", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop reading. Returns at once, whatever the fetching thread is doing."""
        self._stop.set()
        self._free.release()
        self._rows = iter(())
        self._end = ValueError("the stream of records is closed")
        self._ready.put(self._end)

    def __del__(self) -> None:
        if hasattr(self, "_end"):
            self.close()


def _fetch(pages: Iterator[Page[T]], ready: SimpleQueue[Page[T] | BaseException], free: Semaphore, stop: Event) -> None:
    """Queue page after page as slots become free, and finally the exception that ended the listing."""
    cancellation.bind(stop)
    try:
        while True:
            free.acquire()
            cancellation.raise_if_cancelled()
            ready.put(next(pages))
    except cancellation.Cancelled:
        pass
    except BaseException as end:  # StopIteration too: the consumer raises it
        ready.put(end)
    finally:
        if close := getattr(pages, "close", None):
            close()
