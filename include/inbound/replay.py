"""Rejected records once more: from the payloads kept of them instead of from the source.

A person repairs payloads (`UPDATE rejected_record SET payload = …`) or the parser, and replays what is open: neither
resolved nor cleared. The provider reads and fills as always, only `records` are the payloads that its `decode_record`
makes records of. What becomes of a record is noted in the transaction of its chunk, so a replay that was killed goes on
with what is open still. A record that is rejected again is a new row; it stays as old as it was.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from datetime import datetime
from time import perf_counter
from typing import Any, NamedTuple

import msgspec
import psycopg
from psycopg import sql
from psycopg.rows import class_row

from include.errors import FatalError, ProviderSyncError, RejectRecord, SkipObject
from include.inbound.read import Reading, Rejection
from include.masking import MASK
from include.models.report import SyncReport
from include.providers.base import LocalProvider, ProvidableInfo
from include.store.ledger import Connection, Instance
from include.store.rejected import CUT, MAX_PAYLOAD_LENGTH

ROWS_AT_ONCE = 100
"""Rejected records looked up together: as much memory as their payloads take."""

FROM_THE_SOURCE = "or read it from the source again with full_refresh"


class Kept(NamedTuple):
    """A rejected record that waits; `asked_at` is when it was listed last, if several rows have this payload."""

    id: int
    payload: str
    asked_at: datetime
    first_id: int
    """The first open row with this payload."""
    model: str | None
    key: str | None
    """What that row says it is of."""


def _open_rows(alias: str, instance: Instance) -> sql.Composed:
    """The condition for the open rows of an instance's link."""
    row = sql.Identifier(alias)
    link: sql.Composable = sql.SQL("IS NULL")  # an index serves this and =, but not IS NOT DISTINCT FROM
    if instance.venue_provider_id is not None:
        link = sql.SQL("= {}").format(instance.venue_provider_id)
    return sql.SQL(
        "{row}.provider_id = {provider} AND {row}.venue_provider_id {link}"
        " AND {row}.resolved_at IS NULL AND {row}.payload IS NOT NULL"
    ).format(row=row, provider=instance.provider_id, link=link)


class KeptRecords(Iterator[Any]):
    """The records decoded from open payloads of a link, oldest first, each payload once.

    One that cannot be decoded raises RejectRecord in its place. `taken` are those given out, `asked_at` is the last
    one's.
    """

    asked_at: datetime

    def __init__(self, connection: Connection, instance: Instance, provider: LocalProvider) -> None:
        self.taken: list[Kept] = []
        self._connection = connection
        self._provider = provider
        self._ahead: deque[Kept] = deque()
        self._last_id = 0
        self._is_over = False
        self._instance_id = instance.id
        self._page = sql.SQL(
            "WITH page AS MATERIALIZED ("
            " SELECT kept.id, kept.payload, kept.model, kept.id_at_providers FROM rejected_record AS kept"
            " WHERE {kept_is_open} AND kept.instance_id IS DISTINCT FROM %(instance)s AND kept.id > %(last)s"
            " ORDER BY kept.id LIMIT %(count)s"
            ") SELECT page.id, page.payload, alike.asked_at, alike.first_id, page.model, page.id_at_providers AS key"
            " FROM page CROSS JOIN LATERAL ("
            " SELECT max(coalesce(same.asked_at, same.created_at)) AS asked_at, min(same.id) AS first_id"
            " FROM rejected_record AS same WHERE {same_is_open} AND same.instance_id IS DISTINCT FROM %(instance)s"
            " AND md5(same.payload) = md5(page.payload) AND same.payload = page.payload"
            ") AS alike ORDER BY page.id"
        ).format(kept_is_open=_open_rows("kept", instance), same_is_open=_open_rows("same", instance))

    def peek(self) -> Kept | None:
        """The next one, which stays the next one; None at the end."""
        while not self._ahead and not self._is_over:
            asked = {"instance": self._instance_id, "last": self._last_id, "count": ROWS_AT_ONCE}
            with self._connection.cursor(row_factory=class_row(Kept)) as cursor:
                page = cursor.execute(self._page, asked).fetchall()
            self._is_over = len(page) < ROWS_AT_ONCE
            if page:
                self._last_id = page[-1].id
            self._ahead.extend([kept for kept in page if kept.first_id == kept.id])
        return self._ahead[0] if self._ahead else None

    def __next__(self) -> Any:
        kept = self.peek()
        if kept is None:
            raise StopIteration
        self.taken.append(self._ahead.popleft())
        self.asked_at = kept.asked_at
        return decoded(self._provider, kept.payload)


def decoded(provider: LocalProvider, payload: str) -> Any:
    """The record of a payload kept.

    Raises:
        RejectRecord: it was cut, is no JSON, holds a masked value, or the provider still cannot use it.
    """
    if payload.endswith(CUT):
        raise RejectRecord(
            f"its payload was cut at {MAX_PAYLOAD_LENGTH:,} characters: put the whole record there, {FROM_THE_SOURCE}"
        )
    raw = payload.encode()
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise RejectRecord(f"its payload is not whole JSON ({error}): repair it, {FROM_THE_SOURCE}") from None
    if _holds_mask(value):
        raise RejectRecord(f"personal fields are masked in what was kept: put them in by hand, {FROM_THE_SOURCE}")
    try:
        return provider.decode_record(raw)
    except (ProviderSyncError, psycopg.Error):
        raise
    except Exception as error:
        raise RejectRecord(f"{type(error).__name__}: {error}") from error


