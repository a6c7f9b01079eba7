"""The harness of the benchmarks: interleaved rounds of competitors, medians, ratios, goals, tables and the page."""

from __future__ import annotations

import json
import operator
import os
import platform
import re
import subprocess
import sys
from abc import ABC, abstractmethod
from argparse import Namespace, _ArgumentGroup
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any, ClassVar

import rich.table
from rich.console import Console

from bench import peers, start_barrier
from bench.database import Database
from bench.measuring import MIB, Task, Usage

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "explanation" / "benchmarks.md"
PROCESS_TIMEOUT = 3600
HEADINGS = (
    "# Benchmarks",
    "## Showtimes of many theatres",
    "## Patching a search index",
    "## Sending orders to a target",
)
"""The parts of the page, in their order: one per benchmark."""
_COMPARISONS = {"≤": operator.le, "<": operator.lt, "≥": operator.ge}

Table = tuple[list[str], list[list[str]]]
"""Header and rows."""
Report = Callable[[str], object]
"""Prints a line of progress."""


@dataclass(frozen=True)
class Option:
    """A command-line option of a benchmark or soak. If the default is a list, the option takes one or more values."""

    flag: str
    default: Any
    help: str

    @property
    def name(self) -> str:
        """The attribute of the parsed arguments."""
        return self.flag.strip("-").replace("-", "_")

    def add_to(self, group: _ArgumentGroup) -> None:
        """Declare the option."""
        is_list = isinstance(self.default, list)
        values = self.default if is_list else [self.default]
        shown = f"{self.help} (default: {' '.join(map(str, values))})"
        kind, nargs = type(values[0]), "+" if is_list else None
        group.add_argument(self.flag, type=kind, nargs=nargs, default=self.default, metavar="N", help=shown)


@dataclass(frozen=True, kw_only=True)
class Competitor:
    """One way to do the work of a benchmark: a module with a function `prepare`, run in processes of its own."""

    name: str
    title: str
    module: str
    phases: tuple[str, ...]
    share: int = 1
    """It gets one in `share` of the records, because all of them would take too long."""
    is_peer: bool = False
    """It runs in the environment of the peers, `.bench/venv`."""


@dataclass(frozen=True)
class Scenario:
    """What a figure refers to: the amount of work, and how many milliseconds each response of the service takes."""

    size: int
    latency_ms: float
    text: str


@dataclass(frozen=True)
class Result:
    """What one phase of one competitor took in one round.

    `figures` are `seconds`, `cpu_seconds`, `peak` and `growth` (memory in MiB), `wal` (MB), `database_seconds` (the
    time PostgreSQL executed statements), and those that the benchmark adds.
    """

    scenario: Scenario
    competitor: str
    phase: str
    size: int
    figures: Mapping[str, float]


@dataclass(frozen=True)
class Goal:
    """A figure that a benchmark wants to reach: at most, less than, or at least a limit."""

    text: str
    figure: float
    comparison: str
    limit: float

    @property
    def is_reached(self) -> bool:
        """Whether the figure is within the limit."""
        return bool(_COMPARISONS[self.comparison](self.figure, self.limit))


class Line:
    """The medians of a competitor in a scenario: a line of the table."""

    def __init__(self, competitor: Competitor, scenario: Scenario, results: Sequence[Result]) -> None:
        self.competitor = competitor
        self.scenario = scenario
        self.size = results[0].size
        self._results = results

    def median(self, figure: str, phase: str) -> float | None:
        """Return the median of a figure over all rounds; None if the competitor does not have this phase."""
        found = [each.figures[figure] for each in self._results if each.phase == phase]
        return median(found) if found else None

    def maximum(self, figure: str) -> float:
        """Return the largest of the phases' medians."""
        return max(self.median(figure, phase) or 0 for phase in self.competitor.phases)

    def seconds(self, phase: str) -> float | None:
        """Return the median of the seconds."""
        return self.median("seconds", phase)

    def ratio(self, phase: str, other: Line | None, other_phase: str = "") -> float | None:
        """Return the seconds per record, divided by those of another line; None if one of them is missing."""
        own, theirs = self.seconds(phase), other and other.seconds(other_phase or phase)
        return None if own is None or not other or not theirs else (own / self.size) / (theirs / other.size)


