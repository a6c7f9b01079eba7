"""Tables of figures, in the terminal and as Markdown, and the page that they are written to, part by part."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import rich.table
from rich.console import Console

from bench.rounds import memory_of_machine

Table = tuple[list[str], list[list[str]]]
"""Header and rows."""

INBOUND, SEARCH, OUTBOUND = "# Benchmarks", "## Patching a search index", "## Sending orders to a target"
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
    """Write a part of the page and leave the others as they are."""
    old = page.read_text(encoding="utf-8") if page.exists() else ""
    parts = [each.strip() for each in re.split(r"^(?=##? )", old, flags=re.MULTILINE)]
    held = {heading: each for each in parts for heading in (INBOUND, SEARCH, OUTBOUND) if _begins(each, heading)}
    held |= {heading: part.strip() for heading in (INBOUND, SEARCH, OUTBOUND) if _begins(part, heading)}
    in_order = [held[heading] for heading in (INBOUND, SEARCH, OUTBOUND) if heading in held]
    page.write_text("\n\n".join(in_order) + "\n", encoding="utf-8")


def _begins(part: str, heading: str) -> bool:
    return part.split("\n", 1)[0] == heading


def number(value: float | None, digits: int) -> str:
    """A figure; nothing for None."""
    return "" if value is None else f"{value:,.{digits}f}"
