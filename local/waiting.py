"""Waiting for slow components: prints what it waits for, and gives up only after a long time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from local.checkout import LocalError

SAY_SECONDS = 15
LIMIT_SECONDS = 900
"""A machine ten times slower than usual needs a third of it to start."""


@dataclass
class Wait:
    """A wait. Call `still` in every iteration of the waiting loop."""

    what: str
    notify: Callable[[str], None]
    limit_seconds: float = LIMIT_SECONDS
    clock: Callable[[], float] = time.monotonic
    _begin: float = field(init=False)
    _printed: float = field(init=False)

    def __post_init__(self) -> None:
        self._begin = self._printed = self.clock()

    @property
    def seconds(self) -> float:
        """Seconds since the wait began."""
        return self.clock() - self._begin

    def still(self, state: str, limit_seconds: float | None = None) -> None:
        """Print the state every 15 s; raise `LocalError` once the limit has passed."""
        now = self.clock()
        if now - self._begin > (self.limit_seconds if limit_seconds is None else limit_seconds):
            raise LocalError(f"{self.what}: {state} for {now - self._begin:.0f} s")
        if now - self._printed >= SAY_SECONDS:
            self._printed = now
            self.notify(f"  waiting for {self.what}: {state} for {now - self._begin:.0f} s")
