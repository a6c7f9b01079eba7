"""Reads a provider's records, as many as make a chunk, and gets over those that cannot be read."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from time import perf_counter
from typing import Any, NamedTuple

import psycopg

from include.errors import FatalError, ProviderSyncError, RejectRecord, SkipObject
from include.models.report import SyncReport, storable
from include.providers.base import LocalProvider, ProvidableInfo

log = logging.getLogger(__name__)

ERRORS_IN_A_ROW = 100
"""Unexpected errors of a provider's `__next__`, one after the other, that are the source's and not the records'."""


class Rejection(NamedTuple):
    """A record or object put aside."""

    model: str | None
    id_at_providers: str | None
    reason: str
    payload: Any
    reference: str | None = None
    """What the keys of its objects begin with, when the record has no key but could tell that much."""


class Reading(NamedTuple):
    """What was read: the objects of each record, the records put aside, and when the first one's page was asked for."""

    lists: list[Sequence[ProvidableInfo]]
    rejections: list[Rejection]
    asked_at: datetime


class RecordReader:
    """Where a listing has been read to. `cursor` is that of the last record from which a next try can go on."""

    def __init__(self, provider: LocalProvider, cursor: str | None) -> None:
        self.cursor = cursor
        self.is_exhausted = False
        self._provider = provider
        self._iterator = iter(provider)
        self._broken: Exception | None = None
        self._errors_in_a_row = 0

    def read(self, *, size: int, room: int, budget: tuple[float, float], report: SyncReport) -> Reading:
        """Read records of at least `size` objects together, but no more than `room` records; adds the seconds up.

        It ends behind a good record, because only that one tells where to go on; or when more were put aside than the
        `budget` allows: so many, and a share of the records read.

        Raises:
            FatalError: the listing itself cannot be read, as opposed to one of its records.
        """
        began, waited = perf_counter(), self._waited()
        provider, iterator = self._provider, self._iterator
        lists: list[Sequence[ProvidableInfo]] = []
        rejections: list[Rejection] = []
        asked_at: datetime | None = None
        infos: Sequence[ProvidableInfo] | None
        records = objects = 0
        may_end = True
        while (objects < size or not may_end) and records < room:
            previous = provider.record
            try:
                infos = next(iterator)
            except StopIteration:
                self._end()
                break
            except SkipObject as error:
                infos, may_end = (), True
                self._broken = error if self._has_died() else None
            except (ProviderSyncError, psycopg.Error) as error:
                if not isinstance(error, RejectRecord):
                    raise
                infos, may_end = None, False
                self._reject(rejections, error, previous)
            except Exception as error:
                infos, may_end = None, False
                self._reject(rejections, error, previous)
            else:
                may_end = True
                self._broken = None
            if infos is not None:
                lists.append(infos)
                objects += len(infos) or 1
                self._errors_in_a_row = 0
            else:
                objects += 1
            records += 1
            if not may_end and len(rejections) > budget[0] + budget[1] * records:
                break
            if asked_at is None:
                asked_at = provider.requested_at
        if records >= room:
            self.is_exhausted = True
        spent, waited = perf_counter() - began, self._waited() - waited
        report.fetch_seconds += waited
        report.iterate_seconds += spent - waited
        if lists:
            self._keep_cursor(is_behind_last=may_end)
        return Reading(lists, rejections, asked_at or provider.started_at)

    def _end(self) -> None:
        if self._broken is not None:
            error = self._broken
            raise FatalError(f"The listing ended with an error: {type(error).__name__}: {error}") from error
        self.is_exhausted = True

    def _reject(self, rejections: list[Rejection], error: Exception, previous: object) -> None:
        """Put the record aside over which `__next__` raised, unless it is the listing that is broken."""
        record = None if self._provider.record is previous else self._provider.record
        if isinstance(error, RejectRecord):
            payload = record if error.payload is None else error.payload
            rejections.append(Rejection(None, None, error.message, payload, error.reference))
            self._broken = error if self._has_died() else None
            return
        log.debug("%s could not read a record", type(self._provider).__name__, exc_info=error)
        self._errors_in_a_row += 1
        if error is self._broken or self._errors_in_a_row == ERRORS_IN_A_ROW:
            raise FatalError(f"The listing cannot be read: {type(error).__name__}: {error}") from error
        rejections.append(Rejection(None, None, f"{type(error).__name__}: {error}", record))
        self._broken = error if record is None or self._has_died() else None

    def _keep_cursor(self, *, is_behind_last: bool) -> None:
        try:
            cursor = self._provider.cursor
        except Exception:
            if is_behind_last:
                raise
            return  # of a record that could not be read
        if cursor and cursor == storable(cursor):  # else that of an earlier chunk is good enough
            self.cursor = cursor

    def _has_died(self) -> bool:
        """Whether the error came out of a generator: that is over then, and its end is not that of the listing."""
        return any(getattr(source, "gi_frame", source) is None for source in (self._iterator, self._provider.records))

    def _waited(self) -> float:
        return float(getattr(self._provider.records, "waited", 0.0))
