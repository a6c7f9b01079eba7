"""Runs a batch of venue links through the inbound engine."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from include.errors import (
    AccessRefused,
    ConfigurationError,
    DatabaseUnavailable,
    FatalError,
    LinksFailed,
    ProviderSyncError,
    RateLimited,
)
from include.operators.connections import SYNC_DB, connector_for, database

if TYPE_CHECKING:
    import psycopg
    from airflow.sdk import Context

    from include.inbound.ledger import Instance, LoadParameters
    from include.inbound.report import SyncReport

log = logging.getLogger(__name__)

CONCERNS_ALL = (RateLimited, AccessRefused, DatabaseUnavailable)
"""Errors that every further venue link of the batch would run into."""


class ProviderSyncOperator(BaseOperator):
    """Synchronise the venue links of one batch, one after the other.

    A link that fails does not stop the others; the task fails at the end and names those that did. Clearing or
    retrying it does only what is left, each link from its last saved chunk on.

    :param batch: `{"catalog_id": …, "batch": …}`, as the `OpenLoadOperator` returns them.
    """

    template_fields: Sequence[str] = ("batch",)
    ui_color = "#fef9c3"

    def __init__(self, *, batch: dict[str, int], conn_id: str = SYNC_DB, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.batch = batch
        self.conn_id = conn_id

    def execute(self, context: Context) -> dict[str, float]:
        """Run what is left of the batch; returns the sums of its reports."""
        from include.inbound import ledger

        catalog_id, number = self.batch["catalog_id"], self.batch["batch"]
        with database(self.conn_id) as connection:
            parameters = ledger.load_parameters(connection, catalog_id)
            instances = ledger.pending_instances(connection, catalog_id, number)
            connection.commit()
            log.info("Batch %s of load %s: %s venue links to do", number, catalog_id, len(instances))
            reports: list[SyncReport] = []
            failures: dict[str, ProviderSyncError] = {}
            for instance in instances:
                if ledger.past_error_limit(connection, catalog_id):
                    raise FatalError(f"Load {catalog_id} has more failed operations than its error limit: it stops")
                connection.commit()
                label = f"venue link {instance.venue_provider_id}" if instance.venue_provider_id else "the provider"
                try:
                    reports.append(_run(connection, instance, parameters))
                except CONCERNS_ALL:
                    raise
                except ProviderSyncError as error:
                    log.error("Failed: %s", error)
                    failures[str(error.where.get("venue", label))] = error
        if failures:
            raise LinksFailed(failures, attempted=len(instances))
        names = ("records", "checked", "created", "updated", "unchanged", "skipped", "rejected", "seconds")
        return {name: sum(getattr(report, name) for report in reports) for name in names}


def _run(connection: psycopg.Connection[Any], instance: Instance, parameters: LoadParameters) -> SyncReport:
    from include.inbound.sync import sync_provider
    from include.providers import load_provider
    from include.store.providers import load_link

    provider_class = load_provider(instance.operation)
    link = load_link(connection, instance.venue_provider_id) if instance.venue_provider_id else None
    connection.commit()
    log.info("::group::%s: %s", provider_class.name, link.label if link else "all")
    try:
        with connector_for(provider_class) as connector:
            provider = provider_class(link, connector)
            report = sync_provider(
                provider,
                connection,
                chunk_size=parameters.chunk_size,
                limit=parameters.limit,
                dry_run=parameters.dry_run,
                full_refresh=parameters.full_refresh,
                instance_id=instance.id,
                interval=(parameters.interval_start, parameters.interval_end) if parameters.interval_start else None,
            )
    except ValueError as error:
        raise ConfigurationError(f"The connection of {provider_class.name} cannot be used: {error}") from error
    finally:
        log.info("::endgroup::")
    return report
