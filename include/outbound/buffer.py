"""The write buffer of a worker: results are stored in blocks, each in one transaction."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg

from include.errors import BaseSyncError, RecoverableSyncError
from include.models.orders import SourceItem
from include.models.outbound import FailedRow, LogEntry, QueueRow, StoredResult
from include.outbound.breaker import CircuitBreaker
from include.outbound.report import DrainReport
from include.outbound.send import ObjectResult, SendResult
from include.store import queue, results
from include.targets.base import OutboundSyncProvider

FLUSH_ROWS = 200
FLUSH_SECONDS = 0.5
WRITE_TRIES = 10
OUTAGE_WAIT_SECONDS = 60.0
"""Wait before an order is retried that failed in an outage; the failure does not count as an attempt."""
MAX_WAIT_SECONDS = 30 * 86400.0
"""Maximum wait before a retry, whatever a target or service asks for."""


class SharedConnection:
    """The worker's database connection (in autocommit mode), which threads may borrow between its transactions."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self.raw = connection
        self._lock = threading.RLock()

    @contextmanager
    def borrow(self) -> Iterator[psycopg.Connection]:
        """Lend the connection while no transaction is open on it."""
        with self._lock:
            yield self.raw

    def write(self, work: Callable[[psycopg.Connection], object]) -> None:
        """Run `work` in one transaction; repeat it if another session queues one of its objects at the same time."""
        for attempt in range(WRITE_TRIES):
            try:
                with self._lock, self.raw.transaction():
                    work(self.raw)
                return
            except (psycopg.errors.UniqueViolation, psycopg.errors.DeadlockDetected):
                if attempt == WRITE_TRIES - 1:
                    raise


@dataclass(frozen=True, slots=True)
class Finished:
    """A claimed row, the order or offer it stands for, and the result of sending it."""

    row: QueueRow
    item: SourceItem
    result: SendResult


@dataclass
class WriteBuffer:
    """Collects finished rows, and stores their results, log entries and queue changes together."""

    database: SharedConnection
    target: type[OutboundSyncProvider]
    run: int
    breaker: CircuitBreaker
    report: DrainReport
    finished: list[Finished] = field(default_factory=list)
    _flushed_at: float = field(default_factory=time.monotonic)

    @property
    def is_due(self) -> bool:
        """Whether it is time to flush."""
        return len(self.finished) >= FLUSH_ROWS or time.monotonic() - self._flushed_at > FLUSH_SECONDS

    def flush(self, *, is_final: bool = False) -> None:
        """Store finished rows in one transaction; those that the circuit breaker does not release wait.

        `is_final`: store all, nothing else will be sent before.
        """
        self._flushed_at = time.monotonic()
        count = len(self.finished) if is_final else self.breaker.release([each.result for each in self.finished])
        finished, self.finished = self.finished[:count], self.finished[count:]
        if not finished:
            return
        stored: dict[object, StoredResult] = {}
        uncertain, entries, failed, done = [], [], [], []
        for each in finished:
            for sent in each.result.objects:
                if sent.result and sent.is_called and not sent.error:
                    stored[sent.result.key] = sent.result
                if sent.error and sent.is_called:
                    uncertain.append((each.row.source_id, sent.position_id, sent.mapping_id))
                if sent.outcome in ("sent", "failed"):
                    entries.append(self._object_entry(each, sent))
            if each.result.error is None:
                done.append(each.row.id)
            else:
                row, entry = self._fail(each, each.result.error)
                failed.append(row)
                entries.append(entry)
            self.report.add(each.result)

        def write(connection: psycopg.Connection) -> None:
            results.save_results(connection, list(stored.values()))
            results.forget_sent(connection, self.target.identifier, self.target.source, uncertain)
            results.write_log(connection, entries)
            queue.remove(connection, done)
            queue.release(connection, failed)

        self.database.write(write)

    def put_back(self, rows: Sequence[QueueRow]) -> None:
        """Release rows that were claimed but not tried; their attempts and messages stay."""
        if rows:
            released = [FailedRow(row.id, row.failed_attempts, messages=row.messages) for row in rows]
            self.database.write(lambda connection: queue.release(connection, released))

    def _fail(self, finished: Finished, error: BaseSyncError) -> tuple[FailedRow, LogEntry]:
        """Return what becomes of a row that failed, retried or parked, and its log entry."""
        row, result = finished.row, finished.result
        is_outage = isinstance(error, RecoverableSyncError) and self.breaker.is_open
        attempts = row.failed_attempts + (0 if is_outage else 1)
        reason: str | None = None
        if not isinstance(error, RecoverableSyncError):
            reason = result.reason
        elif attempts >= self.target.max_attempts:
            reason = "exceeded"
        wait = result.wait_seconds
        if is_outage:
            wait = min(max(OUTAGE_WAIT_SECONDS, getattr(error, "retry_after", None) or 0.0), MAX_WAIT_SECONDS)
        self.report.add_failure(finished.item.label, str(error), reason)
        entry = self._entry(finished, "failed" if reason else "retry", error)
        entry.reason, entry.attempt, entry.wait_seconds = reason, attempts, None if reason else wait
        return FailedRow(row.id, attempts, wait, reason, error.messages), entry

    def _object_entry(self, finished: Finished, sent: ObjectResult) -> LogEntry:
        entry = self._entry(finished, sent.outcome, sent.error)
        entry.position_id, entry.mapping_id, entry.payload = sent.position_id, sent.mapping_id, sent.payload or None
        entry.link = sent.result.external_link_href if sent.result else None
        return entry

    def _entry(self, finished: Finished, outcome: str, error: BaseSyncError | None) -> LogEntry:
        row, messages = finished.row, error.messages if error else []
        return LogEntry(
            self.run, row.target, row.source, row.source_id, outcome, finished.item.label,
            triggered_by=row.triggered_by, messages=messages,
        )  # fmt: skip
