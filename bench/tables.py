"""Tables of figures, in the terminal and as Markdown, and the page that they are written to, part by part."""

from __future__ import annotations

import os
import platform
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Protocol, TypeVar

import rich.table
from rich.console import Console

from bench.rounds import memory_of_machine

Table = tuple[list[str], list[list[str]]]
"""Header and rows."""

INBOUND, THEATRES = "# Benchmarks", "## Showtimes of many theatres"
SEARCH, OUTBOUND = "## Patching a search index", "## Sending orders to a target"
HEADINGS = (INBOUND, THEATRES, SEARCH, OUTBOUND)
"""The parts of the page, in their order."""


class OfPhase(Protocol):
    """An outcome of a phase of somebody."""

    @property
    def contender(self) -> str:
        """Who."""

    @property
    def phase(self) -> str:
        """Which."""


Result = TypeVar("Result", bound=OfPhase)


def medians(outcomes: Sequence[Result], value: Callable[[Result], float]) -> dict[str, float]:
    """The median of a value of each phase."""
    phases = dict.fromkeys(each.phase for each in outcomes)
    return {phase: median(value(each) for each in outcomes if each.phase == phase) for phase in phases}


def rounds_of(outcomes: Sequence[OfPhase]) -> int:
    """How many rounds there were: how often the most frequent phase was measured of one."""
    return max(
        Counter((getattr(each, "arena", None), each.contender, each.phase) for each in outcomes).values(), default=0
    )


def aims_table(aims: Iterable[tuple[str, float, str, bool]], digits: int = 2) -> Iterator[Table]:
    """What was aimed at, if anything: what, the figure, the aim, and whether it is reached."""
    rows = [[told, number(value, digits), aim, "yes" if reached else "no"] for told, value, aim, reached in aims]
    if rows:
        yield ["aim", "figure", "to reach", "reached"], rows


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
    held = {heading: each for each in parts for heading in HEADINGS if _begins(each, heading)}
    held |= {heading: part.strip() for heading in HEADINGS if _begins(part, heading)}
    in_order = [held[heading] for heading in HEADINGS if heading in held]
    page.write_text("\n\n".join(in_order) + "\n", encoding="utf-8")


def _begins(part: str, heading: str) -> bool:
    return part.split("\n", 1)[0] == heading


def number(value: float | None, digits: int) -> str:
    """A figure; nothing for None."""
    return "" if value is None else f"{value:,.{digits}f}"
