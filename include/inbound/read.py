"""The step *read*: reads a provider's records, as many as make a chunk, and rejects those that cannot be read."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from time import perf_counter
from typing import NamedTuple, Protocol

import psycopg

from include.errors import FatalError, ProviderSyncError, RejectRecord, SkipObject
from include.inbound.rejections import Rejection
from include.models.report import SyncReport, storable
from include.providers.base import LocalProvider, ProvidableInfo

log = logging.getLogger(__name__)

MAX_CONSECUTIVE_ERRORS = 100
"""Unexpected errors of a provider's `__next__` in a row; more of them are the source's fault, not the records'."""


class Reading(NamedTuple):
    """The records of a chunk: `lists` has the objects that each describes, or none if it is skipped.

    `requested_at` is when the page of the first record was requested.
    """

    lists: list[Sequence[ProvidableInfo]]
    rejections: list[Rejection]
    requested_at: datetime


class Reader(Protocol):
    """Reads the chunks of a run: from the source, or from the rejected records."""

    cursor: str | None
    """Where the next attempt resumes, after the last good record read."""
    is_exhausted: bool
    """True when there is nothing left to read."""

    def read(self, *, size: int, max_records: int, budget: tuple[float, float], report: SyncReport) -> Reading:
        """Read the next chunk; adds the seconds to the report.

        Args:
            size: the number of objects to read at least, unless the source ends before.
            max_records: the number of records to read at most; with this many the reader is exhausted.
            budget: stop when more records are rejected than this number plus this share of the records read.
            report: the run's report.
        """


class RecordReader:
    """Reads the records of an open provider, from the cursor where an earlier attempt stopped.

    A chunk ends after a good record, because only a good record has a cursor from which to resume; or when the error
    budget is exceeded.
    """

    def __init__(self, provider: LocalProvider, cursor: str | None) -> None:
        self.cursor = cursor
        self.is_exhausted = False
        self._provider = provider
        self._iterator = iter(provider)
        self._broken: Exception | None = None
        """The error that the listing seems to have ended with."""
        self._consecutive_errors = 0

    def read(self, *, size: int, max_records: int, budget: tuple[float, float], report: SyncReport) -> Reading:
        """Read the next chunk, see `Reader.read`; FatalError if the listing itself cannot be read."""
        began, waited = perf_counter(), self._waited()
        provider, iterator = self._provider, self._iterator
        lists: list[Sequence[ProvidableInfo]] = []
        rejections: list[Rejection] = []
        requested_at: datetime | None = None
        infos: Sequence[ProvidableInfo] | None
        records = objects = 0
        may_end = True
        while (objects < size or not may_end) and records < max_records:
            previous = provider.record
            try:
                infos = next(iterator)
            except StopIteration:
                self._end()
                break
            except SkipObject as error:
                infos, may_end = (), True
                self._broken = error if self._has_died() else None
            except Exception as error:
                if isinstance(error, (ProviderSyncError, psycopg.Error)) and not isinstance(error, RejectRecord):
                    raise
                infos, may_end = None, False
                self._reject(rejections, error, previous)
            else:
                may_end = True
                self._broken = None
            if infos is not None:
                lists.append(infos)
                objects += len(infos) or 1
                self._consecutive_errors = 0
            else:
                objects += 1
            records += 1
            if not may_end and len(rejections) > budget[0] + budget[1] * records:
                break
            if requested_at is None:
                requested_at = provider.requested_at
        if records >= max_records:
            self.is_exhausted = True
        spent, waited = perf_counter() - began, self._waited() - waited
        report.fetch_seconds += waited
        report.iterate_seconds += spent - waited
        if lists:
            self._save_cursor(is_after_last=may_end)
        return Reading(lists, rejections, requested_at or provider.started_at)

    def _end(self) -> None:
        if self._broken is not None:
            error = self._broken
            raise FatalError(f"The listing ended with an error: {type(error).__name__}: {error}") from error
        self.is_exhausted = True

    def _reject(self, rejections: list[Rejection], error: Exception, previous: object) -> None:
        """Reject the record over which `__next__` raised, unless the listing itself is broken."""
        record = None if self._provider.record is previous else self._provider.record
        if isinstance(error, RejectRecord):
            payload = record if error.payload is None else error.payload
            rejections.append(Rejection(None, None, error.message, payload, error.reference))
            self._broken = error if self._has_died() else None
            return
        log.debug("%s could not read a record", type(self._provider).__name__, exc_info=error)
        self._consecutive_errors += 1
        # A provider that raises the same exception object again, or that many in a row, makes no progress.
        if error is self._broken or self._consecutive_errors == MAX_CONSECUTIVE_ERRORS:
            raise FatalError(f"The listing cannot be read: {type(error).__name__}: {error}") from error
        rejections.append(Rejection(None, None, f"{type(error).__name__}: {error}", record))
        self._broken = error if record is None or self._has_died() else None

    def _save_cursor(self, *, is_after_last: bool) -> None:
        try:
            cursor = self._provider.cursor
        except Exception:
            if is_after_last:
                raise
            return  # the current record is one that could not be read
        if cursor and cursor == storable(cursor):  # otherwise the cursor of an earlier chunk has to do
            self.cursor = cursor

    def _has_died(self) -> bool:
        """Whether the error came out of a generator: it is over then, although the listing has not ended."""
        return any(getattr(source, "gi_frame", source) is None for source in (self._iterator, self._provider.records))

    def _waited(self) -> float:
        return float(getattr(self._provider.records, "waited", 0.0))
