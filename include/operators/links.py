"""Links that Airflow shows on the page of a task."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from airflow.sdk import BaseOperatorLink
from airflow.sdk.configuration import conf

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey


class LoadReportLink(BaseOperatorLink):
    """Leads from a task of a load to the task that closes it, whose log is the report of all its venues."""

    name = "Load report"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the address of the closing task in the web UI."""
        base = conf.get("api", "base_url", fallback="").rstrip("/")
        return f"{base}/dags/{quote(ti_key.dag_id)}/runs/{quote(ti_key.run_id)}/tasks/close_load"
