"""The outbound queue (`outbound_queue`): one waiting and one running row per object and target."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from random import getrandbits

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from include.models.outbound import FailedRow, FeedCounts, QueueRow
from include.store import change_feed
from include.store.jsonb import to_jsonb

REASONS = ("exceeded", "permanent", "config", "internal", "timeout")
"""Why a row is parked."""
MANUAL = "user"
"""`triggered_by` of rows that a person queued."""
BACKFILL = "backfill"
"""`triggered_by` of rows that a backfill run queued."""
MAX_EVENTS = 200
"""One claim takes rows from at most this many events, so that a large event does not block the others."""

_COLUMNS = (
    "id, source, source_id, event_id, target, triggered_by, triggered_at, not_before, failed_attempts,"
    " need_manual_retry, messages, in_flight"
)
# Take rows from up to MAX_EVENTS events that have due rows, an equal share from each; skip objects that are in flight.
_CLAIM = f"""
    WITH RECURSIVE due_event AS (
        (SELECT event_id, 1 AS nth FROM outbound_queue
         WHERE target = %(target)s AND NOT in_flight AND need_manual_retry IS NULL AND not_before <= now()
           AND event_id > %(after)s
         ORDER BY event_id LIMIT 1)
        UNION ALL
        SELECT next.event_id, due_event.nth + 1 FROM due_event CROSS JOIN LATERAL (
            SELECT event_id FROM outbound_queue
            WHERE target = %(target)s AND NOT in_flight AND need_manual_retry IS NULL AND not_before <= now()
              AND event_id > due_event.event_id
            ORDER BY event_id LIMIT 1
        ) AS next WHERE due_event.nth < %(events)s
    ), share AS (
        SELECT greatest(1, ceil(%(limit)s::numeric / greatest(1, count(*))))::int AS rows FROM due_event
    ), due AS (
        SELECT taken.id FROM due_event CROSS JOIN share CROSS JOIN LATERAL (
            SELECT id FROM outbound_queue AS waiting
            WHERE target = %(target)s AND event_id = due_event.event_id
              AND NOT in_flight AND need_manual_retry IS NULL AND not_before <= now()
              AND NOT EXISTS (
                SELECT FROM outbound_queue AS running
                WHERE running.source = waiting.source AND running.source_id = waiting.source_id
                  AND running.target = waiting.target AND running.in_flight
              )
            ORDER BY not_before LIMIT share.rows FOR UPDATE SKIP LOCKED
        ) AS taken LIMIT %(limit)s
    )
    UPDATE outbound_queue SET in_flight = true, in_flight_since = now(), claimed_by = %(key)s
    WHERE id IN (SELECT id FROM due)
    RETURNING {_COLUMNS}
"""  # noqa: S608 - a constant
# A row that was queued again while it was in flight takes over the attempts; the failed one is deleted.
_RELEASE = """
    WITH failed AS (
        SELECT * FROM jsonb_to_recordset(%s) AS failed
            (id bigint, failed_attempts int, wait_seconds double precision, need_manual_retry text, messages jsonb)
    ), newer AS (
        UPDATE outbound_queue AS waiting
        SET failed_attempts = failed.failed_attempts,
            not_before = greatest(waiting.not_before, now() + make_interval(secs => failed.wait_seconds))
        FROM failed JOIN outbound_queue AS running ON running.id = failed.id
        WHERE waiting.source = running.source AND waiting.source_id = running.source_id
          AND waiting.target = running.target AND NOT waiting.in_flight
        RETURNING running.id
    ), replaced AS (
        DELETE FROM outbound_queue WHERE id IN (SELECT id FROM newer)
    )
    UPDATE outbound_queue AS row
    SET in_flight = false, in_flight_since = NULL, claimed_by = NULL, failed_attempts = failed.failed_attempts,
        not_before = now() + make_interval(secs => failed.wait_seconds),
        need_manual_retry = failed.need_manual_retry,
        messages = ARRAY(SELECT jsonb_array_elements_text(failed.messages))
    FROM failed WHERE row.id = failed.id AND row.id NOT IN (SELECT id FROM newer)
