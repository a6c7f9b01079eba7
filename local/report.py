"""Report what runs did, from the views of the database.

`load_report` of venues, `search_report` of search indices, `outbound_report` and `outbound_problems` of targets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, LiteralString

from rich.markup import escape

from local import console
from local.console import Screen

COUNTS = ("checked", "created", "updated", "unchanged", "skipped", "rejected")
SECONDS = ("fetch_seconds", "iterate_seconds", "diff_seconds", "upsert_seconds")
RARE = {"gone": "removed, since the listing no longer has them", "held_back": "not applied because of manual edits"}
"""Counts that are printed only if they are not zero."""
MAX_LINES = 60

LOADS = "SELECT * FROM load_report WHERE run_id = ANY(%s) ORDER BY provider, venue NULLS FIRST"
PATCHES = """
    SELECT *, extract(epoch FROM finished_at - moved_at) AS after_move FROM search_report WHERE run_id = ANY(%s)
    ORDER BY id, patch
"""
SENT = "SELECT * FROM outbound_report WHERE run_id = ANY(%s) ORDER BY target, run_id"
PROBLEMS = """
    SELECT DISTINCT problem.* FROM outbound_problems AS problem
    JOIN outbound_history AS failure USING (target, source, source_id)
    WHERE failure.run_id = ANY(%s) AND failure.outcome IN ('failed', 'retry')
    ORDER BY target, state DESC, event, code
"""
SENT_COLUMNS = (
    *(f"orders_{what}" for what in ("sent", "unchanged", "to_retry", "parked")),
    *(f"objects_{what}" for what in ("sent", "unchanged", "not_synced", "failed")),
)


def show(screen: Screen, conninfo: str, run_ids: Iterable[str]) -> list[str]:
    """Print what these DAG runs did, in one table per movement; return the errors that were printed."""
    ids = list(run_ids)
    loads, patches, sent = (read(conninfo, query, ids) for query in (LOADS, PATCHES, SENT))
    show_loads(screen, loads)
    show_patches(screen, patches)
    show_sent(screen, sent)
    show_problems(screen, read(conninfo, PROBLEMS, ids))
    return [row["error"] for row in (*loads, *patches) if row["error"]] + [row["down"] for row in sent if row["down"]]


def read(conninfo: str, query: LiteralString, run_ids: Sequence[str]) -> list[dict[str, Any]]:
    """Return the rows that a query finds for these DAG runs."""
    import psycopg
    from psycopg.rows import dict_row

    with psycopg.connect(conninfo, row_factory=dict_row) as connection:
        return connection.execute(query, [list(run_ids)]).fetchall()


def show_loads(screen: Screen, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print a line per venue. A long table is cut to the failed and the slowest loads."""
    if not rows:
        return
    shown = sorted(rows, key=lambda row: (not row["error"], -(row["seconds"] or 0)))[:MAX_LINES]
    numbers = (*COUNTS, *(f"{part.removesuffix('_seconds')} s" for part in SECONDS), "records/s")
    table = console.table(("provider", "venue", "state"), numbers)
    for row in [row for row in rows if row in shown]:
        table.add_row(
            str(row["provider"] or ""),
            str(row["venue"] or "-"),
            str(row["state"] or ""),
            *(console.count(row[name]) for name in COUNTS),
            *(f"{row[name] or 0:.2f}" for name in SECONDS),
            console.count(row["records_per_second"]),
        )
    if len(rows) > 1:
        table.add_section()
        totals = [sum(row[name] or 0 for row in rows) for name in COUNTS]
        spent = [sum(float(row[name] or 0) for row in rows) for name in SECONDS]
        table.add_row(
            "all", f"{len(rows)} loads", "", *map(console.count, totals), *(f"{value:.2f}" for value in spent), ""
        )
    screen.print_wide(table)
    if len(rows) > len(shown):
        screen.say(f"({len(rows) - len(shown)} more: SELECT * FROM load_report)")
    for row in shown:
        rare = [f"{row[name]:,} {text}" for name, text in RARE.items() if row[name]]
        if row["error"] or rare:
            screen.say(f"{row['provider']}, {row['venue'] or '-'}: {row['error'] or ', '.join(rare)}")
    screen.say()


def show_patches(screen: Screen, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print a line per pass of a patch over a search index."""
    if not rows:
        return
    counts = ("records_read", "changed", "left_alone", "batches")
    headings = (*(name.replace("_", " ") for name in counts), "seconds", "move to done s")
    table = console.table(("index", "patch", "why", "state"), headings)
    for row in rows:
        table.add_row(
            row["index_name"],
            row["patch"] or "-",
            row["reason"],
            "dry run" if row["dry_run"] else row["state"],
            *(console.count(row[name]) or "-" for name in counts),
            *("-" if row[name] is None else f"{row[name]:.2f}" for name in ("seconds", "after_move")),
        )
    screen.print_wide(table)
    for error in dict.fromkeys(f"{row['index_name']}: {row['error']}" for row in rows if row["error"]):
        screen.say(error)
    screen.say()


def show_sent(screen: Screen, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print a line per outbound target, and the error of each target that is down."""
    if not rows:
        return
    table = console.table(("target",), (*(name.replace("_", " ") for name in SENT_COLUMNS), "seconds"))
    for row in rows:
        counts = (console.count(row[name] or 0) for name in SENT_COLUMNS)
        table.add_row(row["target"], *counts, f"{row['seconds'] or 0:.2f}")
    screen.print_wide(table)
    for row in rows:
        if row["down"]:
            screen.say(f"{row['target']} rejects every request: {row['down']}")
    screen.say()


def show_problems(screen: Screen, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the orders that could not be sent, with the reasons."""
    if not rows:
        return
    table = console.table(("order", "event", "state", "reason"))
    table.add_column("what to fix", overflow="fold")
    for row in rows[:MAX_LINES]:
        texts = (row[name] or "-" for name in ("code", "event", "state", "reason"))
        table.add_row(*map(escape, texts), escape("; ".join(row["messages"])))
    screen.print_wide(table)
    if len(rows) > MAX_LINES:
        screen.say(f"({len(rows) - MAX_LINES} more: SELECT * FROM outbound_problems)")
    screen.say()
