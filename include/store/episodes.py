"""Episodes of failure: from the first failure of something until it works again. People are told once of each."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
import psycopg
from psycopg.rows import class_row


class Episode(msgspec.Struct):
    """When it began, how often it failed, the last error, and when people were told (None: not yet)."""

    began_at: datetime
    failures: int
    error: str
    notified_at: datetime | None


def note_failure(connection: psycopg.Connection[Any], subject: str, error: str) -> Episode:
    """Note a failure, the first of an episode or one more; returns the episode."""
    with connection.cursor(row_factory=class_row(Episode)) as cursor:
        cursor.execute(
            "INSERT INTO failure_episode AS held (subject, error) VALUES (%s, %s) ON CONFLICT (subject) DO UPDATE"
            " SET failures = held.failures + 1, last_at = now(), error = excluded.error"
            " RETURNING began_at, failures, error, notified_at",
            (subject, error),
        )
        episode = cursor.fetchone()
    if episode is None:
        raise RuntimeError("INSERT … RETURNING returned no row")
    return episode


def note_told(connection: psycopg.Connection[Any], subject: str) -> None:
    """People know of the episode."""
    connection.execute("UPDATE failure_episode SET notified_at = now() WHERE subject = %s", (subject,))


def find_episode(connection: psycopg.Connection[Any], subject: str) -> Episode | None:
    """The episode that is going on, if any."""
    with connection.cursor(row_factory=class_row(Episode)) as cursor:
        cursor.execute(
            "SELECT began_at, failures, error, notified_at FROM failure_episode WHERE subject = %s", (subject,)
        )
        return cursor.fetchone()


def end_episode(connection: psycopg.Connection[Any], subject: str) -> None:
    """It works again."""
    connection.execute("DELETE FROM failure_episode WHERE subject = %s", (subject,))
