"""The benchmark of showtimes: empty tables, nothing changed, one showtime in a hundred twenty minutes later."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import ClassVar

from bench import raw_http
from bench.frame import HEADINGS, Benchmark, Competitor, Line, Option, Scenario, number, numbers
from bench.measuring import Task, WrongResult
from bench.theatres.data import CHANGED, DAYS, FIRST, POOL, Schedule, fill, read_sums
from include.inbound import loads
from include.providers.allocine_stocks import AllocineStocks
from include.store import ledger
from include.store.ledger import LoadParameters

PHASES = {"first": "first load", "unchanged": "unchanged", "changed": "1 % changed"}
BATCHES, SINGLE, PLAIN = "theatres-batches", "theatres-single", "theatres-plain"


@dataclass(frozen=True, kw_only=True)
class Importer(Competitor):
    """A way to import the showtimes: `uses_ledger` with a load in the ledger, `is_parallel` in batches."""

    phases: tuple[str, ...] = tuple(PHASES)
    uses_ledger: bool = True
    is_parallel: bool = False


_OURS = "bench.theatres.ours"
COMPETITORS = (
    Importer(name=BATCHES, title="this project, several processes", module=_OURS, is_parallel=True),
    Importer(name=SINGLE, title="this project, one process", module=_OURS),
    Importer(
        name=PLAIN,
        title="requests, json, COPY to temp tables, ON CONFLICT",
        module="bench.theatres.plain",
        uses_ledger=False,
    ),
)


class Theatres(Benchmark):
    """Import the showtimes of many theatres into products, offers and stocks."""

    name: ClassVar[str] = "theatres"
    heading: ClassVar[str] = HEADINGS[1]
    summary: ClassVar[str] = "import the showtimes of many theatres, several at once, next to a script"
    unit: ClassVar[str] = "theatres"
    options: ClassVar[tuple[Option, ...]] = (
        Option("--theatres", 500, "number of theatres"),
        Option("--movies", 60, "movies per theatre"),
        Option("--theatre-latency-ms", 50.0, "milliseconds per response of the showtimes service"),
        Option("--at-once", 8, "processes that import theatres at the same time"),
    )
    description: ClassVar[str] = (
        f"A stand-in lists each theatre by itself: movies from a pool {POOL} times as large, which the theatres "
        f"share, each with three plain showtimes a day over {DAYS} days and one of another kind. Everything goes "
        "into product, offer and stock, without images. The tables are empty at first; then nothing has changed; "
        "then one showtime in a hundred is twenty minutes later. This project works like the mapped tasks of the "
        "DAG: each process has a batch of a load in the ledger. What the service takes is the sum of its "
        "responses, one after the other in each process. The script takes one theatre after the other, each in a "
        "transaction; it writes every listed row, ignores manual edits and bookings, and keeps no ledger. Seconds "
        "are those of the slowest process, CPU seconds those of all. After each phase the rows are compared with the "
        "listings: exactly the listed showtimes are on sale. Three figures in a cell are those of the three phases."
    )
    competitors: ClassVar[tuple[Importer, ...]] = COMPETITORS  # type: ignore[assignment]

    def scenarios(self) -> list[Scenario]:
        """Return the one size."""
        theatres, movies, latency_ms = self.given.theatres, self.given.movies, self.given.theatre_latency_ms
        text = f"{theatres:,} theatres of {movies} movies, {latency_ms:g} ms a response"
        return [Scenario(theatres, latency_ms, text)]

    @contextmanager
    def serving(self, scenario: Scenario) -> Iterator[None]:
        """Serve what the theatres show, from the day after tomorrow on."""
        day = datetime.now(UTC).date() + timedelta(days=2)
        schedule = Schedule(scenario.size, self.given.movies, day)
        self.expected = {generation: schedule.sums(generation) for generation in (FIRST, CHANGED)}
        with raw_http.serving("bench.theatres.server", schedule.theatres, schedule.movies, day) as self.url:
            yield

    def processes(self, competitor: Importer, scenario: Scenario) -> int:
        """Return how many processes a competitor uses."""
        return min(scenario.size, self.given.at_once) if competitor.is_parallel else 1

    def reset(self, competitor: Competitor, scenario: Scenario) -> None:  # noqa: ARG002
        """Empty the tables, and link the theatres."""
        fill(self.database.connection, scenario.size)

    def prepare(self, competitor: Importer, scenario: Scenario, phase: str) -> list[Task]:  # type: ignore[override]
        """Open a load with a batch per process."""
        self.database.settle("product", "offer", "stock")
        url = f"{self.url}/wait/{scenario.latency_ms:g}/{_generation(phase)}"
        task = {"url": url, "conninfo": self.database.conninfo, "phase": phase}
        if not competitor.uses_ledger:
            return [Task(**task)]
        connection, processes = self.database.connection, self.processes(competitor, scenario)
        self.load = loads.open_load(connection, AllocineStocks, LoadParameters(), at_most_batches=processes)
        batches = ledger.batch_labels(connection, self.load)
        return [Task(**task, options={"load": self.load, "batch": batch}) for batch in batches]

    def check(self, competitor: Importer, scenario: Scenario, phase: str) -> Mapping[str, float]:  # type: ignore[override]  # noqa: ARG002
        """Close the load; compare the rows with what the theatres show."""
        if competitor.uses_ledger:
            summary = loads.close_load(self.database.connection, self.load)
            if summary.state != "loaded":
                raise WrongResult(f"{competitor.name}, {phase}: the load is {summary.state}, {summary.errors}")
        expected, found = self.expected[_generation(phase)], read_sums(self.database.connection)
        if found != expected:
            raise WrongResult(f"{competitor.name}, {phase}: the tables have {found}, the listings {expected}")
        return {}

    def row(self, line: Line) -> dict[str, str]:
        """Return seconds, speed, resources, and the ratios to the service and to the script."""
        theatres, processes = line.size, self.processes(line.competitor, line.scenario)  # type: ignore[arg-type]
        service = -(-theatres // processes) * line.scenario.latency_ms / 1000
        seconds = {phase: line.seconds(phase) for phase in PHASES}
        ratios = [line.ratio(phase, self.line(line.scenario, PLAIN)) for phase in PHASES]
        return {
            "processes": str(processes),
            **{f"{PHASES[phase]} s": number(each, 2) for phase, each in seconds.items()},
            "theatres/s": numbers((each and theatres / each for each in seconds.values()), 1),
            "÷ what the service takes": numbers((each and each / service for each in seconds.values()), 2)
            if service
            else "",
            "the script ÷ this": numbers((each and 1 / each for each in ratios), 2),
            "CPU s": numbers((line.median("cpu_seconds", phase) for phase in PHASES), 2),
            "database s": numbers((line.median("database_seconds", phase) for phase in PHASES), 2),
            "peak MiB of a process": number(line.maximum("peak"), 0),
            "growth MiB": number(line.maximum("growth"), 0),
        }


def _generation(phase: str) -> int:
    return CHANGED if phase == "changed" else FIRST
