"""The queue of what is to be sent, the last result of each object, and what was sent."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from random import getrandbits
from typing import Any

import msgspec
import psycopg
from psycopg.rows import class_row

REASONS = ("exceeded", "permanent", "config", "internal", "timeout")
"""Why an object waits for a person."""
BY_HAND = "user"
"""What triggered an object that a person asked for."""
STUCK_MINUTES = 20
"""A row that is in flight for longer is released, whatever its claimer does."""
MAX_EVENTS = 200
"""From which one claim takes rows, so that a large event does not keep the others waiting."""


_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")


class QueueRow(msgspec.Struct):
    """A row of `outbound_queue`."""

    id: int
    source: str
    source_id: int
    event_id: int
    target: str
    triggered_by: str
    triggered_at: datetime
    not_before: datetime
    failed_attempts: int
    need_manual_retry: str | None
    messages: list[str]
    in_flight: bool


_ROW = (
    "id, source, source_id, event_id, target, triggered_by, triggered_at, not_before, failed_attempts,"
    " need_manual_retry, messages, in_flight"
)


def enqueue(
    connection: psycopg.Connection[Any],
    target: str,
    source: str,
    source_id: int,
    *,
    event_id: int = 0,
    triggered_by: str,
    not_before: datetime | None = None,
) -> tuple[QueueRow, bool]:
    """Put an object into the queue, or refresh its waiting row, whose attempts are kept; returns (row, is it new)."""
    with connection.cursor(row_factory=class_row(_Enqueued)) as cursor:
        cursor.execute(
            "INSERT INTO outbound_queue AS held (target, source, source_id, event_id, triggered_by, not_before)"  # noqa: S608
            " VALUES (%s, %s, %s, %s, %s, coalesce(%s, now()))"
            " ON CONFLICT (source, source_id, target, in_flight) DO UPDATE SET event_id = excluded.event_id,"
            " triggered_by = excluded.triggered_by, triggered_at = now(), not_before = excluded.not_before,"
            " need_manual_retry = NULL, messages = '{}'"
            f" RETURNING {_ROW}, xmax = 0 AS is_new",
            (target, source, source_id, event_id, triggered_by, not_before),
        )
        row = cursor.fetchone()
    if row is None:
        raise RuntimeError("INSERT … RETURNING returned no row")
    return row, row.is_new


class _Enqueued(QueueRow):
    is_new: bool


@contextmanager
def claimer(connection: psycopg.Connection[Any]) -> Iterator[int]:
    """A key to claim rows with, whose advisory lock is held meanwhile: others see by it that this claimer lives."""
    key = getrandbits(62)
    connection.execute("SELECT pg_advisory_lock(%s)", (key,))
    try:
        yield key
    finally:
        if not connection.closed:
            connection.execute("SELECT pg_advisory_unlock(%s)", (key,))


def claim(
    connection: psycopg.Connection[Any], target: str, key: int, limit: int, *, after_event: int = -1
) -> list[QueueRow]:
    """Take up to `limit` rows that are due, in turn from the events behind `after_event`.

    An object that is in flight is left alone until it is back. Returns nothing when no event behind has any.
    """
    with connection.cursor(row_factory=class_row(QueueRow)) as cursor:
        cursor.execute(
            f"""
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
            RETURNING {_ROW}
            """,  # noqa: S608 - a constant
            {"target": target, "after": after_event, "events": MAX_EVENTS, "limit": limit, "key": key},
        )
        return cursor.fetchall()


def release_stuck(connection: psycopg.Connection[Any], target: str, max_attempts: int) -> int:
    """Release rows whose claimer is no more, or which are in flight for too long; it counts as an attempt.

    What the target holds of their objects is not known any more.
    """
    keys = connection.execute(
        "SELECT DISTINCT claimed_by FROM outbound_queue WHERE target = %s AND in_flight", (target,)
    ).fetchall()
    gone = []
    for (key,) in keys:
        held = connection.execute("SELECT pg_try_advisory_xact_lock(%s)", (key or 0,)).fetchone()
        if held and held[0]:
            gone.append(key)
    rows = connection.execute(
        "SELECT id, failed_attempts + 1, source, source_id, triggered_by FROM outbound_queue"
        " WHERE target = %s AND in_flight AND (claimed_by = ANY (%s)"
        " OR claimed_by IS NULL OR in_flight_since < now() - make_interval(mins => %s)) FOR UPDATE SKIP LOCKED",
        (target, gone, STUCK_MINUTES),
    ).fetchall()
    message = "The worker that was sending it ended in the middle; whether it arrived is not known"
    released = [
        {
            "id": id_,
            "failed_attempts": attempts,
            "wait_seconds": 0,
            "need_manual_retry": "timeout" if attempts >= max_attempts else None,
            "messages": [message],
        }
        for id_, attempts, *_ in rows
    ]
    release(connection, released)
    codes = dict(
        connection.execute(
            "SELECT order_id, code FROM source_order WHERE order_id = ANY (%s)", ([row[3] for row in rows],)
        ).fetchall()
    )
    write_log(
        connection,
        [
            LogRow(
                run_id=None,
                target=target,
                source=source,
                source_id=source_id,
                code=codes.get(source_id, "") if source == "order" else "",
                outcome="failed" if attempts >= max_attempts else "retry",
                triggered_by=triggered_by,
                reason="timeout" if attempts >= max_attempts else None,
                messages=[message],
                attempt=attempts,
                wait_seconds=None if attempts >= max_attempts else 0.0,
            )
            for _, attempts, source, source_id, triggered_by in rows
        ],
    )
    connection.execute(
        "UPDATE outbound_result SET sent = '{}' WHERE target = %s"
        " AND (source, source_id) IN (SELECT * FROM unnest(%s::text[], %s::bigint[]))",
        (target, [row[2] for row in rows], [row[3] for row in rows]),
    )
    return len(released)


def release(connection: psycopg.Connection[Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """Put rows that failed back, each with `id, failed_attempts, wait_seconds, need_manual_retry, messages`.

    A row that was put into the queue meanwhile takes over the attempts, and goes on alone.
    """
    if not rows:
        return
    connection.execute(
        """
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
        """,
        (_json(rows),),
    )


def remove(connection: psycopg.Connection[Any], ids: Sequence[int]) -> None:
    """Take rows out of the queue: they are done."""
    if ids:
        connection.execute("DELETE FROM outbound_queue WHERE id = ANY (%s)", (list(ids),))


class ResultRow(msgspec.Struct):
    """The last known state of an object at a target: a row of `outbound_result`.

    Further keys that the target returned are in `sync_info`, and can be had like those of a dictionary.
    """

    source: str
    source_id: int
    position_id: int | None
    target: str
    mapping_id: int
    external_object_type: str
    external_id_field: str
    id_value: str
    external_link_href: str | None = None
    external_link_display_name: str | None = None
    sync_info: dict[str, Any] = {}
    sent: dict[str, str] = {}

    def __getitem__(self, key: str) -> Any:
        """What the target returned under this key, or a column."""
        if key in self.sync_info:
            return self.sync_info[key]
        if key in self.__struct_fields__:
            return getattr(self, key)
        raise KeyError(key)

    def get(self, key: str, default: Any = None) -> Any:
        """As of a dictionary."""
        try:
            return self[key]
        except KeyError:
            return default


class LogRow(msgspec.Struct, omit_defaults=False):
    """What happened to one object, or to the whole: a row of `outbound_log`."""

    run_id: int | None
    target: str
    source: str
    source_id: int
    outcome: str
    code: str = ""
    position_id: int | None = None
    mapping_id: int | None = None
    triggered_by: str = ""
    reason: str | None = None
    messages: list[str] = []
    attempt: int | None = None
    wait_seconds: float | None = None
    payload: dict[str, Any] | None = None
    link: str | None = None


def load_results(
    connection: psycopg.Connection[Any], target: str, source: str, ids: Sequence[int]
) -> dict[tuple[int, int | None, int], ResultRow]:
    """The last results of these objects, by (source id, position id, mapping id)."""
    with connection.cursor(row_factory=class_row(ResultRow)) as cursor:
        cursor.execute(
            "SELECT source, source_id, position_id, target, mapping_id, external_object_type, external_id_field,"
            " id_value, external_link_href, external_link_display_name, sync_info, sent FROM outbound_result"
            " WHERE target = %s AND source = %s AND source_id = ANY (%s)",
            (target, source, list(ids)),
        )
        return {(row.source_id, row.position_id, row.mapping_id): row for row in cursor}


def forget_sent(
    connection: psycopg.Connection[Any],
    target: str,
    source: str,
    objects: Sequence[tuple[int, int | None, int]],
) -> None:
    """Of these objects (source id, position id, mapping id) it is not known any more what the target holds."""
    if objects:
        connection.execute(
            "UPDATE outbound_result AS held SET sent = '{}' FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[])"
            " AS failed (source_id, position_id, mapping_id) WHERE held.source = %s AND held.target = %s"
            " AND held.source_id = failed.source_id AND held.position_id IS NOT DISTINCT FROM failed.position_id"
            " AND held.mapping_id = failed.mapping_id",
            (*(list(column) for column in zip(*objects, strict=True)), source, target),
        )


def save_results(connection: psycopg.Connection[Any], rows: Sequence[ResultRow]) -> None:
    """Store results over those that were there."""
    if not rows:
        return
    connection.execute(
        """
        INSERT INTO outbound_result AS held (source, source_id, position_id, target, mapping_id, external_object_type,
            external_id_field, id_value, external_link_href, external_link_display_name, sync_info, sent)
        SELECT * FROM jsonb_to_recordset(%s) AS new (source text, source_id bigint, position_id bigint, target text,
            mapping_id bigint, external_object_type text, external_id_field text, id_value text,
            external_link_href text, external_link_display_name text, sync_info jsonb, sent jsonb)
        ON CONFLICT (source, source_id, position_id, target, mapping_id) DO UPDATE SET
            external_object_type = excluded.external_object_type, external_id_field = excluded.external_id_field,
            id_value = excluded.id_value, external_link_href = excluded.external_link_href,
            external_link_display_name = excluded.external_link_display_name, sync_info = excluded.sync_info,
            sent = excluded.sent, transmitted_at = now()
        """,
        (_json(rows),),
    )


def write_log(connection: psycopg.Connection[Any], rows: Sequence[LogRow]) -> None:
    """Add to the log."""
    if not rows:
        return
    connection.execute(
        """
        INSERT INTO outbound_log (run_id, target, source, source_id, outcome, code, position_id, mapping_id,
            triggered_by, reason, messages, attempt, next_try_at, payload, link)
        SELECT run_id, target, source, source_id, outcome, code, position_id, mapping_id, triggered_by, reason,
            ARRAY(SELECT jsonb_array_elements_text(messages)), attempt, now() + make_interval(secs => wait_seconds),
            payload, link
        FROM jsonb_to_recordset(%s) AS new (run_id bigint, target text, source text, source_id bigint, outcome text,
            code text, position_id bigint, mapping_id bigint, triggered_by text, reason text, messages jsonb,
            attempt int, wait_seconds double precision, payload jsonb, link text)
        """,
        (_json(rows),),
    )


def _json(value: Any) -> str:
    """As PostgreSQL takes it: it knows no character 0, and no half of a character."""
    try:
        encoded = msgspec.json.encode(value, enc_hook=str).decode()
    except UnicodeEncodeError:
        encoded = msgspec.json.encode(_whole(msgspec.to_builtins(value, enc_hook=str))).decode()
    return _NUL.sub(r"\1", encoded) if "\\u0000" in encoded else encoded


def _whole(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, dict):
        return {_whole(key): _whole(each) for key, each in value.items()}
    return [_whole(each) for each in value] if isinstance(value, list) else value


def open_run(connection: psycopg.Connection[Any], target: str, run_id: str) -> int:
    """Begin a run; returns its id."""
    row = connection.execute(
        "INSERT INTO outbound_run (target, run_id) VALUES (%s, %s) RETURNING id", (target, run_id)
    ).fetchone()
    return int(row[0]) if row else 0


def close_run(connection: psycopg.Connection[Any], id_: int, counts: Mapping[str, Any]) -> None:
    """End a run with its counts."""
    connection.execute("UPDATE outbound_run SET counts = %s, finished_at = now() WHERE id = %s", (_json(counts), id_))


def retry(connection: psycopg.Connection[Any], target: str, *, reason: str | None = None) -> int:
    """Let parked objects be tried again at once, with their attempts counted anew: all, or those of one reason."""
    return connection.execute(
        "UPDATE outbound_queue SET need_manual_retry = NULL, failed_attempts = 0, not_before = now()"
        " WHERE target = %(target)s AND NOT in_flight AND (need_manual_retry IS NOT NULL OR failed_attempts > 0)"
        " AND (%(reason)s::text IS NULL OR need_manual_retry = %(reason)s)",
        {"target": target, "reason": reason},
    ).rowcount


def cancel(connection: psycopg.Connection[Any], target: str, source: str, ids: Sequence[int]) -> int:
    """Take waiting objects out of the queue; the log keeps that they were canceled, and why they had failed."""
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


def due(connection: psycopg.Connection[Any], target: str, at_most: int) -> int:
    """How many objects are due, counted up to `at_most`."""
    row = connection.execute(
        "SELECT count(*) FROM (SELECT FROM outbound_queue WHERE target = %s AND NOT in_flight"
        " AND need_manual_retry IS NULL AND not_before <= now() LIMIT %s) AS due",
        (target, at_most),
    ).fetchone()
    return int(row[0]) if row else 0


def purge_log(connection: psycopg.Connection[Any], retention_days: int) -> int:
    """Remove what was logged so many days ago, and the runs of that time; returns how many entries."""
    entries = connection.execute(
        "DELETE FROM outbound_log WHERE at < now() - make_interval(days => %s)", (retention_days,)
    ).rowcount
    connection.execute(
        "DELETE FROM outbound_run WHERE finished_at < now() - make_interval(days => %s)", (retention_days,)
    )
    return entries


def enqueue_many(connection: psycopg.Connection[Any], target: str, ids: Sequence[int], *, triggered_by: str) -> int:
    """Queue orders at once, due now and with their attempts counted anew; returns how many."""
    return connection.execute(
        "INSERT INTO outbound_queue AS held (target, source, source_id, event_id, triggered_by)"
        " SELECT %(target)s, 'order', order_id, event_id, %(by)s FROM source_order WHERE order_id = ANY (%(ids)s)"
        " ON CONFLICT (source, source_id, target, in_flight) DO UPDATE SET triggered_by = excluded.triggered_by,"
        " triggered_at = now(), not_before = now(), need_manual_retry = NULL, failed_attempts = 0, messages = '{}'",
        {"target": target, "by": triggered_by, "ids": list(ids)},
    ).rowcount


def waiting(connection: psycopg.Connection[Any], target: str, source: str, limit: int) -> list[int]:
    """The objects that wait, the next first."""
    rows = connection.execute(
        "SELECT source_id FROM outbound_queue WHERE target = %s AND source = %s AND NOT in_flight"
        " ORDER BY need_manual_retry IS NOT NULL, not_before LIMIT %s",
        (target, source, limit),
    ).fetchall()
    return [int(id_) for (id_,) in rows]


def run_counts(connection: psycopg.Connection[Any], run_id: str) -> dict[str, Any]:
    """The counts of all claimers of a run, summed up."""
    found = connection.execute("SELECT counts FROM outbound_run WHERE run_id = %s", (run_id,)).fetchall()
    total: dict[str, Any] = {"runs": len(found), "orders": {}, "objects": {}, "parked": {}, "seconds": 0.0}
    for (counts,) in found:
        for name in ("orders", "objects", "parked"):
            for outcome, number in counts.get(name, {}).items():
                total[name][outcome] = total[name].get(outcome, 0) + number
        total["seconds"] += counts.get("seconds", 0.0)
        total["down"] = counts.get("down") or total.get("down")
    return total
