"""What outbound targets were sent: the last result of each object (`outbound_result`), and the log."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg
from psycopg.rows import class_row

from include.models.outbound import LogEntry, ObjectKey, StoredResult
from include.store.jsonb import to_jsonb


def load_results(
    connection: psycopg.Connection, target: str, source: str, ids: Sequence[int]
) -> dict[ObjectKey, StoredResult]:
    """Return the last results of all objects of these orders or offers."""
    with connection.cursor(row_factory=class_row(StoredResult)) as cursor:
        cursor.execute(
            "SELECT source, source_id, position_id, target, mapping_id, external_object_type, external_id_field,"
            " id_value, external_link_href, external_link_display_name, sync_info, sent FROM outbound_result"
            " WHERE target = %s AND source = %s AND source_id = ANY (%s)",
            (target, source, list(ids)),
        )
        return {row.key: row for row in cursor}


def save_results(connection: psycopg.Connection, rows: Sequence[StoredResult]) -> None:
    """Insert results, or replace those of the same objects; `rows` has at most one per object."""
    if not rows:
        return
    connection.execute(
        """
        INSERT INTO outbound_result (source, source_id, position_id, target, mapping_id, external_object_type,
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
        (to_jsonb(rows),),
    )


def forget_sent(connection: psycopg.Connection, target: str, source: str, objects: Sequence[ObjectKey]) -> None:
    """Clear the digests of these objects, so that they are sent again: their state at the target is unknown."""
    if objects:
        connection.execute(
            "UPDATE outbound_result AS stored SET sent = '{}' FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[])"
            " AS failed (source_id, position_id, mapping_id) WHERE stored.source = %s AND stored.target = %s"
            " AND stored.source_id = failed.source_id AND stored.position_id IS NOT DISTINCT FROM failed.position_id"
            " AND stored.mapping_id = failed.mapping_id",
            (*(list(column) for column in zip(*objects, strict=True)), source, target),
        )


def forget_all_sent(connection: psycopg.Connection, target: str, items: Sequence[tuple[str, int]]) -> None:
    """Clear the digests of all objects of these orders or offers, given as (source, source id)."""
    if items:
        connection.execute(
            "UPDATE outbound_result SET sent = '{}' WHERE target = %s"
            " AND (source, source_id) IN (SELECT * FROM unnest(%s::text[], %s::bigint[]))",
            (target, *(list(column) for column in zip(*items, strict=True))),
        )


def write_log(connection: psycopg.Connection, entries: Sequence[LogEntry]) -> None:
    """Append to `outbound_log`; `wait_seconds` is stored as the time of the next attempt."""
    if not entries:
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
        (to_jsonb(entries),),
    )


def purge_log(connection: psycopg.Connection, retention_days: int) -> int:
    """Delete log entries and runs that are older than `retention_days`; returns the number of entries."""
    entries = connection.execute(
        "DELETE FROM outbound_log WHERE at < now() - make_interval(days => %s)", (retention_days,)
    ).rowcount
    connection.execute(
        "DELETE FROM outbound_run WHERE finished_at < now() - make_interval(days => %s)", (retention_days,)
    )
    return entries
