"""Waiting for what is alive but slow: says what it waits for, and gives up late."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from local.checkout import LocalError

SAY_SECONDS = 15
LIMIT_SECONDS = 900
"""A machine ten times slower than usual starts within a third of it."""


@dataclass
class Wait:
    """One wait; call `still` in every round of its loop."""

    what: str
    say: Callable[[str], None]
    limit_seconds: float = LIMIT_SECONDS
    clock: Callable[[], float] = time.monotonic
    _begin: float = field(init=False)
    _said: float = field(init=False)

    def __post_init__(self) -> None:
        self._begin = self._said = self.clock()

    @property
    def seconds(self) -> float:
        """How long this has taken so far."""
        return self.clock() - self._begin

    def still(self, state: str, limit_seconds: float | None = None) -> None:
        """Say every 15 s what is being waited for; raise `LocalError` once the limit has passed."""
        now = self.clock()
        if now - self._begin > (self.limit_seconds if limit_seconds is None else limit_seconds):
            raise LocalError(f"{self.what}: {state} for {now - self._begin:.0f} s")
        if now - self._said >= SAY_SECONDS:
            self._said = now
            self.say(f"  waiting for {self.what}: {state} for {now - self._begin:.0f} s")
