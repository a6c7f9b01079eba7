"""Cancel work that runs in its own thread, without passing a flag through every call.

The thread that prefetches pages calls `bind` once. Code in that thread then calls `raise_if_cancelled` before each step
and waits with `sleep`. In any other thread, `raise_if_cancelled` does nothing and `sleep` is `time.sleep`.
"""

from __future__ import annotations

import time
from contextvars import ContextVar
from threading import Event

_stop: ContextVar[Event | None] = ContextVar("stop", default=None)


class Cancelled(Exception):
    """Nobody needs the result any more. Not an error: it only ends the thread."""


def bind(stop: Event) -> None:
    """Let the event `stop` cancel the rest of what this thread does."""
    _stop.set(stop)


def raise_if_cancelled() -> None:
    """Raise `Cancelled` if the work of this thread was cancelled."""
    stop = _stop.get()
    if stop is not None and stop.is_set():
        raise Cancelled


def sleep(seconds: float) -> None:
    """Sleep, but wake up and raise `Cancelled` as soon as the work is cancelled."""
    stop = _stop.get()
    if stop is None:
        time.sleep(seconds)
    elif stop.wait(seconds):
        raise Cancelled
