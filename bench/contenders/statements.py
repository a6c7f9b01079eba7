"""The statement that the yardstick and the plain script share."""

from __future__ import annotations

from bench.listing import COLUMNS


def upsert(table: str, incoming: str) -> str:
    """Take the rows of a temporary table over, unless the row that is there is as new."""
    names = ", ".join(COLUMNS)
    assignments = ", ".join(f"{name} = excluded.{name}" for name in COLUMNS[1:])
    return (
        f"INSERT INTO {table} AS held ({names}) SELECT {names} FROM {incoming}"
        f" ON CONFLICT (ref) DO UPDATE SET {assignments} WHERE held.modified < excluded.modified"
    )
