"""Ctrl-C and TERM end a command in order: the first asks, the second hurries."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from types import FrameType


class Interrupted(BaseException):
    """A person, or the system, asked us to end. Not an `Exception`, so that no handler swallows it."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.status = 128 + signum


class Signals:
    """Raises `Interrupted` in the main thread, except while something must not be torn in two."""

    def __init__(self) -> None:
        self.held = 0
        self.pending: int | None = None
        self.hurry = False
        self.closing = False
        self._closing_since = 0.0

    def install(self) -> None:
        """Listen to Ctrl-C, TERM and the end of the terminal."""
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(signum, self.receive)

    def receive(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the shape of a handler
        """End now, or as soon as what is held is done; while closing, a further signal shortens the waits."""
        if self.closing:
            self.hurry = True
        elif self.held:
            self.pending = signum
        else:
            self.pending = None
            raise Interrupted(signum)

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """What is in here is finished first."""
        self.held += 1
        try:
            yield
        finally:
            self.held -= 1
            if not self.held and self.pending is not None and not self.closing:
                signum, self.pending = self.pending, None
                raise Interrupted(signum)

    def end_if_asked(self) -> None:
        """For long waits inside `hold`, at a moment at which nothing would be torn in two."""
        if self.pending is not None and not self.closing:
            raise Interrupted(self.pending)

    def close(self) -> None:
        """From now on everything is being ended; signals no longer interrupt that."""
        if not self.closing:
            self.closing = True
            self._closing_since = time.monotonic()

    def closing_seconds(self) -> float:
        """How long the ending has taken so far."""
        return time.monotonic() - self._closing_since if self.closing else 0.0

    def patience(self, seconds: float) -> float:
        """How long to wait for something to end by itself."""
        return 0.5 if self.hurry else seconds
