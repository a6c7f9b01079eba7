"""The inbound engine: synchronises one provider and venue link, from its listing into the database.

Each chunk passes through the steps *read* (`read.py`), *compare*, *fill* and *write* (`chunk.py`), and is one
transaction that contains its rows, its rejected records and the cursor from which the next attempt resumes. A chunk
that changes nothing has nothing to commit; its progress is saved once a second.

Commits do not wait for the disk. The last one does, and makes all before it durable. If PostgreSQL itself crashes in
between, data and cursor are lost together, and the next attempt resumes from what is there.
"""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from time import perf_counter

import msgspec
import psycopg

from include.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    ErrorBudgetExceeded,
    FatalError,
    LinkBusy,
    ListingShrank,
    ProviderSyncError,
)
from include.inbound import loads
from include.inbound.chunk import Chunk
from include.inbound.images import ImageStep
from include.inbound.read import Reader, RecordReader
from include.inbound.rejections import OpenRecords
from include.inbound.removed import CompleteListing, RemovalChunk
from include.inbound.replay import ReplayReader
from include.models import VenueLink
from include.models.report import SyncReport
from include.providers.base import LocalProvider
from include.store import Connection, database_failures, ledger, rejected
from include.store.ledger import Instance, LoadParameters
from include.store.locks import link_lock
from include.store.objects import ObjectStorage
from include.store.providers import is_active, is_current, register_provider
from include.store.rows import ChunkConflict, RowsRefused
from include.store.session import LateTransaction, commit_durably, database_time, sync_session

log = logging.getLogger(__name__)

CHUNK_MAX_SIZE = 1000
"""Objects saved in one transaction, unless the caller sets another size."""
MAX_CHUNK_ATTEMPTS = 5
"""How often a chunk is saved again because another session wrote the same rows."""
LOG_SECONDS = 5.0
SAVE_PROGRESS_SECONDS = 1.0
"""How often chunks without changes save their progress; after a kill, those since then are compared again."""
_INACTIVE = "the provider or the venue link is not active"


def sync_provider(
    provider: LocalProvider,
    connection: Connection,
    *,
    chunk_size: int = CHUNK_MAX_SIZE,
    limit: int | None = None,
    dry_run: bool = False,
    full_refresh: bool = False,
    instance_id: int | None = None,
    interval: tuple[datetime, datetime | None] | None = None,
    replay: bool = False,
    accept_shrunk: bool = False,
    storage: ObjectStorage | None = None,
) -> SyncReport:
    """Synchronise the database with a provider's listing.

    Args:
        provider: an instance, with its venue link and connector if it needs them.
        connection: an idle psycopg connection to a migrated database; in autocommit mode during the call.
        chunk_size: objects per transaction, including references.
        limit: stop after exactly this number of records; the watermark then stays.
        dry_run: write nothing but the ledger entry; the report has a sample of differences. A key that comes again in a
            later chunk counts as created again.
        full_refresh: read everything, not only what changed since the watermark.
        instance_id: operation instance to run, from `ledger.pending_instances`; by default, opens and closes a load.
        interval: read this interval instead of everything since the watermark (a backfill).
        replay: read the open rejected records (see `rejected_report`) instead of the source. The provider needs
            `decode_record`. Each is resolved with its chunk; there is no error budget.
        accept_shrunk: accept a complete listing even if it lacks more rows than `max_removed_share` allows.
        storage: where images are stored; without it, images are left alone.

    Returns:
        The report, with the counts of all attempts of the instance; its `state` is "skipped" if the provider or the
        venue link is not active.

    Raises:
        ProviderSyncError: any subclass; what was committed stays, and the next attempt resumes from there.
    """
    start, end = interval or (None, None)
    options = LoadParameters(full_refresh=full_refresh, dry_run=dry_run, replay=replay, accept_shrunk=accept_shrunk,
                             limit=limit, chunk_size=chunk_size, interval_start=start, interval_end=end)  # fmt: skip
    link = _checked_link(provider, options)
    where = {"provider": provider.name, "venue": link.label if link else None}
    with database_failures(connection, **where), sync_session(connection), _without_gc_of_the_past():
        if instance_id is None:
            return _run_own_load(provider, connection, options, storage)
        return _run_instance(provider, connection, instance_id, options, storage)


