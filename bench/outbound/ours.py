"""This project, as a task of the DAG does it: connect, and send what is in the queue."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from threading import Lock
from typing import Any

import msgspec
import psycopg

from bench.measuring import Task, WrongResult, main
from bench.outbound.data import ATTENDEE, ATTENDEE_FIELDS, BUYER, BUYER_FIELDS, TARGET
from bench.outbound.server import Target
from include.connectors.http import HttpConnector
from include.outbound.worker import drain
from include.store.rate_limit import PostgresRateLimiter
from include.targets.base import OutboundSyncProvider, StaticMapping

CALLS = 16
"""Requests in flight at the same time."""


def _entries(fields: Mapping[str, str]) -> list[dict[str, str]]:
    return [
        {"source_field": source, "external_field": name, "value_map": "", "overwrite": "overwrite"}
        for name, source in fields.items()
    ]


class BenchTarget(OutboundSyncProvider):
    """Creates or updates each object with a request of its own."""

    identifier = TARGET
    concurrency = CALLS
    mappings = (
        StaticMapping(1, "Order", BUYER, "order_code", "id", _entries(BUYER_FIELDS)),
        StaticMapping(2, "OrderPosition", ATTENDEE, "ticket_id", "id", _entries(ATTENDEE_FIELDS)),
    )

    def sync_object_with_properties(  # type: ignore[override]
        self, *, id_value: str, properties: Sequence[tuple[str, Any, str]], mapping: Any, **_: Any
    ) -> Mapping[str, Any] | None:
        """Send one object."""
        self.connector.request(
            "POST",
            f"{mapping.external_object_type}/{id_value}",
            body=msgspec.json.encode({name: value for name, value, _ in properties}),
            headers={"Content-Type": "application/json"},
            decode=msgspec.json.decode,
        )
        return {"external_link_href": f"https://target.example/{id_value}", "external_link_display_name": id_value}


class InProcessTarget:
    """A target in this process in place of a connector: it stores no objects, only their sums."""

    def __init__(self) -> None:
        self.target = Target(stores_objects=False)
        self._lock = Lock()

    def request(self, method: str, path: str, *, body: bytes, **_: Any) -> bytes:
        """Receive an object."""
        with self._lock:
            return self.target.handle(method, f"/{path}", body)


def send_queue(conninfo: str, connector: Any, calls: int = CALLS, ready: Callable[[], object] = lambda: None) -> Any:
    """Send what is in the queue, and return the report. `ready` is called after connecting."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        ready()
        return drain(BenchTarget, connection, connector=connector, calls_at_once=calls)


def prepare(task: Task) -> Callable[[], object]:
    """Prepare nothing; the work is one run of a worker, from its connections to its end.

    Without a URL the target is in this process, and gets `objects` with the checksum `total`.
    """

    def work() -> None:
        within = InProcessTarget()
        with psycopg.connect(task.conninfo, autocommit=True) as connection:
            limiter = PostgresRateLimiter(connection, TARGET, None)
            with HttpConnector(task.url, rate_limiter=limiter) if task.url else nullcontext(within) as connector:
                report = send_queue(task.conninfo, connector, task.options["calls"])
        state = within.target.state
        if not task.url and (state.calls, state.total) != (task.options["objects"], task.options["total"]):
            raise WrongResult(f"{task.phase}: the target received {state}, but should have received {task.options}")
        if report.down or report.parked or report.orders["retry"]:
            raise RuntimeError(f"{task.phase}: {report.counts()}: {report.examples}")

    return work


if __name__ == "__main__":
    main(prepare)
