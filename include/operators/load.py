"""Operators that open and close a load in the ledger."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.sdk import BaseOperator, BaseOperatorLink
from airflow.sdk.configuration import conf

from include.errors import EarlierTaskFailed, FatalError
from include.operators.assets import emit_events
from include.operators.connections import SYNC_DB, database
from include.operators.params import SyncParams, load_parameters, read_params
from include.operators.runs import full_run_id

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.types import TaskInstanceKey

    from include.inbound.loads import LoadSummary
    from include.providers.base import LocalProvider
    from include.store.ledger import LoadParameters

log = logging.getLogger(__name__)

MAX_LABEL = 150
"""Maximum length of a batch's name in the web UI, which adds the outcome to it."""
AT_MOST_BATCHES = 16
"""Maximum number of mapped tasks that share the venue links of a load."""


class LoadReportLink(BaseOperatorLink):
    """Links from a task of a load to `close_load`, whose log has the report of all venues."""

    name = "Load report"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the address of `close_load` in the web UI."""
        base = conf.get("api", "base_url", fallback="").rstrip("/")
        return f"{base}/dags/{quote(ti_key.dag_id)}/runs/{quote(ti_key.run_id)}/tasks/close_load"


class OpenLoadOperator(BaseOperator):
    """Open a load of a provider; returns its batches, one per mapped `ProviderSyncOperator`.

    The parameters of the DAG run select the venue links and how they are read; a backfill run reads its own data
    interval. Manual overrides to release are released once, when the load is opened. The task pushes the XCom
    `catalog_id` for the `CloseLoadOperator`.

    :param provider: dotted path of the provider class.
    :param at_most_batches: maximum number of mapped tasks that share the venue links.
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
        """Open the load; reopens it when this task is cleared."""
        from include.inbound import loads
        from include.providers import load_provider
        from include.store import ledger

        params, run_id = read_params(context, SyncParams), full_run_id(context)
        parameters, provider_class = load_parameters(params, context), load_provider(self.provider)
        with database(self.conn_id) as connection:
            with connection.transaction():
                if params.release_fields:
                    _release_once(connection, params, run_id, provider_class)
                catalog_id = loads.open_load(
                    connection, provider_class, parameters, run_id=run_id, at_most_batches=self.at_most_batches
                )
            batches = ledger.batch_labels(connection, catalog_id)
        context["ti"].xcom_push(key="catalog_id", value=catalog_id)
        _log_opened(catalog_id, provider_class, parameters, len(batches))
        return [
            {"catalog_id": catalog_id, "batch": batch, "label": label[:MAX_LABEL]} for batch, label in batches.items()
        ]


def _release_once(connection: Any, params: SyncParams, run_id: str, provider_class: type[LocalProvider]) -> None:
    """Release manual overrides unless an earlier attempt of this run has: a person may have edited them since."""
    from include.inbound.release import release_overrides
    from include.store import ledger

    if ledger.was_opened(connection, run_id):
        log.info("Not releasing fields again: they were released when this load was opened first")
        return
    release_overrides(
        connection, params.release_fields, provider_class, full_refresh=params.full_refresh, dry_run=params.dry_run
    )


def _log_opened(catalog_id: int, provider_class: type[LocalProvider], parameters: LoadParameters, batches: int) -> None:
    name = provider_class.name
    if parameters.interval_start is not None and provider_class.window == "none":
        log.warning("%s has no date filter: every backfill run reads the whole listing, so one run is enough", name)
    if not batches and parameters.replay:
        log.info("Nothing to do: no rejected record of %s waits to be replayed", name)
    elif not batches:
        log.warning("%s has no active venue link: link a venue with the DAG venue_links", name)
    defaults = type(parameters)()
    changed = [
        field for field in parameters.__struct_fields__ if getattr(parameters, field) != getattr(defaults, field)
    ]
    described = ", ".join(f"{field} {getattr(parameters, field)}" for field in changed) or "no parameters"
    log.info("Load %s of %s: %s batches, %s", catalog_id, name, batches, described)


class CloseLoadOperator(BaseOperator):
    """Close a load and log what it did; fails unless the load is loaded.

    :param opened_by: task id of the `OpenLoadOperator`.
    :param retention_days: days after which stored payloads of rejected records are cleared.
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
        _log_closed(summary, purged, self.retention_days)
        if summary.state != "loaded":
            raise FatalError(_failure(summary))
        counts = {"catalog_id": summary.catalog_id, "state": _state(summary), "dry_run": summary.dry_run}
        counts |= summary.counts
        changed = {} if summary.dry_run else summary.written
        emit_events(self, context, {table: counts | {"rows": rows} for table, rows in changed.items()})
        return counts


_COUNTS = {
    "rejected": "rejected",
    "gone": "removed",
    "created": "created",
    "updated": "updated",
    "unchanged": "unchanged",
    "skipped": "skipped",
    "held_back": "with manual overrides kept",
}
"""The counts that the log of a closed load shows, the decisive ones first. Zeros are left out."""


def _state(summary: LoadSummary) -> str:
    """Return the state of a load for users, who also need to know of rejected records."""
    return "loaded with rejects" if summary.state == "loaded" and summary.counts["rejected"] else summary.state


def _log_closed(summary: LoadSummary, purged: int, retention_days: int) -> None:
    counts = [f"{summary.counts[name]:,.0f} {words}" for name, words in _COUNTS.items() if summary.counts[name]]
    links = {"failed": summary.failed, "done": summary.done, "skipped": summary.skipped}
    dry_run = " (dry run: nothing was written)" if summary.dry_run else ""
    log.info("Load %s is %s%s", summary.catalog_id, _state(summary), dry_run)
    log.info("  Objects: %s", ", ".join(counts) or "none")
    log.info(
        "  Venue links: %s", ", ".join(f"{number:,} {state}" for state, number in links.items() if number) or "none"
    )
    log.info("  Work: %s records in %.1f s", f"{summary.counts['records']:,.0f}", summary.counts["seconds"])
    if purged:
        log.info("Cleared %s payloads of rejected records older than %s days", purged, retention_days)


def _failure(summary: LoadSummary) -> str:
    """Return the error of a load: the venue links that failed, why, and what to do."""
    total = summary.done + summary.failed + summary.skipped
    lines = [
        f"Load {summary.catalog_id} is {summary.state}: {summary.failed} of {total} venue links failed.",
        "To load what is left, clear their sync_venues tasks with downstream.",
        *(f"  - {venue}: {error}" for venue, error in summary.errors.items()),
    ]
    if unnamed := summary.failed - len(summary.errors):
        lines.append(f"  - and {unnamed} more, in the view load_report with catalog_id {summary.catalog_id}")
    return "\n".join(lines)
