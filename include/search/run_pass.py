"""One pass over an index: browse, compare, send what differs, wait until it is published.

The next page is read while the last one is compared and up to four batches are on their way. What is kept in memory is
a page, the batches in flight and the counts, whatever the size of the index.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from threading import Event
from typing import Any

import msgspec

from include.connectors import cancellation
from include.connectors.algolia import MAX_RECORDS, AlgoliaIndex, Browsed
from include.errors import PaginationError, RequestRefused, ServiceUnavailable
from include.patches.base import Patch, attributes_of, differences
from include.search.report import MAX_SAMPLES, PassReport, PatchCounts, count

log = logging.getLogger(__name__)

MAX_BYTES = 5_000_000
"""Of one batch; Algolia advises against more than 10 MB
(https://www.algolia.com/doc/guides/sending-and-managing-data/send-and-update-your-data/in-depth/limitations)."""
MAX_UNPUBLISHED = 64
"""Tasks of ours that may wait at once; Algolia slows an application down from a hundred on
(https://support.algolia.com/hc/en-us/articles/4406975251089)."""
MAX_TASK_SECONDS = 600.0
MAX_RESUME_SECONDS = 30.0
"""Waited for a task, and for those that a killed run had left."""
KEEP_SECONDS = 0.5
MAX_BUFFERED_SECONDS = 2.0
PROGRESS_SECONDS = 5.0
TOO_LARGE = (400, 413, 422)
"""Answers that blame the content of a batch."""


class Mark(msgspec.Struct):
    """Where a pass stands: all that came before `cursor` is with Algolia, in `tasks` what may not be published yet."""

    cursor: str | None
    tasks: list[int]
    report: PassReport


def run_pass(
    index: AlgoliaIndex,
    patches: Sequence[Patch],
    *,
    dry_run: bool = False,
    resume: Mark | None = None,
    most_pages: int | None = None,
    in_flight: int = 4,
    keep: Callable[[Mark], None] = lambda _: None,
    superseded: Callable[[], bool] = lambda: False,
) -> tuple[PassReport, bool]:
    """Give every record the values of the patches; returns the report, and whether the pass went to its end.

    `keep` is called with the place up to which the work is safe, now and then; a pass that gets it as `resume` goes on
    there. `superseded` is asked after each page: when it says so, or after `most_pages`, the pass waits for what it
    sent, and ends.

    Raises:
        PaginationError: the index repeats its cursors.
        ProviderSyncError: whatever Algolia answered, after the connector's own tries.
    """
    attributes = attributes_of(patches)
    ending = Event()
    reader = ThreadPoolExecutor(1, "browse", cancellation.bind, (ending,))
    senders = ThreadPoolExecutor(in_flight, "patch", cancellation.bind, (ending,))
    running = _Pass(index, patches, senders, dry_run=dry_run, resume=resume, keep=keep, in_flight=in_flight)
    try:
        is_whole = running.read(lambda cursor: reader.submit(index.browse, attributes, cursor), superseded, most_pages)
        running.settle()
    finally:
        ending.set()  # what is on its way when something fails is not waited for
        for pool in (reader, senders):
            pool.shutdown(wait=False, cancel_futures=True)
    return running.report, is_whole


class _Pass:
    """What is going on in a pass; everything but `_send` runs in one thread."""

    def __init__(
        self,
        index: AlgoliaIndex,
        patches: Sequence[Patch],
        senders: ThreadPoolExecutor,
        *,
        dry_run: bool,
        resume: Mark | None,
        keep: Callable[[Mark], None],
        in_flight: int,
    ) -> None:
        self._index = index
        self._patches = patches
        self._dry_run = dry_run
        self._keep = keep
        self._senders = senders
        self._in_flight = in_flight
        self.report = resume.report if resume else PassReport()
        self._cursor = resume.cursor if resume else None
        self._tasks: deque[int] = deque(resume.tasks if resume else ())
        self._spent = self.report.seconds
        self._began = self._kept_at = self._told_at = time.monotonic()
        self._counts = [self.report.patches.setdefault(patch.name, PatchCounts()) for patch in patches]
        self._buffer: list[Mapping[str, Any]] = []
        self._buffered_bytes = 0
        self._buffered_at = 0.0
        self._sent: deque[Future[dict[str, str]]] = deque()
        self._acknowledged = self._numbered = 0
        self._marks: deque[tuple[int, str, bytes]] = deque()
        self._safe: tuple[int, str, bytes] | None = None

    def read(
        self,
        browse: Callable[[str | None], Future[Browsed]],
        superseded: Callable[[], bool],
        most_pages: int | None,
    ) -> bool:
        """Read from the cursor on and send what differs; True when the last page was read."""
        try:  # of the run that was killed: what it sent should be readable first
            self._wait_for_tasks(MAX_RESUME_SECONDS)
        except ServiceUnavailable as error:
            log.warning("%s: going on without it, what it changes may be sent again", error)
        cursors: set[int] = set()
        coming = browse(self._cursor)
        pages = 0
        while True:
            page = coming.result()
            if page.cursor:
                if hash(page.cursor) in cursors:
                    raise PaginationError("Algolia gave the same cursor twice", record=self.report.read)
                cursors.add(hash(page.cursor))
                coming = browse(page.cursor)
            if self.report.total is None:
                self.report.total = page.total
            self._compare(page)
            self._collect()
            if page.cursor:
                self._mark(page.cursor)
            self._tell()
            if not page.cursor:
                return True
            pages += 1
            if pages == most_pages or superseded():
                return False

    def settle(self) -> None:
        """Send the rest, and wait until all is published."""
        self._flush()
        while self._sent:
            self._collect(wait=True)
        self._wait_for_tasks()
        self.report.seconds = self._seconds()

    def _compare(self, page: Browsed) -> None:
        report = self.report
        for record in page.records:
            report.read += 1
            changes: dict[str, Any] = {}
            for patch, counts in zip(self._patches, self._counts, strict=True):
                try:
                    values, differing = differences(patch, record)
                    remark = patch.remark(record)
                except Exception as error:  # whatever an author's function raises concerns this record only
                    self._refuse(record.get("objectID"), f"{patch.name} raised {type(error).__name__}: {error}")
                    continue
                if not values:
                    counts.left_alone += 1
                for value in values.values():
                    count(counts.values, value)
                if remark:
                    count(counts.remarks, remark)
                if differing:
                    counts.changed += 1
                    changes.update(differing)
            if changes:
                report.changed += 1
                report.add_sample(record.get("objectID"), record, changes)
                if not self._dry_run:
                    self._add({"objectID": record["objectID"], **changes})

    def _add(self, change: Mapping[str, Any]) -> None:
        size = len(msgspec.json.encode(change)) + 70  # with what the batch puts around it
        if len(self._buffer) >= MAX_RECORDS or self._buffered_bytes + size > MAX_BYTES:
            self._flush()
        if not self._buffer:
            self._buffered_at = time.monotonic()
        self._buffer.append(change)
        self._buffered_bytes += size

    def _flush(self) -> None:
        if not self._buffer:
            return
        while len(self._sent) >= self._in_flight:
            self._collect(wait=True)
        self._sent.append(self._senders.submit(self._send, self._buffer))
        self._numbered += 1
        self._buffer, self._buffered_bytes = [], 0

    def _send(self, records: Sequence[Mapping[str, Any]]) -> dict[str, str]:
        """Send a batch from a thread of its own; returns what Algolia did not take, by object id."""
        try:
            self._tasks.append(self._index.patch(records))
        except RequestRefused as error:
            if error.status not in TOO_LARGE:
                raise
            if len(records) == 1:
                return {str(records[0]["objectID"]): str(error)}
            middle = len(records) // 2
            return self._send(records[:middle]) | self._send(records[middle:])
        while len(self._tasks) > MAX_UNPUBLISHED:
            self._index.wait_until_published(self._tasks.popleft())
        return {}

    def _collect(self, *, wait: bool = False) -> None:
        """Take what the sent batches came to, in their order."""
        while self._sent and (wait or self._sent[0].done()):
            for object_id, reason in self._sent.popleft().result().items():
                self._refuse(object_id, reason)
            self._acknowledged += 1
            self.report.batches += 1
            wait = False

    def _refuse(self, object_id: object, reason: str) -> None:
        """Leave a record out; the first few are told at once."""
        self.report.add_refused(object_id, reason)
        if self.report.refused_count <= MAX_SAMPLES:
            log.warning("%s could not be patched: %s", object_id, reason)

    def _mark(self, cursor: str) -> None:
        """Note the end of a page, and keep the last one before which everything was acknowledged."""
        if self._buffer and time.monotonic() - self._buffered_at > MAX_BUFFERED_SECONDS:
            self._flush()
        self.report.seconds = self._seconds()
        self._marks.append((self._numbered + bool(self._buffer), cursor, msgspec.json.encode(self.report)))
        while self._marks and self._marks[0][0] <= self._acknowledged:
            self._safe = self._marks.popleft()
        if self._safe and not self._dry_run and time.monotonic() - self._kept_at >= KEEP_SECONDS:
            _, cursor, report = self._safe
            self._keep(Mark(cursor, list(self._tasks.copy()), msgspec.json.decode(report, type=PassReport)))
            self._kept_at, self._safe = time.monotonic(), None

    def _wait_for_tasks(self, longest: float = MAX_TASK_SECONDS) -> None:
        """The newest first: the others are then published, or nearly so."""
        wait = partial(self._index.wait_until_published, longest=longest)
        waiting = [self._senders.submit(wait, task) for task in reversed(self._tasks)]
        for each in waiting:
            each.result()
        self._tasks.clear()

    def _tell(self) -> None:
        if time.monotonic() - self._told_at >= PROGRESS_SECONDS:
            self._told_at = time.monotonic()
            total = f" of {self.report.total:,}" if self.report.total else ""
            log.info(
                "%s%s records read, %s differ, %s batches taken, %.0f records/s",
                f"{self.report.read:,}", total, f"{self.report.changed:,}", self.report.batches,
                self.report.read / max(self._seconds(), 0.001),
            )  # fmt: skip

    def _seconds(self) -> float:
        return self._spent + time.monotonic() - self._began