class Benchmark(ABC):
    """Work that several competitors do on the same database.

    A subclass names the competitors, the phases and the options; it resets the database, makes the tasks, and checks
    what each phase leaves. It turns lines of medians into a table and into goals.
    """

    name: ClassVar[str]
    heading: ClassVar[str]
    summary: ClassVar[str]
    """For the help."""
    description: ClassVar[str]
    """For the page: what is done, and what the figures mean."""
    unit: ClassVar[str]
    """The plural of what `size` counts."""
    options: ClassVar[tuple[Option, ...]]
    competitors: ClassVar[tuple[Competitor, ...]]

    def __init__(self, database: Database, folder: Path, options: Namespace) -> None:
        self.database = database
        self.folder = folder
        self.given = options
        self.results: list[Result] = []

    @abstractmethod
    def scenarios(self) -> list[Scenario]:
        """Return what is measured, in order."""

    @abstractmethod
    def serving(self, scenario: Scenario) -> AbstractContextManager[object]:
        """Start the service that the competitors talk to."""

    @abstractmethod
    def reset(self, competitor: Competitor, scenario: Scenario) -> None:
        """Bring the database into the state before the first phase."""

    @abstractmethod
    def prepare(self, competitor: Competitor, scenario: Scenario, phase: str) -> list[Task]:
        """Get everything ready for a phase; returns a task per process."""

    @abstractmethod
    def check(self, competitor: Competitor, scenario: Scenario, phase: str) -> Mapping[str, float]:
        """Check what a phase left; returns further figures of it.

        Raises:
            WrongResult: it is not what the phase should leave.
        """

    @abstractmethod
    def row(self, line: Line) -> dict[str, str]:
        """Return the cells of a line after the scenario and the competitor, by the headers of their columns."""

    def goals(self) -> Iterable[Goal]:
        """Return the goals that can be judged from the lines."""
        return ()

    def size(self, competitor: Competitor, scenario: Scenario) -> int:
        """Return how much of the work the competitor gets."""
        return max(1, scenario.size // competitor.share)

    def phases(self, competitor: Competitor, scenario: Scenario) -> tuple[str, ...]:  # noqa: ARG002
        """Return the phases that a competitor runs in a scenario."""
        return competitor.phases

    def run(self, competitors: Sequence[Competitor], rounds: int, report: Report) -> None:
        """Run all scenarios: in each round every competitor in turn, so that a busy machine affects all of them."""
        for scenario in self.scenarios():
            report(scenario.text)
            with self.serving(scenario):
                for number in range(1, rounds + 1):
                    report(f"Round {number} of {rounds}")
                    for competitor in competitors:
                        self.run_competitor(competitor, scenario, report)

    def run_competitor(self, competitor: Competitor, scenario: Scenario, report: Report) -> None:
        """Run the phases of a competitor, each in fresh processes, and check what each of them leaves.

        Raises:
            WrongResult: a phase left something else than it should.
            RuntimeError: a process failed.
        """
        phases = self.phases(competitor, scenario)
        if phases:
            self.reset(competitor, scenario)
        for phase in phases:
            tasks = self.prepare(competitor, scenario, phase)
            wal, active = self.database.wal_mb(), self.database.active_seconds()
            usage = measure(competitor, tasks, self.folder)
            active = self.database.active_seconds() - active
            figures = {**asdict(usage), "wal": self.database.wal_mb() - wal, "database_seconds": active}
            figures |= self.check(competitor, scenario, phase)
            size = self.size(competitor, scenario)
            self.results.append(Result(scenario, competitor.name, phase, size, figures))
            report(progress(self.results[-1]))

    @cached_property
    def lines(self) -> list[Line]:
        """The medians per scenario and competitor. Read them when all results are there."""
        lines = []
        for scenario in dict.fromkeys(each.scenario for each in self.results):
            for competitor in self.competitors:
                own = [each for each in self.results if (each.scenario, each.competitor) == (scenario, competitor.name)]
                if own:
                    lines.append(Line(competitor, scenario, own))
        return lines

    def line(self, scenario: Scenario, name: str) -> Line | None:
        """Return the line of a competitor; None if it did not run."""
        return next((each for each in self.lines if each.scenario == scenario and each.competitor.name == name), None)

    def tables(self) -> Iterable[Table]:
        """Return the figures, and the goals if there are any."""
        rows = [self._row(line) for line in self.lines]
        if rows:
            yield list(rows[0]), [list(row.values()) for row in rows]
        goals = [
            [goal.text, number(goal.figure, 2), f"{goal.comparison} {goal.limit:g}", "yes" if goal.is_reached else "no"]
            for goal in self.goals()
        ]
        if goals:
            yield ["goal", "figure", "limit", "reached"], goals

    def _row(self, line: Line) -> dict[str, str]:
        is_part = line.size != line.scenario.size
        title = f"{line.competitor.title} ({line.size:,} {self.unit})" if is_part else line.competitor.title
        return {"scenario": line.scenario.text, "competitor": title, **self.row(line)}

    def part(self) -> str:
        """Return this benchmark's part of the page: heading, description, machine and tables."""
        times = Counter((each.scenario, each.competitor, each.phase) for each in self.results)
        rounds = max(times.values(), default=0)
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / MIB / 1024
        parts = [
            self.heading,
            f"`make bench` on {datetime.now(UTC):%Y-%m-%d}: medians of {rounds} round{'s' if rounds > 1 else ''}, in "
            f"each of which every competitor runs once. {self.description} Each phase of each competitor runs in "
            "processes of its own. Seconds are those of the work, without imports; database seconds are the growth of "
            "`pg_stat_database.active_time`. The benchmark fails if a phase leaves anything else than it should.",
            f"{os.cpu_count()} cores, {memory:.0f} GiB, Python {platform.python_version()}, PostgreSQL "
            f"{self.database.version()} (embedded, default settings), {platform.system()} {platform.machine()}.",
        ]
        for header, rows in self.tables():
            align = ["---", *["--:"] * (len(header) - 1)]
            parts.append("\n".join(f"| {' | '.join(cells)} |" for cells in (header, align, *rows)))
        return "\n\n".join(parts) + "\n"


def measure(competitor: Competitor, tasks: Sequence[Task], folder: Path) -> Usage:
    """Run a process per task, all of them from the same moment on.

    Returns:
        The seconds of the slowest process, the CPU seconds of all, the memory of the largest.

    Raises:
        RuntimeError: a process failed.
    """
    if len(tasks) == 1:
        return _measure_one(competitor, tasks[0], folder)
    with ThreadPoolExecutor(len(tasks)) as pool, start_barrier.closed(tasks[0].conninfo) as started:
        for task in tasks:
            started.append(pool.submit(_measure_one, competitor, replace(task, waits=True), folder))
    usages = [each.result() for each in started]
    return Usage(
        seconds=max(each.seconds for each in usages),
        cpu_seconds=sum(each.cpu_seconds for each in usages),
        peak=max(each.peak for each in usages),
        growth=max(each.growth for each in usages),
    )


def _measure_one(competitor: Competitor, task: Task, folder: Path) -> Usage:
    python = str(peers.python(folder)) if competitor.is_peer else sys.executable
    done = subprocess.run(
        [python, "-m", competitor.module, json.dumps(asdict(task))],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "AIRFLOW_HOME": str(folder / "airflow")},
        capture_output=True,
        text=True,
        check=False,
        timeout=PROCESS_TIMEOUT,
    )
    if done.returncode:
        raise RuntimeError(f"{competitor.name}, {task.phase}: exit status {done.returncode}\n{done.stderr[-4000:]}")
    return Usage(**json.loads(done.stdout.splitlines()[-1]))


