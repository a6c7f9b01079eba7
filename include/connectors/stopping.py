"""Stop work that runs in a thread of its own, without handing a flag through every call.

The thread that fetches pages ahead calls `watch` once; whatever runs in it then asks with `check` before it begins
something, and waits with `sleep`. In any other thread `check` does nothing and `sleep` is the usual one.
"""

from __future__ import annotations

import time
from contextvars import ContextVar
from threading import Event

_stop: ContextVar[Event | None] = ContextVar("stop", default=None)


class Stopped(Exception):
    """Nobody waits for the result any more. Not an error: it only ends the thread."""


def watch(stop: Event) -> None:
    """From here on, `stop` ends what runs in this thread."""
    _stop.set(stop)


def check() -> None:
    """Raise `Stopped` when the work of this thread is no longer wanted."""
    stop = _stop.get()
    if stop is not None and stop.is_set():
        raise Stopped


def sleep(seconds: float) -> None:
    """Sleep, but wake up and raise `Stopped` as soon as the work is no longer wanted."""
    stop = _stop.get()
    if stop is None:
        time.sleep(seconds)
    elif stop.wait(seconds):
        raise Stopped
