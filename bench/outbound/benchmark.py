"""The benchmark of sending orders: everything is new to the target, then nothing has changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from bench.database import Database
from bench.frame import Benchmark, Competitor, Goal, Line, Scenario, number, numbers
from bench.measuring import Task, WrongResult
from bench.outbound import data, plain, server
from bench.outbound.ours import CALLS
from bench.raw_http import with_latency

ALL, NONE = PHASES = ("all", "none")
OURS, TWINS, PLAIN = "drain", "drain-twins", "plain-loop"
LATENCIES_MS = (0, 50)
_OURS = "bench.outbound.ours"


class Outbound(Benchmark):
    """Send queued orders to a target."""

    name = "outbound"
    heading = "## Sending orders to a target"
    competitors = (
        Competitor(OURS, "this project", _OURS, PHASES),
        Competitor(TWINS, "this project, two workers", _OURS, PHASES, processes=2),
        Competitor(PLAIN, "a script", "bench.outbound.plain", PHASES, share=5),
    )

    def scenarios(self) -> list[Scenario]:
        """Return a size for each latency."""
        sizes = zip(self.options.orders, LATENCIES_MS, strict=True)
        return [Scenario(orders, "orders", latency) for orders, latency in sizes]

    @contextmanager
    def serving(self, scenario: Scenario) -> Iterator[None]:  # noqa: ARG002
        """Start a stand-in for the target."""
        with server.running() as self.service:
            yield

    def reset(self, competitor: Competitor, scenario: Scenario) -> None:
        """Create the orders."""
        data.fill(self.database.connection, self.size(competitor, scenario))
        self.database.connection.execute(plain.TABLE)  # type: ignore[arg-type]
        self.database.connection.execute("TRUNCATE plain_result")

    def prepare(self, competitor: Competitor, scenario: Scenario, phase: str) -> list[Task]:
        """Put all orders into the queue."""
        self.service.reset()
        data.queue(self.database.connection)
        self.database.settle()
        url, options = with_latency(self.service.url, scenario.latency_ms), {"calls": CALLS // competitor.processes}
        return [Task(url, self.database.conninfo, phase, options)] * competitor.processes

    def check(self, competitor: Competitor, scenario: Scenario, phase: str) -> Mapping[str, float]:
        """Compare the target's objects with the orders, or check that it received nothing; the queue must be empty."""
        self.service.check(self.size(competitor, scenario) if phase == ALL else 0)
        check_queue(self.database)
        return {}

    def row(self, line: Line) -> dict[str, str]:
        """Return the speed, the ratio to the script, and resources per order."""
        rates = {phase: line.size / seconds for phase in PHASES if (seconds := line.median("seconds", phase))}
        per_order = 1000 / line.size
        return {
            "orders/s": number(rates.get(ALL), 0),
            "unchanged orders/s": number(rates.get(NONE), 0),
            "÷ the script": numbers((self._ratio(line, phase) for phase in PHASES), 2),
            "CPU ms per order": line.cell("cpu_seconds", PHASES, 2, per_order),
            "database ms per order": line.cell("database_seconds", PHASES, 2, per_order),
            "peak MiB": number(line.maximum("peak"), 0),
            "growth MiB": number(line.maximum("growth"), 0),
        }

    def _ratio(self, line: Line, phase: str) -> float | None:
        """Return how many times as many orders per second a line has as the script."""
        ratio = line.ratio(phase, self.line(line.scenario, PLAIN))
        return ratio and 1 / ratio

    def goals(self) -> Iterable[Goal]:
        """Return how many times as fast as the script this project wants to be."""
        for line in self.lines:
            ratio = self._ratio(line, ALL)
            if line.competitor.name == OURS and ratio is not None:
                text = f"{line.scenario.text}: orders/s of this project ÷ the script's"
                yield Goal(text, ratio, "≥", 10 if line.scenario.latency_ms else 3)


def check_queue(database: Database) -> None:
    """Check that the queue is empty."""
    statement = "SELECT coalesce(need_manual_retry, in_flight::text), count(*) FROM outbound_queue GROUP BY 1"
    if left := dict(database.connection.execute(statement).fetchall()):  # type: ignore[arg-type]
        raise WrongResult(f"the queue still has orders, by their reason or whether they are in flight: {left}")
