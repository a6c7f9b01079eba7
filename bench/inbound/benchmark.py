"""The benchmark of loading a listing: an empty table, one record in a hundred changed, nothing changed."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench import raw_http
from bench.frame import Benchmark, Competitor, Goal, Line, Scenario, number
from bench.inbound import tables
from bench.inbound.listing import CHANGED, FIRST, PAGE_SIZE, Listing
from bench.measuring import Task, WrongResult
from local.psql import program

PHASES = {"first": "first load", "changed": "1 % changed", "unchanged": "unchanged"}
ENGINE, DATELESS, YARDSTICK = "engine", "engine-dateless", "yardstick"
SLOW = Scenario(100_000, "records", 100)
"""Only the engine's first load runs from this slow service."""

_ALL = tuple(PHASES)
_OURS, _LOADERS, _DLT = "bench.inbound.engine", "bench.inbound.loaders", "bench.inbound.dlt_merge"


class Inbound(Benchmark):
    """Load the same listing into a table."""

    name = "inbound"
    heading = "# Benchmarks"
    competitors = (
        Competitor(
            YARDSTICK, "psql: COPY to a temp table, ON CONFLICT; no HTTP, no JSON", _LOADERS, _ALL, {"loader": "psql"}
        ),
        Competitor(ENGINE, "this project, dated records", _OURS, _ALL),
        Competitor(DATELESS, "this project, records without a date", _OURS, _ALL, {"dated": False}),
        Competitor("plain", "requests, json, COPY to a temp table, ON CONFLICT", _LOADERS, _ALL, {"loader": "script"}),
        Competitor("hook", "Airflow's PostgresHook, insert_rows(replace=True)", _LOADERS, _ALL, {"loader": "hook"}),
        Competitor(
            "dlt-best",
            "dlt, merge with upsert, pyarrow pages, csv",
            _DLT,
            _ALL,
            {"table": "dlt_best.stock"},
            is_peer=True,
        ),
        Competitor("dlt", "dlt, merge with upsert", _DLT, _ALL, {"table": "dlt_plain.stock"}, is_peer=True),
    )

    def scenarios(self) -> list[Scenario]:
        """Return the listing that all load, and the slow one."""
        return [Scenario(self.options.records, "records"), SLOW]

    @contextmanager
    def serving(self, scenario: Scenario) -> Iterator[None]:  # noqa: ARG002
        """Serve listings of any size."""
        with raw_http.serving("bench.inbound.server") as self.url:
            yield

    def phases(self, competitor: Competitor, scenario: Scenario) -> tuple[str, ...]:
        """Return the phases: only the engine's first load from the slow service."""
        if scenario != SLOW:
            return competitor.phases
        return ("first",) if competitor.name == ENGINE else ()

    def listing(self, competitor: Competitor, scenario: Scenario, phase: str) -> Listing:
        """Return what the service lists in a phase: what changed stays changed afterwards."""
        until_now = competitor.phases[: competitor.phases.index(phase) + 1]
        generation = CHANGED if "changed" in until_now else FIRST
        return Listing(scenario.size, generation, competitor.options.get("dated", True))

    def reset(self, competitor: Competitor, scenario: Scenario) -> None:  # noqa: ARG002
        """Empty the table and the folder of a competitor."""
        shutil.rmtree(self.folder / competitor.name, ignore_errors=True)
        (self.folder / competitor.name).mkdir(parents=True)
        if competitor.is_peer:
            tables.drop_schema(self.database, _table(competitor))
        else:
            tables.create(self.database, is_ours=competitor.module == _OURS)

    def prepare(self, competitor: Competitor, scenario: Scenario, phase: str) -> list[Task]:
        """Write the file for the competitor that needs one; let PostgreSQL settle."""
        listing = self.listing(competitor, scenario, phase)
        options = {**competitor.options, "table": _table(competitor)}
        if competitor.name == YARDSTICK:
            options |= {"file": str(self._file(listing)), "psql": str(program())}
        self.database.settle(*([_table(competitor)] if phase != "first" else []))
        url = f"{raw_http.with_latency(self.url, scenario.latency_ms)}{listing.path}"
        return [Task(url, self.database.conninfo, phase, options, str(self.folder / competitor.name))]

    def _file(self, listing: Listing) -> Path:
        path = self.folder / f"listing-{listing.records}-{listing.generation}.tsv"
        with path.open("wb") as file:
            file.writelines(listing.lines())
        return path

    def check(self, competitor: Competitor, scenario: Scenario, phase: str) -> Mapping[str, float]:
        """Compare the rows of the table with the listing."""
        listing = self.listing(competitor, scenario, phase)
        is_ours = competitor.module == _OURS
        found = tables.sums(self.database, _table(competitor), is_ours=is_ours, dated=listing.dated)
        if found != listing.sums():
            raise WrongResult(f"{competitor.name}, {phase}: the table has {found}, the listing {listing.sums()}")
        return {}

    def row(self, line: Line) -> dict[str, str]:
        """Return seconds, resources, and the ratios to the yardstick."""
        is_psql = line.competitor.name == YARDSTICK  # of which only the seconds can be measured
        yardstick = self.line(line.scenario, YARDSTICK)
        return {
            **{f"{text} s": line.cell("seconds", [phase], 2) for phase, text in PHASES.items()},
            "CPU s, first / unchanged": line.cell("cpu_seconds", ("first", "unchanged"), 2),
            "peak MiB": "" if is_psql else number(line.maximum("peak"), 0),
            "growth MiB": "" if is_psql else number(line.maximum("growth"), 0),
            "WAL MB, unchanged": line.cell("wal", ["unchanged"], 1),
            "first ÷ yardstick": number(line.ratio("first", yardstick), 2),
            "unchanged ÷ yardstick": number(line.ratio("unchanged", yardstick), 2),
        }

    def goals(self) -> Iterable[Goal]:
        """Return how close to the yardstick and how far ahead of the peers the engine wants to be."""
        for line in self.lines:
            if line.scenario == SLOW:
                responses = line.size // PAGE_SIZE + 1  # the last one is empty
                service = responses * SLOW.latency_ms / 1000
                text = f"{responses} responses of {SLOW.latency_ms} ms: seconds ÷ what the service takes"
                yield Goal(text, (line.median("seconds", "first") or 0) / service, "≤", 1.1)
            elif line.competitor.module == _OURS:
                yield from self._goals(line)

    def _goals(self, line: Line) -> Iterable[Goal]:
        title, yardstick = line.competitor.title, self.line(line.scenario, YARDSTICK)
        for phase, other, limit in (
            ("first", "first", 1.5),
            ("changed", "unchanged", 1.2),
            ("unchanged", "unchanged", 1),
        ):
            if (ratio := line.ratio(phase, yardstick, other)) is not None:
                yield Goal(f"{title}: {PHASES[phase]} ÷ the yardstick's {PHASES[other]}", ratio, "≤", limit)
        for peer, phase, at_least in (
            ("hook", "first", 2),
            ("hook", "unchanged", 4.5),
            ("dlt", "first", 7),
            ("dlt", "unchanged", 14),
        ):
            other_line = self.line(line.scenario, peer)
            if other_line and (ratio := other_line.ratio(phase, line)) is not None:
                yield Goal(f"{other_line.competitor.title} ÷ {title}: {PHASES[phase]}", ratio, "≥", at_least)
        if (wal := line.median("wal", "unchanged")) is not None:
            yield Goal(f"{title}: WAL MB when nothing changed", wal, "<", 1)
        yield Goal(f"{title}: memory growth, MiB", line.maximum("growth"), "<", 30)


def _table(competitor: Competitor) -> str:
    return str(competitor.options.get("table", tables.NAME))
