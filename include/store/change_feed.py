"""The change feed: a table in which the database itself records which objects changed.

Triggers write to it in the transaction of the change: per statement, one entry for each object and kind of change.
Consumers read the entries in transaction order, and only up to the oldest transaction that is still open
(https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-PG-SNAPSHOT): a transaction that commits late is
never skipped. In return, one long-running write transaction anywhere on the PostgreSQL server delays all consumers.
Nothing is lost meanwhile; `lags` reports the delay.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import LiteralString

import msgspec
import psycopg
from psycopg import errors
from psycopg.rows import class_row

from include.errors import ConfigurationError, DatabaseUnavailable

SOURCES = ("order", "offer")

SUBSCRIBE_TRIES = 20
PAUSE_SECONDS = 0.2
LOCK_MILLISECONDS = 300
"""How long one attempt to subscribe may block writers: less than PostgreSQL's deadlock_timeout."""
LOWEST_ID = -(2**63)

BLOCK = """
    SELECT txid, source_id, change, at FROM change_feed
    WHERE source = %(source)s AND (txid, source_id) > (%(txid)s::text::xid8, %(source_id)s)
      AND txid < %(horizon)s::text::xid8
    ORDER BY txid, source_id FETCH FIRST %(limit)s ROWS WITH TIES
"""
"""Selects the next `limit` entries of `source` after the position (`txid`, `source_id`) and below `horizon`.

WITH TIES: entries of one transaction and object are never split between two blocks."""

_READ_AGAIN = """
    WITH read_again AS (DELETE FROM change_feed RETURNING source, source_id, change, at)
    INSERT INTO change_feed (source, txid, source_id, change, at)
    SELECT source, '0', source_id, change, max(at) FROM read_again GROUP BY source, source_id, change
"""
_PURGE = """
    WITH doomed AS MATERIALIZED (
        SELECT ctid, txid, source_id FROM change_feed
        WHERE source = %(source)s AND (txid, source_id) >= (%(txid)s::text::xid8, %(source_id)s)
          AND (txid, source_id) <= (
            coalesce((SELECT last_txid FROM change_feed_consumer WHERE source = %(source)s
                      ORDER BY last_txid, last_id LIMIT 1), '18446744073709551615'),
            coalesce((SELECT last_id FROM change_feed_consumer WHERE source = %(source)s
                      ORDER BY last_txid, last_id LIMIT 1), 9223372036854775807))
          AND NOT EXISTS (SELECT FROM change_feed_consumer
                          WHERE source = %(source)s AND cluster <> (pg_control_system()).system_identifier)
        ORDER BY txid, source_id LIMIT %(limit)s
    ), gone AS (
        DELETE FROM change_feed WHERE ctid = ANY (ARRAY(SELECT ctid FROM doomed))
    )
    SELECT txid::text::bigint, source_id, (SELECT count(*) FROM doomed) FROM doomed
    ORDER BY doomed.txid DESC, source_id DESC LIMIT 1
"""
_LAGS = """
    SELECT consumer, reader.source, oldest.at AS oldest_at,
           coalesce(greatest(extract(epoch FROM clock_timestamp() - oldest.at), 0), 0)::float8 AS seconds,
           coalesce(oldest.txid >= pg_snapshot_xmin(pg_current_snapshot()), false) AS is_held_back
    FROM change_feed_consumer AS reader
    LEFT JOIN LATERAL (
        SELECT txid, at FROM change_feed AS fed
        WHERE fed.source = reader.source AND (fed.txid, fed.source_id) > (reader.last_txid, reader.last_id)
        ORDER BY fed.txid, fed.source_id LIMIT 1
    ) AS oldest ON true
    ORDER BY consumer, reader.source
"""
_OPEN_TRANSACTION = """
    SELECT format('process %s (%s) since %s, %s', pid,
                  concat_ws(', ', 'database ' || datname, nullif(application_name, '')),
                  to_char(xact_start, 'YYYY-MM-DD HH24:MI:SSOF'), state)
    FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid()
    ORDER BY age(backend_xid) DESC LIMIT 1
"""


class Position(msgspec.Struct, frozen=True):
    """The last entry that a consumer has read, by its transaction and object."""

    txid: int
    source_id: int


class Lag(msgspec.Struct):
    """How far a consumer is behind: the time and age of its oldest unread entry (None and 0 if there is none).

    `is_held_back`: the entry cannot be read yet because an older transaction is still open. `held_by` describes that
    transaction, or is None if this user may not see it.
    """

    consumer: str
    source: str
    oldest_at: datetime | None
    seconds: float
    is_held_back: bool
    held_by: str | None = None

    def __str__(self) -> str:
        if self.oldest_at is None:
            return f"{self.consumer} has read all changes ({self.source})"
        lag = f"{self.consumer} is {self.seconds:.0f} s behind ({self.source})"
        if not self.is_held_back:
            return lag
        return f"{lag}: blocked by an open transaction, {self.held_by or 'which this user may not see'}"


