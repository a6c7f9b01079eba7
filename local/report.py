"""What a run did, from the database's own view `load_report`: a line per venue."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table

from local.console import Screen

COUNTS = ("checked", "created", "updated", "unchanged", "skipped", "rejected")
SECONDS = ("fetch_seconds", "iterate_seconds", "diff_seconds", "upsert_seconds")
MOST_LINES = 60


def read(conninfo: str, run_ids: Iterable[str]) -> list[dict[str, Any]]:
    """The loads of these DAG runs."""
    import psycopg
    from psycopg.rows import dict_row

    with psycopg.connect(conninfo, row_factory=dict_row) as connection:
        return connection.execute(
            "SELECT * FROM load_report WHERE run_id = ANY(%s) ORDER BY provider, venue NULLS FIRST", [list(run_ids)]
        ).fetchall()


def show(screen: Screen, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the table; of a long one, what failed and the slowest."""
    if not rows:
        return
    shown = sorted(rows, key=lambda row: (not row["error"], -(row["seconds"] or 0)))[:MOST_LINES]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("provider", "venue", "state"):
        table.add_column(name, no_wrap=True)
    for name in (*COUNTS, *(f"{part.removesuffix('_seconds')} s" for part in SECONDS), "records/s"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in [row for row in rows if row in shown]:
        table.add_row(
            str(row["provider"] or ""),
            str(row["venue"] or "-"),
            str(row["state"] or ""),
            *(_count(row[name]) for name in COUNTS),
            *(f"{row[name] or 0:.2f}" for name in SECONDS),
            _count(row["records_per_second"]),
        )
    if len(rows) > 1:
        table.add_section()
        totals = [sum(row[name] or 0 for row in rows) for name in COUNTS]
        spent = [sum(float(row[name] or 0) for row in rows) for name in SECONDS]
        table.add_row("all", f"{len(rows)} loads", "", *map(_count, totals), *(f"{value:.2f}" for value in spent), "")
    screen.print_wide(table)
    if len(rows) > len(shown):
        screen.say(f"({len(rows) - len(shown)} more: SELECT * FROM load_report)")
    for row in shown:
        if row["error"]:
            screen.say(f"{row['provider']}, {row['venue'] or '-'}: {row['error']}")


def _count(value: Any) -> str:
    return "" if value is None else f"{value:,.0f}"
