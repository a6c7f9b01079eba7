"""Reads and writes the rows of a chunk. Every function works in the caller's transaction."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from datetime import UTC, date, datetime
from decimal import Decimal
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec
import psycopg
from psycopg import errors, sql
from psycopg.adapt import PyFormat
from psycopg.rows import TupleRow
from psycopg.types.json import Jsonb, set_json_dumps, set_json_loads

from include.errors import ConfigurationError
from include.store.tables import Table

log = logging.getLogger(__name__)

Connection = psycopg.Connection[Any]
R = TypeVar("R")

FEW_ROWS = 100
"""So many changed rows go with their statement; more of them are faster by COPY."""
_ALIKE_IN_JSON = frozenset({bool, int, str, type(None), Decimal, date, datetime})
"""Types whose values PostgreSQL reads from JSON as it does from COPY."""


class RowsRefused(Exception):
    """PostgreSQL refused rows that were written without care: write the chunk again, looking for them."""


class ChunkConflict(Exception):
    """Somebody else wrote the same rows at the same time: look the chunk up again and start over."""


class LateTransaction:
    """A transaction that begins only when `begin` is called, and ends with the block."""

    def __init__(self, connection: Connection, *, force_rollback: bool = False) -> None:
        self.has_begun = False
        self._connection = connection
        self._force_rollback = force_rollback
        self._stack = ExitStack()

    def begin(self) -> None:
        """Begin, unless it has begun."""
        if not self.has_begun:
            self._stack.enter_context(self._connection.transaction(force_rollback=self._force_rollback))
            self.has_begun = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return self._stack.__exit__(kind, error, traceback)


def prepare_connection(connection: Connection) -> None:
    """Make dictionaries jsonb, both ways, on this connection; tell the database that no person edits through it."""
    connection.execute("SET provider_sync.writer = 'sync'")
    set_json_dumps(msgspec.json.encode, connection)
    set_json_loads(msgspec.json.decode, connection)
    for wanted in (PyFormat.BINARY, PyFormat.TEXT):  # dictionaries as what set_json_dumps made of the wrapper
        connection.adapters.register_dumper(dict, connection.adapters.get_dumper(Jsonb, wanted))


def database_time(connection: Connection) -> datetime:
    """The database's clock."""
    row = connection.execute("SELECT clock_timestamp()").fetchone()
    moment: datetime = row[0] if row else datetime.now(UTC)
    return moment


def text_array(values: Sequence[str]) -> str:
    """An array literal: one parameter instead of one per value, which is several times faster to send."""
    if not values:
        return "{}"
    joined = '","'.join(values)
    if "\\" in joined or joined.count('"') != 2 * (len(values) - 1):
        joined = '","'.join(value.replace("\\", "\\\\").replace('"', '\\"') for value in values)
    return f'{{"{joined}"}}'


def find_rows(
    connection: Connection, table: Table, provider_id: int, keys: Sequence[str], *, columns: bool
) -> list[TupleRow]:
    """The rows with these keys, without a lock: one look-up for the whole chunk."""
    with connection.cursor(binary=True) as cursor:
        try:
            cursor.execute(table.select(provider_id, columns=columns), (text_array(keys),))
        except _NOT_OUR_TABLES as error:
            raise _not_our_tables(error) from None
        return cursor.fetchall()


def find_thumbs(connection: Connection, table: Table, provider_id: int, keys: Sequence[str]) -> list[TupleRow]:
    """Key, date, protected columns and thumbs of the rows with these keys, without a lock."""
    with connection.cursor(binary=True) as cursor:
        return cursor.execute(table.select_thumbs(provider_id), (text_array(keys),)).fetchall()


def is_usable_key(key: object) -> bool:
    """Whether PostgreSQL can be asked for this key: a text that UTF-8 can carry, without NUL."""
    if not isinstance(key, str) or "\x00" in key:
        return False
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True


def find_children(connection: Connection, table: Table, provider_id: int, parents: list[int]) -> list[TupleRow]:
    """This provider's rows of these parents that are neither gone nor history yet, without a lock."""
    with connection.cursor(binary=True) as cursor:
        cursor.execute(table.select_children(provider_id), (parents,))
        return cursor.fetchall()


def lock_rows(
    connection: Connection, table: Table, provider_id: int, ids: list[int], *, with_key: bool = False
) -> list[TupleRow]:
    """The rows with these primary keys, as they are now, locked until the transaction ends.

    With `with_key` their keys can be changed too.
    """
    with connection.cursor(binary=True) as cursor:
        cursor.execute(table.select_for_update(provider_id, with_key=with_key), (ids,))
        return cursor.fetchall()


def rename_rows(connection: Connection, table: Table, rows: Sequence[tuple[int, str, str]]) -> None:
    """Give locked rows `(id, key, reference within the venue)` other keys."""
    ids, keys, references = [[*column] for column in zip(*rows, strict=True)]
    connection.execute(table.rename, (ids, keys, references))


def reserve_ids(connection: Connection, table: Table, count: int) -> list[int]:
    """Primary keys for rows that are about to be inserted."""
    with connection.cursor(binary=True) as cursor:
        return [row[0] for row in cursor.execute(table.next_ids, (count,))]


def insert_rows(
    connection: Connection, table: Table, batches: Iterable[Sequence[Sequence[Any]]], *, with_id: bool
) -> None:
    """Copy new rows, batch by batch as they come; the order of the columns is that of `Table.copy_new`."""
    _copy(connection, table.copy_new(with_id=with_id), batches)


def insert_contested_rows(connection: Connection, table: Table, batches: Iterable[Sequence[Sequence[Any]]]) -> set[str]:
    """Insert new rows, with their ids, that others may create at this moment; returns the keys of those inserted."""
    connection.execute(table.create_contested)
    connection.execute(table.clear_contested)
    _copy(connection, table.copy_contested, batches)
    return {row[0] for row in connection.execute(table.take_contested)}


