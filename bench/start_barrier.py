"""A start barrier for processes: an advisory lock in PostgreSQL that all of them wait for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import psycopg

LOCK_KEY = 7_230_917_900
DATABASE = "postgres"
"""Processes wait in this database, so that waiting does not count as active time of the measured one."""


def wait(conninfo: str) -> None:
    """Wait until the barrier opens."""
    with psycopg.connect(conninfo, dbname=DATABASE, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock_shared(%s)", (LOCK_KEY,))


@contextmanager
def closed(conninfo: str) -> Iterator[list[Future[Any]]]:
    """Close the barrier while the block starts processes and puts their futures into the list that this yields.

    At the end of the block the barrier opens, as soon as all the processes wait at it or one of them has ended.
    """
    started: list[Future[Any]] = []
    with psycopg.connect(conninfo, dbname=DATABASE, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", (LOCK_KEY,))
        try:
            yield started
            while not any(each.done() for each in started) and _waiting(connection) < len(started):
                time.sleep(0.02)
        finally:
            connection.execute("SELECT pg_advisory_unlock(%s)", (LOCK_KEY,))


def _waiting(connection: psycopg.Connection[Any]) -> int:
    statement = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    row = connection.execute(statement).fetchone()
    return int(row[0]) if row else 0
