"""Runs of outbound workers (`outbound_run`): their counts, and the rows that a crashed worker left in flight."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import psycopg

from include.models.outbound import FailedRow, LogEntry
from include.store import queue, results
from include.store.jsonb import to_jsonb

STUCK_MINUTES = 20
"""A row that is in flight for longer is released, even if its worker is still alive."""
_CUT_OFF = "The worker was interrupted while it sent this; whether it arrived is unknown"


def open_run(connection: psycopg.Connection, target: str, run_id: str) -> int:
    """Record that a worker started; returns the id of its run. `run_id` is that of the Airflow run, or empty."""
    [(id_,)] = connection.execute(
        "INSERT INTO outbound_run (target, run_id) VALUES (%s, %s) RETURNING id", (target, run_id)
    ).fetchall()
    return int(id_)


def close_run(connection: psycopg.Connection, id_: int, counts: Mapping[str, Any]) -> None:
    """Record that a worker ended, with its counts."""
    connection.execute(
        "UPDATE outbound_run SET counts = %s, finished_at = now() WHERE id = %s", (to_jsonb(counts), id_)
    )


def run_counts(connection: psycopg.Connection, run_id: str) -> dict[str, Any]:
    """Return the summed counts of all workers of an Airflow run."""
    found = connection.execute("SELECT counts FROM outbound_run WHERE run_id = %s", (run_id,)).fetchall()
    total: dict[str, Any] = {"runs": len(found), "orders": {}, "objects": {}, "parked": {}, "seconds": 0.0}
    for (counts,) in found:
        for name in ("orders", "objects", "parked"):
            for outcome, number in counts.get(name, {}).items():
                total[name][outcome] = total[name].get(outcome, 0) + number
        total["seconds"] += counts.get("seconds", 0.0)
        total["down"] = counts.get("down") or total.get("down")
    return total


def recent_targets(connection: psycopg.Connection, days: int) -> set[str]:
    """Return the identifiers of targets that a worker started for in the last `days` days."""
    rows = connection.execute(
        "SELECT DISTINCT target FROM outbound_run WHERE started_at > now() - make_interval(days => %s)", (days,)
    )
    return {target for (target,) in rows}


def release_stuck(connection: psycopg.Connection, target: str, max_attempts: int) -> int:
    """Release rows whose worker is dead, or that are in flight for too long; returns the number of rows.

    The interruption counts as an attempt. The digests of their objects are cleared: what arrived is unknown.
    """
    rows = connection.execute(
        "SELECT id, failed_attempts + 1, source, source_id, triggered_by,"
        " CASE WHEN source = 'order' THEN (SELECT code FROM source_order WHERE order_id = source_id) END"
        " FROM outbound_queue WHERE target = %s AND in_flight AND (claimed_by = ANY (%s)"
        " OR claimed_by IS NULL OR in_flight_since < now() - make_interval(mins => %s)) FOR UPDATE SKIP LOCKED",
        (target, _dead_workers(connection, target), STUCK_MINUTES),
    ).fetchall()
    released, entries = [], []
    for id_, attempts, source, source_id, triggered_by, code in rows:
        reason = "timeout" if attempts >= max_attempts else None
        released.append(FailedRow(id_, attempts, 0.0, reason, [_CUT_OFF]))
        outcome, wait = ("failed", None) if reason else ("retry", 0.0)
        entry = LogEntry(None, target, source, source_id, outcome, code or "", triggered_by=triggered_by, reason=reason)
        entry.messages, entry.attempt, entry.wait_seconds = [_CUT_OFF], attempts, wait
        entries.append(entry)
    queue.release(connection, released)
    results.write_log(connection, entries)
    results.forget_all_sent(connection, target, [(entry.source, entry.source_id) for entry in entries])
    return len(released)


def _dead_workers(connection: psycopg.Connection, target: str) -> list[int]:
    """Return the keys of in-flight rows that no living worker holds: their advisory locks are free."""
    keys = connection.execute(
        "WITH claimed AS MATERIALIZED ("
        " SELECT DISTINCT claimed_by FROM outbound_queue WHERE target = %s AND in_flight AND claimed_by IS NOT NULL)"
        " SELECT claimed_by FROM claimed WHERE pg_try_advisory_xact_lock(claimed_by)",
        (target,),
    )
    return [key for (key,) in keys]
