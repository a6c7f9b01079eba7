"""One run per provider and venue link at a time, whichever worker it is on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from include.errors import LinkBusy

_KEY = "hashtextextended(format('provider-sync/%%s/%%s', %s::bigint, %s::bigint), 0)"


@contextmanager
def link_lock(
    connection: psycopg.Connection[Any], provider_id: int, venue_provider_id: int | None, *, wait_seconds: float = 3.0
) -> Iterator[None]:
    """Hold the advisory lock of a provider and venue link (0 for none) as long as the block runs.

    The lock belongs to the session, so a killed process gives it back as soon as PostgreSQL notices; the short wait
    covers that moment. Session locks need a direct connection or a session pool, not a transaction pool.

    Raises:
        LinkBusy: another session holds it.
    """
    key = (provider_id, venue_provider_id or 0)
    deadline = time.monotonic() + wait_seconds
    while not _scalar(connection, f"SELECT pg_try_advisory_lock({_KEY})", key):
        if time.monotonic() >= deadline:
            raise LinkBusy("Another run of this provider and venue link is going on", retry_after=60)
        time.sleep(0.1)
    try:
        yield
    finally:
        if not connection.closed:
            connection.execute(f"SELECT pg_advisory_unlock({_KEY})", key)


def _scalar(connection: psycopg.Connection[Any], statement: str, parameters: tuple[int, int]) -> Any:
    row = connection.execute(statement, parameters).fetchone()
    return row[0] if row else None
