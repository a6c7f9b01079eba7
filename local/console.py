"""What the local run prints: named steps with their seconds, plain when nobody watches."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDE = 190
"""Columns that the report's table may take; a narrower terminal wraps its lines."""


class Screen:
    """Steps, notes and errors. In a terminal a step that takes long shows that it is alive."""

    def __init__(self, console: Console | None = None, *, stderr: bool = False) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True, stderr=stderr)
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Print the step when it is done, with its seconds."""
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
        """A line as it is."""
        self.console.print(message, markup=False)

    def print_wide(self, table: Table) -> None:
        """A table whose columns are not squeezed into a narrow terminal."""
        width = max(self.console.width, WIDE)
        Console(file=self.console.file, width=width, highlight=False).print(table, crop=False)

    def _line(self, mark: str, name: str, seconds: float) -> None:
        self.console.print(f"{mark} {name:<58} {seconds:6.1f} s", markup=False)
