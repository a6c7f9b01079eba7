"""How often a service may be asked."""

from __future__ import annotations

import time
from collections.abc import Callable
from math import inf
from threading import Lock
from typing import Protocol

from include.errors import ConfigurationError


class RateLimiter(Protocol):
    """Hands out the moments at which requests may be sent. Safe to share between threads."""

    def acquire(self, longest: float = inf) -> float:
        """Take the next free moment, unless it is more than `longest` seconds away; returns the seconds until then."""
        ...

    def pause(self, seconds: float) -> None:
        """Hand out no moment in the next `seconds`: the service asked everybody to wait."""
        ...


class InProcessRateLimiter:
    """An even pace for one process: request after request, at least `1 / requests_per_second` apart."""

    def __init__(self, requests_per_second: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        if not requests_per_second > 0:
            raise ConfigurationError(f"requests_per_second is {requests_per_second}: it must be above 0")
        self._interval = 1 / requests_per_second
        self._clock = clock
        self._lock = Lock()
        self._free_at = clock()

    def acquire(self, longest: float = inf) -> float:
        """Take the next free moment, unless it is more than `longest` seconds away; returns the seconds until then."""
        with self._lock:
            now = self._clock()
            moment = max(now, self._free_at)
            if moment - now <= longest:
                self._free_at = moment + self._interval
        return moment - now

    def pause(self, seconds: float) -> None:
        """Hand out no moment in the next `seconds`."""
        with self._lock:
            self._free_at = max(self._free_at, self._clock() + seconds)
