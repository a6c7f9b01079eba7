"""The engine: one provider and venue link, from its listing into the database.

Each chunk is one transaction that holds its rows, its rejected records, and the cursor from which a next try goes on.
Chunks in which nothing changed have nothing to commit; how far they have come is noted once a second.
Chunks are committed without waiting for the disk; the last transaction waits, and makes all before it durable with it.
Should PostgreSQL itself crash in between, data and cursor are lost together, and the next try goes on from what is
there.
"""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from time import perf_counter

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
from include.inbound.chunk import Chunk
from include.inbound.images import thumb_step
from include.inbound.read import RecordReader
from include.inbound.removed import CompleteListing, GoneChunk
from include.inbound.replay import ReplayReader
from include.models.report import SyncReport
from include.providers.base import LocalProvider
from include.store import ledger
from include.store.ledger import Connection, Instance, LoadParameters
from include.store.locks import link_lock
from include.store.objects import ObjectStorage
from include.store.providers import is_active, is_current, register_provider
from include.store.rejected import WaitingRecords, resolve_listed_again, resolve_named_again, save_rejections
from include.store.rows import ChunkConflict, LateTransaction, RowsRefused, database_time, prepare_connection

log = logging.getLogger(__name__)

CHUNK_MAX_SIZE = 1000
"""Objects saved in one transaction, if nothing else is asked for."""
CHUNK_TRIES = 5
"""How often a chunk is looked up again when somebody else wrote its rows at the same moment."""
PROGRESS_SECONDS = 5.0
NOTED_EVERY_SECONDS = 1.0


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
    """Bring the database in step with a provider's listing.

    Args:
        provider: an instance, with its venue link and connector if it needs them.
        connection: an idle psycopg connection to a migrated database; it is in autocommit mode meanwhile.
        chunk_size: objects per transaction, those that are only referred to included.
        limit: stop after exactly so many records; the marker does not move then.
        dry_run: do everything and write nothing but the ledger entry; the report has a sample of differences. A key
            that comes again in a later chunk counts as created again, since nothing was written.
        full_refresh: read everything, not only what changed since the marker.
        instance_id: the operation instance to run, from `ledger.pending_instances`; without it a load of its own is
            opened and closed.
        interval: read this interval instead of from the marker on (a backfill).
        replay: read the rejected records that wait (`rejected_report` has them) instead of the source; the provider
            needs `decode_record`. Each is resolved with its chunk; there is no error budget.
        accept_shrunk: believe a complete listing that lacks more than the provider's `max_removed_share`.
        storage: where pictures are kept; without it pictures are left alone.

    Returns:
        The report, its counts over all tries of the instance. Its `state` is "skipped" if the provider or the venue
        link is not active.

    Raises:
        ProviderSyncError: any of its subclasses; what was committed stays, and a next try goes on from there.
    """
    if chunk_size < 1 or (limit is not None and limit < 1):
        raise ConfigurationError("chunk_size and limit must be 1 or more")
    link = provider.venue_provider
    if provider.needs_venue and link is None:
        raise ConfigurationError(
            f"{type(provider).__name__} is listed per venue: hand in a venue link, or set needs_venue = False on it"
        )
    start, end = interval or (None, None)
    parameters = LoadParameters(
        venue_links=(str(link.id),) if link else (),
        full_refresh=full_refresh,
        limit=limit,
        dry_run=dry_run,
        chunk_size=chunk_size,
        interval_start=start,
        interval_end=end,
        replay=replay,
        accept_shrunk=accept_shrunk,
    )
    with _working(connection, provider=provider.name, venue=link.label if link else None):
        if instance_id is not None:
            return _Run(provider, connection, instance_id, parameters, storage).run()
        provider_id = register_provider(connection, provider.row_name(), provider.name)
        if not is_active(connection, provider_id, link.id if link else None):
            log.info("Skipped: the provider or the venue link is not active")
            return SyncReport(state="skipped")
        if replay and (link.id if link else None) not in ledger.links_with_rejections(connection, provider_id):
            log.info("No rejected record waits to be replayed")
            return SyncReport(dry_run=dry_run)
        catalog_id = ledger.open_load(connection, type(provider), parameters)
        try:
            instance_id = ledger.single_instance(connection, catalog_id)
            return _Run(provider, connection, instance_id, parameters, storage).run()
        finally:
            if not connection.broken:
                ledger.close_load(connection, catalog_id)


