"""What opens and closes a load in the ledger."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from include.errors import ConfigurationError, EarlierTaskFailed, FatalError
from include.operators.assets import emit_events
from include.operators.connections import SYNC_DB, database
from include.operators.links import LoadReportLink
from include.operators.params import SyncParams, read_params

if TYPE_CHECKING:
    import psycopg
    from airflow.sdk import Context

    from include.inbound.loads import LoadSummary
    from include.providers.base import LocalProvider
    from include.store.ledger import LoadParameters

log = logging.getLogger(__name__)

MAX_LABEL = 150
"""Characters of a batch's name in the web UI, which adds the outcome to it."""
AT_MOST_BATCHES = 16
"""Mapped tasks that the venue links of a load are dealt out to."""


class OpenLoadOperator(BaseOperator):
    """Open a load of a provider; returns its batches, one per mapped `ProviderSyncOperator`.

    The DAG run's parameters choose the venue links and how they are read; a backfill run reads its own data interval.
    Fields that a person edited and wants to give back are given back once, with the opening of the load. Pushes
    `catalog_id` for the `CloseLoadOperator`.

    :param provider: dotted path of the provider class.
    :param at_most_batches: how many mapped tasks the venue links are dealt out to.
    """

    ui_color = "#dbeafe"
    operator_extra_links = (LoadReportLink(),)

    def __init__(
        self, *, provider: str, at_most_batches: int = AT_MOST_BATCHES, conn_id: str = SYNC_DB, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.provider = provider
        self.at_most_batches = at_most_batches
        self.conn_id = conn_id

    def execute(self, context: Context) -> list[dict[str, int | str]]:
        """Open the load, or the same one again when this task is cleared."""
        from include.inbound import loads
        from include.providers import load_provider
        from include.store import ledger

        asked = read_params(context, SyncParams)
        provider_class = load_provider(self.provider)
        if asked.venue_links and not provider_class.needs_venue:
            raise ConfigurationError(f"{provider_class.name} has one listing for all venues: leave out venue_links")
        run = context["dag_run"]
        is_backfill = str(getattr(run.run_type, "value", run.run_type)) == "backfill"
        parameters = ledger.LoadParameters(
            venue_links=tuple("".join(link.split()) for link in asked.venue_links),
            full_refresh=asked.full_refresh,
            limit=asked.limit,
            dry_run=asked.dry_run,
            chunk_size=asked.chunk_size,
            interval_start=run.data_interval_start if is_backfill else None,
            interval_end=run.data_interval_end if is_backfill else None,
            replay=asked.replay_rejected,
            accept_shrunk=asked.accept_shrunk,
            error_limit=asked.error_limit,
        )
        if parameters.replay and parameters.full_refresh:
            raise ConfigurationError(
                "replay_rejected reads what was kept of rejected records, full_refresh reads the service: choose one"
            )
        if is_backfill and provider_class.window == "none":
            log.warning("%s cannot tell yesterday from today: one run reads all, more add nothing", provider_class.name)
        run_id = f"{run.dag_id}/{run.run_id}"
        with database(self.conn_id) as connection:
            with connection.transaction():
                _release_fields(connection, asked.release_fields, run_id, provider_class, parameters)
                catalog_id = loads.open_load(
                    connection, provider_class, parameters, run_id=run_id, at_most_batches=self.at_most_batches
                )
            batches = ledger.batch_labels(connection, catalog_id)
        context["ti"].xcom_push(key="catalog_id", value=catalog_id)
        if not batches and parameters.replay:
            log.info("No rejected record of %s waits to be replayed: nothing to do", provider_class.name)
        elif not batches:
            log.warning("%s has no active venue link: link a venue with the DAG venue_links", provider_class.name)
        log.info("Load %s of %s: %s batches, %s", catalog_id, provider_class.name, len(batches), _asked(parameters))
        return [
            {"catalog_id": catalog_id, "batch": batch, "label": label[:MAX_LABEL]} for batch, label in batches.items()
        ]


def _release_fields(
    connection: psycopg.Connection[Any],
    entries: Sequence[str],
    run_id: str,
    provider_class: type[LocalProvider],
    parameters: LoadParameters,
) -> None:
    """Give fields back to the providers, unless an earlier try of this task has done it; log what happens next."""
    from include.store import ledger
    from include.store.overrides import release

    if not entries:
        return
    if ledger.was_opened(connection, run_id):
        log.info("Fields were released when this load was opened first: not again")
        return
    released = release(connection, entries, dry_run=parameters.dry_run)
    for entry, fields in released.items():
        told = ", ".join(fields) or "nothing was held back"
        log.info("%s %s: %s", "Dry run, would release" if parameters.dry_run else "Released", entry, told)
    if not any(released.values()):
        return
    next_step = "The provider's values are written by the next listing that has the records"
    if provider_class.window != "none" and not parameters.full_refresh:
        next_step += (
            f". {provider_class.name} lists what changed since the last run: to have them at once, trigger this DAG "
            "again with full_refresh, and with venue_links to read only the venues they are of"
        )
    if any(entry.startswith("offer.") and fields for entry, fields in released.items()):
        next_step += ". Offers of the stock API keep what they hold: no sync writes them again once they are there"
    log.info("%s", next_step)


def _asked(parameters: LoadParameters) -> str:
    usual = type(parameters)()
    changed = [name for name in parameters.__struct_fields__ if getattr(parameters, name) != getattr(usual, name)]
    return ", ".join(f"{name} {getattr(parameters, name)}" for name in changed) or "no parameters"


class CloseLoadOperator(BaseOperator):
    """Close a load, say what it did, and fail unless it is loaded.

    :param opened_by: task id of the `OpenLoadOperator`.
    :param retention_days: payloads kept for diagnosis are cleared after so many days.
    """

    ui_color = "#dcfce7"

    def __init__(self, *, opened_by: str, retention_days: int = 90, conn_id: str = SYNC_DB, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.opened_by = opened_by
        self.retention_days = retention_days
        self.conn_id = conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Close the load and return its counts."""
        from include.inbound import loads
        from include.store import ledger

        read_params(context, SyncParams)
        catalog_id = context["ti"].xcom_pull(task_ids=self.opened_by, key="catalog_id")
        if catalog_id is None:
            raise EarlierTaskFailed(f"No load was opened: see the log of the task {self.opened_by}")
        with database(self.conn_id) as connection:
            summary = loads.close_load(connection, int(catalog_id))
            purged = ledger.purge(connection, self.retention_days)
        for line in _report(summary):
            log.info("%s", line)
        if purged:
            log.info("Cleared %s payloads of rejected records older than %s days", purged, self.retention_days)
        if summary.state != "loaded":
            raise FatalError(_failure(summary))
        totals: dict[str, Any] = {"catalog_id": summary.catalog_id, "state": _state(summary)}
        totals |= {"dry_run": summary.dry_run, **summary.counts}
        changed = {} if summary.dry_run else summary.written
        emit_events(self, context, {table: totals | {"rows": rows} for table, rows in changed.items()})
        return totals


_COUNTS = {
    "rejected": "rejected",
    "gone": "removed",
    "created": "created",
    "updated": "updated",
    "unchanged": "unchanged",
    "skipped": "skipped",
    "held_back": "with manual overrides kept",
}
"""What the report of a load counts, the decisive figures first; counts of zero are left out."""


def _state(summary: LoadSummary) -> str:
    """How a load ended, in the words that users see."""
    return "loaded with rejects" if summary.state == "loaded" and summary.counts["rejected"] else summary.state


def _report(summary: LoadSummary) -> list[str]:
    """What a load did, in short lines."""
    counts = [f"{summary.counts[name]:,.0f} {words}" for name, words in _COUNTS.items() if summary.counts[name]]
    links = {"failed": summary.failed, "done": summary.done, "skipped": summary.skipped}
    return [
        f"Load {summary.catalog_id} is {_state(summary)}{' (dry run: nothing was written)' if summary.dry_run else ''}",
        f"  Objects: {', '.join(counts) or 'none'}",
        f"  Venue links: {', '.join(f'{number:,} {state}' for state, number in links.items() if number) or 'none'}",
        f"  Work: {summary.counts['records']:,.0f} records in {summary.counts['seconds']:.1f} s",
    ]


def _failure(summary: LoadSummary) -> str:
    """Which venue links failed, why, and what to do."""
    total = summary.done + summary.failed + summary.skipped
    lines = [
        f"Load {summary.catalog_id} is {summary.state}: {summary.failed} of {total} venue links failed.",
        "Clear their sync_venues tasks with downstream to load what is left.",
        *(f"  - {venue}: {error}" for venue, error in summary.errors.items()),
    ]
    if unnamed := summary.failed - len(summary.errors):
        lines.append(f"  - and {unnamed} more, in the view load_report with catalog_id {summary.catalog_id}")
    return "\n".join(lines)
