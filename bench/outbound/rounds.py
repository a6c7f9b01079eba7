"""Rounds of sending: each phase in a fresh process, then a look at every object."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg

from bench.database import Database
from bench.gate import busy_seconds, measure_together
from bench.measuring import Measured
from bench.outbound import data
from bench.outbound.plain import TABLE
from bench.outbound.standin import StandIn, WrongObjects
from bench.outbound.task import ALL, NONE, OutboundTask
from bench.rounds import measure

PHASES = (ALL, NONE)
CALLS = 16
"""That may run at once."""


@dataclass(frozen=True)
class Contender:
    """A way to send what is in the queue."""

    name: str
    title: str
    module: str
    processes: int = 1
    share: int = 1
    """One in so many orders, for who would take too long."""
    phases: tuple[str, ...] = PHASES


OURS, PLAIN, TWINS = "drain", "plain-loop", "drain-twins"
CONTENDERS = (
    Contender(OURS, "this project", "bench.outbound.ours"),
    Contender(TWINS, "this project, two claimers side by side", "bench.outbound.ours", processes=2),
    Contender(PLAIN, "a plain loop", "bench.outbound.plain", share=5),
)


@dataclass(frozen=True)
class Arena:
    """How many orders there are, and how long each answer takes: what a figure is of."""

    orders: int
    latency_ms: float

    @property
    def told(self) -> str:
        """The same in words."""
        return f"{self.orders:,} orders, {f'{self.latency_ms:g} ms an answer' if self.latency_ms else 'at once'}"


@dataclass(frozen=True)
class Outcome:
    """One phase of one contender. `database_seconds` is what PostgreSQL was busy with statements."""

    arena: Arena
    contender: str
    phase: str
    orders: int
    measured: Measured
    database_seconds: float

    @property
    def orders_per_second(self) -> float:
        """How fast it was."""
        return self.orders / self.measured.seconds

    @property
    def database_ms(self) -> float:
        """Per order."""
        return self.database_seconds * 1000 / self.orders


def play(
    service: StandIn,
    held: Database,
    contenders: Sequence[Contender],
    place: Arena,
    *,
    folder: Path,
    tell: Callable[[Outcome], None],
) -> list[Outcome]:
    """Every phase of every contender, each from orders that are new to the target.

    Raises:
        WrongObjects: an object did not arrive as it is, or arrived twice; or something is left in the queue.
    """
    outcomes = []
    for contender in contenders:
        orders = max(1, place.orders // contender.share)
        data.fill(held.connection, orders)
        held.connection.execute(TABLE)  # type: ignore[arg-type]
        held.connection.execute("TRUNCATE plain_result")
        for phase in contender.phases:
            service.forget()
            data.queue(held.connection)
            held.settle(None)
            task = OutboundTask(service.slow(place.latency_ms), held.conninfo, phase, CALLS // contender.processes)
            before = busy_seconds(held.connection)
            measured = side_by_side(held, contender, task, folder)
            busy = busy_seconds(held.connection) - before
            if phase == ALL:
                service.check(orders)
            else:
                service.check_quiet()
            check_queue(held.connection)
            outcomes.append(Outcome(place, contender.name, phase, orders, measured, busy))
            tell(outcomes[-1])
    return outcomes


def side_by_side(held: Database, contender: Contender, task: OutboundTask, folder: Path) -> Measured:
    """Measure the processes of a contender, which begin together."""
    told = f"{contender.name}, {task.phase}"
    if contender.processes == 1:
        return measure(told, contender.module, task, folder)
    tasks = [replace(task, waits=True)] * contender.processes
    return measure_together(held.conninfo, told, contender.module, tasks, folder)


def check_queue(connection: psycopg.Connection[Any]) -> None:
    """Check that nothing is left in the queue.

    Raises:
        WrongObjects: something is.
    """
    left = connection.execute(
        "SELECT coalesce(need_manual_retry, in_flight::text), count(*) FROM outbound_queue GROUP BY 1"
    ).fetchall()
    if left:
        raise WrongObjects(f"orders are left in the queue, by reason or whether they are in flight: {dict(left)}")
