"""This project, as a task of Airflow goes about it: connect, drain the queue."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Any, Self

import msgspec
import psycopg

from bench.gate import pass_through
from bench.measuring import main
from bench.outbound.data import ATTENDEE, ATTENDEE_FIELDS, BUYER, BUYER_FIELDS, TARGET
from bench.outbound.standin import Target, WrongObjects
from bench.outbound.task import OutboundTask
from include.connectors.http import HttpConnector
from include.outbound.worker import drain
from include.store.rate_limit import PostgresRateLimiter
from include.targets.base import OutboundSyncProvider, StaticMapping


def _entries(fields: Mapping[str, str]) -> list[dict[str, str]]:
    return [
        {"source_field": source, "external_field": name, "value_map": "", "overwrite": "overwrite"}
        for name, source in fields.items()
    ]


class BenchTarget(OutboundSyncProvider):
    """Sends each object in a call of its own, which creates or updates it."""

    identifier = TARGET
    concurrency = 16
    mappings = (
        StaticMapping(1, "Order", BUYER, "order_code", "id", _entries(BUYER_FIELDS)),
        StaticMapping(2, "OrderPosition", ATTENDEE, "ticket_id", "id", _entries(ATTENDEE_FIELDS)),
    )

    def sync_object_with_properties(  # type: ignore[override]
        self, *, id_value: str, properties: Sequence[tuple[str, Any, str]], mapping: Any, **_: Any
    ) -> Mapping[str, Any] | None:
        """One call."""
        self.connector.request(
            "POST",
            f"{mapping.external_object_type}/{id_value}",
            body=msgspec.json.encode({name: value for name, value, _ in properties}),
            headers={"Content-Type": "application/json"},
            decode=msgspec.json.decode,
        )
        return {"external_link_href": f"https://target.example/{id_value}", "external_link_display_name": id_value}


class Within:
    """In place of a connector: a target in the same process, which keeps sums only."""

    def __init__(self) -> None:
        self.target = Target(is_small=True)
        self.lock = Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def request(self, method: str, path: str, *, body: bytes, **_: Any) -> bytes:
        """Take an object."""
        with self.lock:
            return self.target.answer(method.encode(), b"/" + path.encode(), body)


def prepare(task: OutboundTask) -> Callable[[], object]:
    """Nothing is prepared: the work is one drain, from its connections to its end. Twins wait for each other."""
    if task.waits:
        pass_through(task.conninfo)

    within = Within()

    def work() -> None:
        with (
            psycopg.connect(task.conninfo, autocommit=True) as connection,
            psycopg.connect(task.conninfo, autocommit=True) as pacing,
        ):
            limiter = PostgresRateLimiter(pacing, TARGET, None)
            with HttpConnector(task.url, rate_limiter=limiter) if task.url else within as connector:
                report = drain(BenchTarget, connection, connector=connector, calls_at_once=task.calls)
        state = within.target.state
        if not task.url and (state.calls, state.total) != (task.objects, task.total):
            raise WrongObjects(f"{task.phase}: {state} came, {task.objects} objects and {task.total} should have")
        if report.down or report.parked or report.orders["retry"]:
            raise RuntimeError(f"{task.phase}: {report.counts()}: {report.examples}")

    return work


if __name__ == "__main__":
    main(prepare, OutboundTask)
