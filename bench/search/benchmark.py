"""The benchmark of patching: after a rebuild all records must change, one in a hundred, or none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec
import psycopg

from bench.frame import HEADINGS, Benchmark, Competitor, Goal, Line, Option, Scenario, number, numbers
from bench.measuring import Task
from bench.search import APPLICATION, KEY, server
from include.connectors.algolia import AlgoliaIndex
from include.search.moves import read_log
from include.store import search as store
from sandbox.offers import INDEX

PHASES = {"all": "all change", "some": "1 % change", "none": "none change"}
QUIET = "quiet"
"""The phase without a rebuild: there is nothing to do."""
MAX_QUIET = 0.3
"""Seconds that a minute without a move may take."""
MANY = 100_000
OURS = "watch"


@dataclass(frozen=True, kw_only=True)
class Patcher(Competitor):
    """A way to patch the index. `sends_all`: also the records that are right already."""

    module: str = "bench.search.helper"
    phases: tuple[str, ...] = tuple(PHASES)
    sends_all: bool = False


COMPETITORS = (
    Patcher(name=OURS, title="this project", module="bench.search.ours", phases=(*PHASES, QUIET)),
    Patcher(name="helper-differing", title="the client's helpers, sending what differs"),
    Patcher(name="helper-all", title="the client's helpers, sending everything", sends_all=True),
)


class Search(Benchmark):
    """Patch a search index after a rebuild."""

    name: ClassVar[str] = "search"
    heading: ClassVar[str] = HEADINGS[2]
    summary: ClassVar[str] = "patch a search index after a rebuild, next to the helpers of the service's client"
    unit: ClassVar[str] = "offers"
    options: ClassVar[tuple[Option, ...]] = (
        Option("--offers", [5000, 100_000], "records in the index; several sizes run one after the other"),
        Option("--search-latency-ms", [0.0, 50.0], "milliseconds per response of the search service, for each size"),
    )
    description: ClassVar[str] = (
        "The sandbox stands in for the service. Before each phase another index is moved onto the one to patch: in "
        "it all records lack `customerDispo`, one in a hundred has a wrong one, or none does. Three figures in a "
        "cell are those of these three phases. This project finds the move in the log, waits for it, takes its "
        "lock and stores its checkpoints in PostgreSQL; for the client's helpers (`browse_objects`, then "
        "`partial_update_objects` with `wait_for_tasks`) the harness decides when to run. After each phase every "
        "record is compared with what the indexer wrote and the patch adds. A quiet minute is a run that finds no "
        "move."
    )
    competitors: ClassVar[tuple[Patcher, ...]] = COMPETITORS  # type: ignore[assignment]

    def scenarios(self) -> list[Scenario]:
        """Return each size with each latency."""
        return [
            Scenario(
                offers,
                latency_ms,
                f"{offers:,} offers, {f'{latency_ms:g} ms a response' if latency_ms else 'no latency'}",
            )
            for offers in self.given.offers
            for latency_ms in self.given.search_latency_ms
        ]

    @contextmanager
    def serving(self, scenario: Scenario) -> Iterator[None]:
        """Start a stand-in for the search service."""
        with server.running(scenario.size, scenario.latency_ms) as self.service:
            yield

    def reset(self, competitor: Competitor, scenario: Scenario) -> None:
        """Reset nothing: each phase begins with a rebuild."""

    def prepare(self, competitor: Patcher, scenario: Scenario, phase: str) -> list[Task]:  # type: ignore[override]
        """Rebuild the index, after a minute that handled everything before; or handle everything, for a quiet one."""
        self.service.prepare(scenario.size)
        self.handle_all(scenario.size)
        if phase != QUIET:
            self.service.rebuild(scenario.size, phase)
        self.sent = self.service.records_sent()
        self.service.forget_requests()
        options = {"sends_all": competitor.sends_all}
        return [Task(self.service.url, self.database.conninfo, phase, options)]

    def check(self, competitor: Competitor, scenario: Scenario, phase: str) -> Mapping[str, float]:  # noqa: ARG002
        """Count requests and sent records; compare every record with what the indexer wrote and the patch adds."""
        figures = {"requests": self.service.requests(), "records_sent": self.service.records_sent() - self.sent}
        self.service.check(scenario.size)
        return figures

    def handle_all(self, records: int) -> None:
        """Leave the database as a run does that has handled everything in the log so far."""
        forget(self.database.connection)
        store.load_state(self.database.connection, APPLICATION, INDEX)
        with AlgoliaIndex(APPLICATION, KEY, INDEX, hosts=[self.service.url]) as index:
            reading = read_log(index, None)
        state = store.IndexState(reading.newest, msgspec.to_builtins(reading.moves), records, 0, [])
        store.save_state(self.database.connection, APPLICATION, INDEX, state)

    def row(self, line: Line) -> dict[str, str]:
        """Return seconds, requests, and the ratios to this project."""
        ours = self.line(line.scenario, OURS)
        return {
            **{f"{text} s": number(line.seconds(phase), 2) for phase, text in PHASES.items()},
            "quiet minute s": number(line.seconds(QUIET), 2),
            "÷ this project": numbers((line.ratio(phase, ours) for phase in PHASES), 2),
            "CPU s": numbers((line.median("cpu_seconds", phase) for phase in PHASES), 2),
            "requests": numbers((line.median("requests", phase) for phase in PHASES), 0),
            "records sent": numbers((line.median("records_sent", phase) for phase in PHASES), 0),
            "peak MiB": number(line.maximum("peak"), 0),
        }

    def goals(self) -> Iterable[Goal]:
        """Return how far ahead of the helpers this project wants to be, and how little a quiet minute may take."""
        for line in self.lines:
            ratio = line.ratio("all", self.line(line.scenario, OURS))
            if line.competitor.name != OURS and ratio is not None:
                text = f"{line.scenario.text}, {PHASES['all']}: {line.competitor.title} ÷ this project"
                yield Goal(text, ratio, "≥", 2 if line.scenario.size >= MANY else 1)
        for line in self.lines:
            if (seconds := line.seconds(QUIET)) is not None:
                yield Goal(f"{line.scenario.text}: seconds of a quiet minute", seconds, "<", MAX_QUIET)


def forget(connection: psycopg.Connection[Any]) -> None:
    """Leave the database as it is before the first run."""
    connection.execute("DELETE FROM search_pass")
    connection.execute("DELETE FROM search_index")
