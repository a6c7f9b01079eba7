"""Tables of figures, in the terminal and as Markdown, and the page that they are written to, part by part."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import rich.table
from rich.console import Console

from bench.rounds import memory_of_machine

Table = tuple[list[str], list[list[str]]]
"""Header and rows."""

INBOUND, SEARCH = "# Benchmarks", "## Patching a search index"
"""The headings of the parts of the page, in their order."""


def show(console: Console, tables: Iterable[Table]) -> None:
    """Print tables."""
    for header, rows in tables:
        shown = rich.table.Table(*header)
        for row in rows:
            shown.add_row(*row)
        console.print(shown)


def markdown(heading: str, told: str, postgresql: str, tables: Iterable[Table]) -> str:
    """A part of the page: heading, date and text, machine, tables."""
    parts = [
        heading,
        f"`make bench` on {datetime.now(UTC):%Y-%m-%d}: {told}",
        f"{os.cpu_count()} cores, {memory_of_machine():.0f} GiB, Python {platform.python_version()}, "
        f"PostgreSQL {postgresql} (embedded, default settings), {platform.system()} {platform.machine()}.",
    ]
    for header, rows in tables:
        align = ["---", *["--:"] * (len(header) - 1)]
        parts.append("\n".join(f"| {' | '.join(cells)} |" for cells in (header, align, *rows)))
    return "\n\n".join(parts) + "\n"


def put(page: Path, part: str) -> None:
    """Write a part of the page and leave the other one as it is."""
    old = page.read_text(encoding="utf-8") if page.exists() else ""
    before, found, after = old.partition(f"{SEARCH}\n")
    inbound, search = before.strip(), f"{found}{after}".strip()
    if part.startswith(SEARCH):
        search = part.strip()
    else:
        inbound = part.strip()
    page.write_text("\n\n".join(each for each in (inbound, search) if each) + "\n", encoding="utf-8")


def number(value: float | None, digits: int) -> str:
    """A figure; nothing for None."""
    return "" if value is None else f"{value:,.{digits}f}"
