"""What people ask of a queue: send these orders, retry what waits for them, cancel."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

import psycopg

from include.outbound.base import OutboundSyncProvider
from include.store import orders
from include.store import outbound as store

log = logging.getLogger(__name__)

ALL = "all"
BLOCK = 1000


def carry_out(
    connection: psycopg.Connection[Any], target: type[OutboundSyncProvider], params: Mapping[str, Any]
) -> None:
    """Do what the parameters of a run say: `orders` (codes) of `event`, `retry` (a reason, or all), `cancel` (codes).

    Raises:
        ConfigurationError: there is no order of such a code.
    """
    event = params.get("event")
    if codes := params.get("orders"):
        ids = _ids(connection, codes, event)
        log.info(
            "Queued %s orders by hand", store.enqueue_many(connection, target.identifier, ids, triggered_by="user")
        )
    if reason := params.get("retry"):
        chosen = None if reason == ALL else reason
        log.info("Let %s objects be tried again", store.retry(connection, target.identifier, reason=chosen))
    if codes := params.get("cancel"):
        ids = _ids(connection, codes, event)
        log.info("Canceled %s", store.cancel(connection, target.identifier, target.source, ids))


def queue_interval(
    connection: psycopg.Connection[Any],
    target: type[OutboundSyncProvider],
    start: datetime | None,
    end: datetime | None,
) -> int:
    """Queue the orders that were placed in an interval; returns how many."""
    queued = 0
    placed = orders.orders_between(connection, start, end)
    while ids := [key.order_id for key in islice(placed, BLOCK)]:
        queued += store.enqueue_many(connection, target.identifier, ids, triggered_by="backfill")
    return queued


def _ids(connection: psycopg.Connection[Any], codes: Sequence[str], event: str | None) -> list[int]:
    return [key.order_id for key in orders.find_orders(connection, codes=codes, event_slug=event)]