def _checked_link(provider: LocalProvider, options: LoadParameters) -> VenueLink | None:
    """Return the provider's venue link; ConfigurationError if it is missing, or if an option is out of range."""
    if options.chunk_size < 1 or (options.limit is not None and options.limit < 1):
        raise ConfigurationError("chunk_size and limit must be 1 or more")
    if provider.needs_venue and provider.venue_provider is None:
        raise ConfigurationError(
            f"{type(provider).__name__} is listed per venue: pass a venue link, or set needs_venue = False on it"
        )
    return provider.venue_provider


@contextmanager
def _without_gc_of_the_past() -> Iterator[None]:
    """Exempt the objects that exist already from garbage collection, which runs often while records come and go."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _run_own_load(
    provider: LocalProvider, connection: Connection, options: LoadParameters, storage: ObjectStorage | None
) -> SyncReport:
    """Open a load for the provider's link, run its only instance, and close it."""
    link_id = provider.venue_provider.id if provider.venue_provider else None
    provider_id = register_provider(connection, provider.row_name(), provider.name)
    if not is_active(connection, provider_id, link_id):
        log.info("Skipped: %s", _INACTIVE)
        return SyncReport(state="skipped")
    if options.replay and link_id not in rejected.links_with_rejections(connection, provider_id):
        log.info("There are no open rejected records to replay")
        return SyncReport(dry_run=options.dry_run)
    options = msgspec.structs.replace(options, venue_links=() if link_id is None else (str(link_id),))
    catalog_id = loads.open_load(connection, type(provider), options)
    try:
        instance_id = ledger.single_instance(connection, catalog_id)
        return _run_instance(provider, connection, instance_id, options, storage)
    finally:
        if not connection.broken:
            loads.close_load(connection, catalog_id)


def _run_instance(
    provider: LocalProvider,
    connection: Connection,
    instance_id: int,
    options: LoadParameters,
    storage: ObjectStorage | None,
) -> SyncReport:
    """Take the lock of the link, and run the next attempt of an instance unless the link is not active any more."""
    instance, link = ledger.load_instance(connection, instance_id), provider.venue_provider
    try:
        with link_lock(connection, *instance.place):
            if not is_active(connection, *instance.place):
                ledger.skip(connection, instance, _INACTIVE)
                log.info("Skipped: %s", _INACTIVE)
                return SyncReport(state="skipped")
            if link is not None and not is_current(connection, link):
                raise LinkBusy("The venue link was changed while the run began", retry_after=1)
            return _Run(provider, connection, instance_id, options, storage).run()
    except ProviderSyncError as error:
        error.at(provider=provider.name, venue=link.label if link else None)
        raise


def _log_start(instance: Instance, options: LoadParameters) -> None:
    if options.replay:
        what = "the open rejected records"
    else:
        what = f"what changed since {instance.since:%Y-%m-%d %H:%M:%S %Z}" if instance.since else "everything"
    resuming = f", resuming after {instance.cursor}" if instance.cursor else ""
    log.info("Attempt %s: reading %s%s", instance.attempts, what, resuming)


@dataclass
class _State:
    """How far an attempt has come."""

    instance: Instance
    report: SyncReport
    """The counts of all saved chunks."""
    watermark: datetime | None
    clock_offset: timedelta
    """What the database's clock is ahead of this machine's. Rows of all workers are compared by the database's."""
    cursor: str | None
    """Where the next attempt resumes once the current chunk is saved."""
    saved_cursor: str | None = None
    """That of the last saved chunk."""
    is_careful: bool = False
    """Whether PostgreSQL has refused a row; see `ChunkContext`."""
    began: float = field(default_factory=perf_counter)
    progress_saved_at: float = field(default_factory=perf_counter)
    is_progress_saved: bool = True


