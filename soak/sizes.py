"""Run each engine on larger and larger amounts: memory must not grow with them, and the results must be right.

Everything is generated where it is served, so that only the engine's own memory is measured. Each phase of each size
runs in a fresh process.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

from bench import database
from bench.frame import Benchmark, Competitor, Result, Scenario
from bench.inbound.benchmark import DATELESS, ENGINE, Inbound
from bench.measuring import Task, WrongResult
from bench.outbound import benchmark as sending
from bench.outbound import data
from bench.outbound.ours import CALLS
from bench.search import benchmark as patching
from bench.search import server

MAX_GROWTH = 30.0
"""MiB over the start, at any size."""
MAX_DIFFERENCE = 10.0
"""MiB between the peaks of two sizes in the same phase."""


class SearchSizes(patching.Search):
    """Patches an index that no run has seen before, and again when nothing has changed."""

    @contextmanager
    def serving(self, scenario: Scenario) -> Iterator[None]:
        """Start a stand-in."""
        with server.running(scenario.size, offers=scenario.size) as self.service:
            next(self.service.pages())  # the stand-in generates its records on the first request
            patching.forget(self.database.connection)
            yield

    def prepare(self, competitor: Competitor, scenario: Scenario, phase: str) -> list[Task]:  # noqa: ARG002
        """Leave the index as it is."""
        return [Task(self.service.url, self.database.conninfo, phase)]

    def check(self, competitor: Competitor, scenario: Scenario, phase: str) -> Mapping[str, float]:  # noqa: ARG002
        """Compare every record with what the indexer wrote and the patch adds."""
        self.service.check(scenario.size, generation=0)
        return {}


class OutboundSizes(sending.Outbound):
    """Sends to a target in the worker's process, which stores sums only: otherwise a million orders would take long."""

    def serving(self, scenario: Scenario) -> AbstractContextManager[None]:  # noqa: ARG002
        """Start nothing."""
        return nullcontext()

    def prepare(self, competitor: Competitor, scenario: Scenario, phase: str) -> list[Task]:  # noqa: ARG002
        """Put all orders into the queue; the worker's process compares what it received."""
        data.queue(self.database.connection)
        self.database.settle()
        is_new = phase == sending.ALL
        objects, total = (data.OBJECTS * scenario.size, data.checksum(scenario.size)) if is_new else (0, 0)
        return [Task("", self.database.conninfo, phase, {"calls": CALLS, "objects": objects, "total": total})]

    def check(self, competitor: Competitor, scenario: Scenario, phase: str) -> Mapping[str, float]:  # noqa: ARG002
        """Check that the queue is empty."""
        sending.check_queue(self.database)
        return {}


SIZES: dict[type[Benchmark], dict[str, tuple[str, ...]]] = {
    Inbound: dict.fromkeys((ENGINE, DATELESS), ("first", "unchanged")),
    SearchSizes: {patching.OURS: ("first", "forced")},
    OutboundSizes: {sending.OURS: sending.PHASES},
}
"""The competitors and phases whose memory is measured."""


def run(kind: type[Benchmark], folder: Path, sizes: Sequence[int]) -> bool:
    """Measure all sizes; returns whether memory is flat and all results are right."""
    with database.running(folder) as running:
        benchmark = kind(running, folder, Namespace())
        try:
            for size in sizes:
                scenario = Scenario(size, kind.name)
                with benchmark.serving(scenario):
                    for name, phases in SIZES[kind].items():
                        benchmark.run_competitor(chosen(benchmark, name, phases), scenario)
        except (WrongResult, RuntimeError) as wrong:
            print(f"WRONG: {wrong}")
            return False
    return is_flat(benchmark.results, sizes)


def chosen(benchmark: Benchmark, name: str, phases: tuple[str, ...]) -> Competitor:
    """Return a competitor with other phases."""
    return replace(next(each for each in benchmark.competitors if each.name == name), phases=phases)


def is_flat(results: Sequence[Result], sizes: Sequence[int]) -> bool:
    """Print and return whether memory is independent of the size."""
    peaks: dict[tuple[str, str], list[float]] = {}
    for each in results:
        peaks.setdefault((each.competitor, each.phase), []).append(each.figures["peak"])
    difference = max(max(each) - min(each) for each in peaks.values())
    growth = max(each.figures["growth"] for each in results)
    flat = growth <= MAX_GROWTH and difference <= MAX_DIFFERENCE
    print(
        f"Memory is {'flat' if flat else 'NOT flat'} from {min(sizes):,} to {max(sizes):,}: it peaks at "
        f"{min(map(min, peaks.values())):.0f} to {max(map(max, peaks.values())):.0f} MiB. The peaks of a phase differ "
        f"by up to {difference:.1f} MiB (allowed: {MAX_DIFFERENCE:.0f}) and are up to {growth:.1f} MiB above the start "
        f"(allowed: {MAX_GROWTH:.0f})."
    )
    return flat


inbound, search, outbound = (partial(run, kind) for kind in (Inbound, SearchSizes, OutboundSizes))
