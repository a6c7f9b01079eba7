"""What was seen of a search index, and the passes over it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
import psycopg
from psycopg.rows import class_row
from psycopg.types.json import Jsonb


class IndexState(msgspec.Struct):
    """A row of `search_index`; the moves are JSON objects as they were handed in."""

    checkpoint_at: datetime | None
    handled_moves: list[dict[str, Any]]
    records: int | None
    runs_since_comparison: int
    dry_runs_shown: list[str]


class OpenPass(msgspec.Struct):
    """A pass that has not come to its end; `mark` is where to go on, None at the beginning."""

    id: int
    reason: str
    moves: list[dict[str, Any]]
    patches: list[str]
    mark: dict[str, Any] | None
    restarts: int


def load_state(connection: psycopg.Connection[Any], application_id: str, index: str) -> IndexState:
    """What is known of an index; of one that was never seen, a new row."""
    connection.execute(
        "INSERT INTO search_index (application_id, index_name) VALUES (%s, %s) ON CONFLICT DO NOTHING",
        (application_id, index),
    )
    with connection.cursor(row_factory=class_row(IndexState)) as cursor:
        cursor.execute(
            "SELECT checkpoint_at, handled_moves, records, runs_since_comparison, dry_runs_shown"
            " FROM search_index WHERE application_id = %s AND index_name = %s",
            (application_id, index),
        )
        return cursor.fetchone() or IndexState(None, [], None, 0, [])


def save_state(connection: psycopg.Connection[Any], application_id: str, index: str, state: IndexState) -> None:
    """Store what is known of an index."""
    connection.execute(
        "UPDATE search_index SET checkpoint_at = %s, handled_moves = %s, records = %s, runs_since_comparison = %s,"
        " dry_runs_shown = %s WHERE application_id = %s AND index_name = %s",
        (
            state.checkpoint_at,
            Jsonb(state.handled_moves),
            state.records,
            state.runs_since_comparison,
            state.dry_runs_shown,
            application_id,
            index,
        ),
    )


def note_look(connection: psycopg.Connection[Any], application_id: str, index: str) -> None:
    """Store that the log of an index was read just now, whatever follows from it."""
    connection.execute(
        "UPDATE search_index SET checked_at = now() WHERE application_id = %s AND index_name = %s",
        (application_id, index),
    )


def settings_changed(connection: psycopg.Connection[Any], application_id: str, index: str, settings: str) -> bool:
    """Whether the scheduled runs of an index had other settings before."""
    row = connection.execute(
        "SELECT settings IS DISTINCT FROM %s FROM search_index WHERE application_id = %s AND index_name = %s",
        (settings, application_id, index),
    ).fetchone()
    return bool(row and row[0])


def note_settings(connection: psycopg.Connection[Any], application_id: str, index: str, settings: str) -> None:
    """Remember the settings of the scheduled runs of an index."""
    connection.execute(
        "UPDATE search_index SET settings = %s WHERE application_id = %s AND index_name = %s",
        (settings, application_id, index),
    )


def find_open_pass(connection: psycopg.Connection[Any], application_id: str, index: str) -> OpenPass | None:
    """The pass that a killed or failed run left open."""
    with connection.cursor(row_factory=class_row(OpenPass)) as cursor:
        cursor.execute(
            "SELECT id, reason, moves, patches, mark, restarts FROM search_pass"
            " WHERE application_id = %s AND index_name = %s AND state = 'open'",
            (application_id, index),
        )
        return cursor.fetchone()


def open_pass(
    connection: psycopg.Connection[Any],
    application_id: str,
    index: str,
    *,
    reason: str,
    moves: Sequence[dict[str, Any]],
    patches: Sequence[str],
    run_id: str,
) -> int:
    """Begin a pass; returns its id."""
    row = connection.execute(
        "INSERT INTO search_pass (application_id, index_name, reason, moves, patches, run_id)"
        " VALUES (%s, %s, %s, %s, %s, %s) RETURNING id",
        (application_id, index, reason, Jsonb(list(moves)), list(patches), run_id),
    ).fetchone()
    return int(row[0]) if row else 0


def restart_pass(
    connection: psycopg.Connection[Any],
    pass_id: int,
    *,
    reason: str,
    moves: Sequence[dict[str, Any]],
    patches: Sequence[str],
) -> None:
    """Let a pass begin anew, for these moves."""
    connection.execute(
        "UPDATE search_pass SET mark = NULL, reason = %s, moves = %s, patches = %s, restarts = restarts + 1"
        " WHERE id = %s",
        (reason, Jsonb(list(moves)), list(patches), pass_id),
    )


def take_up_pass(connection: psycopg.Connection[Any], pass_id: int, run_id: str) -> None:
    """Note which run goes on with a pass."""
    connection.execute("UPDATE search_pass SET run_id = %s, error = NULL WHERE id = %s", (run_id, pass_id))


def keep_mark(connection: psycopg.Connection[Any], pass_id: int, mark: dict[str, Any]) -> None:
    """Store how far a pass is."""
    connection.execute(
        "UPDATE search_pass SET mark = %s, report = %s WHERE id = %s", (Jsonb(mark), Jsonb(mark["report"]), pass_id)
    )


def finish_pass(connection: psycopg.Connection[Any], pass_id: int, report: dict[str, Any], state: str = "done") -> None:
    """Close a pass: done, or superseded by moves that came faster than they could be followed."""
    connection.execute(
        "UPDATE search_pass SET state = %s, report = %s, mark = NULL, error = NULL, finished_at = now() WHERE id = %s",
        (state, Jsonb(report), pass_id),
    )


def note_error(connection: psycopg.Connection[Any], pass_id: int, error: str) -> None:
    """Say on an open pass why it stands still; the next run takes it up."""
    connection.execute("UPDATE search_pass SET error = %s WHERE id = %s", (error, pass_id))


def note_dry_run(
    connection: psycopg.Connection[Any],
    application_id: str,
    index: str,
    *,
    reason: str,
    patches: Sequence[str],
    report: dict[str, Any],
    run_id: str,
) -> None:
    """Keep what a dry run found."""
    connection.execute(
        "INSERT INTO search_pass (application_id, index_name, reason, patches, run_id, state, dry_run, report,"
        " finished_at) VALUES (%s, %s, %s, %s, %s, 'done', true, %s, now())",
        (application_id, index, reason, list(patches), run_id, Jsonb(report)),
    )


def purge_passes(connection: psycopg.Connection[Any], retention_days: int) -> int:
    """Remove passes that ended so many days ago; returns how many."""
    return connection.execute(
        "DELETE FROM search_pass WHERE finished_at < now() - make_interval(days => %s)", (retention_days,)
    ).rowcount
