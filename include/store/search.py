"""The state of each search index, and the passes over it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
import psycopg
from psycopg.rows import class_row
from psycopg.types.json import Jsonb


class IndexState(msgspec.Struct):
    """A row of `search_index`.

    :param checkpoint_at: time of the newest entry of Algolia's log that was handled; None before the first patch.
    :param handled_moves: moves that were handled and that the log may still list, as JSON objects.
    :param records: size of the index at the last pass.
    :param runs_since_comparison: runs since the whole index was last read.
    :param dry_runs_shown: moves and reasons whose changes a scheduled dry run has already shown.
    """

    checkpoint_at: datetime | None
    handled_moves: list[dict[str, Any]]
    records: int | None
    runs_since_comparison: int
    dry_runs_shown: list[str]


class OpenPass(msgspec.Struct):
    """A pass that was not finished; `checkpoint` is where to resume it, None for the beginning."""

    id: int
    reason: str
    moves: list[dict[str, Any]]
    patches: list[str]
    checkpoint: dict[str, Any] | None
    restarts: int


def load_state(connection: psycopg.Connection[Any], application_id: str, index: str) -> IndexState:
    """Return the state of an index; inserts a row for a new one."""
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
    """Store the state of an index."""
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


def record_check(connection: psycopg.Connection[Any], application_id: str, index: str) -> None:
    """Store that a run has just read the log of an index."""
    connection.execute(
        "UPDATE search_index SET checked_at = now() WHERE application_id = %s AND index_name = %s",
        (application_id, index),
    )


def settings_changed(connection: psycopg.Connection[Any], application_id: str, index: str, settings: str) -> bool:
    """Whether the settings of the scheduled runs of an index differ from the stored ones."""
    row = connection.execute(
        "SELECT settings IS DISTINCT FROM %s FROM search_index WHERE application_id = %s AND index_name = %s",
        (settings, application_id, index),
    ).fetchone()
    return bool(row and row[0])


def save_settings(connection: psycopg.Connection[Any], application_id: str, index: str, settings: str) -> None:
    """Store the settings of the scheduled runs of an index."""
    connection.execute(
        "UPDATE search_index SET settings = %s WHERE application_id = %s AND index_name = %s",
        (settings, application_id, index),
    )


def find_open_pass(connection: psycopg.Connection[Any], application_id: str, index: str) -> OpenPass | None:
    """Return the pass that a killed or failed run left open."""
    with connection.cursor(row_factory=class_row(OpenPass)) as cursor:
        cursor.execute(
            "SELECT id, reason, moves, patches, mark AS checkpoint, restarts FROM search_pass"
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
    """Open a pass; returns its id."""
    row = connection.execute(
        "INSERT INTO search_pass (application_id, index_name, reason, moves, patches, run_id)"
        " VALUES (%s, %s, %s, %s, %s, %s) RETURNING id",
        (application_id, index, reason, Jsonb(list(moves)), list(patches), run_id),
    ).fetchone()
    assert row is not None  # INSERT … RETURNING
    return int(row[0])


def restart_pass(
    connection: psycopg.Connection[Any],
    pass_id: int,
    *,
    reason: str,
    moves: Sequence[dict[str, Any]],
    patches: Sequence[str],
) -> None:
    """Start an open pass from scratch, for these moves."""
    connection.execute(
        "UPDATE search_pass SET mark = NULL, reason = %s, moves = %s, patches = %s, restarts = restarts + 1"
        " WHERE id = %s",
        (reason, Jsonb(list(moves)), list(patches), pass_id),
    )


def resume_pass(connection: psycopg.Connection[Any], pass_id: int, run_id: str) -> None:
    """Store that a run resumes an open pass."""
    connection.execute("UPDATE search_pass SET run_id = %s, error = NULL WHERE id = %s", (run_id, pass_id))


def save_checkpoint(connection: psycopg.Connection[Any], pass_id: int, checkpoint: dict[str, Any]) -> None:
    """Store where to resume a pass. `checkpoint` has the report up to there as `report`."""
    connection.execute(
        "UPDATE search_pass SET mark = %s, report = %s WHERE id = %s",
        (Jsonb(checkpoint), Jsonb(checkpoint["report"]), pass_id),
    )


def finish_pass(connection: psycopg.Connection[Any], pass_id: int, report: dict[str, Any], state: str = "done") -> None:
    """Close a pass as `done`, or as `superseded` when the index is rebuilt faster than it can be patched."""
    connection.execute(
        "UPDATE search_pass SET state = %s, report = %s, mark = NULL, error = NULL, finished_at = now() WHERE id = %s",
        (state, Jsonb(report), pass_id),
    )


def record_error(connection: psycopg.Connection[Any], pass_id: int, error: str) -> None:
    """Store why an open pass failed; the next run resumes it."""
    connection.execute("UPDATE search_pass SET error = %s WHERE id = %s", (error, pass_id))


def record_dry_run(
    connection: psycopg.Connection[Any],
    application_id: str,
    index: str,
    *,
    reason: str,
    patches: Sequence[str],
    report: dict[str, Any],
    run_id: str,
) -> None:
    """Store the report of a dry run."""
    connection.execute(
        "INSERT INTO search_pass (application_id, index_name, reason, patches, run_id, state, dry_run, report,"
        " finished_at) VALUES (%s, %s, %s, %s, %s, 'done', true, %s, now())",
        (application_id, index, reason, list(patches), run_id, Jsonb(report)),
    )


def purge_passes(connection: psycopg.Connection[Any], retention_days: int) -> int:
    """Delete passes that finished more than `retention_days` ago; returns how many."""
    return connection.execute(
        "DELETE FROM search_pass WHERE finished_at < now() - make_interval(days => %s)", (retention_days,)
    ).rowcount
