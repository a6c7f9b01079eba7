"""Reads and writes the rows of a chunk, in the caller's transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, TypeVar

import msgspec
import psycopg
from psycopg import errors, sql
from psycopg.rows import TupleRow
from psycopg.types.json import Jsonb

from include.errors import ConfigurationError
from include.store import Connection
from include.store.tables import Table

R = TypeVar("R")

MAX_ROWS_AS_JSON = 100
"""Up to this number of changed rows are sent as a parameter of their UPDATE; more rows are faster by COPY."""
_ALIKE_IN_JSON = frozenset({bool, int, str, type(None), Decimal, date, datetime})
"""Types whose values PostgreSQL reads from JSON as it does from COPY."""


class RowsRefused(Exception):
    """PostgreSQL refused rows that were written without a savepoint: save the chunk again, carefully."""


class ChunkConflict(Exception):
    """Another session wrote the same rows at the same time: save the chunk again, from its lookup on."""


def text_array(values: Sequence[str]) -> str:
    """Return an array literal: one parameter instead of one per value, which is several times faster to send."""
    if not values:
        return "{}"
    joined = '","'.join(values)
    if "\\" in joined or joined.count('"') != 2 * (len(values) - 1):
        joined = '","'.join(value.replace("\\", "\\\\").replace('"', '\\"') for value in values)
    return f'{{"{joined}"}}'


def find_rows(
    connection: Connection, table: Table, provider_id: int, keys: Sequence[str], *, columns: bool
) -> list[TupleRow]:
    """Look up the rows with these keys, without locks; see `Table` for the columns."""
    with connection.cursor(binary=True) as cursor:
        try:
            cursor.execute(
                table.select(provider_id, columns=table.columns if columns else ("id",)), (text_array(keys),)
            )
        except _SCHEMA_ERRORS as error:
            raise _schema_error(error) from None
        return cursor.fetchall()


def find_images(connection: Connection, table: Table, provider_id: int, keys: Sequence[str]) -> list[TupleRow]:
    """Look up key, date, overrides and image entries of the rows with these keys, without locks."""
    with connection.cursor(binary=True) as cursor:
        return cursor.execute(table.select(provider_id, columns=("thumbs",)), (text_array(keys),)).fetchall()


def is_usable_key(key: object) -> bool:
    """Whether PostgreSQL can look up this key: a text without NUL that can be encoded as UTF-8."""
    if not isinstance(key, str) or "\x00" in key:
        return False
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True


def find_children(connection: Connection, table: Table, provider_id: int, parents: list[int]) -> list[TupleRow]:
    """Look up this provider's rows of these parents, without locks; not those that are removed or in the past."""
    with connection.cursor(binary=True) as cursor:
        return cursor.execute(table.select_children(provider_id), (parents,)).fetchall()


def lock_rows(
    connection: Connection, table: Table, provider_id: int, ids: list[int], *, with_key: bool = False
) -> list[TupleRow]:
    """Return the current rows with these primary keys, locked; `with_key` if their keys will be changed."""
    with connection.cursor(binary=True) as cursor:
        return cursor.execute(table.select_for_update(provider_id, with_key=with_key), (ids,)).fetchall()


def rename_rows(connection: Connection, table: Table, rows: Sequence[tuple[int, str, str]]) -> None:
    """Change the keys of locked rows; each of `rows` is primary key, new key, and reference within the venue."""
    ids, keys, references = [[*column] for column in zip(*rows, strict=True)]
    connection.execute(table.rename, (ids, keys, references))


def reserve_ids(connection: Connection, table: Table, count: int) -> list[int]:
    """Return primary keys for `count` new rows."""
    with connection.cursor(binary=True) as cursor:
        return [row[0] for row in cursor.execute(table.next_ids, (count,))]


def insert_rows(
    connection: Connection, table: Table, batches: Iterable[Sequence[Sequence[Any]]], *, with_id: bool
) -> None:
    """COPY new rows as their batches are produced; columns in the order of `Table.copy_new`."""
    _copy(connection, table.copy_new(with_id=with_id), batches)


