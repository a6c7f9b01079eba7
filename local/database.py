"""The database to synchronise, for commands that only look at it: as it runs, or started for them and stopped again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local import postgres, watch
from local.checkout import LocalError
from local.lock import Busy
from local.postgres import Server

if TYPE_CHECKING:
    import psycopg

    from local.commands import Local

KEEP_IT_RUNNING = ("up", "run", "sync", "replay", "psql")
"""Commands whose server others may use; the rest end within seconds and are waited for."""
PATIENCE_SECONDS = 60.0
NOTHING_YET = "Nothing has run here yet: `make run` runs everything once, `make up` starts it with the web UI."
TOO_OLD = "the tables are older than this code, or were never created: `make migrate` brings them up to date"


@contextmanager
def reachable(local: Local, command: str) -> Iterator[str | None]:
    """The conninfo of the user's own database or of the embedded one; None before the first run.

    The embedded server is used as another command runs it. If nothing runs, it is started, and stopped at the end.

    Raises:
        LocalError: the settings are wrong, or another command does not get ready.
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
        local.lock.tell(conninfo=server.conninfo("sync"))
        yield server.conninfo("sync")
    finally:
        local.signals.close()
        postgres.stop(local.data, local.signals.patience(postgres.STOP_SECONDS))


@contextmanager
def reading(conninfo: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection that sees one state of the database and changes nothing.

    Raises:
        LocalError: it cannot be reached, or its tables are not those of this code.
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


def running_server(data: Path) -> Server | None:
    """The server of this folder if it runs; nothing is started."""
    if not postgres.is_running(data):
        return None
    try:
        lines = (data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        return Server(data, lines[4].strip(), int(lines[3]))
    except (OSError, IndexError, ValueError):  # it is just starting or ending
        return None


def _running_or_claimed(local: Local, command: str) -> Server | None:
    """The server that another command runs; None when this command holds the lock now."""
    from local.commands import claim

    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            claim(local, command)
        except Busy as busy:
            if busy.holder.get("command") in KEEP_IT_RUNNING and (server := running_server(local.data)):
                return server
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return None
