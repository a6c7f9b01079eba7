"""From the change feed into the queue: what changed since the last time is to be sent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import psycopg
from psycopg import sql

from include.errors import ConfigurationError
from include.store import change_feed
from include.targets.base import OutboundSyncProvider

Target = type[OutboundSyncProvider]

BLOCK_SIZE = 10_000
"""Entries of the feed that one statement and transaction puts into the queue."""
CONSUMER = "outbound/"
"""Each target reads the feed for itself, under this and its identifier."""

_OBJECTS = {
    "order": sql.SQL("SELECT order_id AS source_id, event_id FROM source_order"),
    "offer": sql.SQL("SELECT offer_id AS source_id, 0::bigint AS event_id FROM source_offer"),
}
_QUEUE = """
    WITH block AS MATERIALIZED ({block}), wanted AS (
        SELECT source_id, min(array_position(%(triggers)s::text[], change::text)) AS place, max(at) AS at
        FROM block WHERE change = ANY (%(triggers)s::text[]) GROUP BY source_id
    ), queued AS (
        INSERT INTO outbound_queue AS held (source, source_id, event_id, target, triggered_by, triggered_at)
        SELECT %(source)s, wanted.source_id, object.event_id, %(target)s, (%(triggers)s::text[])[place], wanted.at
        FROM wanted JOIN ({objects}) AS object ON object.source_id = wanted.source_id
        ORDER BY wanted.source_id
        ON CONFLICT (source, source_id, target, in_flight) DO UPDATE SET
            event_id = excluded.event_id,
            triggered_by = CASE WHEN array_position(%(triggers)s::text[], held.triggered_by)
                                   > array_position(%(triggers)s::text[], excluded.triggered_by)
                                THEN excluded.triggered_by ELSE held.triggered_by END,
            triggered_at = greatest(held.triggered_at, excluded.triggered_at),
            not_before = least(held.not_before, now()),
            need_manual_retry = NULL
        RETURNING held.xmax = 0 AS is_new
    ), last AS (
        SELECT txid, source_id FROM block ORDER BY block.txid DESC, source_id DESC LIMIT 1
    ), advanced AS (
        UPDATE change_feed_consumer SET last_txid = last.txid, last_id = last.source_id
        FROM last WHERE consumer = %(consumer)s AND source = %(source)s
    )
    SELECT (SELECT count(*) FROM block) AS read, count(*) FILTER (WHERE is_new) AS queued,
           count(*) FILTER (WHERE NOT is_new) AS waiting, (SELECT count(*) FROM wanted) - count(*) AS gone
    FROM queued
"""


class FeedCounts(msgspec.Struct):
    """What came of the entries of the feed that a target read.

    `queued` objects are new in the queue, `waiting` ones were in it already, `gone` ones exist no more. An object that
    changed in several blocks of entries counts in each.
    """

    read: int = 0
    queued: int = 0
    waiting: int = 0
    gone: int = 0

    def add(self, other: FeedCounts) -> None:
        """Add the counts of a block."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


def feed_queue(
    connection: psycopg.Connection[Any], targets: Iterable[Target], *, block_size: int = BLOCK_SIZE
) -> dict[str, FeedCounts]:
    """Queue for each target the objects that changed since the last time; returns the counts by identifier.

    A target that is seen for the first time begins now: what changed before is not sent. Of several changes that come
    together, or while an object waits, `triggered_by` keeps the one that stands first in the target's `triggers`, and
    a name that is not among them (a person asked for it). A change lets a waiting or parked object be tried now; the
    failures it had go on counting. Each block is one transaction, which also notes that it was read, if the
    connection is in autocommit mode: killed anywhere, the next call goes on.

    Raises:
        ConfigurationError: a target names a source that does not exist.
        DatabaseUnavailable: a new target could not be subscribed to the feed for now.
    """
    counts = {}
    for target in targets:
        if target.source not in _OBJECTS:
            raise ConfigurationError(f"{target.identifier}: there is no source {target.source!r}")
        change_feed.subscribe(connection, CONSUMER + target.identifier, target.source)
        counts[target.identifier] = _feed_target(connection, target, block_size)
    return counts


def forget_other_targets(connection: psycopg.Connection[Any], targets: Iterable[Target]) -> list[str]:
    """Let no target read the feed but these, which are all there are; returns the identifiers of the others.

    Without this, what a removed target has not read would be kept for ever.
    """
    known = {(CONSUMER + target.identifier, target.source) for target in targets}
    rows = connection.execute(
        "SELECT consumer, source FROM change_feed_consumer WHERE starts_with(consumer, %s) ORDER BY 1, 2", (CONSUMER,)
    ).fetchall()
    others = [(consumer, source) for consumer, source in rows if (consumer, source) not in known]
    for consumer, source in others:
        change_feed.unsubscribe(connection, consumer, source)
    return [consumer.removeprefix(CONSUMER) for consumer, _ in others]


def _feed_target(connection: psycopg.Connection[Any], target: Target, block_size: int) -> FeedCounts:
    """Read block after block up to what is committed when this begins."""
    counts = FeedCounts()
    horizon = change_feed.horizon(connection)
    while True:
        with connection.transaction():
            block = _queue_block(connection, target, block_size, horizon)
        counts.add(block)
        if block.read < block_size:
            return counts


def _queue_block(connection: psycopg.Connection[Any], target: Target, limit: int, horizon: int) -> FeedCounts:
    consumer = CONSUMER + target.identifier
    position = change_feed.lock_position(connection, consumer, target.source)
    statement = sql.SQL(_QUEUE).format(block=sql.SQL(change_feed.BLOCK), objects=_OBJECTS[target.source])
    parameters = {
        "source": target.source,
        "target": target.identifier,
        "consumer": consumer,
        "triggers": list(target.triggers),
        "txid": position.txid,
        "source_id": position.source_id,
        "horizon": horizon,
        "limit": limit,
    }
    row = connection.execute(statement, parameters).fetchone()
    return FeedCounts(*row) if row else FeedCounts()
