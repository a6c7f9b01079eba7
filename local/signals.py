"""Orderly shutdown on Ctrl-C and TERM: the first signal stops the command, a second one shortens the waits."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from types import FrameType


class Interrupted(BaseException):
    """A signal asked the command to stop. Not an `Exception`, so that no handler swallows it."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.status = 128 + signum


class Signals:
    """Raises `Interrupted` in the main thread, except during operations that must not be interrupted."""

    def __init__(self) -> None:
        self.hold_depth = 0
        self.pending: int | None = None
        self.hurry = False
        self.closing = False
        self._closing_since = 0.0

    def install(self) -> None:
        """Handle Ctrl-C, TERM and the hang-up of the terminal."""
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(signum, self.receive)

    def receive(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002 - signature of a handler
        """Raise `Interrupted` now, or after the current `hold`; during shutdown, shorten the waits instead."""
        if self.closing:
            self.hurry = True
        elif self.hold_depth:
            self.pending = signum
        else:
            self.pending = None
            raise Interrupted(signum)

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Delay `Interrupted` until the end of the block."""
        self.hold_depth += 1
        try:
            yield
        finally:
            self.hold_depth -= 1
            if not self.hold_depth and self.pending is not None and not self.closing:
                signum, self.pending = self.pending, None
                raise Interrupted(signum)

    def raise_pending(self) -> None:
        """Raise a delayed `Interrupted` inside a `hold`, at a point where interrupting is safe."""
        if self.pending is not None and not self.closing:
            raise Interrupted(self.pending)

    def close(self) -> None:
        """Begin the shutdown, which signals no longer interrupt."""
        if not self.closing:
            self.closing = True
            self._closing_since = time.monotonic()

    def closing_seconds(self) -> float:
        """Return the seconds since the shutdown began."""
        return time.monotonic() - self._closing_since if self.closing else 0.0

    def patience(self, seconds: float) -> float:
        """Return how many seconds to wait for a process to end: `seconds`, or less after a second signal."""
        return 0.5 if self.hurry else seconds
