"""Rounds of patching: each phase in a fresh process, then a look at every record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import psycopg

from bench.database import Database
from bench.measuring import Measured
from bench.rounds import measure
from bench.search.standin import KEY, StandIn
from bench.search.task import ALL, APPLICATION, NONE, QUIET, SOME, SearchTask
from include.connectors.algolia import AlgoliaIndex
from include.search.moves import read_log
from include.store import search as store
from sandbox.offers import INDEX

PHASES = (ALL, SOME, NONE)


@dataclass(frozen=True)
class Contender:
    """A way to patch the index."""

    name: str
    title: str
    module: str
    form: str = ""
    phases: tuple[str, ...] = PHASES


OURS = "watch"
CONTENDERS = (
    Contender(OURS, "this project", "bench.search.ours", phases=(*PHASES, QUIET)),
    Contender("helper-differing", "the client's helpers, sending what differs", "bench.search.helper", "differing"),
    Contender("helper-all", "the client's helpers, sending all", "bench.search.helper", ALL),
)


@dataclass(frozen=True)
class Arena:
    """How many records there are, and how long each answer takes: what a figure is of."""

    records: int
    latency_ms: float

    @property
    def told(self) -> str:
        """The same in words."""
        return f"{self.records:,} offers, {f'{self.latency_ms:g} ms an answer' if self.latency_ms else 'at once'}"


@dataclass(frozen=True)
class Outcome:
    """One phase of one contender."""

    arena: Arena
    contender: str
    phase: str
    measured: Measured
    requests: int
    sent: int
    """Records."""


def play(
    standin: StandIn,
    held: Database,
    contenders: Sequence[Contender],
    records: int,
    *,
    folder: Path,
    tell: Callable[[Outcome], None],
) -> list[Outcome]:
    """Every phase of every contender, each after the same rebuild.

    Raises:
        WrongRecords: a contender left another record than the indexer and the rule make.
    """
    outcomes = []
    for phase in (*PHASES, QUIET):
        for contender in contenders:
            if phase not in contender.phases:
                continue
            if phase == QUIET:
                handle_all(standin, held.connection, records)
            else:
                rebuild(standin, held.connection, records, phase)
            before = standin.records_sent()
            standin.forget_requests()
            task = SearchTask(standin.url, held.conninfo, phase, contender.form)
            measured = measure(f"{contender.name}, {phase}", contender.module, task, folder)
            requests, sent = standin.requests(), standin.records_sent() - before
            standin.check(records)
            outcomes.append(
                Outcome(Arena(records, standin.latency_ms), contender.name, phase, measured, requests, sent)
            )
            tell(outcomes[-1])
    return outcomes


def rebuild(standin: StandIn, connection: psycopg.Connection[Any], records: int, phase: str) -> None:
    """Let the index be rebuilt, after a quiet minute that had seen all that was before."""
    standin.prepare(records)
    handle_all(standin, connection, records)
    standin.rebuild(records, phase)


def handle_all(standin: StandIn, connection: psycopg.Connection[Any], records: int) -> None:
    """Leave the database as a run does that has handled all that the log tells of up to now."""
    forget_all(connection)
    store.load_state(connection, APPLICATION, INDEX)
    with AlgoliaIndex(APPLICATION, KEY, INDEX, hosts=[standin.url]) as index:
        reading = read_log(index, None)
    state = store.IndexState(reading.newest, msgspec.to_builtins(reading.moves), records, 0, [])
    store.save_state(connection, APPLICATION, INDEX, state)


def forget_all(connection: psycopg.Connection[Any]) -> None:
    """Leave the database as before the first run."""
    connection.execute("DELETE FROM search_pass")
    connection.execute("DELETE FROM search_index")
