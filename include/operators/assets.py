"""Tables of the database as Airflow assets, so that other DAGs can run when a table changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Context


def table_asset(table: str) -> Asset:
    """Return the asset of a table of the database behind the connection `sync_db`.

    Declare it as an outlet of the last task of a DAG. Airflow then knows the producer before its first run, and the DAG
    processor creates the asset; with an asset alias, tasks that end in the same second would compete to create it. The
    URI is only an identifier: Airflow never opens it, and allows one active asset per URI.
    """
    return Asset(name=f"provider_sync.{table}", uri=f"postgres://provider_sync:5432/sync/public/{table}")


def emit_events(task: BaseOperator, context: Context, extras: Mapping[str, Mapping[str, Any]]) -> None:
    """Emit an asset event for the tables in `extras`, and none for the other outlets of the task.

    When a task succeeds, Airflow emits an event for each of its outlets. The only way to omit one is to remove it from
    the copy of the task on which `execute` runs.

    :param extras: the extra of the event, by table; tables whose asset is not an outlet are ignored.
    """
    changed = {table_asset(table): dict(extra) for table, extra in extras.items()}
    task.outlets = [outlet for outlet in task.outlets if outlet in changed]
    for outlet in task.outlets:
        context["outlet_events"][outlet].extra = changed[outlet]
