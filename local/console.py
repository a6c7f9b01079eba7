"""Terminal output of the local run: named steps with their duration, messages and tables."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDE = 190
"""Minimum width of tables; a narrower terminal wraps their lines."""


def table(texts: Sequence[str], numbers: Sequence[str] = ()) -> Table:
    """Return a table without lines that has columns of texts, then of numbers."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for name in texts:
        made.add_column(name, no_wrap=True)
    for name in numbers:
        made.add_column(name, justify="right", no_wrap=True)
    return made


def count(value: float | None) -> str:
    """Return a number with separators; empty for None."""
    return "" if value is None else f"{value:,.0f}"


class Screen:
    """Prints to the console. In a terminal, a running step shows a spinner."""

    def __init__(self, console: Console | None = None, *, stderr: bool = False) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True, stderr=stderr)
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Print the step and its duration when it ends."""
        begin = time.monotonic()
        with self.console.status(Text(name)):
            try:
                yield
            except BaseException:
                self._line("✗", name, time.monotonic() - begin)
                raise
        self.seconds[name] = time.monotonic() - begin
        self._line("✓", name, self.seconds[name])

    def say(self, message: str = "") -> None:
        """Print a message."""
        self.console.print(message, markup=False)

    def print_wide(self, table: Table) -> None:
        """Print a table without squeezing its columns into a narrow terminal."""
        width = max(self.console.width, WIDE)
        Console(file=self.console.file, width=width, highlight=False).print(table, crop=False)

    def _line(self, mark: str, name: str, seconds: float) -> None:
        self.console.print(f"{mark} {name:<58} {seconds:6.1f} s", markup=False)
