"""Rounds of theatres: each phase in fresh processes, then a look at every row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.database import Database
from bench.gate import busy_seconds, measure_together
from bench.measuring import Measured
from bench.rounds import WrongRows, measure
from bench.theatres.data import CHANGED, FIRST, Programme, fill, held_sums
from bench.theatres.task import ALL, NONE, SOME, TheatreTask
from include.inbound import loads
from include.providers.allocine_stocks import AllocineStocks
from include.store import ledger
from include.store.ledger import LoadParameters

PHASES = (ALL, NONE, SOME)


@dataclass(frozen=True)
class Contender:
    """A way to bring in what theatres show. `is_ours`: with a load in the ledger; `is_parallel`: in batches."""

    name: str
    title: str
    module: str
    is_ours: bool = True
    is_parallel: bool = False
    phases: tuple[str, ...] = PHASES


BATCHES, SINGLE, PLAIN = "theatres-batches", "theatres-single", "theatres-plain"
CONTENDERS = (
    Contender(BATCHES, "this project, {} processes", "bench.theatres.ours", is_parallel=True),
    Contender(SINGLE, "this project, one process", "bench.theatres.ours"),
    Contender(PLAIN, "requests, json, COPY to temp tables, ON CONFLICT", "bench.theatres.plain", is_ours=False),
)


@dataclass(frozen=True)
class Arena:
    """What a figure is of: how many theatres and movies, how long each answer takes, and how many are asked at once."""

    theatres: int
    movies: int
    latency_ms: float
    at_once: int

    @property
    def told(self) -> str:
        """The same in words."""
        return f"{self.theatres:,} theatres of {self.movies} movies, {self.latency_ms:g} ms an answer"

    def processes(self, contender: Contender) -> int:
        """Of a contender."""
        return min(self.theatres, self.at_once) if contender.is_parallel else 1

    def service_seconds(self, contender: Contender) -> float:
        """What the service alone takes for a contender: nobody can be faster."""
        rounds = -(-self.theatres // self.processes(contender))
        return rounds * self.latency_ms / 1000


@dataclass(frozen=True)
class Outcome:
    """One phase of one contender. `database_seconds` is what PostgreSQL was busy with statements."""

    arena: Arena
    contender: str
    phase: str
    measured: Measured
    database_seconds: float


def play(
    url: str,
    held: Database,
    contenders: Sequence[Contender],
    place: Arena,
    programme: Programme,
    *,
    folder: Path,
    tell: Callable[[Outcome], None],
) -> list[Outcome]:
    """Every phase of every contender, each from empty tables.

    Raises:
        WrongRows: the tables do not hold what was listed.
    """
    outcomes = []
    truth = {generation: programme.sums(generation) for generation in (FIRST, CHANGED)}
    for contender in contenders:
        fill(held.connection, place.theatres)
        for phase in contender.phases:
            for table in ("product", "offer", "stock"):
                held.settle(table)
            generation = CHANGED if phase == SOME else FIRST
            task = TheatreTask(f"{url}/wait/{place.latency_ms:g}/{generation}", held.conninfo, phase)
            before = busy_seconds(held.connection)
            measured = _measure(held, contender, task, place.processes(contender), folder)
            busy = busy_seconds(held.connection) - before
            found = held_sums(held.connection)
            if found != truth[generation]:
                raise WrongRows(f"{contender.name}, {phase}: the tables hold {found}, listed were {truth[generation]}")
            outcomes.append(Outcome(place, contender.name, phase, measured, busy))
            tell(outcomes[-1])
    return outcomes


def _measure(held: Database, contender: Contender, task: TheatreTask, processes: int, folder: Path) -> Measured:
    told = f"{contender.name}, {task.phase}"
    if not contender.is_ours:
        return measure(told, contender.module, task, folder)
    catalog_id = loads.open_load(held.connection, AllocineStocks, LoadParameters(), at_most_batches=processes)
    tasks = [
        replace(task, catalog_id=catalog_id, batch=batch, waits=True)
        for batch in ledger.batch_labels(held.connection, catalog_id)
    ]
    measured = measure_together(held.conninfo, told, contender.module, tasks, folder)
    summary = loads.close_load(held.connection, catalog_id)
    if summary.state != "loaded":
        raise WrongRows(f"{told}: the load is {summary.state}, {summary.errors}")
    return measured
