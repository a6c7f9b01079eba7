"""Access to the database for commands that only read it. A stopped embedded server is started for the command."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from local import postgres, watch
from local.checkout import LocalError
from local.context import Local, claim
from local.lock import Busy
from local.postgres import Server

if TYPE_CHECKING:
    import psycopg

KEEP_IT_RUNNING = ("up", "run", "sync", "replay", "psql")
"""Commands whose server other commands may use. The others end within seconds, so we wait for them."""
PATIENCE_SECONDS = 60.0
NOTHING_YET = "Nothing has run here yet: `make run` runs every DAG once, `make up` starts Airflow with its web UI."
TOO_OLD = "the tables are missing or older than this code: run `make migrate`"


@contextmanager
def reachable(local: Local, command: str) -> Iterator[str | None]:
    """Yield the connection string of the user's own database or of the embedded one; None before the first run.

    If another command runs the embedded server, that one is used. Otherwise the server is started and stopped again.

    Raises:
        LocalError: the settings are invalid, or the server does not get ready.
    """
    if local.own_database:
        yield local.conninfo(None)
        return
    if not (local.data / "PG_VERSION").exists():
        yield None
        return
    if server := _running_or_claimed(local, command):
        yield server.conninfo("sync")
        return
    try:
        server = watch.start_postgres(local.data, local.screen.say, local.signals)
        local.lock.publish(conninfo=server.conninfo("sync"))
        yield server.conninfo("sync")
    finally:
        local.signals.close()
        postgres.stop(local.data, local.signals.patience(postgres.STOP_SECONDS))


@contextmanager
def reading(conninfo: str) -> Iterator[psycopg.Connection[Any]]:
    """Yield a read-only connection that sees a single snapshot of the database.

    Raises:
        LocalError: the database cannot be reached, or its tables do not match this code.
    """
    import psycopg
    from psycopg import errors

    try:
        with psycopg.connect(conninfo, connect_timeout=10) as connection:
            connection.read_only = True
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            yield connection
    except (errors.UndefinedTable, errors.UndefinedColumn, errors.UndefinedFunction, errors.InvalidCatalogName):
        raise LocalError(TOO_OLD) from None
    except psycopg.OperationalError as error:
        reason = str(error).strip().partition("\n")[0]
        raise LocalError(f"the database cannot be read: {reason}") from None


def _running_or_claimed(local: Local, command: str) -> Server | None:
    """Return the server that another command runs; None if this command has taken the lock instead."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            claim(local, command)
        except Busy as busy:
            if busy.holder.get("command") in KEEP_IT_RUNNING and (server := postgres.running_server(local.data)):
                return server
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return None
