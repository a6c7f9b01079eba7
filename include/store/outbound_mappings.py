"""The versions of the mappings of outbound targets; one of each target is current."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
import psycopg
from psycopg.rows import class_row

from include.store.rows import as_json

_COLUMNS = "SELECT version, is_current, note, created_at, mappings FROM outbound_mapping"


class MappingVersion(msgspec.Struct):
    """A row of `outbound_mapping`; the mappings are JSON objects under neutral names."""

    version: int
    is_current: bool
    note: str
    created_at: datetime
    mappings: list[dict[str, Any]]


def find_current(connection: psycopg.Connection[Any], target: str) -> MappingVersion | None:
    """The version in use."""
    with connection.cursor(row_factory=class_row(MappingVersion)) as cursor:
        return cursor.execute(f"{_COLUMNS} WHERE target = %s AND is_current", (target,)).fetchone()


def list_versions(connection: psycopg.Connection[Any], target: str) -> list[MappingVersion]:
    """All versions, the newest first."""
    with connection.cursor(row_factory=class_row(MappingVersion)) as cursor:
        return cursor.execute(f"{_COLUMNS} WHERE target = %s ORDER BY version DESC", (target,)).fetchall()


def list_targets(connection: psycopg.Connection[Any]) -> list[str]:
    """The targets that have mappings, by name."""
    rows = connection.execute("SELECT target FROM outbound_mapping WHERE is_current ORDER BY target")
    return [row[0] for row in rows]


def lock_versions(connection: psycopg.Connection[Any]) -> None:
    """Let nobody else add versions until the transaction ends; reading goes on."""
    connection.execute("LOCK TABLE outbound_mapping IN SHARE ROW EXCLUSIVE MODE")


def add_version(
    connection: psycopg.Connection[Any], target: str, mappings: Sequence[dict[str, Any]], note: str = ""
) -> int:
    """Make these mappings the current ones; returns their version, an unchanged one if they are so already."""
    document = as_json(list(mappings))
    with connection.transaction():
        lock_versions(connection)
        row = connection.execute(
            "SELECT version FROM outbound_mapping WHERE target = %s AND is_current AND mappings = %s",
            (target, document),
        ).fetchone()
        if row is None:
            connection.execute(
                "UPDATE outbound_mapping SET is_current = false WHERE target = %s AND is_current", (target,)
            )
            row = connection.execute(
                "INSERT INTO outbound_mapping (target, version, mappings, note)"
                " SELECT %s, coalesce(max(version), 0) + 1, %s, %s FROM outbound_mapping WHERE target = %s"
                " RETURNING version",
                (target, document, note, target),
            ).fetchone()
    if row is None:
        raise RuntimeError("INSERT … RETURNING returned no row")
    return int(row[0])
