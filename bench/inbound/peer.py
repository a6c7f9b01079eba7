"""What several competitors share: how they request the listing, and how they write a page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import requests


def pages(url: str, decode: Callable[[bytes], Any]) -> Iterator[list[dict[str, Any]]]:
    """Request one page after the other, until one is empty; yields their records."""
    parameters: dict[str, str | int] = {"limit": 1000}
    with requests.Session() as session:
        while True:
            response = session.get(url, params=parameters, timeout=60)
            response.raise_for_status()
            records = decode(response.content)["stocks"]
            if not records:
                return
            yield records
            parameters["after"] = records[-1]["ref"]


def upsert(table: str, columns: Sequence[str]) -> str:
    """Return the statement that writes the rows of the table `incoming`, except over rows that are as new.

    The first column is the key, the last one the modification date.
    """
    names = ", ".join(columns)
    assignments = ", ".join(f"{name} = excluded.{name}" for name in columns[1:])
    return (
        f"INSERT INTO {table} AS stored ({names}) SELECT {names} FROM incoming"
        f" ON CONFLICT ({columns[0]}) DO UPDATE SET {assignments}"
        f" WHERE stored.{columns[-1]} < excluded.{columns[-1]}"
    )
