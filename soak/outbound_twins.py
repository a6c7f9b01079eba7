"""Two workers on one queue, again and again: nothing is lost, and nothing is sent twice.

Each worker is a process of its own, and they start together. The stand-in must get exactly one request per object.
"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from bench import database
from bench.database import Database
from bench.frame import Scenario, measure
from bench.measuring import WrongResult
from bench.outbound import server
from bench.outbound.benchmark import ALL, COMPETITORS, TWINS, Outbound
from bench.outbound.server import StandIn

LATENCY_MS = 5


def run(folder: Path, rounds: int = 10, orders: int = 3000) -> bool:
    """Empty queues with two workers; returns whether each object was sent exactly once."""
    with database.running(folder) as running, server.running() as service:
        try:
            for number in range(1, rounds + 1):
                print(f"{number:>4} {step(service, running, folder, orders)}", flush=True)
        except WrongResult as wrong:
            print(f"WRONG: {wrong}", flush=True)
            return False
    return True


def step(service: StandIn, running: Database, folder: Path, orders: int) -> str:
    """Empty one queue; returns what each worker did.

    Raises:
        WrongResult: an object is missing or was sent twice, or a worker had nothing to do.
    """
    benchmark, scenario = Outbound(running, folder, Namespace()), Scenario(orders, LATENCY_MS, "")
    benchmark.service = service
    twins = next(each for each in COMPETITORS if each.name == TWINS)
    benchmark.reset(twins, scenario)
    usage = measure(twins, benchmark.prepare(twins, scenario, ALL), folder)
    benchmark.check(twins, scenario, ALL)
    rows = running.connection.execute("SELECT counts #>> '{orders,sent}' FROM outbound_run ORDER BY id").fetchall()
    sent = [int(count or 0) for (count,) in rows]
    if sum(sent) != orders or not all(sent):
        raise WrongResult(f"the workers sent {sent} of {orders} orders")
    state = service.state()
    return (
        f"{' and '.join(f'{count:,}' for count in sent)} orders in {usage.seconds:.1f} s: {state.calls:,} requests for "
        f"{state.objects:,} objects, exactly one each"
    )
