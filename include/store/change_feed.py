"""The change feed: the table into which the database itself writes which rows changed, for others to read.

Triggers write it, in the transaction of the change: an entry per object and kind of change of a statement. Entries are
read in the order of transactions, and only below the oldest one that is still open
(https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-PG-SNAPSHOT), so that one that is committed late
is never passed over. A transaction that has written something, anywhere on the same PostgreSQL server, and stays open
therefore holds the feed back until it ends: nothing is lost, but all readers wait. `lags` says so.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, LiteralString

import msgspec
import psycopg
from psycopg import errors
from psycopg.rows import class_row

from include.errors import ConfigurationError, DatabaseUnavailable

SOURCES = ("order", "offer")

SUBSCRIBE_TRIES = 20
PAUSE_SECONDS = 0.2
LOCK_MILLISECONDS = 300
"""How long a subscription lets writers of its tables wait at a time: less than PostgreSQL's deadlock_timeout."""
LOWEST_ID = -(2**63)

BLOCK = """
    SELECT txid, source_id, change, at FROM change_feed
    WHERE source = %(source)s AND (txid, source_id) > (%(txid)s::text::xid8, %(source_id)s)
      AND txid < %(horizon)s::text::xid8
    ORDER BY txid, source_id FETCH FIRST %(limit)s ROWS WITH TIES
"""
"""The entries of `source` beyond the position `txid`, `source_id`, below `horizon`: `limit`, and the rest of the last
object."""

_READ = f"""
    SELECT DISTINCT txid::text::bigint AS txid, source_id, change, at FROM ({BLOCK}) AS block
    ORDER BY txid, source_id, change
"""  # noqa: S608 - composed of constants
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
    SELECT consumer, held.source, oldest.at AS oldest_at,
           coalesce(greatest(extract(epoch FROM clock_timestamp() - oldest.at), 0), 0)::float8 AS seconds,
           coalesce(oldest.txid >= pg_snapshot_xmin(pg_current_snapshot()), false) AS is_held_back
    FROM change_feed_consumer AS held
    LEFT JOIN LATERAL (
        SELECT txid, at FROM change_feed AS fed
        WHERE fed.source = held.source AND (fed.txid, fed.source_id) > (held.last_txid, held.last_id)
        ORDER BY fed.txid, fed.source_id LIMIT 1
    ) AS oldest ON true
    ORDER BY consumer, held.source
"""
_OPEN_TRANSACTION = """
    SELECT format('process %s (%s) since %s, %s', pid,
                  concat_ws(', ', 'database ' || datname, nullif(application_name, '')),
                  to_char(xact_start, 'YYYY-MM-DD HH24:MI:SSOF'), state)
    FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid()
    ORDER BY age(backend_xid) DESC LIMIT 1
"""


class Position(msgspec.Struct, frozen=True):
    """How far a consumer has read: the transaction and the object of its last entry."""

    txid: int
    source_id: int


class Change(msgspec.Struct, frozen=True, gc=False):
    """A kind of change of an object, by the transaction `txid`, which began at `at`."""

    source_id: int
    change: str
    at: datetime
    txid: int


class Lag(msgspec.Struct):
    """How old the oldest entry is that a consumer has not read; None and 0 if it has read all.

    `is_held_back`: it may not read it yet, as an older transaction is still open: `held_by`, if it can be seen.
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
        told = f"{self.consumer} has not read changes ({self.source}) of the last {self.seconds:.0f} s"
        if not self.is_held_back:
            return told
        return f"{told}: a transaction that is still open holds them back, {self.held_by or 'which cannot be seen'}"


def subscribe(connection: psycopg.Connection[Any], consumer: str, source: str) -> bool:
    """Let `consumer` read what changes from now on in `source` (order or offer); returns whether that is new.

    Whatever is committed after this is read, and perhaps what others were committing meanwhile. The first consumer of
    a source puts triggers on its tables, which needs a moment in which nobody writes to them: it is tried several
    times, so that writers never wait for long and no deadlock comes of it. Commit before you read what there is.

    Raises:
        ConfigurationError: there is no such source.
        DatabaseUnavailable: transactions that write to these tables stayed open all the time.
    """
    if _is_subscribed(connection, consumer, source):
        return False
    return _with_short_locks(
        connection,
        "INSERT INTO change_feed_consumer (consumer, source) VALUES (%s, %s) ON CONFLICT DO NOTHING",
        (consumer, source),
    )


def unsubscribe(connection: psycopg.Connection[Any], consumer: str, source: str) -> bool:
    """Forget `consumer`; the last one of a source takes the triggers along. Returns whether there was one.

    Raises:
        DatabaseUnavailable: transactions that use these tables stayed open all the time.
    """
    return _with_short_locks(
        connection, "DELETE FROM change_feed_consumer WHERE consumer = %s AND source = %s", (consumer, source)
    )


