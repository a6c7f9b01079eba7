"""One run per provider and venue link, and one per search index, at a time, whichever worker it is on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from include.errors import IndexBusy, LinkBusy

_KEY = "hashtextextended(%s, 0)"


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
    with _held(connection, f"provider-sync/{provider_id}/{venue_provider_id or 0}", wait_seconds) as is_ours:
        if not is_ours:
            raise LinkBusy("Another run of this provider and venue link is going on", retry_after=60)
        yield


@contextmanager
def index_lock(
    connection: psycopg.Connection[Any], application_id: str, index: str, *, wait_seconds: float = 3.0
) -> Iterator[None]:
    """Hold the advisory lock of a search index as long as the block runs.

    Raises:
        IndexBusy: another session holds it.
    """
    with _held(connection, f"provider-sync/search/{application_id}/{index}", wait_seconds) as is_ours:
        if not is_ours:
            raise IndexBusy(f"Another run is at work on the index {index}", retry_after=60)
        yield


@contextmanager
def _held(connection: psycopg.Connection[Any], key: str, wait_seconds: float) -> Iterator[bool]:
    deadline = time.monotonic() + wait_seconds
    while not (is_ours := _scalar(connection, f"SELECT pg_try_advisory_lock({_KEY})", key)):
        if time.monotonic() >= deadline:
            break
        time.sleep(0.1)
    try:
        yield bool(is_ours)
    finally:
        if is_ours and not connection.closed:
            connection.execute(f"SELECT pg_advisory_unlock({_KEY})", (key,))


def _scalar(connection: psycopg.Connection[Any], statement: str, key: str) -> Any:
    row = connection.execute(statement, (key,)).fetchone()
    return row[0] if row else None
