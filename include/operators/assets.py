"""Tables of the database as Airflow assets, for DAGs that follow a change of them."""

from __future__ import annotations

from airflow.sdk import Asset, AssetAlias


def table_asset(table: str) -> Asset:
    """The asset of a table of the database behind the connection `sync_db`."""
    return Asset(name=table, uri=f"postgres://sync_db:5432/sync/public/{table}")


def changes_of(table: str) -> AssetAlias:
    """An outlet for a task that may change a table: the asset gets an event only when rows were written."""
    return AssetAlias(table)
