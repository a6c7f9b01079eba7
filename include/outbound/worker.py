"""Empty the queue of a target: claim, send side by side, store what came of it.

Every claimer works alone, and several may work at once, on any machine: rows are claimed with SKIP LOCKED. A row that
a killed claimer had is sent again, with the same values: targets create or update, so that is harmless.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import msgspec
import psycopg

from include.connectors import cancellation
from include.errors import BaseSyncError, ProviderSyncError, RecoverableSyncError, SyncConfigError
from include.outbound.mappings import load_if_any
from include.outbound.send import Key, Outcome, as_sync_error, send
from include.store import orders
from include.store import outbound as store
from include.targets.base import OutboundSyncProvider, current_connection

log = logging.getLogger(__name__)
T = TypeVar("T")

CLAIMED_AT_ONCE = 100
FLUSH_ROWS = 200
FLUSH_SECONDS = 0.5
PROGRESS_SECONDS = 5.0
STOP_AFTER = 10
"""Orders in a row that fail as they all would: then the target is down, and the rest stays in the queue untouched."""
MAX_SECONDS = 30 * 86400.0
"""The longest wait before another try, whatever a target or service asks for."""
STORE_TRIES = 10
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
    - `anyway`: also what equals what was sent last; orders that a person asked for are sent in any case.
    """
    run = store.open_run(connection, target.identifier, run_id)
    with store.claimer(connection) as key:
        draining = _Drain(target, connection, connector, key, run, anyway=anyway)
        token = current_connection.set(draining.lend)
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
        self.pending: dict[Future[Outcome | None], tuple[store.QueueRow, Any]] = {}
        self.finished: SimpleQueue[Future[Outcome | None]] = SimpleQueue()
        self.done: list[tuple[store.QueueRow, Any, Outcome]] = []
        self.after_event = -1
        self.streak: list[Outcome] = []
        self.is_taken = False
        self.events: dict[int, Any] = {}
        self.local = threading.local()
        self.opened: list[OutboundSyncProvider] = []
        self.opened_lock = threading.Lock()
        self.storing = threading.RLock()
        self.watching = threading.Lock()
        self.flushed_at = self.told_at = self.began = time.monotonic()

    def go(self, calls: int, limit: int | None, seconds: float | None) -> None:
        self.report.released = self._store(
            lambda: store.release_stuck(self.connection, self.target.identifier, self.target.max_attempts)
        )
        if self.report.released:
            log.warning("%s objects were cut off in an earlier run: they are sent again", self.report.released)
        ending = threading.Event()
        pool = ThreadPoolExecutor(calls, self.target.identifier, self._begin_thread, (ending,))
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
                    self._flush(is_last=True)
                    if is_empty or is_late or self.report.down or (limit is not None and taken >= limit):
                        if self.streak and not self.is_taken:
                            self.report.down = self.report.down or str(self.streak[-1].error)
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

    @contextmanager
    def lend(self) -> Iterator[psycopg.Connection[Any]]:
        """The connection, for threads that write beside what is being stored."""
        with self.storing:
            yield self.connection

    def _begin_thread(self, ending: threading.Event) -> None:
        cancellation.bind(ending)
        current_connection.set(self.lend)

    def _store(self, write: Callable[[], T]) -> T:
        """Write in one transaction, again if somebody put one of the objects into the queue at this very moment."""
        for attempt in range(STORE_TRIES):
            try:
                with self.storing, self.connection.transaction():
                    return write()
            except (psycopg.errors.UniqueViolation, psycopg.errors.DeadlockDetected):
                if attempt == STORE_TRIES - 1:
                    raise
        raise AssertionError

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
        ids = [row.source_id for row in rows]
        try:
            self.mappings = load_if_any(self.connection, self.target.identifier)
            things = orders.load(self.connection, self.target.source, ids, self.events)
            previous = store.load_results(self.connection, self.target.identifier, self.target.source, ids)
        except ProviderSyncError:
            self._release_untouched(rows)
            raise
        by_thing: dict[int, dict[Key, store.ResultRow]] = {}
        for key, result in previous.items():
            by_thing.setdefault(key[0], {})[key] = result
        if gone := [row.id for row in rows if row.source_id not in things]:
            store.remove(self.connection, gone)
            self.report.orders["gone"] += len(gone)
        for row in sorted(rows, key=_event_id):
            if (thing := things.get(row.source_id)) is not None:
                future = pool.submit(self._send, row, thing, by_thing.get(row.source_id, {}))
                self.pending[future] = (row, thing)
                future.add_done_callback(self.finished.put)

    def _send(self, row: store.QueueRow, thing: Any, previous: dict[Key, store.ResultRow]) -> Outcome | None:
        """In a thread, whose instance of the target serves the event as long as the orders are of it.

        None: the target is down, it was not even tried.
        """
        if self.report.down:
            return None
        provider = None
        try:
            provider = self._provider(getattr(thing, "event", None))
            provider.stored_mappings = self.mappings
            is_asked_for = row.triggered_by == store.BY_HAND
            outcome = send(provider, thing, previous, anyway=self.anyway or is_asked_for)
        except Exception as error:  # a target's code may raise anything
            outcome = Outcome(error=as_sync_error(error))
        if outcome.error is not None:
            outcome.wait_seconds = self._wait_of(provider, row, outcome.error)
        with self.watching:
            self._watch(outcome)
        return outcome

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
        untouched = []
        for future in self._finished():
            if (found := self.pending.pop(future, None)) is None:  # given back
                continue
            row, thing = found
            if (outcome := future.result()) is None:
                untouched.append(row)
            else:
                self.done.append((row, thing, outcome))
        if self.report.down:
            self._give_back(untouched)
        if time.monotonic() - self.told_at >= PROGRESS_SECONDS:
            self.told_at = time.monotonic()
            through = sum(self.report.orders.values()) + len(self.done)
            log.info("%s through, %.0f a second", f"{through:,}", through / (self.told_at - self.began))

    def _finished(self) -> list[Future[Outcome | None]]:
        """What is through since, after waiting for the first. Not `futures.wait`: it looks at all that are pending."""
        try:
            found = [self.finished.get(timeout=FLUSH_SECONDS)]
            while not self.finished.empty():
                found.append(self.finished.get_nowait())
        except Empty:
            return []
        return found

    def _watch(self, outcome: Outcome) -> None:
        """Notice a target that takes nothing any more; where it was not even called, it is not known."""
        is_taken = any(sent.outcome == "sent" for sent in outcome.objects)
        if isinstance(outcome.error, RecoverableSyncError | SyncConfigError) and not is_taken:
            self.streak.append(outcome)
        else:
            self.is_taken = True
            if outcome.error is not None or any(sent.is_called for sent in outcome.objects):
                self.streak.clear()
        if len(self.streak) >= STOP_AFTER and not self.report.down:
            self.report.down = str(self.streak[-1].error)

    def _give_back(self, untouched: Sequence[store.QueueRow]) -> None:
        """Put back what was claimed and not begun."""
        back = [future for future in list(self.pending) if future.cancel()]
        self._release_untouched([*untouched, *(self.pending.pop(future)[0] for future in back)])

    def _release_untouched(self, rows: Sequence[store.QueueRow]) -> None:
        released = [_back(row, row.failed_attempts, 0.0, messages=row.messages) for row in rows]
        self._store(lambda: store.release(self.connection, released))

    def _flush(self, *, is_last: bool = False) -> None:
        """Store what was sent, what is known of it, and what is still to be done, in one transaction.

        What failed in a row is kept back until it is known whether the target is down.
        """
        self.flushed_at = time.monotonic()
        cut = len(self.done)
        with self.watching:
            kept_back = set() if is_last or self.report.down else set(map(id, self.streak))
        if kept_back:
            cut = next((n for n, (_, _, outcome) in enumerate(self.done) if id(outcome) in kept_back), cut)
        done, self.done = self.done[:cut], self.done[cut:]
        if not done:
            return
        results: list[store.ResultRow] = []
        logs: list[store.LogRow] = []
        through: list[int] = []
        failed: list[dict[str, Any]] = []
        for row, thing, outcome in done:
            results += [
                sent.result
                for sent in outcome.objects
                if sent.result and sent.is_called and sent.outcome in ("sent", "nothing_to_do")
            ]
            logs += self._logged(row, thing, outcome)
            if outcome.error is None:
                through.append(row.id)
            else:
                failed.append(self._failed(row, thing, outcome, logs))
            self._count(outcome)
        uncertain = [
            (row.source_id, sent.position_id, sent.mapping_id)
            for row, _, outcome in done
            for sent in outcome.objects
            if sent.error and sent.is_called
        ]

        def write() -> None:
            store.save_results(self.connection, _last(results))
            store.forget_sent(self.connection, self.target.identifier, self.target.source, uncertain)
            store.write_log(self.connection, logs)
            store.remove(self.connection, through)
            store.release(self.connection, failed)

        self._store(write)

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
        asked = getattr(error, "retry_after", None) or 0.0
        seconds = min(max(DOWN_SECONDS, asked), MAX_SECONDS) if is_down else outcome.wait_seconds
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

    def _wait_of(self, provider: OutboundSyncProvider | None, row: store.QueueRow, error: BaseSyncError) -> float:
        """Seconds until the next try, by the target's own rule, but not sooner than the service asked for."""
        asked = getattr(error, "retry_after", None) or 0.0
        failed = msgspec.structs.replace(row, failed_attempts=row.failed_attempts + 1)
        try:
            at = (provider or self.target.__new__(self.target)).next_retry_date(failed)
            waits: float = (at - datetime.now(at.tzinfo)).total_seconds()
        except Exception as problem:  # a target's code may raise anything
            log.warning("next_retry_date of %s failed: %s", self.target.identifier, problem)
            waits = DOWN_SECONDS
        return min(max(0.0, waits, asked), MAX_SECONDS)


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


def _event_id(row: store.QueueRow) -> int:
    """Orders of one event after each other, so that a thread can keep its instance of the target."""
    return row.event_id


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
