"""The statement that the yardstick and the plain script share."""

from __future__ import annotations

from collections.abc import Sequence


def upsert(table: str, incoming: str, columns: Sequence[str]) -> str:
    """Take the rows of a temporary table over, unless the row that is there is as new.

    The first column is the key, the last one the modified date.
    """
    names = ", ".join(columns)
    assignments = ", ".join(f"{name} = excluded.{name}" for name in columns[1:])
    return (
        f"INSERT INTO {table} AS held ({names}) SELECT {names} FROM {incoming}"
        f" ON CONFLICT ({columns[0]}) DO UPDATE SET {assignments}"
        f" WHERE held.{columns[-1]} < excluded.{columns[-1]}"
    )