"""
_OBJECTS = {
    "order": sql.SQL("SELECT order_id AS source_id, event_id FROM source_order"),
    "offer": sql.SQL("SELECT offer_id AS source_id, 0::bigint AS event_id FROM source_offer"),
}
_QUEUE_CHANGES = """
    WITH block AS MATERIALIZED ({block}), changed AS (
        SELECT source_id, min(array_position(%(triggers)s::text[], change::text)) AS place, max(at) AS at
        FROM block WHERE change = ANY (%(triggers)s::text[]) GROUP BY source_id
    ), queued AS (
        INSERT INTO outbound_queue AS stored (source, source_id, event_id, target, triggered_by, triggered_at)
        SELECT %(source)s, changed.source_id, object.event_id, %(target)s, (%(triggers)s::text[])[place], changed.at
        FROM changed JOIN ({objects}) AS object ON object.source_id = changed.source_id
        ORDER BY changed.source_id
        ON CONFLICT (source, source_id, target, in_flight) DO UPDATE SET
            event_id = excluded.event_id,
            triggered_by = CASE WHEN array_position(%(triggers)s::text[], stored.triggered_by)
                                   > array_position(%(triggers)s::text[], excluded.triggered_by)
                                THEN excluded.triggered_by ELSE stored.triggered_by END,
            triggered_at = greatest(stored.triggered_at, excluded.triggered_at),
            not_before = least(stored.not_before, now()),
            need_manual_retry = NULL
        RETURNING stored.xmax = 0 AS is_new
    ), last AS (
        SELECT txid, source_id FROM block ORDER BY block.txid DESC, source_id DESC LIMIT 1
    ), advanced AS (
        UPDATE change_feed_consumer SET last_txid = last.txid, last_id = last.source_id
        FROM last WHERE consumer = %(consumer)s AND source = %(source)s
    )
    SELECT (SELECT count(*) FROM block) AS read, count(*) FILTER (WHERE is_new) AS queued,
           count(*) FILTER (WHERE NOT is_new) AS waiting, (SELECT count(*) FROM changed) - count(*) AS gone
    FROM queued
