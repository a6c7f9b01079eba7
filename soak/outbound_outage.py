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
from bench.raw_http import with_latency
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
            print(outage(service, running, orders, minutes))
        except WrongResult as wrong:
            print(f"WRONG: {wrong}", flush=True)
            return False
    return True


def outage(service: StandIn, running: Database, orders: int, minutes: int) -> str:
    """Send before, during and after the outage; returns a summary."""
    service.reset()
    data.fill(running.connection, orders)
    data.queue(running.connection)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(_send, service, running)
        while service.state().calls < orders:  # a third of the objects
            sleep(0.01)
        service.request("POST", "/down")
        report = first.result()
    for minute in range(1, minutes + 1):
        if report.down is None:
            raise WrongResult(f"minute {minute}: the worker did not notice that the target is down: {report.counts()}")
        refused = service.state().refused
        report = _send_a_minute_later(service, running)
        if (tried := service.state().refused - refused) > MAX_TRIED:
            raise WrongResult(f"minute {minute}: {tried} requests to a target that is down: {report.counts()}")
    service.request("POST", "/up")
    after = 0
    while running.value("SELECT count(*) FROM outbound_queue") and after <= MAX_AFTER:
        _send_a_minute_later(service, running)
        after += 1
    check_queue(running)
    state = service.check(orders)
    return (
        f"{minutes} minutes down, {state.refused:,} requests refused: all {state.objects:,} objects were sent once, "
        f"no order is parked; the last was sent {after} minutes after the target was back"
    )


def _send_a_minute_later(service: StandIn, running: Database) -> Any:
    running.connection.execute("UPDATE outbound_queue SET not_before = not_before - interval '1 minute'")
    return _send(service, running)


def _send(service: StandIn, running: Database) -> Any:
    """Do what a run of the DAG does. The connector makes one attempt: it would only sleep before the next one."""
    with HttpConnector(with_latency(service.url, LATENCY_MS), attempts=1) as connector:
        report = send_queue(running.conninfo, connector)
    if parked := running.value("SELECT count(*) FROM outbound_queue WHERE need_manual_retry IS NOT NULL"):
        raise WrongResult(f"{parked} orders are parked")
    return report
