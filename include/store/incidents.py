"""Incidents: from the first failed or late run of a DAG until a run is good. Each is reported once."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
import psycopg
from psycopg.rows import class_row
from psycopg.sql import SQL, Composed

RUNS_KEPT = 20
"""Ids of the latest failed runs, by which a run that is reported twice counts once."""

_COLUMNS = SQL("began_at, failures, error, notified_at, late_notified_at")


class Incident(msgspec.Struct):
    """When it began, how many runs failed, the last error, and when alerts were delivered (None: not yet)."""

    began_at: datetime
    failures: int
    error: str
    notified_at: datetime | None
    late_notified_at: datetime | None

    @property
    def is_known(self) -> bool:
        """Whether an alert of it was delivered."""
        return self.notified_at is not None or self.late_notified_at is not None


def note_failure(connection: psycopg.Connection[Any], subject: str, error: str, run_id: str) -> Incident:
    """Open an incident, or count one more failed run in the open one; locks it until the transaction ends.

    A run that was counted before only replaces the error; an empty error is not known, and replaces nothing.
    """
    return _one(
        connection,
        SQL(
            "INSERT INTO failure_episode AS known (subject, error, run_ids)"
            " VALUES (%(subject)s, %(error)s, ARRAY[%(run)s]) ON CONFLICT (subject) DO UPDATE"
            " SET last_at = now(), error = coalesce(nullif(excluded.error, ''), known.error),"
            " failures = known.failures + (%(run)s <> ALL (known.run_ids))::int,"
            " run_ids = CASE WHEN %(run)s = ANY (known.run_ids) THEN known.run_ids"
            " ELSE (known.run_ids || %(run)s::text)[greatest(1, cardinality(known.run_ids) + 2 - %(kept)s):] END"
            " RETURNING {}"
        ).format(_COLUMNS),
        {"subject": subject, "error": error, "run": run_id, "kept": RUNS_KEPT},
    )


def note_late(connection: psycopg.Connection[Any], subject: str, error: str) -> Incident:
    """Open an incident for a run that is late, unless one is open; locks it until the transaction ends."""
    return _one(
        connection,
        SQL(
            "INSERT INTO failure_episode AS known (subject, error, failures) VALUES (%(subject)s, %(error)s, 0)"
            " ON CONFLICT (subject) DO UPDATE SET last_at = now() RETURNING {}"
        ).format(_COLUMNS),
        {"subject": subject, "error": error},
    )


def note_alerted(connection: psycopg.Connection[Any], subject: str) -> None:
    """The alert of the failure was delivered."""
    connection.execute("UPDATE failure_episode SET notified_at = now() WHERE subject = %s", (subject,))


def note_late_alerted(connection: psycopg.Connection[Any], subject: str) -> None:
    """The alert of the late run was delivered."""
    connection.execute("UPDATE failure_episode SET late_notified_at = now() WHERE subject = %s", (subject,))


def find_incident(connection: psycopg.Connection[Any], subject: str) -> Incident | None:
    """The open incident, if there is one."""
    with connection.cursor(row_factory=class_row(Incident)) as cursor:
        cursor.execute(SQL("SELECT {} FROM failure_episode WHERE subject = %s").format(_COLUMNS), (subject,))
        return cursor.fetchone()


def end_incident(connection: psycopg.Connection[Any], subject: str) -> Incident | None:
    """Close the open incident; returns it, None if there is none."""
    with connection.cursor(row_factory=class_row(Incident)) as cursor:
        cursor.execute(SQL("DELETE FROM failure_episode WHERE subject = %s RETURNING {}").format(_COLUMNS), (subject,))
        return cursor.fetchone()


def _one(connection: psycopg.Connection[Any], statement: Composed, values: dict[str, Any]) -> Incident:
    with connection.cursor(row_factory=class_row(Incident)) as cursor:
        cursor.execute(statement, values)
        incident = cursor.fetchone()
    if incident is None:
        raise RuntimeError("INSERT … RETURNING returned no row")
    return incident