@contextmanager
def _working(connection: Connection, **where: str | None) -> Iterator[None]:
    """Set the connection up for a sync, give it back as it was, and name what PostgreSQL's failure means."""
    was_autocommit = connection.autocommit
    gc.freeze()  # what is loaded already is not searched for garbage over and over while records come and go
    try:
        connection.autocommit = True
        prepare_connection(connection)
        connection.execute("SET synchronous_commit = off")
        yield
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        reason = str(error).strip().partition("\n")[0]
        what = "The connection to PostgreSQL was lost" if connection.closed else "PostgreSQL gave up"
        raise DatabaseUnavailable(f"{what}: {reason}", retry_after=10, **where) from error
    finally:
        gc.unfreeze()
        if not connection.closed:
            connection.execute("RESET synchronous_commit")
            connection.execute("RESET provider_sync.writer")
            connection.autocommit = was_autocommit


class _Run:
    """One try of one operation instance."""

    def __init__(
        self,
        provider: LocalProvider,
        connection: Connection,
        instance_id: int,
        parameters: LoadParameters,
        storage: ObjectStorage | None,
    ) -> None:
        self.provider = provider
        self.connection = connection
        self.parameters = parameters
        self.instance_id = instance_id
        self.report = SyncReport()
        self.instance: Instance = ledger.load_instance(connection, instance_id)
        self.marker: datetime | None = None
        self.cursor: str | None = None
        self._done_cursor: str | None = None
        self._began = self._noted_at = perf_counter()
        self._is_noted = True
        self._clock_behind = timedelta()
        """What this machine's clock lacks of the database's: rows of all workers are compared by that one."""
        self._careful = False
        self._replay: ReplayReader | None = None
        self._waiting: WaitingRecords | None = None
        self._listing: CompleteListing | None = None
        self.thumbs = thumb_step(provider, storage, is_dry_run=parameters.dry_run)

    def run(self) -> SyncReport:
        """Take the lock, iterate, and record how it ended."""
        link = self.provider.venue_provider
        where = {"provider": self.provider.name, "venue": link.label if link else None}
        try:
            with link_lock(self.connection, self.instance.provider_id, self.instance.venue_provider_id):
                if not is_active(self.connection, self.instance.provider_id, self.instance.venue_provider_id):
                    ledger.skip(self.connection, self.instance, "the provider or the venue link is not active")
                    log.info("Skipped: the provider or the venue link is not active")
                    return SyncReport(state="skipped")
                if link is not None and not is_current(self.connection, link):
                    raise LinkBusy("The venue link was changed meanwhile", retry_after=1)
                return self._run_locked()
        except ProviderSyncError as error:
            error.at(**where)
            raise

    def _run_locked(self) -> SyncReport:
        self.instance, self.report = ledger.begin_attempt(
            self.connection, self.instance_id, self.provider, self.parameters
        )
        self.cursor = self.instance.cursor
        self._clock_behind = database_time(self.connection) - datetime.now(UTC)
        self.marker = ledger.marker_of(self.connection, self.instance.provider_id, self.instance.venue_provider_id)
        log.info(
            "Attempt %s: reading %s%s",
            self.instance.attempts,
            "the rejected records that wait"
            if self.parameters.replay
            else f"what changed since {self.instance.since:%Y-%m-%d %H:%M:%S %Z}"
            if self.instance.since
            else "everything",
            f", going on after {self.cursor}" if self.cursor else "",
        )
        try:
            try:
                self._listing = self._complete_listing()
                self._prepare_provider()
                self._iterate()
                if self._listing is not None:
                    self._mark_gone(self._listing)
            finally:
                if self.thumbs is not None:
                    self.thumbs.close()
                self.provider.close()
            self.report.end()
            with self.connection.transaction():
                self.connection.execute("SET LOCAL synchronous_commit = on")
                if self._lists_everything() and not self.parameters.dry_run:
                    resolve_listed_again(self.connection, self.instance)
                ledger.finish(self.connection, self.instance, self.report, marker=self._new_marker())
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            if not self.connection.closed:
                self._note_progress()
                ledger.fail(self.connection, self.instance, self.report, str(error), start_over=False)
            raise
        except Exception as error:
            starts_over = isinstance(error, (ErrorBudgetExceeded, ListingShrank))
            self._note_progress()
            ledger.fail(self.connection, self.instance, self.report, str(error), start_over=starts_over)
            raise
        return self.report

    def _prepare_provider(self) -> None:
        provider, instance = self.provider, self.instance
        if instance.started_at is not None:
            provider.started_at = instance.started_at
        provider.since, provider.until, provider.resume_from = instance.since, instance.until, instance.cursor
        if self.parameters.replay:
            self._replay = ReplayReader(provider, self.connection, instance)
        else:
            if not self.parameters.dry_run:
                self._waiting = WaitingRecords(self.connection, instance)
            provider.open()

    def _complete_listing(self) -> CompleteListing | None:
        """What notes the keys of this run, if its listing will be a whole one and tells what is gone."""
        provider, instance, parameters = self.provider, self.instance, self.parameters
        if not provider.complete_tables or not self._lists_everything():
            return None
        if self.cursor is not None:
            log.info("Nothing is taken for gone: an earlier try read part of the listing; the next whole one will tell")
            return None
        listing = CompleteListing(self.connection, provider, instance)
        known = self.report.known_up_to or ledger.known_up_to(self.connection, instance)
        if not parameters.dry_run:  # noted with the first chunk, so that no later run takes its rows for known ones
            self.report.known_up_to = {**listing.known_up_to(), **known}
        else:
            self.report.known_up_to = known
        return listing

    def _mark_gone(self, listing: CompleteListing) -> None:
        """Mark what a whole listing did not name, chunk by chunk. Should it be interrupted, the source is listed again.

        Raises:
            ListingShrank: the listing lacks too much to be believed.
        """
        parameters = self.parameters
        if why_not := listing.why_not_believed():
            log.warning("Nothing is taken for gone: %s", why_not)
        elif listing.find(self.report.known_up_to, accept_shrunk=parameters.accept_shrunk):
            self.cursor = self._done_cursor = None
            if not parameters.dry_run:
                ledger.save_progress(self.connection, self.instance, self.report, None)
            for chunk in listing.chunks(parameters.chunk_size, is_dry_run=parameters.dry_run):
                self._save(chunk)
        if not (why_not or parameters.dry_run):
            self.report.known_up_to = listing.known_up_to()
        listing.end()
        self.report.seconds = perf_counter() - self._began

    def _iterate(self) -> None:
        """Read and save chunks until the listing ends or the limit is reached."""
        self._began = perf_counter() - self.report.seconds
        reader = self._replay or RecordReader(self.provider, self.cursor)
        last_told = perf_counter()
        while not reader.is_exhausted:
            limit = self.parameters.limit
            reading = reader.read(
                size=self.parameters.chunk_size,
                room=sys.maxsize if limit is None else limit - self.report.records,
                budget=(self._error_budget() - self.report.rejected, self.instance.error_share),
                report=self.report,
            )
            # A replay's times, and this one, are told by the database's clock already.
            if self._replay is None and reading.asked_at != self.provider.started_at:
                reading = reading._replace(asked_at=reading.asked_at + self._clock_behind)
            self.cursor = reader.cursor
            if reading.lists or reading.rejections:
                chunk = Chunk(
                    self.provider,
                    reading,
                    provider_id=self.instance.provider_id,
                    marker=self.marker,
                    is_dry_run=self.parameters.dry_run,
                    in_whole_listing=self._listing is not None,
                    thumbs=self.thumbs,
                )
                self._save(chunk)
                if self._listing is not None:
                    self._listing.note(chunk)
            now = perf_counter()
            self.report.seconds = now - self._began
            if now - last_told >= PROGRESS_SECONDS:
                last_told = now
                log.info("So far: %s", self.report.summary())

    def _save(self, chunk: Chunk | GoneChunk) -> None:
        """Save a chunk with its cursor in one transaction, and check the error budget."""
        conflicts = 0
        while True:
            try:
                self._try_to_save(chunk)
                break
            except RowsRefused as refusal:
                if self._careful:
                    raise FatalError(f"Rows cannot be written: {refusal}") from refusal
                log.debug("Some rows are refused (%s): from now on they are looked for", refusal)
                self._careful = True
            except (ChunkConflict, psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure) as conflict:
                conflicts += 1
                if conflicts == CHUNK_TRIES:
                    raise DatabaseUnavailable(
                        f"The same rows were written by somebody else {CHUNK_TRIES} times over: {conflict}"
                    ) from conflict
                log.info("Rows were written by somebody else at the same moment, looking them up again")
        budget = self._error_budget()
        if self._replay is None and self.report.rejected > budget:
            reasons = "; ".join(f"{reason} ({count})" for reason, count in self.report.reasons.items())
            raise ErrorBudgetExceeded(
                f"{self.report.rejected} of {self.report.records} records were rejected, more than the error budget of "
                f"{budget:.0f}. See rejected_record; reasons: {reasons}. Repair the source or the parser, then clear "
                "the task: it starts over"
            )

    def _error_budget(self) -> float:
        """How many records may be rejected, of those read so far."""
        return self.instance.error_allowance + self.instance.error_share * self.report.records

    def _try_to_save(self, chunk: Chunk | GoneChunk) -> None:
        """Look up, compare, write. A chunk that writes nothing needs no transaction.

        How far such chunks have come is noted once a second: after a kill they are looked up and counted again.
        """
        report = self.report.copy()
        with LateTransaction(self.connection, force_rollback=self.parameters.dry_run) as transaction:
            outcome = chunk.save(self.connection, transaction.begin, careful=self._careful)
            outcome.add_to(report)
            writing = perf_counter()
            report.seconds = writing - self._began
            rejections, asked_at = outcome.rejections, min(chunk.asked_at, self.provider.until or chunk.asked_at)
            if self._replay is not None:
                transaction.begin()
                rejections = self._replay.resolve(self.connection, rejections)
            again = self._waiting.listed_again(chunk, asked_at) if self._waiting and isinstance(chunk, Chunk) else ()
            if again:
                transaction.begin()
                resolve_named_again(self.connection, again)
            if transaction.has_begun or rejections or writing - self._noted_at >= NOTED_EVERY_SECONDS:
                transaction.begin()
                save_rejections(self.connection, self.instance, self.provider, rejections, asked_at)
                report.upsert_seconds += perf_counter() - writing
                ledger.save_progress(self.connection, self.instance, report, self.cursor)
                self._noted_at = writing = perf_counter()
        if transaction.has_begun:
            report.upsert_seconds += perf_counter() - writing
        if self._waiting and again:
            self._waiting.forget(again)
        self._is_noted = transaction.has_begun
        self._done_cursor = self.cursor
        self.report = report

    def _note_progress(self) -> None:
        """Note how far a try has come that fails after chunks without a change."""
        if not self._is_noted and not self.parameters.dry_run:
            with suppress(LinkBusy):
                ledger.save_progress(self.connection, self.instance, self.report, self._done_cursor)

    def _lists_everything(self) -> bool:
        """Whether the run lists all that the source has of the link."""
        parameters, instance = self.parameters, self.instance
        is_unlimited = parameters.limit is None and not parameters.replay
        return is_unlimited and instance.since is None and instance.until is None

    def _new_marker(self) -> datetime | None:
        """The link's new marker: the start of this run, if it has seen all that changed since the old one."""
        parameters, instance = self.parameters, self.instance
        if parameters.dry_run or parameters.replay or parameters.limit is not None or instance.until is not None:
            return None
        has_gap = instance.since is not None and (self.marker is None or instance.since > self.marker)
        return None if has_gap else instance.started_at
