"""Replays rejected records: reads them from their stored payloads instead of from the source.

A person corrects payloads (`UPDATE rejected_record SET payload = …`) or the parser, and replays the open records. The
provider reads and fills as usual; only its `records` are what its `decode_record` makes of the payloads. A record is
resolved in the transaction of its chunk, so a replay that was killed continues with what is still open. A record that
is rejected again becomes a new row with the old date.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from datetime import datetime
from time import perf_counter
from typing import Any

import msgspec
import psycopg

from include.errors import FatalError, ProviderSyncError, RejectRecord, SkipObject
from include.inbound.read import Reading
from include.inbound.rejections import CUT, MAX_PAYLOAD_LENGTH, Rejection
from include.masking import MASK
from include.models.report import SyncReport
from include.providers.base import LocalProvider, ProvidableInfo
from include.store import Connection
from include.store.ledger import Instance
from include.store.rejected import OpenPayload, open_payloads, resolve_payloads

PAGE_SIZE = 100
"""Rejected records looked up together; their payloads are in memory at the same time."""

_OR_READ_AGAIN = "or read it from the source again with full_refresh"


class StoredRecords(Iterator[Any]):
    """The records decoded from the open payloads of a link, oldest first, each payload once.

    A payload that cannot be decoded raises RejectRecord in its place.
    """

    requested_at: datetime
    """When the current record was last listed."""

    def __init__(self, connection: Connection, instance: Instance, provider: LocalProvider) -> None:
        self.taken: list[OpenPayload] = []
        """The payloads of the records returned so far."""
        self._connection = connection
        self._instance = instance
        self._provider = provider
        self._ahead: deque[OpenPayload] = deque()
        self._last_id = 0
        self._is_over = False

    def peek(self) -> OpenPayload | None:
        """Return the next payload without taking it; None at the end."""
        while not self._ahead and not self._is_over:
            page = open_payloads(self._connection, self._instance, self._last_id, PAGE_SIZE)
            self._is_over = len(page) < PAGE_SIZE
            if page:
                self._last_id = page[-1].id
            self._ahead.extend([payload for payload in page if payload.first_id == payload.id])
        return self._ahead[0] if self._ahead else None

    def __next__(self) -> Any:
        payload = self.peek()
        if payload is None:
            raise StopIteration
        self.taken.append(self._ahead.popleft())
        self.requested_at = payload.requested_at
        return decoded(self._provider, payload.payload)


def decoded(provider: LocalProvider, payload: str) -> Any:
    """Return a payload's record; RejectRecord if it was cut, is not JSON, is masked, or the provider cannot use it."""
    if payload.endswith(CUT):
        raise RejectRecord(
            f"the stored payload was cut at {MAX_PAYLOAD_LENGTH:,} characters: store the complete record, "
            f"{_OR_READ_AGAIN}"
        )
    raw = payload.encode()
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise RejectRecord(f"the stored payload is not valid JSON ({error}): correct it, {_OR_READ_AGAIN}") from None
    if _contains_mask(value):
        raise RejectRecord(f"the stored payload contains masked values ({MASK}): restore them, {_OR_READ_AGAIN}")
    try:
        return provider.decode_record(raw)
    except (ProviderSyncError, psycopg.Error):
        raise
    except Exception as error:
        raise RejectRecord(f"{type(error).__name__}: {error}") from error


def _contains_mask(value: Any) -> bool:
    """Whether a masked value is anywhere in a JSON value; without recursion, since payloads may be nested deeply."""
    pending = [value]
    while pending:
        current = pending.pop()
        if current == MASK:
            return True
        if isinstance(current, dict):
            pending.extend(current.values())
        elif isinstance(current, list):
            pending.extend(current)
    return False


