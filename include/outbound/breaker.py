"""The circuit breaker of a worker: a target that rejects everything is not called for the rest of the queue."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from include.errors import RecoverableSyncError, SyncConfigError
from include.outbound.send import SendResult

FAILURE_THRESHOLD = 10
"""Consecutive orders that fail for a reason that would fail all others too."""


class CircuitBreaker:
    """Opens after FAILURE_THRESHOLD consecutive failures, and stays open for the rest of the run.

    Only recoverable and configuration errors count: they may concern all objects. Other errors concern one object.
    `reason` is the last error message once the breaker is open. Safe to use from several threads.
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        self._failures: list[SendResult] = []
        self._has_other_results = False
        self._lock = threading.Lock()

    @property
    def is_open(self) -> bool:
        """Whether the target rejects everything."""
        return self.reason is not None

    def record(self, result: SendResult) -> None:
        """Count a result."""
        with self._lock:
            if isinstance(result.error, RecoverableSyncError | SyncConfigError) and not result.is_accepted:
                self._failures.append(result)
            else:
                self._has_other_results = True
                # Unchanged objects were not sent: they say nothing about the target.
                if result.error is not None or result.is_called:
                    self._failures.clear()
            if len(self._failures) >= FAILURE_THRESHOLD:
                self._open()

    def release(self, results: Sequence[SendResult]) -> int:
        """Return how many of these results, from the first on, can be stored now.

        A failure must wait until a success follows it or the breaker opens: in an outage it does not count as an
        attempt.
        """
        with self._lock:
            if self.is_open or not self._failures:
                return len(results)
            undecided = set(map(id, self._failures))
        return next((number for number, result in enumerate(results) if id(result) in undecided), len(results))

    def finish(self) -> None:
        """Open the breaker at the end of a run in which everything failed, if only few orders were due."""
        with self._lock:
            if self._failures and not self._has_other_results:
                self._open()

    def _open(self) -> None:
        self.reason = self.reason or str(self._failures[-1].error)
