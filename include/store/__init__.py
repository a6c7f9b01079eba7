"""All SQL of the project: functions that take a connection."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from include.errors import DatabaseUnavailable

Connection = psycopg.Connection[Any]


@contextmanager
def database_failures(connection: Connection, **where: str | None) -> Iterator[None]:
    """Turn a failure of PostgreSQL itself into a DatabaseUnavailable, which is retried.

    Args:
        connection: the connection that the block uses.
        where: provider, venue and so on, shown after the message.
    """
    try:
        yield
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        what = "The connection to PostgreSQL was lost" if connection.closed else "PostgreSQL gave up"
        raise DatabaseUnavailable(f"{what}: {failure_reason(error)}", retry_after=10, **where) from error


def failure_reason(error: psycopg.Error) -> str:
    """Return the first line of PostgreSQL's message, which says why; the lines after it repeat addresses."""
    return str(error).strip().partition("\n")[0]