"""


class _Enqueued(QueueRow):
    is_new: bool


def enqueue(
    connection: psycopg.Connection,
    target: str,
    source: str,
    source_id: int,
    *,
    event_id: int = 0,
    triggered_by: str,
    not_before: datetime | None = None,
) -> tuple[QueueRow, bool]:
    """Queue an object, or refresh its waiting row, whose attempts are kept.

    `not_before` is when the row becomes due, None for now. Returns the row, and whether it is new.
    """
    with connection.cursor(row_factory=class_row(_Enqueued)) as cursor:
        cursor.execute(
            "INSERT INTO outbound_queue (target, source, source_id, event_id, triggered_by, not_before)"  # noqa: S608
            " VALUES (%s, %s, %s, %s, %s, coalesce(%s, now()))"
            " ON CONFLICT (source, source_id, target, in_flight) DO UPDATE SET event_id = excluded.event_id,"
            " triggered_by = excluded.triggered_by, triggered_at = now(), not_before = excluded.not_before,"
            " need_manual_retry = NULL, messages = '{}'"
            f" RETURNING {_COLUMNS}, xmax = 0 AS is_new",
            (target, source, source_id, event_id, triggered_by, not_before),
        )
        [row] = cursor.fetchall()
    return row, row.is_new


def enqueue_orders(connection: psycopg.Connection, target: str, ids: Sequence[int], *, triggered_by: str) -> int:
    """Queue orders that are due now, with their attempts reset to 0; returns the number of rows."""
    return connection.execute(
        "INSERT INTO outbound_queue (target, source, source_id, event_id, triggered_by)"
        " SELECT %(target)s, 'order', order_id, event_id, %(by)s FROM source_order WHERE order_id = ANY (%(ids)s)"
        " ON CONFLICT (source, source_id, target, in_flight) DO UPDATE SET triggered_by = excluded.triggered_by,"
        " triggered_at = now(), not_before = now(), need_manual_retry = NULL, failed_attempts = 0, messages = '{}'",
        {"target": target, "by": triggered_by, "ids": list(ids)},
    ).rowcount


def queue_changes(
    connection: psycopg.Connection,
    target: str,
    source: str,
    triggers: Sequence[str],
    *,
    consumer: str,
    horizon: int,
    limit: int,
) -> FeedCounts:
    """Queue the objects of the next `limit` change feed entries of a consumer, and advance its position.

    One statement does both; call it in a transaction. `triggers` are the changes that count, the most important
    first: that one becomes `triggered_by`. A row that waits or is parked becomes due now and keeps its attempts.

    Raises:
        ConfigurationError: the consumer has not subscribed.
    """
    position = change_feed.lock_position(connection, consumer, source)
    row = connection.execute(
        sql.SQL(_QUEUE_CHANGES).format(block=sql.SQL(change_feed.BLOCK), objects=_OBJECTS[source]),
        {
            "source": source,
            "target": target,
            "consumer": consumer,
            "triggers": list(triggers),
            "txid": position.txid,
            "source_id": position.source_id,
            "horizon": horizon,
            "limit": limit,
        },
    ).fetchone()
    return FeedCounts(*row) if row else FeedCounts()


@contextmanager
def worker_key(connection: psycopg.Connection) -> Iterator[int]:
    """Yield a key to claim rows with. Its advisory lock shows other workers that this one is alive."""
    key = getrandbits(62)
    connection.execute("SELECT pg_advisory_lock(%s)", (key,))
    try:
        yield key
    finally:
        if not connection.closed:
            connection.execute("SELECT pg_advisory_unlock(%s)", (key,))


def claim(
    connection: psycopg.Connection, target: str, key: int, limit: int, *, after_event: int = -1
) -> list[QueueRow]:
    """Claim up to `limit` due rows, an equal share from each event with an id above `after_event`.

    An object that is in flight is skipped until its row is back. Returns nothing if none of these events has due rows.
    """
    with connection.cursor(row_factory=class_row(QueueRow)) as cursor:
        cursor.execute(
            _CLAIM, {"target": target, "after": after_event, "events": MAX_EVENTS, "limit": limit, "key": key}
        )
        return cursor.fetchall()


def release(connection: psycopg.Connection, rows: Sequence[FailedRow]) -> None:
    """Put claimed rows back. If one was queued again meanwhile, the newer row takes over its attempts."""
    if rows:
        connection.execute(_RELEASE, (to_jsonb(rows),))


def remove(connection: psycopg.Connection, ids: Sequence[int]) -> None:
    """Delete rows that are done."""
    if ids:
        connection.execute("DELETE FROM outbound_queue WHERE id = ANY (%s)", (list(ids),))


def retry(connection: psycopg.Connection, target: str, *, reason: str | None = None) -> int:
    """Make failed and parked rows due now, with their attempts reset to 0; returns the number of rows.

    `reason` selects the rows parked for that reason; None selects all.
    """
    return connection.execute(
        "UPDATE outbound_queue SET need_manual_retry = NULL, failed_attempts = 0, not_before = now()"
        " WHERE target = %(target)s AND NOT in_flight AND (need_manual_retry IS NOT NULL OR failed_attempts > 0)"
        " AND (%(reason)s::text IS NULL OR need_manual_retry = %(reason)s)",
        {"target": target, "reason": reason},
    ).rowcount


def cancel(connection: psycopg.Connection, target: str, source: str, ids: Sequence[int]) -> int:
    """Delete waiting rows and log them as canceled, with why they had failed; returns the number of rows."""
    return connection.execute(
        """
        WITH canceled AS (
            DELETE FROM outbound_queue
            WHERE target = %(target)s AND source = %(source)s AND source_id = ANY (%(ids)s) AND NOT in_flight
            RETURNING *
        )
        INSERT INTO outbound_log (target, source, source_id, code, triggered_by, outcome, reason, messages, attempt)
        SELECT target, source, source_id, coalesce(code, ''), triggered_by, 'canceled', need_manual_retry, messages,
            failed_attempts
        FROM canceled LEFT JOIN source_order ON source = 'order' AND order_id = source_id
        """,
        {"target": target, "source": source, "ids": list(ids)},
    ).rowcount


def count_due(connection: psycopg.Connection, target: str, at_most: int) -> int:
    """Count the rows that are due, up to `at_most`."""
    row = connection.execute(
        "SELECT count(*) FROM (SELECT FROM outbound_queue WHERE target = %s AND NOT in_flight"
        " AND need_manual_retry IS NULL AND not_before <= now() LIMIT %s) AS due",
        (target, at_most),
    ).fetchone()
    return int(row[0]) if row else 0


def waiting_ids(connection: psycopg.Connection, target: str, source: str, limit: int) -> list[int]:
    """Return the source ids of waiting rows in the order they will be sent, parked ones last."""
    rows = connection.execute(
        "SELECT source_id FROM outbound_queue WHERE target = %s AND source = %s AND NOT in_flight"
        " ORDER BY need_manual_retry IS NOT NULL, not_before LIMIT %s",
        (target, source, limit),
    ).fetchall()
    return [int(id_) for (id_,) in rows]