def subscribe(connection: psycopg.Connection, consumer: str, source: str) -> bool:
    """Subscribe `consumer` to changes of `source` (order or offer) from now on; returns whether that is new.

    Everything committed after this call will be read, possibly also what others are committing during it. The first
    consumer of a source creates the triggers on its tables, which needs a moment without writers: this tries several
    times with a short lock timeout, which blocks writers only briefly and avoids deadlocks.

    Raises:
        ConfigurationError: there is no such source.
        DatabaseUnavailable: write transactions on these tables stayed open during all attempts.
    """
    parameters = (consumer, source)
    if connection.execute("SELECT FROM change_feed_consumer WHERE consumer = %s AND source = %s", parameters).rowcount:
        return False
    return _with_short_locks(
        connection,
        "INSERT INTO change_feed_consumer (consumer, source) VALUES (%s, %s) ON CONFLICT DO NOTHING",
        parameters,
    )


def unsubscribe(connection: psycopg.Connection, consumer: str, source: str) -> bool:
    """Remove `consumer`, and with the last consumer of a source its triggers; returns whether it was subscribed.

    Raises:
        DatabaseUnavailable: transactions on these tables stayed open during all attempts.
    """
    return _with_short_locks(
        connection, "DELETE FROM change_feed_consumer WHERE consumer = %s AND source = %s", (consumer, source)
    )


def list_consumers(connection: psycopg.Connection, prefix: str) -> list[tuple[str, str]]:
    """Return the (consumer, source) pairs of all consumers whose name starts with `prefix`, in order."""
    rows = connection.execute(
        "SELECT consumer, source FROM change_feed_consumer WHERE starts_with(consumer, %s) ORDER BY 1, 2", (prefix,)
    )
    return [(consumer, source) for consumer, source in rows]


def horizon(connection: psycopg.Connection) -> int:
    """Return the oldest transaction that is still open: all entries of older ones can be read."""
    row = connection.execute("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint").fetchone()
    return int(row[0]) if row else 0


def lock_position(connection: psycopg.Connection, consumer: str, source: str) -> Position:
    """Return how far `consumer` has read, and lock that row: other readers of the same consumer wait.

    Raises:
        ConfigurationError: it has not subscribed.
    """
    row = connection.execute(
        "SELECT last_txid::text::bigint, last_id, cluster = (pg_control_system()).system_identifier"
        " FROM change_feed_consumer WHERE consumer = %s AND source = %s FOR NO KEY UPDATE",
        (consumer, source),
    ).fetchone()
    if row is None:
        raise ConfigurationError(f"{consumer} has not subscribed to changes ({source})")
    txid, source_id, is_same_server = row
    if is_same_server:
        return Position(txid, source_id)
    _reset_positions(connection)
    return lock_position(connection, consumer, source)


def purge(connection: psycopg.Connection, *, limit: int = 20_000) -> int:
    """Delete the entries that all consumers have read, or that have no consumer; returns how many.

    In autocommit mode, each batch of `limit` entries is a transaction of its own.
    """
    return sum(_purge_source(connection, source, limit) for source in SOURCES)


def lags(connection: psycopg.Connection) -> list[Lag]:
    """Return how far behind each consumer is, by name: for logs and warnings."""
    with connection.cursor(row_factory=class_row(Lag)) as cursor:
        found = cursor.execute(_LAGS).fetchall()
    if any(lag.is_held_back for lag in found):
        row = connection.execute(_OPEN_TRANSACTION).fetchone()
        for lag in found:
            lag.held_by = row[0] if row and lag.is_held_back else None
    return found


def _purge_source(connection: psycopg.Connection, source: str, limit: int) -> int:
    """Delete what all consumers of a source have read. Each batch starts where the last one ended."""
    purged, txid, source_id = 0, 0, LOWEST_ID
    while True:
        row = connection.execute(
            _PURGE, {"source": source, "txid": txid, "source_id": source_id, "limit": limit}
        ).fetchone()
        if row is None:
            return purged
        txid, source_id, count = row
        purged += int(count)
        if count < limit:
            return purged


def _with_short_locks(connection: psycopg.Connection, statement: LiteralString, parameters: Sequence[str]) -> bool:
    """Run a statement that may need locks on busy tables, with a short lock timeout; returns whether it wrote."""
    for _ in range(SUBSCRIBE_TRIES):
        try:
            with connection.transaction(), _lock_timeout(connection, f"{LOCK_MILLISECONDS}ms"):
                return bool(connection.execute(statement, parameters).rowcount)
        except errors.LockNotAvailable:
            time.sleep(PAUSE_SECONDS)
        except errors.CheckViolation:
            raise ConfigurationError(
                f"There is no change feed for {parameters[1]!r}, only for {', '.join(SOURCES)}"
            ) from None
    raise DatabaseUnavailable(
        "Could not change the triggers of the change feed: other transactions keep its tables locked"
    )


@contextmanager
def _lock_timeout(connection: psycopg.Connection, value: str) -> Iterator[None]:
    """Change lock_timeout for a few statements of a transaction, then restore it."""
    row = connection.execute("SELECT current_setting('lock_timeout')").fetchone()
    connection.execute("SELECT set_config('lock_timeout', %s, true)", (value,))
    yield
    connection.execute("SELECT set_config('lock_timeout', %s, true)", (row[0] if row else "0",))


def _reset_positions(connection: psycopg.Connection) -> None:
    """Let all consumers read everything again, after a dump was restored on another server.

    Each server counts its own transactions, so the stored positions and entries mean nothing on another one. Reading a
    change twice is harmless.
    """
    connection.execute(
        "UPDATE change_feed_consumer"
        " SET last_txid = '0', last_id = %s, cluster = (pg_control_system()).system_identifier",
        (LOWEST_ID,),
    )
    connection.execute(_READ_AGAIN)
