"""The embedded PostgreSQL that all competitors of a benchmark use, and how busy it was."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from include.store.migrate import migrate
from local import postgres

NAME = "bench"
MAX_WAIT = 60.0
"""Seconds after which PostgreSQL must have noticed that a client is gone."""


class Database:
    """The harness's own connection to the database of the competitors."""

    def __init__(self, connection: psycopg.Connection[Any], conninfo: str) -> None:
        self.connection = connection
        self.conninfo = conninfo

    def value(self, statement: str) -> Any:
        """Return the first value of a statement's first row; None without a row."""
        row = self.connection.execute(statement).fetchone()  # type: ignore[arg-type]
        return row[0] if row else None

    def settle(self, *tables: str) -> None:
        """Do before the next phase what autovacuum and the checkpointer would do in a pause."""
        for table in tables:
            self.connection.execute(sql.SQL("VACUUM (ANALYZE) {}").format(sql.Identifier(*table.split("."))))
        self.connection.execute("CHECKPOINT")

    def wal_mb(self) -> float:
        """Return the MB of WAL written since the server was created."""
        return int(self.value("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")) / 1e6

    def active_seconds(self) -> float:
        """Return how long statements have run in this database; waits until all other clients are gone and counted."""
        self.wait_until_alone()
        self.connection.execute("SELECT pg_stat_force_next_flush()")
        active = self.value("SELECT active_time FROM pg_stat_database WHERE datname = current_database()")
        return float(active) / 1000

    def wait_until_alone(self) -> None:
        """Wait until PostgreSQL has noticed that all other clients are gone."""
        others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        deadline = time.monotonic() + MAX_WAIT
        while self.value(f"{others} AND backend_type = 'client backend'"):
            if time.monotonic() > deadline:
                raise RuntimeError("PostgreSQL still has the session of a process that has ended")
            time.sleep(0.01)


@contextmanager
def running(folder: Path) -> Iterator[Database]:
    """Start PostgreSQL with default settings and a migrated database, and stop it in the end. `folder` has its data."""
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "pgdata"
    server = postgres.start(data)
    try:
        postgres.create_databases(server, NAME)
        migrate(server.conninfo(NAME))
        with attached(server.conninfo(NAME)) as database:
            yield database
    finally:
        postgres.stop(data)


@contextmanager
def attached(conninfo: str) -> Iterator[Database]:
    """Use a migrated database of a running server."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        yield Database(connection, conninfo)
