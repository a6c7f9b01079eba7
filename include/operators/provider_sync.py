"""The operator that syncs a batch of venue links."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

from airflow.sdk import BaseOperator

from include.errors import (
    AccessRefused,
    ConfigurationError,
    DatabaseUnavailable,
    ErrorBudgetExceeded,
    FatalError,
    LinksFailed,
    ProviderSyncError,
    RateLimited,
    Unreachable,
)
from include.operators.connections import SYNC_DB, connector_for, database
from include.operators.load import LoadReportLink
from include.operators.params import SyncParams, read_params
from include.operators.step_log import group, log_outcome, log_rejected, log_steps, log_text

if TYPE_CHECKING:
    import psycopg
    from airflow.sdk import Context

    from include.connectors.http import HttpConnector
    from include.models.report import SyncReport
    from include.providers.base import LocalProvider
    from include.store.ledger import Instance
    from include.store.objects import ObjectStorage

log = logging.getLogger(__name__)

STOPS_BATCH = (RateLimited, DatabaseUnavailable)
"""Errors that stop the batch at once, because every further venue link would fail in the same way.

AccessRefused and Unreachable stop it when they occur for two links in a row.
"""

COUNTS = ("records", "checked", "created", "updated", "unchanged", "skipped", "rejected", "seconds")


class ProviderSyncOperator(BaseOperator):
    """Sync the venue links of one batch, one after the other.

    A link that fails does not stop the others; the task fails at the end and names the failed ones. A retry, or a
    cleared task, runs only what is left, each link from its last saved chunk.

    :param batch: `{"catalog_id": …, "batch": …, "label": …}`, as the `OpenLoadOperator` returns them.
    """

    template_fields: Sequence[str] = ("batch",)
    ui_color = "#fef9c3"
    operator_extra_links = (LoadReportLink(),)

    def __init__(self, *, batch: dict[str, Any], conn_id: str = SYNC_DB, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.batch = batch
        self.conn_id = conn_id
        self.outcome = ""

    @property
    def label(self) -> str:
        """Name of the mapped task in the web UI: its venues, and after it ran, the outcome."""
        venues = str(self.batch.get("label", f"Batch {self.batch['batch']}"))
        return f"{venues}: {self.outcome}" if self.outcome else venues

    def execute(self, context: Context) -> dict[str, float]:
        """Sync what is left of the batch; returns the sums of the reports."""
        self.outcome = "failed"
        read_params(context, SyncParams)
        catalog_id, number = self.batch["catalog_id"], self.batch["batch"]
        with database(self.conn_id) as connection, _Batch(connection, catalog_id, number) as batch:
            log.info("Batch %s of load %s: %s venue links to sync", number, catalog_id, len(batch.instances))
            for instance in batch.instances:
                batch.check_error_limit()
                batch.run(instance)
        self.outcome = _outcome(batch)
        if batch.failures:
            raise LinksFailed(batch.failures, attempted=len(batch.instances))
        return {name: sum(getattr(report, name) for report in batch.reports) for name in COUNTS}


def _outcome(batch: _Batch) -> str:
    """Return the outcome of a batch in a few words."""
    if batch.failures:
        failed, of = len(batch.failures), len(batch.instances)
        return "failed" if failed == of else f"partially loaded, {failed} of {of} failed"
    rejected = sum(report.rejected for report in batch.reports)
    return f"loaded, {rejected:,} rejected" if rejected else "loaded"


class _Batch:
    """The unfinished venue links of a batch, with one connector per service."""

    def __init__(self, connection: psycopg.Connection[Any], catalog_id: int, number: int) -> None:
        from include.store import ledger

        self.connection = connection
        self.catalog_id = catalog_id
        self.parameters = ledger.load_parameters(connection, catalog_id)
        self.instances = ledger.pending_instances(connection, catalog_id, number)
        self.reports: list[SyncReport] = []
        self.failures: dict[str, ProviderSyncError] = {}
        self._was_refused = False
        self._connectors: dict[str, HttpConnector | None] = {}
        self._storage: ObjectStorage | None = None
        self._opened = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._opened.close()

    def check_error_limit(self) -> None:
        """Raise FatalError if too many operations of the load have failed, in this batch or in others."""
        from include.store import ledger

        is_exceeded = ledger.past_error_limit(self.connection, self.catalog_id)
        self.connection.commit()
        if is_exceeded:
            limit = self.parameters.error_limit
            source = "catalog_scheme.error_limit" if limit is None else f"its parameter error_limit, {limit},"
            raise FatalError(
                f"Load {self.catalog_id} has more failed operations than {source} allows. After fixing their cause, "
                "clear the task that opens the load, with downstream"
            )

    def run(self, instance: Instance) -> None:
        """Sync one link. Collect its error so that the other links still run; raise it if it affects all of them."""
        import psycopg

        from include.providers import load_provider
        from include.store.providers import load_link

        provider_class = load_provider(instance.operation)
        connector = self._connector(instance.operation, provider_class)
        label = "all"
        try:
            link = load_link(self.connection, instance.venue_provider_id) if instance.venue_provider_id else None
            self.connection.commit()
            label = link.label if link else label
            with group("%s: %s", provider_class.name, label):
                report = self._sync(instance, provider_class(link, connector))
        except (psycopg.Error, DatabaseUnavailable):
            raise
        except ProviderSyncError as error:
            self._record(instance, error)
            is_refused = isinstance(error, (AccessRefused, Unreachable))
            is_refused_again = is_refused and self._was_refused
            self._was_refused = is_refused
            if is_refused_again or isinstance(error, STOPS_BATCH):
                raise
            log_text(logging.ERROR, f"{label} failed: {error}")
            self.failures[label] = error
        except Exception as error:
            log.exception("Failed unexpectedly: %s", label)
            self.failures[label] = FatalError(f"{type(error).__name__}: {error}; see the traceback in the log")
            self._record(instance, self.failures[label])
        else:
            self._was_refused = False
            if report.state == "done":
                log_outcome(label, report)
            else:
                log.info("%s: %s", label, report.state)
            self.reports.append(report)

    def _sync(self, instance: Instance, provider: LocalProvider) -> SyncReport:
        from include.connectors.http import Stats
        from include.inbound.run import sync_provider
        from include.store.rejected import rejected_examples

        parameters, connector = self.parameters, self._connectors[instance.operation]
        if connector:
            connector.stats = Stats()
        try:
            report = sync_provider(
                provider,
                self.connection,
                chunk_size=parameters.chunk_size,
                limit=parameters.limit,
                dry_run=parameters.dry_run,
                full_refresh=parameters.full_refresh,
                instance_id=instance.id,
                interval=(parameters.interval_start, parameters.interval_end) if parameters.interval_start else None,
                replay=parameters.replay,
                accept_shrunk=parameters.accept_shrunk,
                storage=self._storage_for(provider),
            )
        except ErrorBudgetExceeded:
            log_rejected(rejected_examples(self.connection, instance.id))
            raise
        if report.state == "done":
            examples = rejected_examples(self.connection, instance.id) if report.rejected else ()
            log_steps(report, connector.stats if connector else None, examples)
        return report

    def _storage_for(self, provider: LocalProvider) -> ObjectStorage | None:
        """Return the object storage for images; None for a provider without images."""
        if self._storage is None and provider.has_images():
            from include.operators.storage import thumbs_storage

            self._storage = thumbs_storage()
        return self._storage if provider.has_images() else None

    def _connector(self, operation: str, provider_class: type[LocalProvider]) -> HttpConnector | None:
        """Return the batch's connector. If it cannot be created, store the error for all links, and raise it."""
        if operation not in self._connectors:
            try:
                self._connectors[operation] = self._opened.enter_context(connector_for(provider_class))
            except ConfigurationError as error:
                for instance in self.instances:
                    self._record(instance, error)
                raise
        return self._connectors[operation]

    def _record(self, instance: Instance, error: ProviderSyncError) -> None:
        """Store a failure that occurred before the engine started, so that `close_load` can name it."""
        from include.models.report import SyncReport
        from include.store import ledger

        try:
            current = ledger.load_instance(self.connection, instance.id)
        except ConfigurationError:
            return  # it was deleted together with its venue link
        if current.attempts == instance.attempts and current.state in ("new", "failed"):
            ledger.fail(self.connection, current, SyncReport(), str(error), start_over=False)
        self.connection.commit()