def progress(result: Result) -> str:
    """Return a result as a line of text."""
    figures = dict(result.figures)
    seconds, cpu, peak, growth, wal, database = (
        figures.pop(name) for name in ("seconds", "cpu_seconds", "peak", "growth", "wal", "database_seconds")
    )
    others = "".join(f"  {value:,.0f} {name.replace('_', ' ')}" for name, value in figures.items())
    return (
        f"  {result.competitor:<16} {result.phase:<9} {result.size:>10,} {seconds:8.2f} s {cpu:8.2f} s CPU"
        f" {database:8.2f} s database {wal:8.1f} MB WAL  peak {peak:.0f} MiB, +{growth:.1f}{others}"
    )


def console() -> Console:
    """Return a console whose lines are not wrapped where the output is not a terminal."""
    is_terminal = sys.stdout.isatty()
    return Console(highlight=False, markup=False, soft_wrap=not is_terminal, width=None if is_terminal else 220)


def show(console: Console, tables: Iterable[Table]) -> None:
    """Print tables."""
    for header, rows in tables:
        shown = rich.table.Table(*header)
        for row in rows:
            shown.add_row(*row)
        console.print(shown)


def number(value: float | None, digits: int) -> str:
    """Return a figure as text; an empty text for None."""
    return "" if value is None else f"{value:,.{digits}f}"


def numbers(values: Iterable[float | None], digits: int) -> str:
    """Return the figures of several phases for one cell; an empty text if there are none."""
    cells = [number(value, digits) for value in values]
    return " / ".join(cells) if any(cells) else ""


def write(page: Path, part: str) -> None:
    """Write one part of the page and keep the others."""
    old = page.read_text(encoding="utf-8") if page.exists() else ""
    texts = [each.strip() for each in re.split(r"^(?=##? )", f"{old}\n{part}", flags=re.MULTILINE)]
    parts = {text.split("\n", 1)[0]: text for text in texts}  # the new part comes last, and so replaces the old one
    in_order = [parts[heading] for heading in HEADINGS if heading in parts]
    page.write_text("\n\n".join(in_order) + "\n", encoding="utf-8")
