"""What people ask of a target: other mappings, send these orders, retry what waits for them, cancel."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

import psycopg

from include.errors import ConfigurationError
from include.outbound import mappings
from include.store import orders
from include.store import outbound as store
from include.targets.base import OutboundSyncProvider
from include.targets.fields import Field, data_fields

log = logging.getLogger(__name__)

ALL = "all"
BLOCK = 1000


def carry_out(
    connection: psycopg.Connection[Any], target: type[OutboundSyncProvider], params: Mapping[str, Any]
) -> None:
    """Do what the parameters of a run say.

    `mappings` (new ones) or `mappings_version` (an earlier one), `orders` (codes) of `event`, `retry` (a reason, or
    all), `cancel` (codes).

    Raises:
        ConfigurationError: there is no order of such a code, or mappings that are not right: all that is wrong is told.
    """
    event = params.get("event")
    if target.source != "order" and (params.get("orders") or params.get("cancel")):
        raise ConfigurationError(f"{target.name()} is not sent orders: none can be chosen")
    if params.get("mappings"):  # the form gives an empty list for none
        fields = known_fields(connection, target)
        version = mappings.save(connection, target.identifier, params["mappings"], fields=fields, note="by a DAG run")
        log.info("The mappings given are version %s of %s", version, target.identifier)
    elif (wanted := params.get("mappings_version")) is not None:
        log.info("Mappings: version %s again, as %s", wanted, mappings.restore(connection, target.identifier, wanted))
    if codes := params.get("orders"):
        ids = _ids(connection, codes, event)
        log.info(
            "Queued %s orders by hand",
            store.enqueue_many(connection, target.identifier, ids, triggered_by=store.BY_HAND),
        )
    if reason := params.get("retry"):
        chosen = None if reason == ALL else reason
        log.info("Let %s objects be tried again", store.retry(connection, target.identifier, reason=chosen))
    if codes := params.get("cancel"):
        ids = _ids(connection, codes, event)
        log.info("Canceled %s", store.cancel(connection, target.identifier, target.source, ids))


def known_fields(
    connection: psycopg.Connection[Any], target: type[OutboundSyncProvider]
) -> dict[str, dict[str, Field]]:
    """The source fields by model: those of all events, since questions and check-in lists make fields of their own."""
    models = ("Order", "OrderPosition") if target.source == "order" else ("Offer", "Stock")
    found: dict[str, dict[str, Field]] = {model: data_fields(None, model) for model in models}
    if target.source == "order":
        for event in orders.load_events(connection, orders.event_ids(connection)).values():
            for model in models:
                found[model] |= data_fields(event, model)
    return found


def queue_interval(
    connection: psycopg.Connection[Any],
    target: type[OutboundSyncProvider],
    start: datetime | None,
    end: datetime | None,
) -> int:
    """Queue the orders that were placed in an interval; returns how many.

    Raises:
        ConfigurationError: the target is not sent orders.
    """
    if target.source != "order":
        raise ConfigurationError(f"{target.name()} is not sent orders: none can be queued by when they were placed")
    queued = 0
    placed = orders.orders_between(connection, start, end)
    while ids := [key.order_id for key in islice(placed, BLOCK)]:
        queued += store.enqueue_many(connection, target.identifier, ids, triggered_by="backfill")
    return queued


def _ids(connection: psycopg.Connection[Any], codes: Sequence[str], event: str | None) -> list[int]:
    return [key.order_id for key in orders.find_orders(connection, codes=codes, event_slug=event)]
