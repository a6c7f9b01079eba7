"""The operator that patches a search index after each rebuild."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, AirflowTaskTimeout
from airflow.sdk.execution_time.timeout import timeout

from include.errors import IndexBusy
from include.operators.algolia import AlgoliaHook
from include.operators.connections import SYNC_DB, database
from include.operators.notifiers import send_alert
from include.operators.params import USUAL_MINUTES, SearchParams, read_search_params
from include.operators.runs import full_run_id, has_type, run_url
from include.operators.step_log import log_patch

if TYPE_CHECKING:
    import psycopg
    from airflow.sdk import Context

    from include.connectors.algolia import AlgoliaIndex
    from include.patches.base import Patch
    from include.search.watch import RunReport

log = logging.getLogger(__name__)


class SearchPatchOperator(BaseOperator):
    """Check whether an index was rebuilt, and if so, patch its records.

    Parameters that the run leaves empty come from the Airflow variables `<dag_id>_<parameter>`.

    :param patches: dotted paths of `Patch` objects; one pass applies all of them.
    """

    ui_color = "#fae8ff"

    def __init__(
        self,
        *,
        patches: Sequence[str],
        algolia_conn_id: str = AlgoliaHook.default_conn_name,
        conn_id: str = SYNC_DB,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.patches = patches
        self.algolia_conn_id = algolia_conn_id
        self.conn_id = conn_id

    def execute(self, context: Context) -> dict[str, Any] | None:
        """Check the index once; returns the counts of the pass, or None if there was nothing to do."""
        from include.patches.base import load_patch

        params = read_search_params(context)
        patches = [load_patch(path) for path in self.patches]
        with _time_limit(params.time_limit_minutes or USUAL_MINUTES), database(self.conn_id) as connection:
            connection.autocommit = True
            with AlgoliaHook(self.algolia_conn_id).get_conn() as index:
                report = _watch(context, params, index, connection, patches)
                log_patch(report)
                self._send_alerts(context, params, report, index, connection)
        return _counts(report)

    @staticmethod
    def _send_alerts(
        context: Context,
        params: SearchParams,
        report: RunReport,
        index: AlgoliaIndex,
        connection: psycopg.Connection[Any],
    ) -> None:
        """Send an alert after a patch; send a test message of a dry run if a person triggered it or changed a setting.

        A test message that could not be delivered is sent by the next scheduled run.
        """
        from include.search import alerts
        from include.store.search import save_settings, settings_changed

        url = run_url(context["dag_run"].dag_id, context["run_id"])
        dry_run, is_test = bool(params.dry_run), bool(params.dry_run and params.dry_run_notify)

        def send_test() -> bool:
            return send_alert(lambda: alerts.dry_run(index.name, report, url=url), context)

        if (counts := report.report) and not dry_run and (counts.changed or report.moves or params.force):
            send_alert(lambda: alerts.patched(index.name, report, counts, url=url), context)
        if has_type(context["dag_run"], "manual"):
            if is_test:
                send_test()
            return
        key = (index.application_id, index.name)
        settings = f"dry_run {dry_run}, dry_run_notify {bool(params.dry_run_notify)}"
        if settings_changed(connection, *key, settings) and (not is_test or send_test()):
            save_settings(connection, *key, settings)


def _watch(
    context: Context,
    params: SearchParams,
    index: AlgoliaIndex,
    connection: psycopg.Connection[Any],
    patches: Sequence[Patch],
) -> RunReport:
    """Run the search engine; skips the task if another run is working on the index."""
    from include.search.watch import Settings, watch_index

    settings = Settings(
        force=params.force,
        dry_run=bool(params.dry_run),
        is_manual=has_type(context["dag_run"], "manual"),
        compare_every=params.compare_every,
    )
    try:
        return watch_index(index, connection, patches, settings, run_id=full_run_id(context))
    except IndexBusy as busy:
        raise AirflowSkipException(f"{busy}: it does the work of this run too") from None


def _counts(report: RunReport) -> dict[str, Any] | None:
    if report.report is None:
        return None
    counts = {name: getattr(report.report, name) for name in ("read", "changed", "refused_count", "seconds")}
    return {"reason": report.reason, "moves": len(report.moves), "dry_run": report.dry_run, **counts}


@contextmanager
def _time_limit(minutes: int) -> Iterator[None]:
    """Fail the task after this many minutes."""
    try:
        with timeout(minutes * 60):  # type: ignore[no-untyped-call]
            yield
    except AirflowTaskTimeout:
        raise AirflowFailException(
            f"Stopped after the time limit of {minutes} minutes; the next run resumes where this one stopped. If the "
            "index needs more time, raise time_limit_minutes"
        ) from None
