"""One pass over an index: browse all records, compare them with the patches, send the differences.

One thread requests the next page while the current one is compared, and others send up to `MAX_IN_FLIGHT` batches.
Memory use does not depend on the size of the index: one page, these batches and the counts.
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
from include.patches.base import Patch, differences, requested_attributes
from include.search.report import MAX_SAMPLES, PassReport, PatchCounts, count

log = logging.getLogger(__name__)

MAX_BYTES = 5_000_000
"""Maximum size of a batch; Algolia advises against more than 10 MB
(https://www.algolia.com/doc/guides/sending-and-managing-data/send-and-update-your-data/in-depth/limitations)."""
MAX_IN_FLIGHT = 4
"""Maximum number of batches that are sent at once."""
MAX_UNPUBLISHED = 64
"""Maximum number of unpublished tasks of a pass; Algolia throttles an application that has a hundred
(https://support.algolia.com/hc/en-us/articles/4406975251089)."""
MAX_TASK_SECONDS = 600.0
"""Maximum wait for a task of this pass."""
MAX_RESUME_SECONDS = 30.0
"""Maximum wait for a task of the run that a pass resumes."""
CHECKPOINT_SECONDS = 0.5
"""Minimum time between two checkpoints."""
MAX_BUFFERED_SECONDS = 2.0
"""After this time a batch is sent although it is not full, so that checkpoints do not wait for it."""
PROGRESS_SECONDS = 5.0
"""Time between two log lines."""
BAD_CONTENT = (400, 413, 422)
"""Status codes of a response that refuses a batch because of a record in it."""


class Checkpoint(msgspec.Struct):
    """Where to resume a pass.

    :param cursor: cursor of the next page; Algolia has accepted all changes of the pages before.
    :param tasks: tasks that may not be published yet.
    :param report: counts of the pages before `cursor`.
    """

    cursor: str | None
    tasks: list[int]
    report: PassReport


def run_pass(
    index: AlgoliaIndex,
    patches: Sequence[Patch],
    *,
    dry_run: bool = False,
    checkpoint: Checkpoint | None = None,
    max_pages: int | None = None,
    save_checkpoint: Callable[[Checkpoint], None] = lambda _: None,
    is_superseded: Callable[[], bool] = lambda: False,
) -> tuple[PassReport, bool]:
    """Give every record the values of the patches; returns the report, and whether all pages were read.

    The pass waits until Algolia has published its changes.

    :param dry_run: only read and compare.
    :param checkpoint: where to resume an earlier pass; None starts from the first page.
    :param max_pages: stop after this many pages.
    :param save_checkpoint: called about twice a second with a checkpoint from which the pass could be resumed.
    :param is_superseded: called after each page; the pass stops when it returns True.

    Raises:
        PaginationError: Algolia returned the same cursor twice.
        ProviderSyncError: a request failed after the connector's retries.
    """
    attributes = requested_attributes(patches)
    cancelled = Event()
    reader = ThreadPoolExecutor(1, "browse", cancellation.bind, (cancelled,))
    senders = ThreadPoolExecutor(MAX_IN_FLIGHT, "patch", cancellation.bind, (cancelled,))
    this_pass = _Pass(index, patches, senders, dry_run=dry_run, checkpoint=checkpoint, save=save_checkpoint)
    try:
        is_complete = this_pass.read(
            lambda cursor: reader.submit(index.browse, attributes, cursor), is_superseded, max_pages
        )
        this_pass.finish()
    finally:
        cancelled.set()  # after an error, requests in flight are abandoned
        for pool in (reader, senders):
            pool.shutdown(wait=False, cancel_futures=True)
    return this_pass.report, is_complete


class _Pass:
    """The state of a pass. Everything but `_send` runs in one thread."""

    def __init__(
        self,
        index: AlgoliaIndex,
        patches: Sequence[Patch],
        senders: ThreadPoolExecutor,
        *,
        dry_run: bool,
        checkpoint: Checkpoint | None,
        save: Callable[[Checkpoint], None],
    ) -> None:
        self._index = index
        self._patches = patches
        self._dry_run = dry_run
        self._save = save
        self._senders = senders
        self.report = checkpoint.report if checkpoint else PassReport()
        self._cursor = checkpoint.cursor if checkpoint else None
        self._tasks: deque[int] = deque(checkpoint.tasks if checkpoint else ())
        self._earlier_seconds = self.report.seconds
        self._started_at = self._saved_at = self._logged_at = time.monotonic()
        self._counts = [self.report.patches.setdefault(patch.name, PatchCounts()) for patch in patches]
        self._buffer: list[Mapping[str, Any]] = []
        self._buffered_bytes = 0
        self._buffered_at = 0.0
        self._in_transit: deque[Future[dict[str, str]]] = deque()
        self._sent = self._accepted = 0
        # Ends of pages: how many batches Algolia must have accepted by then, the next cursor, the encoded report.
        self._pages: deque[tuple[int, str, bytes]] = deque()
        self._safe: tuple[int, str, bytes] | None = None

    def read(
        self,
        browse: Callable[[str | None], Future[Browsed]],
        is_superseded: Callable[[], bool],
        max_pages: int | None,
    ) -> bool:
        """Read pages and send the differences; returns whether the last page was reached."""
        try:  # changes that the resumed run sent should be visible before they are compared
            self._wait_for_tasks(MAX_RESUME_SECONDS)
        except ServiceUnavailable as error:
            log.warning("%s. Continuing without it; its changes may be sent again", error)
        cursors: set[int] = set()
        next_page = browse(self._cursor)
        pages = 0
        while True:
            page = next_page.result()
            if page.cursor:
                if hash(page.cursor) in cursors:
                    raise PaginationError("Algolia returned the same cursor twice", record=self.report.read)
                cursors.add(hash(page.cursor))
                next_page = browse(page.cursor)
            if self.report.total is None:
                self.report.total = page.total
            self._compare(page)
            self._collect()
            if page.cursor:
                self._checkpoint(page.cursor)
            self._log_progress()
            if not page.cursor:
                return True
            pages += 1
            if pages == max_pages or is_superseded():
                return False

    def finish(self) -> None:
        """Send the last batch and wait until all changes are published."""
        self._flush()
        while self._in_transit:
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
                except Exception as error:  # an error in an author's function concerns this record only
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
                report.add_sample(record, changes)
                if not self._dry_run:
                    self._add({"objectID": record["objectID"], **changes})

    def _add(self, change: Mapping[str, Any]) -> None:
        size = len(msgspec.json.encode(change)) + 70  # the action and braces around it in the batch
        if len(self._buffer) >= MAX_RECORDS or self._buffered_bytes + size > MAX_BYTES:
            self._flush()
        if not self._buffer:
            self._buffered_at = time.monotonic()
        self._buffer.append(change)
        self._buffered_bytes += size

    def _flush(self) -> None:
        if not self._buffer:
            return
        while len(self._in_transit) >= MAX_IN_FLIGHT:
            self._collect(wait=True)
        self._in_transit.append(self._senders.submit(self._send, self._buffer))
        self._sent += 1
        self._buffer, self._buffered_bytes = [], 0

    def _send(self, records: Sequence[Mapping[str, Any]]) -> dict[str, str]:
        """Send a batch; returns the reasons for refused records by object id. Runs in a thread of the pool.

        Algolia refuses a whole batch because of one record. Sending it again in halves finds that record.
        """
        try:
            self._tasks.append(self._index.patch(records))
        except RequestRefused as error:
            if error.status not in BAD_CONTENT:
                raise
            if len(records) == 1:
                return {str(records[0]["objectID"]): str(error)}
            middle = len(records) // 2
            return self._send(records[:middle]) | self._send(records[middle:])
        while len(self._tasks) > MAX_UNPUBLISHED:
            self._index.wait_until_published(self._tasks.popleft())
        return {}

    def _collect(self, *, wait: bool = False) -> None:
        """Collect the results of sent batches in their order; with `wait`, wait for the first one."""
        while self._in_transit and (wait or self._in_transit[0].done()):
            for object_id, reason in self._in_transit.popleft().result().items():
                self._refuse(object_id, reason)
            self._accepted += 1
            self.report.batches += 1
            wait = False

    def _refuse(self, object_id: object, reason: str) -> None:
        """Count a record that could not be patched; the first ones are logged."""
        self.report.add_refused(object_id, reason)
        if self.report.refused_count <= MAX_SAMPLES:
            log.warning("%s could not be patched: %s", object_id, reason)

    def _checkpoint(self, cursor: str) -> None:
        """Save a checkpoint at the last page of which Algolia has accepted all changes, and of all pages before it."""
        if self._buffer and time.monotonic() - self._buffered_at > MAX_BUFFERED_SECONDS:
            self._flush()
        self.report.seconds = self._seconds()
        # The report is encoded at once: it continues to count while this page waits for its batches.
        self._pages.append((self._sent + bool(self._buffer), cursor, msgspec.json.encode(self.report)))
        while self._pages and self._pages[0][0] <= self._accepted:
            self._safe = self._pages.popleft()
        if self._safe and not self._dry_run and time.monotonic() - self._saved_at >= CHECKPOINT_SECONDS:
            _, cursor, report = self._safe
            self._save(Checkpoint(cursor, list(self._tasks.copy()), msgspec.json.decode(report, type=PassReport)))
            self._saved_at, self._safe = time.monotonic(), None

    def _wait_for_tasks(self, longest: float = MAX_TASK_SECONDS) -> None:
        # The newest task first: when it is published, the others usually are, too.
        wait = partial(self._index.wait_until_published, longest=longest)
        for each in [self._senders.submit(wait, task) for task in reversed(self._tasks)]:
            each.result()
        self._tasks.clear()

    def _log_progress(self) -> None:
        if time.monotonic() - self._logged_at >= PROGRESS_SECONDS:
            self._logged_at = time.monotonic()
            total = f" of {self.report.total:,}" if self.report.total else ""
            log.info(
                "%s%s records read, %s differ, %s batches sent, %.0f records/s",
                f"{self.report.read:,}", total, f"{self.report.changed:,}", self.report.batches,
                self.report.read / max(self._seconds(), 0.001),
            )  # fmt: skip

    def _seconds(self) -> float:
        return self._earlier_seconds + time.monotonic() - self._started_at