def horizon(connection: psycopg.Connection[Any]) -> int:
    """The oldest transaction that is still open: everything below it can be read."""
    row = connection.execute("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint").fetchone()
    return int(row[0]) if row else 0


def lock_position(connection: psycopg.Connection[Any], consumer: str, source: str) -> Position:
    """How far `consumer` has read; a second reader of the same name waits here until the transaction ends.

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
    txid, source_id, is_from_here = row
    if is_from_here:
        return Position(txid, source_id)
    _begin_anew(connection)
    return lock_position(connection, consumer, source)


def read(connection: psycopg.Connection[Any], consumer: str, source: str, limit: int) -> list[Change]:
    """What changed beyond the position of `consumer`, oldest transaction first: some `limit` entries, none at the end.

    To be called in a transaction: `advance` in the same one makes the changes count as read together with what was
    done about them. All that one transaction did to one object comes at once, also beyond the limit.

    Raises:
        ConfigurationError: it has not subscribed.
    """
    position = lock_position(connection, consumer, source)
    with connection.cursor(row_factory=class_row(Change)) as cursor:
        cursor.execute(
            _READ,
            {
                "source": source,
                "txid": position.txid,
                "source_id": position.source_id,
                "limit": limit,
                "horizon": horizon(connection),
            },
        )
        return cursor.fetchall()


def advance(connection: psycopg.Connection[Any], consumer: str, source: str, last: Change | Position) -> None:
    """All changes up to `last` are done with: the last one that `read` returned."""
    connection.execute(
        "UPDATE change_feed_consumer SET last_txid = %s::text::xid8, last_id = %s WHERE consumer = %s AND source = %s",
        (last.txid, last.source_id, consumer, source),
    )


def purge(connection: psycopg.Connection[Any], *, limit: int = 20_000) -> int:
    """Remove what all consumers have read, or what nobody reads any more; returns how many entries.

    A transaction per `limit` entries, if the connection is in autocommit mode.
    """
    return sum(_purge_source(connection, source, limit) for source in SOURCES)


def lags(connection: psycopg.Connection[Any]) -> list[Lag]:
    """How far behind each consumer is, by its name: for logs and warnings."""
    with connection.cursor(row_factory=class_row(Lag)) as cursor:
        found = cursor.execute(_LAGS).fetchall()
    if any(lag.is_held_back for lag in found):
        row = connection.execute(_OPEN_TRANSACTION).fetchone()
        for lag in found:
            lag.held_by = row[0] if row and lag.is_held_back else None
    return found


def _purge_source(connection: psycopg.Connection[Any], source: str, limit: int) -> int:
    """Remove what all consumers of a source have read; begins each batch where the last one ended."""
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


def _is_subscribed(connection: psycopg.Connection[Any], consumer: str, source: str) -> bool:
    return bool(
        connection.execute(
            "SELECT FROM change_feed_consumer WHERE consumer = %s AND source = %s", (consumer, source)
        ).rowcount
    )


def _with_short_locks(connection: psycopg.Connection[Any], statement: LiteralString, parameters: Sequence[str]) -> bool:
    """Run a statement that may need locks on busy tables; returns whether it wrote a row."""
    for _ in range(SUBSCRIBE_TRIES):
        try:
            with connection.transaction(), _lock_timeout(connection, f"{LOCK_MILLISECONDS}ms"):
                return bool(connection.execute(statement, parameters).rowcount)
        except errors.LockNotAvailable:
            time.sleep(PAUSE_SECONDS)
        except errors.CheckViolation:
            raise ConfigurationError(
                f"There are no changes of {parameters[1]!r}, only of {', '.join(SOURCES)}"
            ) from None
    raise DatabaseUnavailable(
        "Other transactions write to the tables of the change feed all the time: its triggers could not be changed"
    )


@contextmanager
def _lock_timeout(connection: psycopg.Connection[Any], value: str) -> Iterator[None]:
    """Another lock_timeout for a few statements of a transaction."""
    row = connection.execute("SELECT current_setting('lock_timeout')").fetchone()
    connection.execute("SELECT set_config('lock_timeout', %s, true)", (value,))
    yield
    connection.execute("SELECT set_config('lock_timeout', %s, true)", (row[0] if row else "0",))


def _begin_anew(connection: psycopg.Connection[Any]) -> None:
    """After a dump was restored on another server, which counts transactions anew: let all consumers read all again.

    Positions and entries of the two servers cannot be compared; what was read before is only said twice.
    """
    connection.execute(
        "UPDATE change_feed_consumer"
        " SET last_txid = '0', last_id = %s, cluster = (pg_control_system()).system_identifier",
        (LOWEST_ID,),
    )
    connection.execute(_READ_AGAIN)
