"""Empty the queue of a target: claim, send side by side, store what came of it.

Every claimer works alone, and several may work at once, on any machine: rows are claimed with SKIP LOCKED. A row that
a killed claimer had is sent again, with the same values: targets create or update, so that is harmless.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psycopg

from include.connectors import stopping
from include.errors import BaseSyncError, RecoverableSyncError, SyncConfigError
from include.outbound.base import OutboundSyncProvider, current_connection
from include.outbound.mappings import load_if_any
from include.outbound.sending import Key, Outcome, as_sync_error, send
from include.store import orders
from include.store import outbound as store

log = logging.getLogger(__name__)

CLAIMED_AT_ONCE = 100
FLUSH_ROWS = 200
FLUSH_SECONDS = 0.5
PROGRESS_SECONDS = 5.0
STOP_AFTER = 10
"""Orders in a row that fail as they all would: then the target is down, and the rest stays in the queue untouched."""
DOWN_SECONDS = 60.0
"""After which an order that met a target that is down is tried again; it does not count as an attempt."""


@dataclass
class DrainReport:
    """What a drain did: orders (or offers) and objects by outcome, the reasons of those that wait for a person.

    `down` says why nothing can be sent at all; None if the target takes what it gets.
    """

    orders: Counter[str] = field(default_factory=Counter)
    objects: Counter[str] = field(default_factory=Counter)
    parked: Counter[str] = field(default_factory=Counter)
    released: int = 0
    seconds: float = 0.0
    down: str | None = None
    examples: list[str] = field(default_factory=list)

    def counts(self) -> dict[str, Any]:
        """For PostgreSQL and XCom."""
        return {
            "orders": dict(self.orders),
            "objects": dict(self.objects),
            "parked": dict(self.parked),
            "released": self.released,
            "seconds": round(self.seconds, 3),
            "down": self.down,
        }


def drain(
    target: type[OutboundSyncProvider],
    connection: psycopg.Connection[Any],
    *,
    connector: Any = None,
    calls_at_once: int | None = None,
    limit: int | None = None,
    seconds: float | None = None,
    anyway: bool = False,
    run_id: str = "",
) -> DrainReport:
    """Send what is due until nothing is, or `limit` orders are through, or so many seconds have passed.

    - `connection` is in autocommit. `connector` is handed to the target's instances.
    - `calls_at_once`: of this claimer; by default all that the target allows.
    - `anyway`: also what equals what was sent last.
    """
    run = store.open_run(connection, target.identifier, run_id)
    with store.claimer(connection) as key:
        draining = _Drain(target, connection, connector, key, run, anyway=anyway)
        token = current_connection.set(connection)
        try:
            draining.go(calls_at_once or target.concurrency, limit, seconds)
        finally:
            current_connection.reset(token)
            store.close_run(connection, run, draining.report.counts())
    return draining.report


class _Drain:
    def __init__(
        self,
        target: type[OutboundSyncProvider],
        connection: psycopg.Connection[Any],
        connector: Any,
        key: int,
        run: int,
        *,
        anyway: bool,
    ) -> None:
        self.target = target
        self.connection = connection
        self.connector = connector
        self.key = key
        self.run = run
        self.anyway = anyway
        self.report = DrainReport()
        self.mappings: Sequence[Any] | None = None
        self.pending: dict[Future[Outcome], tuple[store.QueueRow, Any]] = {}
        self.done: list[tuple[store.QueueRow, Any, Outcome]] = []
        self.after_event = -1
        self.streak: list[BaseSyncError] = []
        self.is_taken = False
        self.events: dict[int, Any] = {}
        self.local = threading.local()
        self.opened: list[OutboundSyncProvider] = []
        self.opened_lock = threading.Lock()
        self.flushed_at = self.told_at = self.began = time.monotonic()

    def go(self, calls: int, limit: int | None, seconds: float | None) -> None:
        with self.connection.transaction():
            self.report.released = store.release_stuck(
                self.connection, self.target.identifier, self.target.max_attempts
            )
        if self.report.released:
            log.warning("%s objects were cut off in an earlier run: they are sent again", self.report.released)
        ending = threading.Event()
        pool = ThreadPoolExecutor(calls, self.target.identifier, stopping.watch, (ending,))
        is_empty = False
        taken = 0
        try:
            while True:
                is_late = seconds is not None and time.monotonic() - self.began > seconds
                left = CLAIMED_AT_ONCE if limit is None else min(CLAIMED_AT_ONCE, limit - taken)
                if not (is_empty or is_late or self.report.down or left <= 0) and len(self.pending) < 2 * calls:
                    rows = self._claim(left)
                    taken += len(rows)
                    is_empty = not rows
                    self._submit(pool, rows)
                if not self.pending:
                    self._flush()
                    if is_empty or is_late or self.report.down or (limit is not None and taken >= limit):
                        if self.streak and not self.is_taken:
                            self.report.down = self.report.down or str(self.streak[-1])
                        return
                    continue
                self._collect()
                if len(self.done) >= FLUSH_ROWS or time.monotonic() - self.flushed_at > FLUSH_SECONDS:
                    self._flush()
        finally:
            ending.set()
            pool.shutdown(wait=False, cancel_futures=True)
            self._close()
            self.report.seconds = time.monotonic() - self.began

    def _claim(self, count: int) -> list[store.QueueRow]:
        rows = store.claim(self.connection, self.target.identifier, self.key, count, after_event=self.after_event)
        if not rows and self.after_event >= 0:  # once around
            self.after_event = -1
            rows = store.claim(self.connection, self.target.identifier, self.key, count)
        if rows:
            self.after_event = max(row.event_id for row in rows)
        return rows

    def _submit(self, pool: ThreadPoolExecutor, rows: Sequence[store.QueueRow]) -> None:
        """Load what is to be sent and hand it to the threads; what is gone is taken out of the queue."""
        if not rows:
            return
        self.mappings = load_if_any(self.connection, self.target.identifier)
        ids = [row.source_id for row in rows]
        things = orders.load(self.connection, self.target.source, ids, self.events)
        previous = store.load_results(self.connection, self.target.identifier, self.target.source, ids)
        by_thing: dict[int, dict[Key, store.ResultRow]] = {}
        for key, result in previous.items():
            by_thing.setdefault(key[0], {})[key] = result
        gone = [row.id for row in rows if row.source_id not in things]
        store.remove(self.connection, gone)
        self.report.orders["gone"] += len(gone)
        for row in rows:
            if (thing := things.get(row.source_id)) is not None:
                future = pool.submit(self._send, thing, by_thing.get(row.source_id, {}))
                self.pending[future] = (row, thing)

    def _send(self, thing: Any, previous: dict[Key, store.ResultRow]) -> Outcome:
        """In a thread, whose instance of the target serves the event as long as the orders are of it."""
        try:
            provider = self._provider(getattr(thing, "event", None))
        except Exception as error:  # a target's code may raise anything
            return Outcome(error=as_sync_error(error))
        provider.stored_mappings = self.mappings
        return send(provider, thing, previous, anyway=self.anyway)

    def _provider(self, event: Any) -> OutboundSyncProvider:
        event_id = getattr(event, "event_id", None)
        held: OutboundSyncProvider | None = getattr(self.local, "provider", None)
        if held is not None and self.local.event_id == event_id:
            return held
        if held is not None:
            self.local.provider = None
            with self.opened_lock:
                self.opened.remove(held)
            _end(held)
        provider = self.target.__new__(self.target)
        provider.connector = self.connector
        provider.stored_mappings = self.mappings
        provider.__init__(event)  # type: ignore[misc]
        self.local.provider, self.local.event_id = provider, event_id
        with self.opened_lock:
            self.opened.append(provider)
        return provider

    def _close(self) -> None:
        with self.opened_lock:
            opened, self.opened = self.opened, []
        for provider in opened:
            _end(provider)

    def _collect(self) -> None:
        finished, _ = wait(self.pending, timeout=FLUSH_SECONDS, return_when=FIRST_COMPLETED)
        for future in finished:
            row, thing = self.pending.pop(future)
            outcome = future.result()
            self.done.append((row, thing, outcome))
            self._watch(outcome)
        if self.report.down:
            self._give_back()
        if time.monotonic() - self.told_at >= PROGRESS_SECONDS:
            self.told_at = time.monotonic()
            through = sum(self.report.orders.values()) + len(self.done)
            log.info("%s through, %.0f a second", f"{through:,}", through / (self.told_at - self.began))

    def _watch(self, outcome: Outcome) -> None:
        """Notice a target that takes nothing any more."""
        if isinstance(outcome.error, RecoverableSyncError | SyncConfigError):
            self.streak.append(outcome.error)
        else:
            self.streak.clear()
            self.is_taken = True
        if len(self.streak) >= STOP_AFTER and not self.report.down:
            self.report.down = str(self.streak[-1])

    def _give_back(self) -> None:
        """Put back what was claimed and not begun."""
        back = [future for future in list(self.pending) if future.cancel()]
        rows = [self.pending.pop(future)[0] for future in back]
        with self.connection.transaction():
            store.release(self.connection, [_back(row, row.failed_attempts, 0.0) for row in rows])

    def _flush(self) -> None:
        """Store what was sent, what is known of it, and what is still to be done, in one transaction."""
        self.flushed_at = time.monotonic()
        done, self.done = self.done, []
        if not done:
            return
        results: list[store.ResultRow] = []
        logs: list[store.LogRow] = []
        through: list[int] = []
        failed: list[dict[str, Any]] = []
        for row, thing, outcome in done:
            results += [
                sent.result for sent in outcome.objects if sent.result and sent.outcome in ("sent", "nothing_to_do")
            ]
            logs += self._logged(row, thing, outcome)
            if outcome.error is None:
                through.append(row.id)
            else:
                failed.append(self._failed(row, thing, outcome, logs))
            self._count(outcome)
        for attempt in range(3):
            try:
                with self.connection.transaction():
                    store.save_results(self.connection, _last(results))
                    store.write_log(self.connection, logs)
                    store.remove(self.connection, through)
                    store.release(self.connection, failed)
                return
            except psycopg.errors.UniqueViolation:  # one of them was put into the queue at this very moment
                if attempt == 2:
                    raise

    def _count(self, outcome: Outcome) -> None:
        for sent in outcome.objects:
            self.report.objects[sent.outcome] += 1
        if outcome.error is None:
            kinds = {sent.outcome for sent in outcome.objects}
            is_idle = outcome.is_left_alone or not kinds & {"sent"}
            self.report.orders["nothing_to_do" if is_idle else "sent"] += 1

    def _logged(self, row: store.QueueRow, thing: Any, outcome: Outcome) -> list[store.LogRow]:
        return [
            store.LogRow(
                run_id=self.run,
                target=row.target,
                source=row.source,
                source_id=row.source_id,
                outcome=sent.outcome,
                code=_code(thing),
                position_id=sent.position_id,
                mapping_id=sent.mapping_id,
                triggered_by=row.triggered_by,
                messages=sent.error.messages if sent.error else [],
                payload=sent.payload or None,
                link=sent.result.external_link_href if sent.result else None,
            )
            for sent in outcome.objects
            if sent.outcome in ("sent", "failed")
        ]

    def _failed(self, row: store.QueueRow, thing: Any, outcome: Outcome, logs: list[store.LogRow]) -> dict[str, Any]:
        """What becomes of a row that failed: tried again, or parked with a reason."""
        error = outcome.error or BaseSyncError([])
        is_recoverable = isinstance(error, RecoverableSyncError)
        is_down = is_recoverable and self.report.down is not None
        row.failed_attempts += 0 if is_down else 1
        reason: str | None = None
        if not is_recoverable:
            reason = outcome.reason
        elif row.failed_attempts >= self.target.max_attempts:
            reason = "exceeded"
        seconds = DOWN_SECONDS if is_down else self._wait_of(row, error)
        if reason:
            self.report.parked[reason] += 1
            self.report.orders["parked"] += 1
        else:
            self.report.orders["retry"] += 1
        if len(self.report.examples) < 20:
            self.report.examples.append(f"{_code(thing)}: {error}")
        logs.append(
            store.LogRow(
                run_id=self.run,
                target=row.target,
                source=row.source,
                source_id=row.source_id,
                outcome="failed" if reason else "retry",
                code=_code(thing),
                triggered_by=row.triggered_by,
                reason=reason,
                messages=error.messages,
                attempt=row.failed_attempts,
                wait_seconds=None if reason else seconds,
            )
        )
        return _back(row, row.failed_attempts, seconds, reason, error.messages)

    def _wait_of(self, row: store.QueueRow, error: BaseSyncError) -> float:
        """Seconds until the next try, by the target's own rule, but not sooner than the service asked for."""
        asked = getattr(error, "retry_after", None) or 0.0
        try:
            provider = self.target.__new__(self.target)
            at = provider.next_retry_date(row)
            waits: float = (at - datetime.now(at.tzinfo)).total_seconds()
        except Exception as problem:  # a target's code may raise anything
            log.warning("next_retry_date of %s failed: %s", self.target.identifier, problem)
            waits = DOWN_SECONDS
        return max(0.0, waits, asked)


def _back(
    row: store.QueueRow, attempts: int, seconds: float, reason: str | None = None, messages: Sequence[str] = ()
) -> dict[str, Any]:
    return {
        "id": row.id,
        "failed_attempts": attempts,
        "wait_seconds": seconds,
        "need_manual_retry": reason,
        "messages": list(messages),
    }


def _last(results: Sequence[store.ResultRow]) -> list[store.ResultRow]:
    """One row per object: an upsert takes none twice."""
    return list({(row.source_id, row.position_id, row.mapping_id): row for row in results}.values())


def _end(provider: OutboundSyncProvider) -> None:
    try:
        provider.close()
    except Exception as error:  # a target's code may raise anything
        log.warning("close of %s failed: %s", provider.identifier, error)


def _code(thing: Any) -> str:
    return str(getattr(thing, "code", None) or getattr(thing, "id_at_providers", None) or "")