def _holds_mask(value: Any) -> bool:
    """Whether a masked value is anywhere in it."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if one == MASK:
            return True
        if isinstance(one, dict):
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)
    return False


class ReplayReader:
    """Gives the chunks of a replay, as `RecordReader` does those of a listing; a chunk's records are of one age.

    Nothing but their age decides whether undated records are newer than what is held, and a chunk has one date for all.
    There is no error budget: each record that is rejected again is a row again, so nothing gets lost or hidden.
    """

    cursor = None
    """None is needed: what is done is resolved."""

    def __init__(self, provider: LocalProvider, connection: Connection, instance: Instance) -> None:
        self.is_exhausted = False
        self._provider = provider
        self._instance = instance
        self._records = provider.records = KeptRecords(connection, instance, provider)
        self._iterator = iter(provider)
        self._kept_of: dict[int, dict[int, Kept]] = {}

    def read(
        self,
        *,
        size: int,
        room: int,
        budget: tuple[float, float],  # noqa: ARG002
        report: SyncReport,
    ) -> Reading:
        """Read records of at least `size` objects together, but no more than `room` records; adds the seconds up.

        Raises:
            FatalError: the provider ends the listing although there are records left.
        """
        began = perf_counter()
        lists: list[Sequence[ProvidableInfo]] = []
        rejections: list[Rejection] = []
        self._records.taken = []
        self._kept_of = {}
        asked_at: datetime | None = None
        objects = 0
        while objects < size and len(lists) + len(rejections) < room:
            kept = self._records.peek()
            if kept is None:
                self.is_exhausted = True
                break
            if asked_at is None:
                asked_at = kept.asked_at
            elif kept.asked_at != asked_at:
                break
            objects += self._step(kept, lists, rejections)
        if len(lists) + len(rejections) >= room:
            self.is_exhausted = True
        report.iterate_seconds += perf_counter() - began
        return Reading(lists, rejections, asked_at or self._provider.started_at)

    def _step(self, kept: Kept, lists: list[Sequence[ProvidableInfo]], rejections: list[Rejection]) -> int:
        """Let the provider read one record; returns the number of its objects, at least one."""
        taken_before = len(self._records.taken)
        try:
            infos: Sequence[ProvidableInfo] = next(self._iterator)
        except StopIteration:
            if len(self._records.taken) == taken_before:
                raise FatalError(
                    f"{type(self._provider).__name__} ends its listing before the rejected record {kept.id}"
                ) from None
            infos = ()  # it left the last ones out
        except SkipObject:
            infos = ()
        except Exception as error:
            if isinstance(error, (ProviderSyncError, psycopg.Error)) and not isinstance(error, RejectRecord):
                raise
            reason = error.message if isinstance(error, RejectRecord) else f"{type(error).__name__}: {error}"
            last = self._last_taken(kept)
            payload = last.payload.encode()
            self._remember(payload, kept)
            reference = error.reference if isinstance(error, RejectRecord) else None
            if reference is not None:
                rejections.append(Rejection(None, None, reason, payload, reference))
            else:  # a later listing tells by its key that this was listed again
                rejections.append(Rejection(last.model, last.key, reason, payload))
            self._iterator = iter(self._provider)  # a generator is over after an error
            return 1
        for info in infos:
            self._remember(info.record, kept)
        lists.append(infos)
        return len(infos) or 1

    def _remember(self, record: object, kept: Kept) -> None:
        """Note what a record was read from; several have the same one if the provider shares or does not keep them."""
        last = self._last_taken(kept)
        self._kept_of.setdefault(id(record), {})[last.id] = last

    def _last_taken(self, kept: Kept) -> Kept:
        return self._records.taken[-1] if self._records.taken else kept

    def resolve(self, connection: Connection, rejections: Sequence[Rejection]) -> list[Rejection]:
        """Note, in the transaction of the last chunk, what became of its records; returns what is rejected again.

        Each has the payload as it was kept. Rows that a person changed meanwhile stay open.
        """
        again: list[Rejection] = []
        bad: set[int] = set()
        for rejection in rejections:
            sources = self._kept_of.get(id(rejection.payload), {})
            bad.update(sources)
            again += [rejection._replace(payload=kept.payload.encode()) for kept in sources.values()] or [rejection]
        taken = self._records.taken
        connection.execute(
            sql.SQL(
                "UPDATE rejected_record AS same SET resolved_at = clock_timestamp(), resolution = done.resolution"
                " FROM unnest(%s::text[], %s::text[]) AS done (payload, resolution)"
                " WHERE {} AND md5(same.payload) = md5(done.payload) AND same.payload = done.payload"
            ).format(_open_rows("same", self._instance)),
            (
                [kept.payload for kept in taken],
                ["rejected again" if kept.id in bad else "replayed" for kept in taken],
            ),
        )
        return again
