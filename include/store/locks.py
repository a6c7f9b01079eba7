"""Advisory locks: one run at a time per provider and venue link, and per search index, across all workers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from include.errors import IndexBusy, LinkBusy
from include.store import Connection

_KEY = "hashtextextended(%s, 0)"


@contextmanager
def link_lock(
    connection: Connection, provider_id: int, venue_provider_id: int | None, *, wait_seconds: float = 3.0
) -> Iterator[None]:
    """Hold the advisory lock of a provider and venue link during the block; LinkBusy if another session holds it.

    The lock belongs to the session, so PostgreSQL releases it soon after the process is killed; `wait_seconds` covers
    that moment. Session locks need a direct connection or a session pool, not a transaction pool.
    """
    with _locked(connection, f"provider-sync/{provider_id}/{venue_provider_id or 0}", wait_seconds) as has_lock:
        if not has_lock:
            raise LinkBusy("Another run of this provider and venue link is in progress", retry_after=60)
        yield


@contextmanager
def index_lock(connection: Connection, application_id: str, index: str, *, wait_seconds: float = 3.0) -> Iterator[None]:
    """Hold the advisory lock of a search index during the block; IndexBusy if another session holds it."""
    with _locked(connection, f"provider-sync/search/{application_id}/{index}", wait_seconds) as has_lock:
        if not has_lock:
            raise IndexBusy(f"Another run is at work on the index {index}", retry_after=60)
        yield


@contextmanager
def _locked(connection: Connection, key: str, wait_seconds: float) -> Iterator[bool]:
    deadline = time.monotonic() + wait_seconds
    lock = f"SELECT pg_try_advisory_lock({_KEY})"
    while not (has_lock := connection.execute(lock, (key,)).fetchone() == (True,)):
        if time.monotonic() >= deadline:
            break
        time.sleep(0.1)
    try:
        yield has_lock
    finally:
        if has_lock and not connection.closed:
            connection.execute(f"SELECT pg_advisory_unlock({_KEY})", (key,))
