"""The benchmark of loading a listing: an empty table, one record in a hundred changed, nothing changed."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from bench import raw_http
from bench.frame import HEADINGS, Benchmark, Competitor, Goal, Line, Option, Scenario, number, numbers
from bench.inbound import tables
from bench.inbound.listing import CHANGED, FIRST, PAGE_SIZE, Listing
from bench.inbound.tables import ENGINE_COLUMNS, ENGINE_TABLE, PLAIN_COLUMNS, PLAIN_TABLE, Columns
from bench.measuring import Task, WrongResult
from local.psql import program

PHASES = {"first": "first load", "changed": "1 % changed", "unchanged": "unchanged"}
ENGINE, DATELESS, YARDSTICK = "engine", "engine-dateless", "yardstick"


@dataclass(frozen=True, kw_only=True)
class Loader(Competitor):
    """A way to load the listing, and the table it loads into. Without a statement to create it, the peer does so."""

    module: str = "bench.inbound.loaders"
    phases: tuple[str, ...] = tuple(PHASES)
    table: str
    create: str = PLAIN_TABLE
    columns: Columns = PLAIN_COLUMNS
    dated: bool = True
    loader: str = ""
    """Which one, of the module `loaders`."""


_ENGINE = "bench.inbound.engine"
_OURS: dict[str, Any] = {"create": ENGINE_TABLE, "columns": ENGINE_COLUMNS}
_DLT: dict[str, Any] = {"module": "bench.inbound.dlt_merge", "create": "", "is_peer": True}
COMPETITORS = (
    Loader(
        name=YARDSTICK,
        title="psql: COPY to a temp table, ON CONFLICT; no HTTP, no JSON",
        table="yardstick_stock",
        loader="psql",
    ),
    Loader(
        name="yardstick-ours",
        title="the same, into a table with this project's key and sync columns",
        table="yardstick_ours_stock",
        loader="psql",
        **_OURS,
    ),
    Loader(name=ENGINE, title="this project, dated records", module=_ENGINE, table="dated_stock", **_OURS),
    Loader(
        name=DATELESS,
        title="this project, records without a date",
        module=_ENGINE,
        table="dateless_stock",
        dated=False,
        **_OURS,
    ),
    Loader(
        name="plain", title="requests, json, COPY to a temp table, ON CONFLICT", table="plain_stock", loader="script"
    ),
    Loader(name="hook", title="Airflow's PostgresHook, insert_rows(replace=True)", table="hook_stock", loader="hook"),
    Loader(name="dlt-best", title="dlt, merge with upsert, pyarrow pages, csv", table="dlt_best.stock", **_DLT),
    Loader(name="dlt", title="dlt, merge with upsert", table="dlt_plain.stock", **_DLT),
    Loader(
        name="orm",
        title="SQLAlchemy ORM, a SELECT per object",
        table="orm_stock",
        loader="orm",
        share=10,
    ),
)


class Inbound(Benchmark):
    """Load the same listing into a table per competitor."""

    name: ClassVar[str] = "inbound"
    heading: ClassVar[str] = HEADINGS[0]
    summary: ClassVar[str] = "load a listing of records, next to psql, dlt, Airflow's hook, an ORM and a script"
    unit: ClassVar[str] = "records"
    options: ClassVar[tuple[Option, ...]] = (
        Option("--records", 200_000, f"records in the listing, in whole pages of {PAGE_SIZE}"),
        Option("--latency-ms", 100, "milliseconds per response of the slow listing; 0 leaves it out"),
        Option("--latency-pages", 100, "pages of the slow listing"),
    )
    description: ClassVar[str] = (
        f"A local HTTP server lists the records in pages of {PAGE_SIZE}. Before each phase the table is vacuumed "
        "and a checkpoint is made, as autovacuum and the checkpointer do between two runs. The rows that each "
        "competitor leaves are compared with the listing."
    )
    competitors: ClassVar[tuple[Loader, ...]] = COMPETITORS  # type: ignore[assignment]

    def scenarios(self) -> list[Scenario]:
        """Return the listing that all load, and a slow one that only the engine loads, once per round."""
        records, latency, slow = self.given.records, self.given.latency_ms, self.given.latency_pages * PAGE_SIZE
        scenarios = [Scenario(records, 0, f"{records:,} records")]
        if latency:
            scenarios.append(Scenario(slow, latency, f"{slow:,} records, {latency} ms a response"))
        return scenarios

    @contextmanager
    def serving(self, scenario: Scenario) -> Iterator[None]:  # noqa: ARG002
        """Serve listings of any size."""
        with raw_http.serving("bench.inbound.server") as self.url:
            yield

    def phases(self, competitor: Competitor, scenario: Scenario) -> tuple[str, ...]:
        """Return the phases: only the engine's first load from a slow service."""
        if not scenario.latency_ms:
            return competitor.phases
        return ("first",) if competitor.name == ENGINE else ()

    def size(self, competitor: Competitor, scenario: Scenario) -> int:
        """Return the number of records, in whole pages."""
        return max(PAGE_SIZE, super().size(competitor, scenario) // PAGE_SIZE * PAGE_SIZE)

    def listing(self, competitor: Loader, scenario: Scenario, phase: str) -> Listing:
        """Return what the service lists in a phase: what changed stays changed afterwards."""
        until_now = competitor.phases[: competitor.phases.index(phase) + 1]
        generation = CHANGED if "changed" in until_now else FIRST
        return Listing(self.size(competitor, scenario), generation, competitor.dated)

    def reset(self, competitor: Loader, scenario: Scenario) -> None:  # type: ignore[override]  # noqa: ARG002
        """Empty the table and the folder of a competitor."""
        shutil.rmtree(self.folder / competitor.name, ignore_errors=True)
        (self.folder / competitor.name).mkdir(parents=True)
        tables.create(self.database, competitor.table, competitor.create)

    def prepare(self, competitor: Loader, scenario: Scenario, phase: str) -> list[Task]:  # type: ignore[override]
        """Write the file for those that need one; let PostgreSQL settle."""
        listing = self.listing(competitor, scenario, phase)
        options = {name: getattr(competitor, name) for name in ("table", "dated", "loader")}
        options["columns"] = competitor.columns.all()
        if competitor.loader == "psql":
            options |= {"file": str(self._file(listing)), "psql": str(program())}
        self.database.settle(*([competitor.table] if phase != "first" else []))
        wait = f"/wait/{scenario.latency_ms}" if scenario.latency_ms else ""
        url, folder = f"{self.url}{wait}{listing.path}", str(self.folder / competitor.name)
        return [Task(url, self.database.conninfo, phase, options, folder)]

    def _file(self, listing: Listing) -> Path:
        path = self.folder / f"listing-{listing.records}-{listing.generation}.tsv"
        with path.open("wb") as file:
            file.writelines(listing.lines())
        return path

    def check(self, competitor: Loader, scenario: Scenario, phase: str) -> Mapping[str, float]:  # type: ignore[override]
        """Compare the rows of the table with the listing."""
        expected = self.listing(competitor, scenario, phase).sums()
        found = tables.sums(self.database, competitor.table, competitor.columns, dated=competitor.dated)
        if found != expected:
            raise WrongResult(f"{competitor.name}, {phase}: the table has {found}, the listing {expected}")
        return {}

    def row(self, line: Line) -> dict[str, str]:
        """Return seconds, resources, and the ratios to the yardstick."""
        is_psql = line.competitor.name.startswith(YARDSTICK)  # of which only the seconds can be measured
        yardstick = self.line(line.scenario, YARDSTICK)
        return {
            **{f"{text} s": number(line.seconds(phase), 2) for phase, text in PHASES.items()},
            "CPU s, first / unchanged": numbers(
                (line.median("cpu_seconds", each) for each in ("first", "unchanged")), 2
            ),
            "peak MiB": "" if is_psql else number(line.maximum("peak"), 0),
            "growth MiB": "" if is_psql else number(line.maximum("growth"), 0),
            "WAL MB, unchanged": number(line.median("wal", "unchanged"), 1),
            "first ÷ yardstick": number(line.ratio("first", yardstick), 2),
            "unchanged ÷ yardstick": number(line.ratio("unchanged", yardstick), 2),
        }

    def goals(self) -> Iterable[Goal]:
        """Return how close to the yardstick and how far ahead of the peers the engine wants to be."""
        for line in self.lines:
            if line.competitor.name in (ENGINE, DATELESS):
                yield from self._slow_goals(line) if line.scenario.latency_ms else self._goals(line)

    def _slow_goals(self, line: Line) -> Iterable[Goal]:
        responses = line.size // PAGE_SIZE + 1  # the last one is empty
        service = responses * line.scenario.latency_ms / 1000
        text = f"{responses} responses of {line.scenario.latency_ms:g} ms: seconds ÷ what the service takes"
        yield Goal(text, (line.seconds("first") or 0) / service, "≤", 1.1)

    def _goals(self, line: Line) -> Iterable[Goal]:
        title, yardstick = line.competitor.title, self.line(line.scenario, YARDSTICK)
        for phase, other, limit in (
            ("first", "first", 1.5),
            ("changed", "unchanged", 1.2),
            ("unchanged", "unchanged", 1),
        ):
            if (ratio := line.ratio(phase, yardstick, other)) is not None:
                yield Goal(f"{title}: {PHASES[phase]} ÷ the yardstick's {PHASES[other]}", ratio, "≤", limit)
        for peer, phase, limit in (
            ("hook", "first", 2),
            ("hook", "unchanged", 4.5),
            ("dlt", "first", 7),
            ("dlt", "unchanged", 14),
        ):
            other_line = self.line(line.scenario, peer)
            if other_line and (ratio := other_line.ratio(phase, line)) is not None:
                yield Goal(f"{other_line.competitor.title} ÷ {title}: {PHASES[phase]}", ratio, "≥", limit)
        if (wal := line.median("wal", "unchanged")) is not None:
            yield Goal(f"{title}: WAL MB when nothing changed", wal, "<", 1)
        yield Goal(f"{title}: memory growth, MiB", line.maximum("growth"), "<", 30)
