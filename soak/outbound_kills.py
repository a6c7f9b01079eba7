"""Kill the process that sends orders at random moments, also between a response of the target and its commit.

Each process is killed in its first second; the next one resumes what it had in flight. In the end every object must be
at the target with its values, never have been sent with others, and have its result; the queue must be empty, and no
order may be parked.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from functools import partial

from bench.measuring import WrongResult
from bench.outbound import data, server
from bench.outbound.benchmark import check_queue
from bench.outbound.ours import send_queue
from bench.outbound.server import StandIn
from bench.raw_http import with_latency
from include.connectors.http import HttpConnector
from soak import kill

LATENCY_MS = 5
MAX_LIFE = 1.0
MAX_LAST = 3
"""Processes that may be needed in the end."""


class OutboundKills(kill.KillTest):
    """Kills the worker of a queue."""

    module = "soak.outbound_kills"
    unit = "orders"
    usual_size = 20_000
    service: StandIn
    resent = interrupted = 0

    @classmethod
    def serving(cls, size: int) -> AbstractContextManager[StandIn]:  # noqa: ARG003
        """Start the target."""
        return server.running()

    def begin(self) -> None:
        """Put all orders into the queue."""
        self.service.reset()
        data.fill(self.database.connection, self.size)
        data.queue(self.database.connection)
        self.arguments = (self.database.conninfo, with_latency(self.service.url, LATENCY_MS))

    def step(self) -> str:
        """Kill a process."""
        if not self.queued():
            raise WrongResult(f"the queue of {self.size:,} orders was empty after {self.killed} kills")
        ended = self.kill(MAX_LIFE, *self.arguments)
        if not ended.was_killed:
            raise WrongResult(f"a process ended by itself within {ended.seconds:.2f} s")
        self.database.wait_until_alone()
        in_flight = self.database.value("SELECT count(*) FROM outbound_queue WHERE in_flight")
        # These objects are at the target, but their results are not committed.
        objects = self.service.state().objects - self.database.value("SELECT count(*) FROM outbound_result")
        self.resent += in_flight
        self.interrupted += objects > 0
        return (
            f"killed after {ended.seconds:.2f} s: {in_flight} orders in flight, {objects} objects at the target "
            f"without a result, {self.queued():,} orders in the queue"
        )

    def finish(self) -> str:
        """Empty the queue; check the target, the results and the queue."""
        for _ in range(MAX_LAST):
            print(f"     finished: {self.let_finish(*self.arguments).output.strip()}", flush=True)
            if not self.queued():
                break
        check_queue(self.database)
        state = self.service.check(self.size, max_again=sys.maxsize)
        results = self.database.value("SELECT count(*) FROM outbound_result WHERE sent <> '{}'")
        if results != data.OBJECTS * self.size:
            raise WrongResult(f"there are {results} results of {data.OBJECTS * self.size} objects")
        return (
            f"{self.killed} processes killed, {self.interrupted} of them between a response and its commit; "
            f"{self.resent:,} orders were in flight. All {state.objects:,} objects are at the target, {state.again:,} "
            "requests were repeated, each with the same id and values; the queue is empty"
        )

    def queued(self) -> int:
        """Return the number of orders in the queue."""
        return int(self.database.value("SELECT count(*) FROM outbound_queue"))


def work(conninfo: str, url: str) -> None:
    """Send what is in the queue."""
    with HttpConnector(url) as connector:
        print(send_queue(conninfo, connector, ready=kill.ready).counts(), flush=True)


run = partial(kill.run, OutboundKills)
"""Kill a number of processes, with a seed or a random one; returns whether everything is right."""

if __name__ == "__main__":
    kill.worker(work)
