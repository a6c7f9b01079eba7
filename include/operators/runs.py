"""What operators need to know of the DAG run they belong to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.sdk.configuration import conf

if TYPE_CHECKING:
    from airflow.sdk import Context


def value_of(state: object) -> str:
    """Return a state or run type as text; Airflow passes it as an enum or as text."""
    return str(getattr(state, "value", state))


def has_type(run: Any, run_type: str) -> bool:
    """Return whether a DAG run is of a type: `backfill`, `manual`, `scheduled` or `asset_triggered`."""
    return value_of(run.run_type) == run_type


def full_run_id(context: Context) -> str:
    """Return the DAG id and the run id, separated by a slash, as the tables store them."""
    run = context["dag_run"]
    return f"{run.dag_id}/{run.run_id}"


def run_url(dag_id: str, run_id: str) -> str:
    """Return the address of a run in the web UI."""
    base_url = conf.get("api", "base_url", fallback=None) or "http://localhost:8080"
    return f"{base_url.rstrip('/')}/dags/{quote(dag_id, safe='')}/runs/{quote(run_id, safe='')}"
