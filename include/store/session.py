"""Sets a connection up for a sync: its settings, JSON types, transactions that begin late, and the database's clock."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

import msgspec
from psycopg.adapt import PyFormat
from psycopg.types.json import Jsonb, set_json_dumps, set_json_loads

from include.store import Connection


@contextmanager
def sync_session(connection: Connection) -> Iterator[None]:
    """Prepare a connection for a sync and restore its settings afterwards.

    It is in autocommit mode meanwhile, so that `LateTransaction` decides when a transaction begins. Its commits do not
    wait for the disk; `commit_durably` makes one wait, and with it all commits before.
    """
    was_autocommit = connection.autocommit
    try:
        connection.autocommit = True
        prepare_connection(connection)
        connection.execute("SET synchronous_commit = off")
        yield
    finally:
        if not connection.closed:
            connection.execute("RESET synchronous_commit")
            connection.execute("RESET provider_sync.writer")
            connection.autocommit = was_autocommit


def prepare_connection(connection: Connection) -> None:
    """Convert dictionaries to and from jsonb, and exempt the connection's writes from edit tracking."""
    connection.execute("SET provider_sync.writer = 'sync'")
    set_json_dumps(msgspec.json.encode, connection)
    set_json_loads(msgspec.json.decode, connection)
    for format_ in (PyFormat.BINARY, PyFormat.TEXT):  # a plain dictionary is dumped like one wrapped in Jsonb
        connection.adapters.register_dumper(dict, connection.adapters.get_dumper(Jsonb, format_))


def commit_durably(connection: Connection) -> None:
    """Make the commit of the current transaction wait for the disk."""
    connection.execute("SET LOCAL synchronous_commit = on")


def database_time(connection: Connection) -> datetime:
    """Return the time of the database's clock."""
    row = connection.execute("SELECT clock_timestamp()").fetchone()
    moment: datetime = row[0] if row else datetime.now(UTC)
    return moment


class LateTransaction:
    """A transaction that begins when `begin` is called, if ever, and ends with the block."""

    def __init__(self, connection: Connection, *, force_rollback: bool = False) -> None:
        self.has_begun = False
        self._connection = connection
        self._force_rollback = force_rollback
        self._stack = ExitStack()

    def begin(self) -> None:
        """Begin the transaction; further calls have no effect."""
        if not self.has_begun:
            self._stack.enter_context(self._connection.transaction(force_rollback=self._force_rollback))
            self.has_begun = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return self._stack.__exit__(kind, error, traceback)
