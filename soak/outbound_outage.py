"""A target that is down for an hour and comes back: everything is sent in the end, and no order is parked.

The hour is simulated: after each run the queue is shifted by a minute into the past. The target goes down in the middle
of a run.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import sleep
from typing import Any

from bench import database
from bench.database import Database
from bench.measuring import WrongResult
from bench.outbound import data, server
from bench.outbound.benchmark import check_queue
from bench.outbound.ours import send_queue
from bench.outbound.server import StandIn
from include.connectors.http import HttpConnector

MAX_AFTER = 24 * 60
"""Minutes after the target is back: what failed often is retried late."""
LATENCY_MS = 5
MAX_TRIED = 100
"""Requests in one run to a target that is down."""


def run(folder: Path, orders: int = 5000, minutes: int = 60) -> bool:
    """Let the target be down for some minutes; returns whether everything was sent and no order is parked."""
    with database.running(folder) as running, server.running() as service:
        try:
            Outage(service, running, orders).run(minutes)
        except WrongResult as wrong:
            print(f"WRONG: {wrong}", flush=True)
            return False
    return True


class Outage:
    """A queue, its target and the simulated minute."""

    def __init__(self, service: StandIn, running: Database, orders: int) -> None:
        self.service = service
        self.database = running
        self.orders = orders
        self.minute = 0

    def run(self, minutes: int) -> None:
        """Send before, during and after the outage.

        Raises:
            WrongResult: an order is parked, lost or sent twice.
        """
        self.service.reset()
        self.service.request("POST", "/up")
        data.fill(self.database.connection, self.orders)
        data.queue(self.database.connection)
        self._go_down()
        for _ in range(minutes):
            self._pass_minute()
            refused = self.service.state().refused
            report = self._send()
            tried = self.service.state().refused - refused
            self._report(report, f"{tried} requests refused", is_shown=self.minute % 10 == 0)
            if report.down is None or tried > MAX_TRIED:
                counts = report.counts()
                raise WrongResult(f"minute {self.minute}: {tried} requests to a target that is down: {counts}")
        self.service.request("POST", "/up")
        back = self.minute
        while self._queued() and self.minute - back <= MAX_AFTER:
            self._pass_minute()
            self._report(self._send(), f"{self.minute - back} minutes after it is back", is_shown=True)
        check_queue(self.database)
        state = self.service.check(self.orders)
        print(
            f"{minutes} minutes down, {state.refused:,} requests refused: all {state.objects:,} objects were sent "
            f"once, no order is parked; the last was sent {self.minute - back} minutes after the target was back"
        )

    def _go_down(self) -> None:
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(self._send)
            while self.service.state().calls < self.orders:  # a third of the objects
                sleep(0.01)
            self.service.request("POST", "/down")
            report = running.result()
        self._report(report, "the target goes down", is_shown=True)
        if report.down is None:
            raise WrongResult(f"the worker did not notice that the target is down: {report.counts()}")

    def _send(self) -> Any:
        """Do what a run of the DAG does. The connector makes one attempt: it would only sleep before the next one."""
        with HttpConnector(self.service.with_latency(LATENCY_MS), attempts=1) as connector:
            return send_queue(self.database.conninfo, connector)

    def _pass_minute(self) -> None:
        self.minute += 1
        self.database.connection.execute("UPDATE outbound_queue SET not_before = not_before - interval '1 minute'")

    def _queued(self) -> int:
        return int(self.database.value("SELECT count(*) FROM outbound_queue"))

    def _report(self, report: Any, event: str, *, is_shown: bool) -> None:
        if is_shown:
            orders = ", ".join(f"{number:,} {result}" for result, number in report.orders.items() if number)
            print(
                f"minute {self.minute:>3}: {event}; orders: {orders or 'none'}; {self._queued():,} queued", flush=True
            )
        if parked := self.database.value("SELECT count(*) FROM outbound_queue WHERE need_manual_retry IS NOT NULL"):
            raise WrongResult(f"{parked} orders are parked")
