"""Incidents: from the first failed or late run of a DAG to its next good run. Each is reported once."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
import psycopg
from psycopg.rows import class_row
from psycopg.sql import SQL, Composed

MAX_RUN_IDS = 20
"""Number of stored ids of failed runs. A run whose id is stored is not counted again."""

_COLUMNS = SQL("began_at, failures, error, notified_at, late_notified_at")


class Incident(msgspec.Struct):
    """An open incident.

    :param failures: number of failed runs; 0 if a run was only late.
    :param error: the last known error.
    :param notified_at: when the alert of the failure was delivered; None: not yet.
    :param late_notified_at: when the alert of the late run was delivered; None: not yet.
    """

    began_at: datetime
    failures: int
    error: str
    notified_at: datetime | None
    late_notified_at: datetime | None

    @property
    def was_reported(self) -> bool:
        """Whether one of its alerts was delivered."""
        return self.notified_at is not None or self.late_notified_at is not None


def record_failure(connection: psycopg.Connection[Any], subject: str, error: str, run_id: str) -> Incident:
    """Open an incident, or count a failed run in the open one; locks it until the transaction ends.

    :param subject: DAG id.
    :param error: replaces the stored error, unless it is empty.
    :param run_id: a run that was counted before is not counted again.
    """
    return _one(
        connection,
        SQL(
            "INSERT INTO failure_episode AS stored (subject, error, run_ids)"
            " VALUES (%(subject)s, %(error)s, ARRAY[%(run)s]) ON CONFLICT (subject) DO UPDATE"
            " SET last_at = now(), error = coalesce(nullif(excluded.error, ''), stored.error),"
            " failures = stored.failures + (%(run)s <> ALL (stored.run_ids))::int,"
            " run_ids = CASE WHEN %(run)s = ANY (stored.run_ids) THEN stored.run_ids"
            " ELSE (stored.run_ids || %(run)s::text)[greatest(1, cardinality(stored.run_ids) + 2 - %(max_ids)s):] END"
            " RETURNING {}"
        ).format(_COLUMNS),
        {"subject": subject, "error": error, "run": run_id, "max_ids": MAX_RUN_IDS},
    )


def record_late(connection: psycopg.Connection[Any], subject: str, error: str) -> Incident:
    """Open an incident for a late run unless one is open; locks it until the transaction ends."""
    return _one(
        connection,
        SQL(
            "INSERT INTO failure_episode AS stored (subject, error, failures) VALUES (%(subject)s, %(error)s, 0)"
            " ON CONFLICT (subject) DO UPDATE SET last_at = now() RETURNING {}"
        ).format(_COLUMNS),
        {"subject": subject, "error": error},
    )


def record_alert(connection: psycopg.Connection[Any], subject: str) -> None:
    """Store that the alert of the failure was delivered."""
    connection.execute("UPDATE failure_episode SET notified_at = now() WHERE subject = %s", (subject,))


def record_late_alert(connection: psycopg.Connection[Any], subject: str) -> None:
    """Store that the alert of the late run was delivered."""
    connection.execute("UPDATE failure_episode SET late_notified_at = now() WHERE subject = %s", (subject,))


def find_incident(connection: psycopg.Connection[Any], subject: str) -> Incident | None:
    """Return the open incident; None if there is none."""
    with connection.cursor(row_factory=class_row(Incident)) as cursor:
        cursor.execute(SQL("SELECT {} FROM failure_episode WHERE subject = %s").format(_COLUMNS), (subject,))
        return cursor.fetchone()


def end_incident(connection: psycopg.Connection[Any], subject: str) -> Incident | None:
    """Close the open incident; returns it, or None if there is none."""
    with connection.cursor(row_factory=class_row(Incident)) as cursor:
        cursor.execute(SQL("DELETE FROM failure_episode WHERE subject = %s RETURNING {}").format(_COLUMNS), (subject,))
        return cursor.fetchone()


def _one(connection: psycopg.Connection[Any], statement: Composed, values: dict[str, Any]) -> Incident:
    with connection.cursor(row_factory=class_row(Incident)) as cursor:
        cursor.execute(statement, values)
        incident = cursor.fetchone()
    assert incident is not None  # INSERT … RETURNING
    return incident
