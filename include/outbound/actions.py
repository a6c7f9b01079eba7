"""What a run does before and after its workers: fill the queue, apply the run's parameters, sum up and clean up."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime
from itertools import islice
from typing import Any

import psycopg

from include.errors import ConfigurationError
from include.outbound import mappings
from include.outbound.checks import Fields
from include.outbound.feed import feed_queue, forget_removed_targets
from include.store import change_feed, incidents, orders, queue, results, runs
from include.targets.base import OutboundSyncProvider
from include.targets.fields import MODELS, data_fields

log = logging.getLogger(__name__)

ALL = "all"
BLOCK_SIZE = 1000
"""Orders that one statement of a backfill queues."""
ORDERS_PER_WORKER = 500
"""Due orders that justify another worker."""
OUTAGE = "is rejecting every request"
"""Part of the error of a run in which the target accepted nothing; the next run recognizes the outage by it."""


def fill_queue(
    connection: psycopg.Connection,
    target: type[OutboundSyncProvider],
    interval: tuple[datetime | None, datetime | None] | None,
) -> None:
    """Queue what changed since the last run, or for a backfill run the orders placed in its interval.

    Warns if an open transaction delays the change feed.
    """
    if interval is not None:
        queue_interval(connection, target, *interval)
        return
    counts = feed_queue(connection, target)
    if not counts.read:
        log.info("No changes since the last run")
    else:
        gone = f"; {counts.gone:,} no longer exist" if counts.gone else ""
        log.info("Changed since the last run: %s newly queued, %s already in the queue%s",
                 f"{counts.queued:,}", f"{counts.waiting:,}", gone)  # fmt: skip
    for lag in change_feed.lags(connection):
        if lag.is_held_back:
            log.warning("%s", lag)


def queue_interval(
    connection: psycopg.Connection,
    target: type[OutboundSyncProvider],
    start: datetime | None,
    end: datetime | None,
) -> int:
    """Queue the orders placed at or after `start` and before `end`; returns how many. None means no bound.

    Raises:
        ConfigurationError: the target does not receive orders.
    """
    if target.source != "order":
        raise ConfigurationError(f"{target.name()} does not receive orders: a backfill has nothing to queue")
    queued = 0
    placed = orders.orders_between(connection, start, end)
    while ids := list(islice(placed, BLOCK_SIZE)):
        queued += queue.enqueue_orders(connection, target.identifier, ids, triggered_by=queue.BACKFILL)
    log.info("Queued %s orders placed in the interval", f"{queued:,}")
    return queued


def apply_run_params(
    connection: psycopg.Connection, target: type[OutboundSyncProvider], params: Mapping[str, Any]
) -> None:
    """Apply the parameters of a run.

    - `mappings` saves new mappings, `mappings_version` restores earlier ones.
    - `copy_event_from`, `copy_event_to` (slugs): all stored mappings refer to the check-in lists of the copy.
    - `orders` (codes, of `event`) queues orders, `cancel` (codes) takes orders out of the queue.
    - `retry` (a reason, or ALL) makes parked and failed objects due.

    Raises:
        ConfigurationError: an order or event is unknown, or the mappings are invalid; the message lists all problems.
    """
    event = params.get("event")
    if target.source != "order" and (params.get("orders") or params.get("cancel")):
        raise ConfigurationError(f"{target.name()} does not receive orders: `orders` and `cancel` cannot be used")
    if params.get("mappings"):  # the form gives an empty list for none
        fields = known_fields(connection, target)
        version = mappings.save(connection, target.identifier, params["mappings"], fields=fields, note="by a DAG run")
        log.info("Saved the mappings of %s as version %s", target.identifier, version)
    elif (requested := params.get("mappings_version")) is not None:
        version = mappings.restore(connection, target.identifier, requested)
        log.info("Restored version %s of the mappings of %s as version %s", requested, target.identifier, version)
    if params.get("copy_event_from") or params.get("copy_event_to"):
        _translate_mappings(connection, params.get("copy_event_from"), params.get("copy_event_to"))
    if codes := params.get("orders"):
        ids = orders.find_orders(connection, codes, event)
        queued = queue.enqueue_orders(connection, target.identifier, ids, triggered_by=queue.MANUAL)
        log.info("Queued %s orders manually", queued)
    if reason := params.get("retry"):
        chosen = None if reason == ALL else reason
        log.info("Made %s objects due for a retry", queue.retry(connection, target.identifier, reason=chosen))
    if codes := params.get("cancel"):
        ids = orders.find_orders(connection, codes, event)
        log.info("Canceled %s orders", queue.cancel(connection, target.identifier, target.source, ids))


def _translate_mappings(connection: psycopg.Connection, original: str | None, copy: str | None) -> None:
    """After an event was copied, make the stored mappings of all targets refer to the check-in lists of the copy.

    A list and its copy have the same name; entries of lists without a copy are marked as invalid.
    """
    if not original or not copy or original == copy:
        raise ConfigurationError(
            "After an event was copied, `copy_event_from` and `copy_event_to` must name the original and the copy"
        )
    lists = orders.find_event(connection, original).checkin_lists
    copied = orders.find_event(connection, copy).checkin_lists
    names = [each.name for each in copied]
    if ambiguous := sorted({each.name for each in lists if names.count(each.name) > 1}):
        raise ConfigurationError(f"Event {copy!r} has several check-in lists with the name {', '.join(ambiguous)}")
    by_name = {each.name: each.id for each in copied}
    if missing := [each.name for each in lists if each.name not in by_name]:
        log.warning("Event %r has no check-in lists %s: entries that use them are invalid", copy, ", ".join(missing))
    # Stored mappings serve all events: lists that do not belong to the original stay as they are.
    events = orders.load_events(connection, orders.event_ids(connection)).values()
    checkin_lists = {each.id: each.id for event in events if event.slug != original for each in event.checkin_lists}
    checkin_lists |= {each.id: by_name[each.name] for each in lists if each.name in by_name}
    changed = mappings.translate_all(connection, checkin_lists)
    for target, version in changed.items():
        log.info("The mappings of %s use the check-in lists of %r: version %s", target, copy, version)
    if not changed:
        log.info("No stored mappings use check-in lists: nothing to change")


def known_fields(connection: psycopg.Connection, target: type[OutboundSyncProvider]) -> Fields:
    """Return the source fields by model, of all events: questions and check-in lists add fields of their own."""
    found = {model: data_fields(None, model) for model in MODELS[target.source]}
    if target.source == "order":
        for event in orders.load_events(connection, orders.event_ids(connection)).values():
            for model, fields in found.items():
                fields.update(data_fields(event, model))
    return found


def has_outage(connection: psycopg.Connection, dag_id: str) -> bool:
    """Whether the target accepted nothing in the last run of a DAG, and nothing was sent successfully since."""
    incident = incidents.find_incident(connection, dag_id)
    return incident is not None and OUTAGE in incident.error


def retry_after_outage(connection: psycopg.Connection, target: type[OutboundSyncProvider], dag_id: str) -> None:
    """After an outage, retry what was parked as a configuration error: a wrong API key affects all objects."""
    if has_outage(connection, dag_id):
        retried = queue.retry(connection, target.identifier, reason="config")
        log.info("The target rejected every request in the last run; retrying %s objects that it parked", retried)


def count_workers(connection: psycopg.Connection, target: type[OutboundSyncProvider], max_workers: int) -> int:
    """Return how many workers should drain the queue: one per ORDERS_PER_WORKER due orders, at least one."""
    at_most = max_workers * ORDERS_PER_WORKER
    due = queue.count_due(connection, target.identifier, at_most)
    workers = max(1, min(max_workers, target.concurrency, -(-due // ORDERS_PER_WORKER)))
    more = " or more" if due == at_most else ""
    log.info("%s%s due now%s", f"{due:,}", more, f", sent by {workers} concurrent tasks" if workers > 1 else "")
    return workers


def close_run(
    connection: psycopg.Connection, target: type[OutboundSyncProvider], run_id: str, retention_days: int
) -> dict[str, Any]:
    """Return the counts of all workers of a run; delete what is no longer needed of the log and the change feed."""
    counts = runs.run_counts(connection, run_id)
    results.purge_log(connection, retention_days)
    forget_removed_targets(connection, target)
    change_feed.purge(connection)
    return counts
