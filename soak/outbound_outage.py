"""A target that is down for an hour and comes back: everything is sent in the end, and nothing waits for a person.

The hour is not waited for: what is in the queue is moved back a minute after each run, as if it had passed. The target
goes down in the middle of a run.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import sleep
from typing import Any

import psycopg

from bench import database
from bench.outbound import data, standin
from bench.outbound.ours import BenchTarget
from bench.outbound.rounds import CALLS, check_queue
from bench.outbound.standin import StandIn, WrongObjects
from include.connectors.http import HttpConnector
from include.outbound.worker import DrainReport, drain

ORDERS = 5000
MINUTES = 60
MAX_AFTER = 24 * 60
"""Minutes after it is back: what failed often is tried again late."""
LATENCY_MS = 5
MAX_TRIED = 100
"""Calls to a target that is down, in one run."""


def run(folder: Path, orders: int = ORDERS, minutes: int = MINUTES) -> bool:
    """Let the target be down so long; True when all came and none waits for a person."""
    folder.mkdir(parents=True, exist_ok=True)
    with database.running(folder) as held, standin.running() as service:
        try:
            Outage(service, held, orders).run(minutes)
        except WrongObjects as wrong:
            print(f"WRONG {wrong}", flush=True)
            return False
    return True


class Outage:
    """A queue and its target. Time is what the queue says."""

    def __init__(self, service: StandIn, held: database.Database, orders: int) -> None:
        self.service = service
        self.held = held
        self.orders = orders
        self.minute = 0

    def run(self, minutes: int) -> None:
        """Before, during and after.

        Raises:
            WrongObjects: an order is parked, lost or sent twice.
        """
        self.service.forget()
        self.service.ask("POST", "/up")
        data.fill(self.held.connection, self.orders)
        data.queue(self.held.connection)
        self._go_down()
        for _ in range(minutes):
            self._pass_minute()
            refused = self.service.state().refused
            report = self._drain()
            tried = self.service.state().refused - refused
            self._tell(report, f"{tried} calls refused", is_shown=self.minute % 10 == 0)
            if report.down is None or tried > MAX_TRIED:
                raise WrongObjects(f"minute {self.minute}: {tried} calls to a target that is down: {report.counts()}")
        self.service.ask("POST", "/up")
        back = self.minute
        while self._waiting():
            if self.minute - back > MAX_AFTER:
                break
            self._pass_minute()
            self._tell(self._drain(), f"{self.minute - back} minutes after it is back", is_shown=True)
        self._check_parked()
        check_queue(self.held.connection)
        state = self.service.check(self.orders)
        print(
            f"{minutes} minutes down, {state.refused:,} calls refused: all {state.objects:,} objects came, once each, "
            f"none waits for a person; the last came {self.minute - back} minutes after the target was back"
        )

    def _go_down(self) -> None:
        """While it is being sent to."""
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(self._drain)
            while self.service.state().calls < self.orders:  # a third
                sleep(0.01)
            self.service.ask("POST", "/down")
            report = running.result()
        self._tell(report, "the target goes down", is_shown=True)
        if report.down is None:
            raise WrongObjects(f"it was not noticed that the target is down: {report.counts()}")

    def _drain(self) -> DrainReport:
        """A run of the DAG. Its connector asks once: it would only sleep between its attempts."""
        with (
            psycopg.connect(self.held.conninfo, autocommit=True) as connection,
            HttpConnector(self.service.slow(LATENCY_MS), attempts=1) as connector,
        ):
            return drain(BenchTarget, connection, connector=connector, calls_at_once=CALLS)

    def _pass_minute(self) -> None:
        self.minute += 1
        self.held.connection.execute("UPDATE outbound_queue SET not_before = not_before - interval '1 minute'")

    def _waiting(self) -> int:
        return _number(self.held.connection, "SELECT count(*) FROM outbound_queue WHERE need_manual_retry IS NULL")

    def _check_parked(self) -> None:
        if parked := _number(
            self.held.connection, "SELECT count(*) FROM outbound_queue WHERE need_manual_retry IS NOT NULL"
        ):
            raise WrongObjects(f"{parked} orders wait for a person")

    def _tell(self, report: DrainReport, told: str, *, is_shown: bool) -> None:
        if is_shown:
            orders = ", ".join(f"{number:,} {outcome}" for outcome, number in report.orders.items() if number)
            print(
                f"minute {self.minute:>3}: {told}; orders: {orders or 'none'}; {self._waiting():,} in the queue",
                flush=True,
            )
        self._check_parked()


def _number(connection: psycopg.Connection[Any], statement: str) -> int:
    row = connection.execute(statement).fetchone()  # type: ignore[arg-type]
    return int(row[0]) if row else 0
