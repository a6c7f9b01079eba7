"""A worker drains the queue of a target: it claims rows, sends their orders or offers in threads, stores the results.

Several workers may drain one queue, on one machine or many: rows are claimed with SKIP LOCKED. Rows that a crashed
worker left in flight are sent again with the same values, which is harmless: targets create or update.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from math import inf
from operator import attrgetter
from queue import Empty, SimpleQueue

import msgspec
import psycopg

from include.connectors import cancellation
from include.connectors.http import HttpConnector
from include.errors import BaseSyncError, ProviderSyncError
from include.models.orders import Event, SourceItem
from include.models.outbound import ObjectKey, QueueRow, StoredResult
from include.outbound.breaker import CircuitBreaker
from include.outbound.buffer import (
    FLUSH_SECONDS,
    MAX_WAIT_SECONDS,
    OUTAGE_WAIT_SECONDS,
    Finished,
    SharedConnection,
    WriteBuffer,
)
from include.outbound.instances import Instances
from include.outbound.mappings import load
from include.outbound.report import DrainReport
from include.outbound.send import SendResult, as_sync_error, send
from include.store import orders, queue, results, runs
from include.targets.base import OutboundSyncProvider, backoff
from include.targets.compatibility import borrow_connection

log = logging.getLogger(__name__)

CLAIM_ROWS = 100
PROGRESS_SECONDS = 5.0


def drain(
    target: type[OutboundSyncProvider],
    connection: psycopg.Connection,
    *,
    connector: HttpConnector | None = None,
    calls_at_once: int | None = None,
    limit: int | None = None,
    seconds: float | None = None,
    force: bool = False,
    run_id: str = "",
) -> DrainReport:
    """Send what is due until the queue is empty, `limit` orders were sent, or `seconds` have passed.

    - `connection`: in autocommit mode.
    - `connector`: passed to the instances of the target.
    - `calls_at_once`: maximum number of concurrent calls of this worker, by default all that the target allows.
    - `force`: also send objects that equal what was sent last. Orders that a person queued are always sent.
    - `run_id`: the Airflow run that the counts belong to.
    """
    run = runs.open_run(connection, target.identifier, run_id)
    with queue.worker_key(connection) as key:
        worker = Worker(target, connection, connector, key, run, force=force)
        token = borrow_connection.set(worker.database.borrow)
        try:
            worker.run(calls_at_once or target.concurrency, limit, seconds)
        finally:
            borrow_connection.reset(token)
            runs.close_run(connection, run, worker.report.counts())
    return worker.report


class Worker:
    """Drains the queue once. The main thread claims and stores; the threads of a pool send."""

    def __init__(
        self,
        target: type[OutboundSyncProvider],
        connection: psycopg.Connection,
        connector: HttpConnector | None,
        key: int,
        run: int,
        *,
        force: bool,
    ) -> None:
        self.target = target
        self.connection = connection
        self.key = key
        self.force = force
        self.report = DrainReport()
        self.database = SharedConnection(connection)
        self.breaker = CircuitBreaker()
        self.buffer = WriteBuffer(self.database, target, run, self.breaker, self.report)
        self.instances = Instances(target, connector)
        self.pending: dict[Future[SendResult | None], tuple[QueueRow, SourceItem]] = {}
        self.finished: SimpleQueue[Future[SendResult | None]] = SimpleQueue()
        self.events: dict[int, Event] = {}
        self.after_event = -1
        self.unclaimed: float = inf
        self.started_at = self.logged_at = time.monotonic()

    def run(self, calls: int, limit: int | None, seconds: float | None) -> None:
        """Drain the queue with `calls` threads."""
        self._release_stuck()
        self.unclaimed = inf if limit is None else limit
        deadline = inf if seconds is None else self.started_at + seconds
        ending = threading.Event()
        pool = ThreadPoolExecutor(calls, self.target.identifier, self._begin_thread, (ending,))
        try:
            while True:
                # Twice as many as there are threads: none of them waits for the next claim.
                if len(self.pending) < 2 * calls and self._may_claim(deadline):
                    self._submit(pool, self._claim())
                if self.pending:
                    self._collect()
                    if self.buffer.is_due:
                        self.buffer.flush()
                    continue
                self.buffer.flush(is_final=True)
                if not self._may_claim(deadline):
                    self.breaker.finish()
                    return
        finally:
            ending.set()
            pool.shutdown(wait=False, cancel_futures=True)
            self.instances.close()
            self.report.down = self.breaker.reason
            self.report.seconds = time.monotonic() - self.started_at

    def _begin_thread(self, ending: threading.Event) -> None:
        cancellation.bind(ending)
        borrow_connection.set(self.database.borrow)

    def _release_stuck(self) -> None:
        def release(connection: psycopg.Connection) -> None:
            self.report.released = runs.release_stuck(connection, self.target.identifier, self.target.max_attempts)

        self.database.write(release)
        if self.report.released:
            log.warning("Re-queued %s objects that a crashed run had left in flight", self.report.released)

    def _may_claim(self, deadline: float) -> bool:
        return self.unclaimed > 0 and not self.breaker.is_open and time.monotonic() <= deadline

    def _claim(self) -> list[QueueRow]:
        """Claim rows from the events after the last ones, so that all events take turns."""
        count = int(min(CLAIM_ROWS, self.unclaimed))
        rows = queue.claim(self.connection, self.target.identifier, self.key, count, after_event=self.after_event)
        if not rows and self.after_event >= 0:
            self.after_event = -1
            rows = queue.claim(self.connection, self.target.identifier, self.key, count)
        if rows:
            self.after_event = max(row.event_id for row in rows)
        self.unclaimed = self.unclaimed - len(rows) if rows else 0
        return rows

    def _submit(self, pool: ThreadPoolExecutor, rows: Sequence[QueueRow]) -> None:
        """Load the orders or offers of claimed rows and hand them to the pool; rows of deleted ones are removed."""
        if not rows:
            return
        ids = [row.source_id for row in rows]
        try:
            self.instances.mappings = load(self.connection, self.target.identifier)
            items = orders.load(self.connection, self.target.source, ids, self.events)
            stored = results.load_results(self.connection, self.target.identifier, self.target.source, ids)
        except ProviderSyncError:
            self.buffer.put_back(rows)
            raise
        previous: dict[int, dict[ObjectKey, StoredResult]] = {}
        for key, result in stored.items():
            previous.setdefault(key[0], {})[key] = result
        if gone := [row.id for row in rows if row.source_id not in items]:
            queue.remove(self.connection, gone)
            self.report.orders["gone"] += len(gone)
        # Sorted by event: a thread keeps its instance of the target as long as the event stays the same.
        for row in sorted(rows, key=attrgetter("event_id")):
            if (item := items.get(row.source_id)) is not None:
                future = pool.submit(self._send, row, item, previous.get(row.source_id, {}))
                self.pending[future] = (row, item)
                future.add_done_callback(self.finished.put)

    def _send(self, row: QueueRow, item: SourceItem, previous: dict[ObjectKey, StoredResult]) -> SendResult | None:
        """Send one order or offer, in a thread. Returns None if the circuit breaker is open: it was not tried."""
        if self.breaker.is_open:
            return None
        target = None
        try:
            target = self.instances.get(item.event)
            result = send(target, item, previous, force=self.force or row.triggered_by == queue.MANUAL)
        except Exception as error:  # a target's code may raise anything
            result = SendResult(error=as_sync_error(error))
        if result.error is not None:
            result.wait_seconds = self._wait_seconds(target, row, result.error)
        self.breaker.record(result)
        return result

    def _wait_seconds(self, target: OutboundSyncProvider | None, row: QueueRow, error: BaseSyncError) -> float:
        """Return the time until the next attempt: by the target's rule, but not sooner than the service asked for."""
        failures = row.failed_attempts + 1
        if target is None:  # its constructor failed
            wait = backoff(failures)
        else:
            try:
                at = target.next_retry_date(msgspec.structs.replace(row, failed_attempts=failures))
                wait = (at - datetime.now(at.tzinfo)).total_seconds()
            except Exception as problem:  # a target's code may raise anything
                log.warning("next_retry_date of %s failed: %s", self.target.identifier, problem)
                wait = OUTAGE_WAIT_SECONDS
        return min(max(0.0, wait, getattr(error, "retry_after", None) or 0.0), MAX_WAIT_SECONDS)

    def _collect(self) -> None:
        """Wait for finished orders and pass them to the buffer; if the breaker opened, put back what was not tried."""
        not_tried = []
        for future in self._next_finished():
            if (found := self.pending.pop(future, None)) is None:  # canceled, and put back already
                continue
            if (result := future.result()) is None:
                not_tried.append(found[0])
            else:
                self.buffer.finished.append(Finished(*found, result))
        if self.breaker.is_open:
            canceled = [future for future in list(self.pending) if future.cancel()]
            self.buffer.put_back([*not_tried, *(self.pending.pop(future)[0] for future in canceled)])
        if time.monotonic() - self.logged_at >= PROGRESS_SECONDS:
            self.logged_at = time.monotonic()
            processed = sum(self.report.orders.values()) + len(self.buffer.finished)
            log.info("%s orders processed (%.0f/s)", f"{processed:,}", processed / (self.logged_at - self.started_at))

    def _next_finished(self) -> list[Future[SendResult | None]]:
        """Wait for a finished order, and return all that are finished by then.

        `concurrent.futures.wait` would check all pending ones each time.
        """
        try:
            found = [self.finished.get(timeout=FLUSH_SECONDS)]
            while not self.finished.empty():
                found.append(self.finished.get_nowait())
        except Empty:
            return []
        return found
