"""The benchmark of sending orders: everything is new to the target, then nothing has changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from bench.database import Database
from bench.frame import HEADINGS, Benchmark, Competitor, Goal, Line, Option, Scenario, number, numbers
from bench.measuring import Task, WrongResult
from bench.outbound import data, plain, server
from bench.outbound.ours import CALLS

ALL, NONE = PHASES = ("all", "none")
OURS, TWINS, PLAIN = "drain", "drain-twins", "plain-loop"


@dataclass(frozen=True, kw_only=True)
class Sender(Competitor):
    """A way to send what is in the queue, with a number of processes that share it."""

    module: str = "bench.outbound.ours"
    phases: tuple[str, ...] = PHASES
    processes: int = 1


COMPETITORS = (
    Sender(name=OURS, title="this project"),
    Sender(name=TWINS, title="this project, two workers", processes=2),
    Sender(name=PLAIN, title="a script", module="bench.outbound.plain", share=5),
)


class Outbound(Benchmark):
    """Send queued orders to a target."""

    name: ClassVar[str] = "outbound"
    heading: ClassVar[str] = HEADINGS[3]
    summary: ClassVar[str] = "send queued orders to a target, next to a script"
    unit: ClassVar[str] = "orders"
    options: ClassVar[tuple[Option, ...]] = (
        Option("--orders", [10_000, 1000], "orders in the queue; one number per --outbound-latency-ms"),
        Option("--outbound-latency-ms", [0.0, 50.0], "milliseconds per response of the target"),
    )
    description: ClassVar[str] = (
        f"Queued orders with {data.POSITIONS} positions each go to a stand-in for a target over HTTP, in a request "
        "per object, three per order. Then the same orders are queued again, and nothing has changed. This project "
        f"has {CALLS} requests in flight, which two workers share; before each request it asks PostgreSQL whether "
        "the service has paused all workers. The script takes one order after the other, selects it and its "
        "positions, sends each object with requests and commits its result. It stores what it sent, to skip what "
        "did not change, but has no log, no locks and no retries. After each phase the stand-in reports what it "
        "received: every object once with its values, or nothing at all. Of two figures in a cell, the second is "
        "of the phase without changes."
    )
    competitors: ClassVar[tuple[Sender, ...]] = COMPETITORS  # type: ignore[assignment]

    def scenarios(self) -> list[Scenario]:
        """Return pairs of a size and a latency."""
        return [
            Scenario(
                orders,
                latency_ms,
                f"{orders:,} orders, {f'{latency_ms:g} ms a response' if latency_ms else 'no latency'}",
            )
            for orders, latency_ms in zip(self.given.orders, self.given.outbound_latency_ms, strict=False)
        ]

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

    def prepare(self, competitor: Sender, scenario: Scenario, phase: str) -> list[Task]:  # type: ignore[override]
        """Put all orders into the queue."""
        self.service.reset()
        data.queue(self.database.connection)
        self.database.settle()
        url, options = self.service.with_latency(scenario.latency_ms), {"calls": CALLS // competitor.processes}
        return [Task(url, self.database.conninfo, phase, options)] * competitor.processes

    def check(self, competitor: Competitor, scenario: Scenario, phase: str) -> Mapping[str, float]:
        """Compare the target's objects with the orders, or check that it received nothing; the queue must be empty."""
        if phase == ALL:
            self.service.check(self.size(competitor, scenario))
        else:
            self.service.check_unused()
        check_queue(self.database)
        return {}

    def row(self, line: Line) -> dict[str, str]:
        """Return the speed, the ratio to the script, and resources per order."""
        rates = {phase: line.size / seconds for phase in PHASES if (seconds := line.seconds(phase))}
        milliseconds = {
            figure: numbers(
                (value and value * 1000 / line.size for value in (line.median(figure, p) for p in PHASES)), 2
            )
            for figure in ("cpu_seconds", "database_seconds")
        }
        return {
            "orders/s": number(rates.get(ALL), 0),
            "unchanged orders/s": number(rates.get(NONE), 0),
            "÷ the script": numbers((self._ratio(line, phase) for phase in PHASES), 2),
            "CPU ms per order": milliseconds["cpu_seconds"],
            "database ms per order": milliseconds["database_seconds"],
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
    """Check that the queue is empty.

    Raises:
        WrongResult: it is not.
    """
    statement = "SELECT coalesce(need_manual_retry, in_flight::text), count(*) FROM outbound_queue GROUP BY 1"
    if left := dict(database.connection.execute(statement).fetchall()):  # type: ignore[arg-type]
        raise WrongResult(f"the queue still has orders, by their reason or whether they are in flight: {left}")