def insert_contested_rows(connection: Connection, table: Table, batches: Iterable[Sequence[Sequence[Any]]]) -> set[str]:
    """Insert rows with their ids, except those whose key another session has inserted by now; returns their keys."""
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
    """Update rows, each `(id, date, must_write, *columns)`, in a transaction; returns how many were written.

    A row with a later date stays as it is, and so does one that has the same values, unless its `must_write` is set.
    `as_json` sends a few rows as JSON, which saves three round trips; after COPY, errors say more about a bad value.
    """
    if as_json and len(rows) <= MAX_ROWS_AS_JSON and _fit_json(table, rows, columns):
        names = ("id", "date_modified_at_last_provider", *columns)
        changes = [dict(zip(names, (row[0], row[1], *row[3:]), strict=True)) for row in rows]
        statement = table.update(provider_id, columns, as_json=True)
        must_write = [row[0] for row in rows if row[2]]
        return connection.execute(statement, (msgspec.json.encode(changes).decode(), must_write)).rowcount
    copy_changes(connection, table, rows, columns)
    return connection.execute(table.update(provider_id, columns)).rowcount


def copy_changes(connection: Connection, table: Table, rows: Sequence[Sequence[Any]], columns: tuple[str, ...]) -> None:
    """COPY changed rows `(id, date, must_write, *columns)` into the temporary table that `Table.update` reads."""
    connection.execute(table.create_changes)
    connection.execute(table.clear_changes)
    _copy(connection, table.copy_changes(columns), (rows,))


def _fit_json(table: Table, rows: Sequence[Sequence[Any]], columns: tuple[str, ...]) -> bool:
    return table.documents.isdisjoint(columns) and all([type(value) in _ALIKE_IN_JSON for row in rows for value in row])


def _copy(connection: Connection, statement: sql.Composed, batches: Iterable[Sequence[Sequence[Any]]]) -> None:
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        write_row = copy.write_row
        for batch in batches:
            # Convert dates and decimals to text in one call: the driver takes up to sixty times as long per value.
            for row in msgspec.to_builtins(batch, builtin_types=(bytes,)):
                write_row(row)


def write_or_raise(rows: Sequence[R], write: Callable[[Sequence[R]], object]) -> None:
    """Write rows without a savepoint, which would cost as much as fifty rows; RowsRefused if one is refused."""
    try:
        write(rows)
    except (psycopg.OperationalError, psycopg.InterfaceError):
        raise
    except _REFUSALS as error:
        raise RowsRefused(str(error)) from error


def write_or_reject(
    connection: Connection, rows: Sequence[R], write: Callable[[Sequence[R]], object], *, key_constraint: str
) -> list[tuple[R, str]]:
    """Write rows under a savepoint; returns those that PostgreSQL refuses, found by halving, with the reason.

    ChunkConflict if a key exists by now or PostgreSQL broke a deadlock; ConfigurationError for another schema.
    """
    try:
        with connection.transaction():
            write(rows)
    except (errors.DeadlockDetected, errors.SerializationFailure) as error:
        raise ChunkConflict(str(error)) from error
    except _SCHEMA_ERRORS as error:
        raise _schema_error(error) from None
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
"""Errors over a value that cannot be written: PostgreSQL's, and the driver's before it sends the value."""
_SCHEMA_ERRORS = (errors.UndefinedTable, errors.UndefinedColumn, errors.InsufficientPrivilege)


def _schema_error(error: psycopg.Error) -> ConfigurationError:
    return ConfigurationError(f"{error.diag.message_primary}: run `make migrate`, or grant the right")


def _reason(connection: Connection, error: Exception) -> str:
    """Return why PostgreSQL refused a row, in plain words; a constraint's comment (COMMENT ON CONSTRAINT) if any."""
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
        # The detail of a check constraint contains the whole row, including personal data.
        detail = None if isinstance(error, errors.CheckViolation) else diagnosis.message_detail
        return f"{message}: {detail}" if detail else message
    _, column, rest = str(diagnosis.context or "").partition(", column ")
    return f"{rest.partition(':')[0]}: {message}" if column else message


def as_json(value: Any) -> Jsonb:
    """Return a jsonb parameter; converts datetimes, decimals and structs."""
    return Jsonb(value, dumps=msgspec.json.encode)
