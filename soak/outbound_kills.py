"""Kill the process that empties a queue with SIGKILL at random moments, between what the target took and its commit.

    python -m bench.outbound.soak_kills --count 50 --seed 1

Each process is killed somewhere in its first second; the next one takes up what it had in flight. In the end they are
let through. Every object must be at the target with its values, never have been sent with others, and have its result;
the queue must be empty, and no order wait for a person. Exits with 1 otherwise.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psycopg

from bench import database
from bench.gate import busy_seconds
from bench.outbound import data, standin
from bench.outbound.rounds import CALLS, check_queue
from bench.outbound.standin import StandIn, WrongObjects

ROOT = Path(__file__).parents[2]
LATENCY_MS = 5
MAX_LIFE = 1.0
MAX_LAST = 3
"""Processes in the end."""


class Soak:
    """A stand-in, a database, and how often which happened."""

    def __init__(self, service: StandIn, held: database.Database, orders: int, seed: int) -> None:
        self.service = service
        self.held = held
        self.orders = orders
        self.draw = random.Random(seed)
        self.killed = self.cut_off = self.between = 0

    def run(self, count: int) -> None:
        """Kill so many processes, let the last ones through, look at every object.

        Raises:
            WrongObjects: one is wrong, or was sent with another value, or an order is left.
        """
        self.service.forget()
        data.fill(self.held.connection, self.orders)
        data.queue(self.held.connection)
        while self.killed < count:
            self.step()
        for _ in range(MAX_LAST):
            running = self.begin()
            said, logged = running.communicate()
            if running.returncode:
                raise WrongObjects(f"a process failed with {running.returncode}: {logged[-2000:]}")
            print(f"     let through: {said.strip()}", flush=True)
            if self.waiting() == 0:
                break
        self.check()

    def step(self) -> None:
        """Start a process and kill it."""
        if self.waiting() == 0:
            raise WrongObjects(f"the queue of {self.orders:,} orders was empty after {self.killed} kills: take more")
        moment = self.draw.uniform(0, MAX_LIFE)
        running = self.begin()
        time.sleep(moment)
        running.send_signal(signal.SIGKILL)
        running.communicate()
        busy_seconds(self.held.connection)  # waits until PostgreSQL has noticed
        if running.returncode != -signal.SIGKILL:
            raise WrongObjects(f"a process ended by itself with {running.returncode} after {moment:.2f} s")
        self.killed += 1
        in_flight = self.value("SELECT count(*) FROM outbound_queue WHERE in_flight")
        # What is at the target, and not known to be: taken, but not committed.
        between = self.service.state().objects - self.value("SELECT count(*) FROM outbound_result")
        self.cut_off += in_flight
        self.between += between > 0
        print(
            f"{self.killed:>4} killed after {moment:.2f} s: {in_flight} orders in flight, {between} objects at the "
            f"target without their result, {self.waiting():,} orders to go",
            flush=True,
        )

    def begin(self) -> subprocess.Popen[str]:
        """Start a process that empties the queue; returns when it is about to begin."""
        url = self.service.slow(LATENCY_MS)
        command = [sys.executable, "-m", "bench.outbound.soak_kills", "--work", self.held.conninfo, url]
        running = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if running.stdout is None or running.stdout.readline() != "begun\n":
            raise RuntimeError(f"the process did not start: {running.communicate()[1]}")
        return running

    def waiting(self) -> int:
        """How many orders are in the queue."""
        return self.value("SELECT count(*) FROM outbound_queue")

    def value(self, statement: str) -> int:
        """A number out of the database."""
        row = self.held.connection.execute(statement).fetchone()  # type: ignore[arg-type]
        return int(row[0]) if row else 0

    def check(self) -> None:
        """Look at the target, the results and the queue."""
        check_queue(self.held.connection)
        state = self.service.check(self.orders, most_again=sys.maxsize)
        results = self.value("SELECT count(*) FROM outbound_result WHERE sent <> '{}'")
        if results != data.OBJECTS * self.orders:
            raise WrongObjects(f"{results} results are kept of {data.OBJECTS * self.orders} objects")
        print(
            f"{self.killed} processes killed, {self.between} of them between the target and their commit; "
            f"{self.cut_off:,} orders were cut off. All {state.objects:,} objects are at the target, {state.again:,} "
            "calls were repeated, each with the same id and values; the queue is empty"
        )


def work(conninfo: str, url: str) -> None:
    """What the killed process does: one drain."""
    from bench.outbound.ours import BenchTarget
    from include.connectors.http import HttpConnector
    from include.outbound.worker import drain

    with psycopg.connect(conninfo, autocommit=True) as connection, HttpConnector(url) as connector:
        print("begun", flush=True)
        print(drain(BenchTarget, connection, connector=connector, calls_at_once=CALLS).counts(), flush=True)


def run(count: int = 50, orders: int = 20_000, seed: int | None = None) -> bool:
    """Kill so many times; True when every object is right in the end."""
    seed = random.SystemRandom().randrange(10**6) if seed is None else seed
    print(f"seed {seed}, {orders:,} orders")
    with (
        tempfile.TemporaryDirectory(prefix="provider-sync-soak-") as folder,
        database.running(Path(folder)) as held,
        standin.running() as service,
    ):
        try:
            Soak(service, held, orders, seed).run(count)
        except WrongObjects as wrong:
            print(f"WRONG {wrong}", flush=True)
            return False
    return True


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m bench.outbound.soak_kills", description=(__doc__ or "")[:118])
    parser.add_argument("--count", type=int, default=50, help="processes to kill (default %(default)s)")
    parser.add_argument("--seed", type=int, help="of the moments; without it another one each time")
    parser.add_argument("--orders", type=int, default=20_000, help="in the queue (default %(default)s)")
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.work:
        work(*options.work)
        return 0
    return 0 if run(options.count, options.orders, options.seed) else 1


if __name__ == "__main__":
    sys.exit(main())
