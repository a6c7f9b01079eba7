"""The benchmark of showtimes: empty tables, nothing changed, one showtime in a hundred twenty minutes later."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from bench import raw_http
from bench.frame import Benchmark, Competitor, Line, Scenario, number, numbers
from bench.measuring import Task, WrongResult
from bench.theatres.data import CHANGED, FIRST, Schedule, fill, read_tables
from include.inbound import loads
from include.providers.allocine_stocks import AllocineStocks
from include.store import ledger
from include.store.ledger import LoadParameters

PHASES = {"first": "first load", "unchanged": "unchanged", "changed": "1 % changed"}
PLAIN = "theatres-plain"
LATENCY_MS = 50
AT_ONCE = 8
_ALL, _OURS = tuple(PHASES), "bench.theatres.ours"


class Theatres(Benchmark):
    """Import the showtimes of many theatres into products, offers and stocks."""

    name = "theatres"
    heading = "## Showtimes of many theatres"
    competitors = (
        Competitor("theatres-batches", "this project, several processes", _OURS, _ALL, processes=AT_ONCE),
        Competitor("theatres-single", "this project, one process", _OURS, _ALL),
        Competitor(PLAIN, "requests, json, COPY to temp tables, ON CONFLICT", "bench.theatres.plain", _ALL),
    )

    def scenarios(self) -> list[Scenario]:
        """Return the one size."""
        return [Scenario(self.options.theatres, f"theatres of {self.options.movies} movies", LATENCY_MS)]

    @contextmanager
    def serving(self, scenario: Scenario) -> Iterator[None]:
        """Serve what the theatres show, from the day after tomorrow on."""
        day = datetime.now(UTC).date() + timedelta(days=2)
        schedule = Schedule(scenario.size, self.options.movies, day)
        self.expected = {generation: schedule.tables(generation) for generation in (FIRST, CHANGED)}
        with raw_http.serving("bench.theatres.server", schedule.theatres, schedule.movies, day) as self.url:
            yield

    def reset(self, competitor: Competitor, scenario: Scenario) -> None:  # noqa: ARG002
        """Empty the tables, and link the theatres."""
        fill(self.database.connection, scenario.size)

    def prepare(self, competitor: Competitor, scenario: Scenario, phase: str) -> list[Task]:
        """Open a load with a batch per process; the script needs none."""
        self.database.settle("product", "offer", "stock")
        url = f"{raw_http.with_latency(self.url, scenario.latency_ms)}/{_generation(phase)}"
        if competitor.name == PLAIN:
            return [Task(url, self.database.conninfo, phase)]
        connection, processes = self.database.connection, min(scenario.size, competitor.processes)
        self.load = loads.open_load(connection, AllocineStocks, LoadParameters(), at_most_batches=processes)
        return [
            Task(url, self.database.conninfo, phase, {"load": self.load, "batch": batch})
            for batch in ledger.batch_labels(connection, self.load)
        ]

    def check(self, competitor: Competitor, scenario: Scenario, phase: str) -> Mapping[str, float]:  # noqa: ARG002
        """Close the load; compare the rows with what the theatres show."""
        if competitor.name != PLAIN:
            summary = loads.close_load(self.database.connection, self.load)
            if summary.state != "loaded":
                raise WrongResult(f"{competitor.name}, {phase}: the load is {summary.state}, {summary.errors}")
        found, expected = read_tables(self.database.connection), self.expected[_generation(phase)]
        for name, rows in expected.items():
            if wrong := found[name] ^ rows:
                raise WrongResult(f"{competitor.name}, {phase}: {len(wrong)} wrong rows in {name}: {sorted(wrong)[:3]}")
        return {}

    def row(self, line: Line) -> dict[str, str]:
        """Return seconds, speed, resources, and the ratios to the service and to the script."""
        theatres, processes = line.size, min(line.size, line.competitor.processes)
        service = -(-theatres // processes) * LATENCY_MS / 1000
        ratios = [line.ratio(phase, self.line(line.scenario, PLAIN)) for phase in PHASES]
        seconds = [line.median("seconds", phase) for phase in PHASES]
        return {
            "processes": str(processes),
            **{f"{PHASES[phase]} s": line.cell("seconds", [phase], 2) for phase in PHASES},
            "theatres/s": numbers((each and theatres / each for each in seconds), 1),
            "÷ what the service takes": line.cell("seconds", PHASES, 2, 1 / service),
            "the script ÷ this": numbers((each and 1 / each for each in ratios), 2),
            "CPU s": line.cell("cpu_seconds", PHASES, 2),
            "database s": line.cell("database_seconds", PHASES, 2),
            "peak MiB of a process": number(line.maximum("peak"), 0),
            "growth MiB": number(line.maximum("growth"), 0),
        }


def _generation(phase: str) -> int:
    return CHANGED if phase == "changed" else FIRST
