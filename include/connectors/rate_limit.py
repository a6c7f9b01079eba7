"""How often a service may be called."""

from __future__ import annotations

import time
from collections.abc import Callable
from math import inf
from threading import Lock
from typing import Protocol

from include.errors import ConfigurationError


class RateLimiter(Protocol):
    """Assigns each request a time slot. Safe to share between threads."""

    def acquire(self, longest: float = inf) -> float:
        """Reserve the next free slot, unless it is more than `longest` seconds away; return the seconds until then."""
        ...

    def pause(self, seconds: float) -> None:
        """Assign no slot in the next `seconds`: the service asked all clients to wait."""
        ...


class InProcessRateLimiter:
    """Spaces the requests of one process at least `1 / requests_per_second` seconds apart."""

    def __init__(self, requests_per_second: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        if not requests_per_second > 0:
            raise ConfigurationError(f"requests_per_second is {requests_per_second}: it must be above 0")
        self._interval = 1 / requests_per_second
        self._clock = clock
        self._lock = Lock()
        self._free_at = clock()

    def acquire(self, longest: float = inf) -> float:
        """Reserve the next free slot, unless it is more than `longest` seconds away; return the seconds until then."""
        with self._lock:
            now = self._clock()
            slot = max(now, self._free_at)
            if slot - now <= longest:
                self._free_at = slot + self._interval
        return slot - now

    def pause(self, seconds: float) -> None:
        """Assign no slot in the next `seconds`."""
        with self._lock:
            self._free_at = max(self._free_at, self._clock() + seconds)
