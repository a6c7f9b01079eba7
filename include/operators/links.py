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
    """Links from a task of a load to `close_load`, whose log has the report of all venues."""

    name = "Load report"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the address of `close_load` in the web UI."""
        base = conf.get("api", "base_url", fallback="").rstrip("/")
        return f"{base}/dags/{quote(ti_key.dag_id)}/runs/{quote(ti_key.run_id)}/tasks/close_load"