def update_rows(
    connection: Connection,
    table: Table,
    provider_id: int,
    rows: Sequence[Sequence[Any]],
    columns: tuple[str, ...],
    *,
    as_json: bool = False,
) -> int:
    """Write changed rows `(id, date, must_write, *columns)`; returns how many were written.

    A few rows go with their statement as JSON if `as_json` allows it, which saves three round trips; COPY says more
    about a value that PostgreSQL refuses.

    A row with a later date stays as it is, and so does one that holds the same, unless `must_write` is set for it.
    """
    if as_json and len(rows) <= FEW_ROWS and _fit_json(table, rows, columns):
        names = ("id", "date_modified_at_last_provider", *columns)
        changes = [dict(zip(names, (row[0], row[1], *row[3:]), strict=True)) for row in rows]
        statement = table.update(provider_id, columns, as_json=True)
        must_write = [row[0] for row in rows if row[2]]
        return connection.execute(statement, (msgspec.json.encode(changes).decode(), must_write)).rowcount
    copy_changes(connection, table, rows, columns)
    return connection.execute(table.update(provider_id, columns)).rowcount


def copy_changes(connection: Connection, table: Table, rows: Sequence[Sequence[Any]], columns: tuple[str, ...]) -> None:
    """Copy changed rows `(id, date, must_write, *columns)` to where statements of this transaction find them."""
    connection.execute(table.create_changes)
    connection.execute(table.clear_changes)
    _copy(connection, table.copy_changes(columns), (rows,))


def _fit_json(table: Table, rows: Sequence[Sequence[Any]], columns: tuple[str, ...]) -> bool:
    return table.documents.isdisjoint(columns) and all([type(value) in _ALIKE_IN_JSON for row in rows for value in row])


def _copy(connection: Connection, statement: sql.Composed, batches: Iterable[Sequence[Sequence[Any]]]) -> None:
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        write_row = copy.write_row
        for batch in batches:
            # Dates and decimals as text in one go: the driver takes up to sixty times as long for each alone.
            for row in msgspec.to_builtins(batch, builtin_types=(bytes,)):
                write_row(row)


def write_or_raise(rows: Sequence[R], write: Callable[[Sequence[R]], object]) -> None:
    """Write the rows without a savepoint, which takes as long as fifty of them.

    Raises:
        RowsRefused: PostgreSQL refused some; the transaction is lost.
    """
    try:
        write(rows)
    except (psycopg.OperationalError, psycopg.InterfaceError):
        raise
    except _REFUSALS as error:
        raise RowsRefused(str(error)) from error


def write_or_reject(
    connection: Connection, rows: Sequence[R], write: Callable[[Sequence[R]], object], *, key_constraint: str
) -> list[tuple[R, str]]:
    """Write the rows under a savepoint; find those that PostgreSQL refuses by halving, and return them with the reason.

    Raises:
        ChunkConflict: a key exists by now, or PostgreSQL broke a deadlock.
        ConfigurationError: the tables are not those of this version.
    """
    try:
        with connection.transaction():
            write(rows)
    except (errors.DeadlockDetected, errors.SerializationFailure) as error:
        raise ChunkConflict(str(error)) from error
    except _NOT_OUR_TABLES as error:
        raise _not_our_tables(error) from None
    except (psycopg.OperationalError, psycopg.InterfaceError):
        raise
    except _REFUSALS as error:
        if isinstance(error, errors.UniqueViolation) and error.diag.constraint_name == key_constraint:
            raise ChunkConflict(str(error)) from error
        if len(rows) == 1:
            return [(rows[0], _reason(connection, error))]
        middle = len(rows) // 2
        return write_or_reject(connection, rows[:middle], write, key_constraint=key_constraint) + write_or_reject(
            connection, rows[middle:], write, key_constraint=key_constraint
        )
    return []


_REFUSALS = (psycopg.Error, UnicodeError, ValueError, TypeError, OverflowError)
"""What a value raises that cannot be written: PostgreSQL's errors, and those of the driver before it sends it."""
_NOT_OUR_TABLES = (errors.UndefinedTable, errors.UndefinedColumn, errors.InsufficientPrivilege)


def _not_our_tables(error: psycopg.Error) -> ConfigurationError:
    return ConfigurationError(f"{error.diag.message_primary}: run `make migrate`, or grant the right")


def _reason(connection: Connection, error: Exception) -> str:
    """Why PostgreSQL refused a row, in words a person understands.

    A check or key explains itself by its comment (`COMMENT ON CONSTRAINT`).
    """
    if not isinstance(error, psycopg.Error) or error.diag.sqlstate is None:
        return str(error).replace("(0x00) ", "")
    diagnosis = error.diag
    message = str(diagnosis.message_primary)
    if isinstance(error, errors.NotNullViolation):
        return f"{diagnosis.column_name} is missing"
    if diagnosis.constraint_name:
        comment = connection.execute(
            "SELECT obj_description(oid, 'pg_constraint') FROM pg_constraint WHERE conname = %s",
            (diagnosis.constraint_name,),
        ).fetchone()
        if comment and comment[0]:
            return str(comment[0])
        # The detail of a check is the whole row, personal data and all.
        detail = None if isinstance(error, errors.CheckViolation) else diagnosis.message_detail
        return f"{message}: {detail}" if detail else message
    _, column, rest = str(diagnosis.context or "").partition(", column ")
    return f"{rest.partition(':')[0]}: {message}" if column else message


def as_json(value: Any) -> Jsonb:
    """A jsonb parameter; knows datetimes, decimals and structs."""
    return Jsonb(value, dumps=msgspec.json.encode)