class _Run:
    """One attempt of an operation instance; the caller holds the lock of the link."""

    def __init__(
        self,
        provider: LocalProvider,
        connection: Connection,
        instance_id: int,
        options: LoadParameters,
        storage: ObjectStorage | None,
    ) -> None:
        self._provider = provider
        self._connection = connection
        self._options = options
        instance, report = loads.begin_attempt(connection, instance_id, provider, options)
        self._state = _State(
            instance,
            report,
            watermark=ledger.watermark_of(connection, instance.place),
            clock_offset=database_time(connection) - datetime.now(UTC),
            cursor=instance.cursor,
        )
        self._replay: ReplayReader | None = None
        self._open_records: OpenRecords | None = None
        self._listing: CompleteListing | None = None
        self._images: ImageStep | None = None
        if storage is not None and provider.has_images():
            self._images = ImageStep(provider, storage, is_dry_run=options.dry_run)

    def run(self) -> SyncReport:
        """Read and save the listing, and record in the ledger how the attempt ended."""
        state, connection = self._state, self._connection
        _log_start(state.instance, self._options)
        try:
            try:
                self._listing = self._complete_listing()
                self._save_chunks(self._open_reader())
                if self._listing is not None:
                    self._save_removals(self._listing)
            finally:
                if self._images is not None:
                    self._images.close()
                self._provider.close()
            state.report.end()
            with connection.transaction():
                commit_durably(connection)
                if self._reads_everything() and not self._options.dry_run:
                    rejected.resolve_before(connection, state.instance)
                ledger.finish(connection, state.instance, state.report, watermark=self._new_watermark())
        except Exception as error:
            if not (isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)) and connection.closed):
                self._save_unsaved_progress()
                starts_over = isinstance(error, (ErrorBudgetExceeded, ListingShrank))
                ledger.fail(connection, state.instance, state.report, str(error), start_over=starts_over)
            raise
        return state.report

    def _open_reader(self) -> Reader:
        """Set the provider's window, and return what reads its records."""
        provider, instance = self._provider, self._state.instance
        if instance.started_at is not None:
            provider.started_at = instance.started_at
        provider.since, provider.until, provider.resume_from = instance.since, instance.until, instance.cursor
        if self._options.replay:
            self._replay = ReplayReader(provider, self._connection, instance)
            return self._replay
        if not self._options.dry_run:
            self._open_records = OpenRecords(self._connection, instance.place)
        provider.open()
        return RecordReader(provider, self._state.cursor)

    def _complete_listing(self) -> CompleteListing | None:
        """Return the key tracker for removal detection, or None if this run does not read a complete listing."""
        provider, state = self._provider, self._state
        if not provider.complete_tables or not self._reads_everything():
            return None
        if state.cursor is not None:
            log.info(
                "Removal detection skipped: this attempt resumed mid-listing. The next complete listing will detect "
                "removals."
            )
            return None
        listing = CompleteListing(self._connection, provider, state.instance)
        known = state.report.known_up_to or ledger.known_up_to(self._connection, state.instance.place)
        # Saved with the first chunk, so that no later run counts the rows that this one creates as known.
        state.report.known_up_to = known if self._options.dry_run else {**listing.known_up_to(), **known}
        return listing

    def _save_removals(self, listing: CompleteListing) -> None:
        """Mark the rows that a complete listing lacks, chunk by chunk; if interrupted, the source is listed again."""
        state, is_dry_run = self._state, self._options.dry_run
        why_not = listing.why_not_conclusive()
        if why_not:
            log.warning("Removal detection skipped: %s", why_not)
        elif listing.find(state.report.known_up_to, accept_shrunk=self._options.accept_shrunk):
            state.cursor = state.saved_cursor = None
            if not is_dry_run:
                ledger.save_progress(self._connection, state.instance, state.report, None)
            for chunk in listing.chunks(self._options.chunk_size, is_dry_run=is_dry_run):
                self._save(chunk)
        if not (why_not or is_dry_run):
            state.report.known_up_to = listing.known_up_to()
        listing.close()
        state.report.seconds = perf_counter() - state.began

    def _save_chunks(self, reader: Reader) -> None:
        """Read and save chunks until the listing ends or the limit is reached."""
        state, limit = self._state, self._options.limit
        state.began = perf_counter() - state.report.seconds
        logged_at = perf_counter()
        while not reader.is_exhausted:
            reading = reader.read(
                size=self._options.chunk_size,
                max_records=sys.maxsize if limit is None else limit - state.report.records,
                budget=(self._error_budget() - state.report.rejected, state.instance.error_share),
                report=state.report,
            )
            # The start of the run and the times of a replay come from the database's clock already.
            if self._replay is None and reading.requested_at != self._provider.started_at:
                reading = reading._replace(requested_at=reading.requested_at + state.clock_offset)
            state.cursor = reader.cursor
            if reading.lists or reading.rejections:
                chunk = Chunk(
                    self._provider,
                    reading,
                    provider_id=state.instance.provider_id,
                    watermark=state.watermark,
                    is_dry_run=self._options.dry_run,
                    in_complete_listing=self._listing is not None,
                    image_step=self._images,
                )
                self._save(chunk)
                if self._listing is not None:
                    self._listing.add(chunk)
            now = perf_counter()
            state.report.seconds = now - state.began
            if now - logged_at >= LOG_SECONDS:
                logged_at = now
                log.info("So far: %s", state.report.summary())

    def _save(self, chunk: Chunk | RemovalChunk) -> None:
        """Save a chunk with its cursor in one transaction, and check the error budget."""
        conflicts = 0
        while True:
            try:
                self._try_to_save(chunk)
                break
            except RowsRefused as refusal:
                if self._state.is_careful:
                    raise FatalError(f"Rows cannot be written: {refusal}") from refusal
                log.debug("PostgreSQL refuses rows (%s): writing carefully from now on", refusal)
                self._state.is_careful = True
            except (ChunkConflict, psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure) as conflict:
                conflicts += 1
                if conflicts == MAX_CHUNK_ATTEMPTS:
                    raise DatabaseUnavailable(
                        f"Another session wrote the same rows {MAX_CHUNK_ATTEMPTS} times in a row: {conflict}"
                    ) from conflict
                log.info("Concurrent write detected, retrying the chunk")
        report, budget = self._state.report, self._error_budget()
        if self._replay is None and report.rejected > budget:
            reasons = "; ".join(f"{reason} ({count})" for reason, count in report.reasons.items())
            raise ErrorBudgetExceeded(
                f"{report.rejected} of {report.records} records were rejected, more than the error budget of "
                f"{budget:.0f}. See rejected_record; reasons: {reasons}. Correct the source or the parser, then clear "
                "the task: it starts over"
            )

    def _error_budget(self) -> float:
        """Return how many of the records read so far may be rejected."""
        instance = self._state.instance
        return instance.error_allowance + instance.error_share * self._state.report.records

    def _try_to_save(self, chunk: Chunk | RemovalChunk) -> None:
        """Compare, fill and write a chunk. One that writes nothing needs no transaction."""
        state, connection = self._state, self._connection
        report = state.report.copy()
        with LateTransaction(connection, force_rollback=self._options.dry_run) as transaction:
            tally = chunk.save(connection, transaction.begin, is_careful=state.is_careful)
            tally.add_to(report)
            writing = perf_counter()
            report.seconds = writing - state.began
            rejections, requested_at = tally.rejections, chunk.requested_at
            if self._provider.until is not None:
                requested_at = min(requested_at, self._provider.until)
            if self._replay is not None:
                transaction.begin()
                rejections = self._replay.resolve(connection, rejections)
            if self._open_records and isinstance(chunk, Chunk):
                again = self._open_records.listed_again(chunk.infos, chunk.rejections, requested_at)
                if again:
                    transaction.begin()
                    rejected.resolve_listed_again(connection, again)
            else:
                again = set()
            is_due = writing - state.progress_saved_at >= SAVE_PROGRESS_SECONDS
            if transaction.has_begun or rejections or is_due:
                transaction.begin()
                if rejections:
                    masking = self._provider.masking()
                    rows = [rejection.row(masking) for rejection in rejections]
                    rejected.save_rejections(connection, state.instance, rows, requested_at)
                report.upsert_seconds += perf_counter() - writing
                ledger.save_progress(connection, state.instance, report, state.cursor)
                state.progress_saved_at = writing = perf_counter()
        if transaction.has_begun:
            report.upsert_seconds += perf_counter() - writing
        if self._open_records and again:
            self._open_records.forget(again)
        state.is_progress_saved = transaction.has_begun
        state.saved_cursor = state.cursor
        state.report = report

    def _save_unsaved_progress(self) -> None:
        """Save the progress of an attempt that fails after chunks without changes."""
        state = self._state
        if not state.is_progress_saved and not self._options.dry_run:
            with suppress(LinkBusy):
                ledger.save_progress(self._connection, state.instance, state.report, state.saved_cursor)

    def _reads_everything(self) -> bool:
        """Whether the run lists everything that the source has for the link."""
        options, instance = self._options, self._state.instance
        is_unlimited = options.limit is None and not options.replay
        return is_unlimited and instance.since is None and instance.until is None

    def _new_watermark(self) -> datetime | None:
        """Return the start of this run if it has read every change since the current watermark, otherwise None."""
        options, instance, watermark = self._options, self._state.instance, self._state.watermark
        if options.dry_run or options.replay or options.limit is not None or instance.until is not None:
            return None
        has_gap = instance.since is not None and (watermark is None or instance.since > watermark)
        return None if has_gap else instance.started_at