class ReplayReader:
    """Reads the chunks of a replay; the records of a chunk were last listed at the same time.

    Only that time decides whether undated records are newer than the stored rows, and a chunk has one date for all of
    them. There is no error budget: each record that is rejected again becomes a row again, so nothing is lost.
    """

    cursor: str | None = None
    """Not needed: records are resolved with their chunk."""

    def __init__(self, provider: LocalProvider, connection: Connection, instance: Instance) -> None:
        self.is_exhausted = False
        self._provider = provider
        self._instance = instance
        self._records = provider.records = StoredRecords(connection, instance, provider)
        self._iterator = iter(provider)
        self._payloads_of: dict[int, dict[int, OpenPayload]] = {}
        """By identity of a record, the payloads it was read from, by id. Records may be unhashable, and several objects
        may share one; those of the current chunk are referenced by its objects, so their identities are unique."""

    def read(self, *, size: int, max_records: int, budget: object, report: SyncReport) -> Reading:  # noqa: ARG002
        """Read the next chunk, see `Reader.read`; FatalError if the provider ends the listing too early."""
        began = perf_counter()
        lists: list[Sequence[ProvidableInfo]] = []
        rejections: list[Rejection] = []
        self._records.taken = []
        self._payloads_of = {}
        requested_at: datetime | None = None
        objects = 0
        while objects < size and len(lists) + len(rejections) < max_records:
            payload = self._records.peek()
            if payload is None:
                self.is_exhausted = True
                break
            if requested_at is None:
                requested_at = payload.requested_at
            elif payload.requested_at != requested_at:
                break
            objects += self._step(payload, lists, rejections)
        if len(lists) + len(rejections) >= max_records:
            self.is_exhausted = True
        report.iterate_seconds += perf_counter() - began
        return Reading(lists, rejections, requested_at or self._provider.started_at)

    def _step(self, payload: OpenPayload, lists: list[Sequence[ProvidableInfo]], rejections: list[Rejection]) -> int:
        """Let the provider read one record; returns the number of its objects, at least one."""
        taken_before = len(self._records.taken)
        try:
            infos: Sequence[ProvidableInfo] = next(self._iterator)
        except StopIteration:
            if len(self._records.taken) == taken_before:
                raise FatalError(
                    f"{type(self._provider).__name__} ends its listing before the rejected record {payload.id}"
                ) from None
            infos = ()  # it skipped the last ones
        except SkipObject:
            infos = ()
        except Exception as error:
            if isinstance(error, (ProviderSyncError, psycopg.Error)) and not isinstance(error, RejectRecord):
                raise
            rejections.append(self._rejected_again(error, payload))
            self._iterator = iter(self._provider)  # a generator is over after an error
            return 1
        for info in infos:
            self._note_source(info.record, payload)
        lists.append(infos)
        return len(infos) or 1

    def _rejected_again(self, error: Exception, payload: OpenPayload) -> Rejection:
        """Return the rejection of a record that could not be read; `resolve` finds its payload again."""
        last = self._last_taken(payload)
        raw = last.payload.encode()
        self._note_source(raw, payload)
        if not isinstance(error, RejectRecord):
            return Rejection(last.model, last.key, f"{type(error).__name__}: {error}", raw)
        if error.reference is None:  # by the old key, a later listing can tell that the record was listed again
            return Rejection(last.model, last.key, error.message, raw)
        return Rejection(None, None, error.message, raw, error.reference)

    def _note_source(self, record: object, payload: OpenPayload) -> None:
        """Note which payload a record was read from; several have the same record if the provider shares it."""
        last = self._last_taken(payload)
        self._payloads_of.setdefault(id(record), {})[last.id] = last

    def _last_taken(self, payload: OpenPayload) -> OpenPayload:
        return self._records.taken[-1] if self._records.taken else payload

    def resolve(self, connection: Connection, rejections: Sequence[Rejection]) -> list[Rejection]:
        """Resolve the records of the last chunk, in its transaction; returns those that are rejected again.

        They have their stored payloads. A payload that a person has changed since it was read stays open.
        """
        rejected_again: list[Rejection] = []
        bad: set[int] = set()
        for rejection in rejections:
            sources = self._payloads_of.get(id(rejection.payload), {})
            bad.update(sources)
            rejected_again += [rejection._replace(payload=source.payload.encode()) for source in sources.values()] or [
                rejection
            ]
        resolutions = [
            (taken.payload, "rejected again" if taken.id in bad else "replayed") for taken in self._records.taken
        ]
        resolve_payloads(connection, self._instance.place, resolutions)
        return rejected_again
