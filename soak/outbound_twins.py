"""Two claimers on one queue, over and over: nothing is lost, and nothing is sent twice.

Each is a process of its own, and they begin together. The stand-in counts the calls for each object: exactly one.
"""

from __future__ import annotations

from pathlib import Path

from bench import database
from bench.outbound import data, standin
from bench.outbound.rounds import CALLS, CONTENDERS, TWINS, check_queue, side_by_side
from bench.outbound.standin import StandIn, WrongObjects
from bench.outbound.task import ALL, OutboundTask

ROUNDS = 10
ORDERS = 3000
LATENCY_MS = 5


def run(folder: Path, rounds: int = ROUNDS, orders: int = ORDERS) -> bool:
    """Empty so many queues with two claimers; True when each object came exactly once."""
    folder.mkdir(parents=True, exist_ok=True)
    with database.running(folder) as held, standin.running() as service:
        try:
            for number in range(1, rounds + 1):
                print(f"{number:>4} {step(service, held, folder, orders)}", flush=True)
        except WrongObjects as wrong:
            print(f"WRONG {wrong}", flush=True)
            return False
    return True


def step(service: StandIn, held: database.Database, folder: Path, orders: int) -> str:
    """Empty one queue; returns what each claimer did.

    Raises:
        WrongObjects: an object is missing or came twice, or a claimer had nothing to do.
    """
    service.forget()
    data.fill(held.connection, orders)
    data.queue(held.connection)
    twins = next(each for each in CONTENDERS if each.name == TWINS)
    task = OutboundTask(service.slow(LATENCY_MS), held.conninfo, ALL, CALLS // twins.processes)
    done = side_by_side(held, twins, task, folder)
    check_queue(held.connection)
    state = service.check(orders)
    shares = [
        int(sent or 0)
        for (sent,) in held.connection.execute("SELECT counts #>> '{orders,sent}' FROM outbound_run ORDER BY id")
    ]
    if sum(shares) != orders or not all(shares):
        raise WrongObjects(f"the claimers sent {shares} of {orders} orders")
    return (
        f"{' and '.join(f'{share:,}' for share in shares)} orders in {done.seconds:.1f} s: {state.calls:,} calls for "
        f"{state.objects:,} objects, exactly one each"
    )
