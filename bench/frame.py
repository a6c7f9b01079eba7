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
from argparse import Namespace
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

from bench import peers
from bench.database import Database
from bench.measuring import MIB, READY, Task, Usage

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "explanation" / "benchmarks.md"
PROCESS_TIMEOUT = 3600
_COMPARISONS = {"≤": operator.le, "<": operator.lt, "≥": operator.ge}

Table = tuple[list[str], list[list[str]]]
"""Header and rows."""


@dataclass(frozen=True)
class Competitor:
    """One way to do the work of a benchmark: a module with a function `prepare`, run in processes of its own.

    `options` is what its benchmark and its processes need to know about it.
    """

    name: str
    title: str
    module: str
    phases: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    processes: int = 1
    share: int = 1
    """It gets one in `share` of the records, because all of them would take too long."""
    is_peer: bool = False
    """It runs in the environment of the peers, `.bench/venv`."""


@dataclass(frozen=True)
class Scenario:
    """The amount of work, in units, and how many milliseconds each response of the service takes."""

    size: int
    unit: str
    latency_ms: int = 0

    @property
    def text(self) -> str:
        """What a line of the table begins with."""
        return f"{self.size:,} {self.unit}, {f'{self.latency_ms} ms a response' if self.latency_ms else 'no latency'}"


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

    def cell(self, figure: str, phases: Iterable[str], digits: int, factor: float = 1) -> str:
        """Return the medians of some phases as the text of one cell."""
        values = (self.median(figure, phase) for phase in phases)
        return numbers((None if value is None else value * factor for value in values), digits)

    def ratio(self, phase: str, other: Line | None, other_phase: str = "") -> float | None:
        """Return the seconds per record, divided by those of another line; None if one of them is missing."""
        own, theirs = self.median("seconds", phase), other and other.median("seconds", other_phase or phase)
        return None if own is None or not other or not theirs else (own / self.size) / (theirs / other.size)


class Benchmark(ABC):
    """Work that several competitors do on the same database.

    A subclass names the competitors, their phases and the heading of its section on the page. It resets the database,
    makes the tasks, and checks what each phase leaves. It turns lines of medians into a table and into goals.
    """

    name: str
    heading: str
    competitors: tuple[Competitor, ...]

    def __init__(self, database: Database, folder: Path, options: Namespace) -> None:
        self.database = database
        self.folder = folder
        self.options = options
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
        """Check what a phase left; returns further figures of it."""

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

    def run(self, competitors: Sequence[Competitor], rounds: int) -> None:
        """Run all scenarios: in each round every competitor in turn, so that a busy machine affects all of them."""
        for scenario in self.scenarios():
            print(f"{self.name}: {scenario.text}", flush=True)
            with self.serving(scenario):
                for number in range(1, rounds + 1):
                    print(f"Round {number} of {rounds}", flush=True)
                    for competitor in competitors:
                        self.run_competitor(competitor, scenario)

    def run_competitor(self, competitor: Competitor, scenario: Scenario) -> None:
        """Run the phases of a competitor, each in fresh processes, and check what each of them leaves."""
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
            shown = ", ".join(f"{name} {value:,.2f}" for name, value in figures.items())
            print(f"  {competitor.name}, {phase}, {size:,}: {shown}", flush=True)

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
        rows = []
        for line in self.lines:
            share = "" if line.size == line.scenario.size else f" ({line.size:,} {line.scenario.unit})"
            title = f"{line.competitor.title}{share}"
            rows.append({"scenario": line.scenario.text, "competitor": title, **self.row(line)})
        yield list(rows[0]), [list(row.values()) for row in rows]
        goals = [
            [goal.text, number(goal.figure, 2), f"{goal.comparison} {goal.limit:g}", "yes" if goal.is_reached else "no"]
            for goal in self.goals()
        ]
        if goals:
            yield ["goal", "figure", "limit", "reached"], goals

    def measured(self) -> str:
        """Return what this benchmark measured, as Markdown: date, machine and tables."""
        times = Counter((each.scenario, each.competitor, each.phase) for each in self.results)
        rounds = max(times.values())
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / MIB / 1024
        machine = (
            f"`make bench` on {datetime.now(UTC):%Y-%m-%d}: medians of {rounds} round{'s' if rounds > 1 else ''}; "
            f"{os.cpu_count()} cores, {memory:.0f} GiB, Python {platform.python_version()}, PostgreSQL "
            f"{self.database.value('SHOW server_version')} (embedded, default settings), {platform.system()} "
            f"{platform.machine()}."
        )
        return "\n\n".join([machine, *map(markdown, self.tables())]) + "\n"


def measure(competitor: Competitor, tasks: Sequence[Task], folder: Path) -> Usage:
    """Run a process per task. All of them begin their work at the same moment, when each is ready.

    Returns:
        The seconds of the slowest process, the CPU seconds of all, the memory of the largest.
    """
    processes = [_start(competitor, task, folder) for task in tasks]
    try:
        for process in processes:
            assert process.stdout is not None
            while process.stdout.readline() not in (READY, ""):
                pass
        with ThreadPoolExecutor(len(processes)) as pool:  # `communicate` closes standard input, which starts the work
            outputs = list(pool.map(lambda process: process.communicate(timeout=PROCESS_TIMEOUT), processes))
    finally:
        for process in processes:
            process.kill()
    for process, (_, log) in zip(processes, outputs, strict=True):
        if process.returncode:
            status = f"exit status {process.returncode}"
            raise RuntimeError(f"{competitor.name}, {tasks[0].phase}: {status}\n{log[-4000:]}")
    usages = [Usage(**json.loads(output.splitlines()[-1])) for output, _ in outputs]
    return Usage(
        seconds=max(each.seconds for each in usages),
        cpu_seconds=sum(each.cpu_seconds for each in usages),
        peak=max(each.peak for each in usages),
        growth=max(each.growth for each in usages),
    )


def _start(competitor: Competitor, task: Task, folder: Path) -> subprocess.Popen[str]:
    python = str(peers.python(folder)) if competitor.is_peer else sys.executable
    return subprocess.Popen(
        [python, "-m", competitor.module, json.dumps(asdict(task))],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "AIRFLOW_HOME": str(folder / "airflow")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def number(value: float | None, digits: int) -> str:
    """Return a figure as text; an empty text for None."""
    return "" if value is None else f"{value:,.{digits}f}"


def numbers(values: Iterable[float | None], digits: int) -> str:
    """Return the figures of several phases for one cell; an empty text if there are none."""
    cells = [number(value, digits) for value in values]
    return " / ".join(cells) if any(cells) else ""


def markdown(table: Table) -> str:
    """Return a table as Markdown."""
    header, rows = table
    align = ["---", *["--:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, align, *rows))


def write(page: Path, heading: str, measured: str) -> None:
    """Replace what was measured in a section of the page, which begins with "`make bench` on". The text above stays."""
    section = re.compile(rf"(^{re.escape(heading)}\n.*?)^`make bench` on .*?(?=^#|\Z)", re.DOTALL | re.MULTILINE)
    text, times = section.subn(lambda found: f"{found[1]}{measured}\n", page.read_text(encoding="utf-8"))
    if times != 1:
        raise ValueError(f"{page} has no figures below the heading {heading!r}")
    page.write_text(text.rstrip() + "\n", encoding="utf-8")
