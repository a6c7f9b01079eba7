"""From the change feed into the queue: each target reads the feed as a consumer of its own."""

from __future__ import annotations

import logging

import psycopg

from include.errors import ConfigurationError
from include.models.outbound import FeedCounts
from include.store import change_feed, queue, runs
from include.targets import target_classes
from include.targets.base import OutboundSyncProvider

log = logging.getLogger(__name__)

Target = type[OutboundSyncProvider]

BLOCK_SIZE = 10_000
"""Change feed entries per statement and transaction."""
CONSUMER = "outbound/"
"""Prefix of the consumer names of targets, before the identifier."""
KEEP_POSITION_DAYS = 7
"""A target that this project does not define keeps its position for this long after its last run."""


def feed_queue(connection: psycopg.Connection, target: Target, *, block_size: int = BLOCK_SIZE) -> FeedCounts:
    """Queue the objects that changed since the last call for this target.

    The first call subscribes the target: earlier changes are not sent. If an object has several changes,
    `triggered_by` is the one that comes first in the target's `triggers`; a manual trigger is kept. A change makes a
    waiting or parked row due now, and keeps its attempts.

    In autocommit mode each block is a transaction that also advances the position: after a crash, the next call
    continues with the first block that was not committed.

    Raises:
        ConfigurationError: the source of the target does not exist.
        DatabaseUnavailable: a new target could not be subscribed, because other transactions kept the tables locked.
    """
    if target.source not in change_feed.SOURCES:
        raise ConfigurationError(
            f"{target.identifier}: unknown source {target.source!r}; the sources are: {', '.join(change_feed.SOURCES)}"
        )
    consumer = CONSUMER + target.identifier
    change_feed.subscribe(connection, consumer, target.source)
    counts = FeedCounts()
    horizon = change_feed.horizon(connection)  # read what is committed by now, not what follows
    while True:
        with connection.transaction():
            block = queue.queue_changes(
                connection,
                target.identifier,
                target.source,
                target.triggers,
                consumer=consumer,
                horizon=horizon,
                limit=block_size,
            )
        counts.add(block)
        if block.read < block_size:
            return counts


def forget_removed_targets(connection: psycopg.Connection, running: Target) -> list[str]:
    """Unsubscribe targets that were removed or renamed; returns their identifiers.

    Entries of the change feed are purged once all consumers have read them, so the position of a removed target would
    keep them for ever. These targets keep theirs:

    - `running`, and all targets that this project defines;
    - all others, while any module of the project's targets cannot be imported: it may define them;
    - those that ran within the last KEEP_POSITION_DAYS: another package, or another version of this project that uses
      the same database, may define them.
    """
    try:
        known = {(target.identifier, target.source) for target in (*target_classes(), running)}
    except Exception as error:  # a target's module may raise anything
        log.warning("Targets that were removed keep their change feed: not all targets can be imported (%s)", error)
        return []
    consumers = change_feed.list_consumers(connection, CONSUMER)
    unknown = [(name, source) for name, source in consumers if (name.removeprefix(CONSUMER), source) not in known]
    if not unknown:
        return []
    sources = dict(known)
    active = runs.recent_targets(connection, KEEP_POSITION_DAYS)
    forgotten = []
    for consumer, source in unknown:
        identifier = consumer.removeprefix(CONSUMER)
        # A known target with another source is subscribed to that one: its recent runs say nothing about this one.
        if identifier in sources or identifier not in active:
            change_feed.unsubscribe(connection, consumer, source)
            log.warning("Target %s no longer exists: its changes (%s) are no longer kept for it", identifier, source)
            forgotten.append(identifier)
    return forgotten
