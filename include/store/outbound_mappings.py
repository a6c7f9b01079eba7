"""Versions of the mappings of outbound targets (`outbound_mapping`); one version of each target is current."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg.rows import class_row

from include.models.outbound import MappingVersion
from include.store.rows import as_json

_COLUMNS = "SELECT version, is_current, note, created_at, mappings FROM outbound_mapping"


def find_current(connection: psycopg.Connection, target: str) -> MappingVersion | None:
    """Return the current version, None if the target has no mappings."""
    with connection.cursor(row_factory=class_row(MappingVersion)) as cursor:
        return cursor.execute(f"{_COLUMNS} WHERE target = %s AND is_current", (target,)).fetchone()


def list_versions(connection: psycopg.Connection, target: str) -> list[MappingVersion]:
    """Return all versions, the newest first."""
    with connection.cursor(row_factory=class_row(MappingVersion)) as cursor:
        return cursor.execute(f"{_COLUMNS} WHERE target = %s ORDER BY version DESC", (target,)).fetchall()


def list_targets(connection: psycopg.Connection) -> list[str]:
    """Return the targets that have mappings, by name."""
    rows = connection.execute("SELECT target FROM outbound_mapping WHERE is_current ORDER BY target")
    return [row[0] for row in rows]


def lock_versions(connection: psycopg.Connection) -> None:
    """Lock the table against new versions until the transaction ends; reads are not blocked."""
    connection.execute("LOCK TABLE outbound_mapping IN SHARE ROW EXCLUSIVE MODE")


def add_version(connection: psycopg.Connection, target: str, mappings: Sequence[dict[str, Any]], note: str = "") -> int:
    """Make these mappings the current version; returns its number. Mappings that are already current get no new one."""
    document = as_json(list(mappings))
    with connection.transaction():
        lock_versions(connection)
        rows = connection.execute(
            "SELECT version FROM outbound_mapping WHERE target = %s AND is_current AND mappings = %s",
            (target, document),
        ).fetchall()
        if not rows:
            connection.execute(
                "UPDATE outbound_mapping SET is_current = false WHERE target = %s AND is_current", (target,)
            )
            rows = connection.execute(
                "INSERT INTO outbound_mapping (target, version, mappings, note)"
                " SELECT %s, coalesce(max(version), 0) + 1, %s, %s FROM outbound_mapping WHERE target = %s"
                " RETURNING version",
                (target, document, note, target),
            ).fetchall()
    return int(rows[0][0])
