"""Watches a search index and patches it after each rebuild."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, AirflowTaskTimeout
from airflow.sdk.execution_time.timeout import timeout

from include.errors import IndexBusy
from include.operators.alerts import run_url
from include.operators.algolia import AlgoliaHook
from include.operators.connections import SYNC_DB, database
from include.operators.notifiers import send_alert
from include.operators.params import USUAL_MINUTES, read_search_params
from include.operators.step_log import log_patch
from include.operators.teams import TEAMS

if TYPE_CHECKING:
    import psycopg
    from airflow.sdk import Context

    from include.connectors.algolia import AlgoliaIndex
    from include.models.alerts import Alert
    from include.search.watch import RunReport, Settings

log = logging.getLogger(__name__)


class SearchPatchOperator(BaseOperator):
    """Look whether an index was rebuilt, and give its records what the patches say.

    What the run's parameters leave empty is taken from the Airflow variables `<dag_id>_<parameter>`.

    :param patches: dotted paths of `Patch` objects; all of them are done in one pass.
    """

    ui_color = "#fae8ff"

    def __init__(
        self,
        *,
        patches: Sequence[str],
        algolia_conn_id: str = AlgoliaHook.default_conn_name,
        teams_conn_id: str = TEAMS,
        conn_id: str = SYNC_DB,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.patches = patches
        self.algolia_conn_id = algolia_conn_id
        self.teams_conn_id = teams_conn_id
        self.conn_id = conn_id

    def execute(self, context: Context) -> dict[str, Any] | None:
        """One look; returns what was done, None when there was nothing to do."""
        from include.patches.base import load_patch
        from include.search.watch import Settings, watch_index

        run, asked = context["dag_run"], read_search_params(context)
        settings = Settings(
            force=asked.force,
            dry_run=bool(asked.dry_run),
            is_manual=str(getattr(run.run_type, "value", run.run_type)) == "manual",
            compare_every=asked.compare_every,
        )
        notifies = bool(asked.dry_run_notify)
        patches = [load_patch(path) for path in self.patches]
        with _limit(asked.time_limit_minutes or USUAL_MINUTES), database(self.conn_id) as connection:
            connection.autocommit = True
            with AlgoliaHook(self.algolia_conn_id).get_conn() as index:
                try:
                    report = watch_index(index, connection, patches, settings, run_id=f"{run.dag_id}/{run.run_id}")
                except IndexBusy as busy:
                    raise AirflowSkipException(f"{busy}: it does the work of this run too") from None
                log_patch(report)
                self._alert(context, report, index, connection, settings, notifies=notifies)
        if report.report is None:
            return None
        told = {name: getattr(report.report, name) for name in ("read", "changed", "refused_count", "seconds")}
        return {"reason": report.reason, "moves": len(report.moves), "dry_run": report.dry_run, **told}

    def _alert(
        self,
        context: Context,
        report: RunReport,
        index: AlgoliaIndex,
        connection: psycopg.Connection[Any],
        settings: Settings,
        *,
        notifies: bool,
    ) -> None:
        """Send an alert of a patch; of a dry run when it was triggered by hand, or when a setting has changed."""
        from include.search import alerts
        from include.store.search import save_settings, settings_changed

        url = run_url(context["dag_run"].dag_id, context["run_id"])

        def send(make: Callable[[], Alert]) -> bool:
            return send_alert(make, context, teams_conn_id=self.teams_conn_id)

        if (done := report.report) and not settings.dry_run and (done.changed or report.moves or settings.force):
            send(lambda: alerts.patched(index.name, report, done, url=url))
        if settings.is_manual:
            if settings.dry_run and notifies:
                send(lambda: alerts.dry_run(index.name, report, url=url))
            return
        where = (index.application_id, index.name)
        chosen = f"dry_run {settings.dry_run}, dry_run_notify {notifies}"
        if settings_changed(connection, *where, chosen):
            is_test = settings.dry_run and notifies
            if not is_test or send(lambda: alerts.dry_run(index.name, report, url=url)):
                save_settings(connection, *where, chosen)


@contextmanager
def _limit(minutes: int) -> Iterator[None]:
    """End what is going on after so many minutes."""
    try:
        with timeout(minutes * 60):  # type: ignore[no-untyped-call]
            yield
    except AirflowTaskTimeout:
        raise AirflowFailException(
            f"Ended after the time limit of {minutes} minutes; the next run goes on where this one stood. If the index "
            "needs longer, raise time_limit_minutes"
        ) from None
