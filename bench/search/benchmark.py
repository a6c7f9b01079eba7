"""The benchmark of patching: after a rebuild all records must change, one in a hundred, or none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec
import psycopg

from bench.frame import Benchmark, Competitor, Goal, Line, Scenario, number, numbers
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
LATENCIES_MS = (0, 50)
OURS, HELPER = "watch", "helper-differing"


class Search(Benchmark):
    """Patch a search index after a rebuild."""

    name = "search"
    heading = "## Patching a search index"
    competitors = (
        Competitor(OURS, "this project", "bench.search.ours", (*PHASES, QUIET)),
        Competitor(HELPER, "the client's helpers, sending what differs", "bench.search.helper", tuple(PHASES)),
    )

    def scenarios(self) -> list[Scenario]:
        """Return each size with each latency."""
        return [Scenario(offers, "offers", latency) for offers in self.options.offers for latency in LATENCIES_MS]

    @contextmanager
    def serving(self, scenario: Scenario) -> Iterator[None]:
        """Start a stand-in for the search service."""
        with server.running(scenario.size, scenario.latency_ms) as self.service:
            yield

    def reset(self, competitor: Competitor, scenario: Scenario) -> None:
        """Reset nothing: each phase begins with a rebuild."""

    def prepare(self, competitor: Competitor, scenario: Scenario, phase: str) -> list[Task]:  # noqa: ARG002
        """Rebuild the index, after a minute that handled everything before; or handle everything, for a quiet one."""
        self.service.prepare(scenario.size)
        self.handle_all(scenario.size)
        if phase != QUIET:
            self.service.rebuild(scenario.size, phase)
        self.sent = self.service.records_sent()
        self.service.forget_requests()
        return [Task(self.service.url, self.database.conninfo, phase)]

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
            **{f"{text} s": line.cell("seconds", [phase], 2) for phase, text in PHASES.items()},
            "quiet minute s": line.cell("seconds", [QUIET], 2),
            "÷ this project": numbers((line.ratio(phase, ours) for phase in PHASES), 2),
            "CPU s": line.cell("cpu_seconds", PHASES, 2),
            "requests": line.cell("requests", PHASES, 0),
            "records sent": line.cell("records_sent", PHASES, 0),
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
            if (seconds := line.median("seconds", QUIET)) is not None:
                yield Goal(f"{line.scenario.text}: seconds of a quiet minute", seconds, "<", MAX_QUIET)


def forget(connection: psycopg.Connection[Any]) -> None:
    """Leave the database as it is before the first run."""
    connection.execute("DELETE FROM search_pass")
    connection.execute("DELETE FROM search_index")
