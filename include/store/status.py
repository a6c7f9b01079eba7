"""The status of everything that is synced: one row per venue link, search index and outbound target. Read-only."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec
import psycopg
from psycopg.rows import class_row


class LinkStatus(msgspec.Struct):
    """A venue link, or a provider without any, with its last load. Dry runs and replays do not count.

    :param read_at: the watermark, which is the start of the last complete sync.
    :param state: state of the last load; like the counts, None before the first load.
    :param is_abandoned: the load was closed before the venue was read, or the process that read it has died.
    """

    provider: str
    local_class: str
    venue: str | None
    venue_provider_id: int | None
    is_active: bool
    read_at: datetime | None
    state: str | None
    is_abandoned: bool
    checked: int | None
    created: int | None
    updated: int | None
    rejected: int | None
    attempts: int | None
    started_at: datetime | None
    finished_at: datetime | None
    error: str | None
    run_id: str | None


class IndexStatus(msgspec.Struct):
    """A search index.

    :param checked_at: when a run last read Algolia's log.
    :param rebuilt_at: when the index was last rebuilt, as far as a run has seen it.
    :param patched_at: when the last patch was finished.
    :param changed: number of records that the last patch changed.
    :param error: why the open pass failed.
    """

    index_name: str
    application_id: str
    records: int | None
    checked_at: datetime | None
    rebuilt_at: datetime | None
    patched_at: datetime | None
    changed: int | None
    error: str | None


class TargetStatus(msgspec.Struct):
    """An outbound target.

    :param queued: orders that wait for their first attempt.
    :param sending: orders that a worker is sending.
    :param to_retry: orders that failed and are retried.
    :param parked: orders that failed and wait for a person.
    :param ran_at: when the last run finished.
    :param sent: orders that the last run sent.
    :param down: why the target was unavailable to the last run.
    """

    target: str
    queued: int
    sending: int
    to_retry: int
    parked: int
    ran_at: datetime | None
    sent: int | None
    down: str | None


# Dry runs write nothing and replays read no listing, so neither shows the status of a venue. `last` finds the last
# loads of all links in one scan. A running load was abandoned if its advisory lock is free; see
# `include.store.locks.link_lock`.
_LINKS = """
    WITH link AS (
        SELECT venue_provider.id, provider.id AS provider_id, provider.name AS provider, provider.local_class,
               venue.name AS venue, provider.is_active AND venue_provider.is_active AS is_active,
               venue_provider.last_sync_date AS read_at
        FROM venue_provider JOIN provider ON provider.id = venue_provider.provider_id
        JOIN venue ON venue.id = venue_provider.venue_id
        UNION ALL
        SELECT NULL, provider.id, name, local_class, NULL, is_active, last_sync_date
        FROM provider WHERE NOT EXISTS (SELECT FROM venue_provider WHERE provider_id = provider.id)
    ), last AS MATERIALIZED (
        SELECT DISTINCT ON (scheme.provider_id, catalog.venue_provider_id)
               scheme.provider_id, catalog.venue_provider_id, instance.id, root.closed_at
        FROM catalog_scheme_operation_instance AS instance
        JOIN catalog ON catalog.id = instance.catalog_id
        JOIN catalog AS root ON root.id = coalesce(catalog.parent_id, catalog.id)
        JOIN catalog_scheme AS scheme ON scheme.id = catalog.catalog_scheme_id
        WHERE (root.parameters ->> 'dry_run')::boolean IS NOT TRUE
          AND (root.parameters ->> 'replay')::boolean IS NOT TRUE
        ORDER BY scheme.provider_id, catalog.venue_provider_id, instance.id DESC
    ), lock AS MATERIALIZED (
        SELECT (classid::bigint << 32) | objid::bigint AS key FROM pg_locks
        WHERE locktype = 'advisory' AND objsubid = 1 AND granted
          AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    )
    SELECT link.provider, link.local_class, link.venue, link.id AS venue_provider_id, link.is_active, link.read_at,
           load.state, load.checked, load.created, load.updated, load.rejected, load.attempts, load.started_at,
           load.finished_at, load.error, load.run_id,
           coalesce(CASE load.state
               WHEN 'new' THEN last.closed_at IS NOT NULL
               WHEN 'running' THEN hashtextextended(
                   format('provider-sync/%%s/%%s', link.provider_id, coalesce(link.id, 0)), 0
               ) NOT IN (SELECT key FROM lock)
           END, false) AS is_abandoned
    FROM link
    LEFT JOIN last ON last.provider_id = link.provider_id
        AND coalesce(last.venue_provider_id, 0) = coalesce(link.id, 0)
    LEFT JOIN load_report AS load ON load.instance_id = last.id
    WHERE %(providers)s::text[] IS NULL OR link.local_class = ANY (%(providers)s)
    ORDER BY link.provider, link.venue NULLS FIRST, link.id
"""

_INDICES = """
    SELECT index.index_name, index.application_id, index.records, index.checked_at, rebuilt.moved_at AS rebuilt_at,
           patched.finished_at AS patched_at, patched.changed, open.error
    FROM search_index AS index
    LEFT JOIN LATERAL (
        SELECT max((move ->> 'at')::timestamptz) AS moved_at
        FROM search_pass JOIN LATERAL jsonb_array_elements(search_pass.moves) AS move ON true
        WHERE (search_pass.application_id, search_pass.index_name) = (index.application_id, index.index_name)
    ) AS rebuilt ON true
    LEFT JOIN LATERAL (
        SELECT id, max(finished_at) AS finished_at, sum(changed)::bigint AS changed FROM search_report
        WHERE (application_id, index_name) = (index.application_id, index.index_name) AND state = 'done' AND NOT dry_run
        GROUP BY id ORDER BY id DESC LIMIT 1
    ) AS patched ON true
    LEFT JOIN search_pass AS open ON open.application_id = index.application_id
        AND open.index_name = index.index_name AND open.state = 'open'
    WHERE %(dag)s::text IS NULL OR EXISTS (
        SELECT FROM search_pass WHERE starts_with(search_pass.run_id, %(dag)s || '/')
          AND (search_pass.application_id, search_pass.index_name) = (index.application_id, index.index_name)
    )
    ORDER BY index.index_name, index.application_id
"""

_TARGETS = """
    WITH target AS (
        SELECT unnest(%(targets)s::text[]) AS name
        UNION SELECT target FROM outbound_queue WHERE %(all)s
        UNION SELECT target FROM outbound_run WHERE %(all)s
    )
    SELECT target.name AS target, queue.queued, queue.sending, queue.to_retry, queue.parked,
           run.finished_at AS ran_at, run.orders_sent::bigint AS sent, run.down
    FROM target CROSS JOIN LATERAL (
        SELECT
            count(*) FILTER (WHERE in_flight) AS sending,
            count(*) FILTER (WHERE NOT in_flight AND need_manual_retry IS NOT NULL) AS parked,
            count(*) FILTER (WHERE NOT in_flight AND need_manual_retry IS NULL AND failed_attempts > 0) AS to_retry,
            count(*) FILTER (WHERE NOT in_flight AND need_manual_retry IS NULL AND failed_attempts = 0) AS queued
        FROM outbound_queue WHERE outbound_queue.target = target.name
    ) AS queue LEFT JOIN LATERAL (
        SELECT finished_at, orders_sent, down FROM outbound_report
        WHERE outbound_report.target = target.name ORDER BY started_at DESC LIMIT 1
    ) AS run ON true
    ORDER BY target.name
"""


def link_statuses(connection: psycopg.Connection[object], providers: Sequence[str] | None = None) -> list[LinkStatus]:
    """Return the status of venue links and of providers without any; `providers` limits it to these `local_class`es."""
    with connection.cursor(row_factory=class_row(LinkStatus)) as cursor:
        return cursor.execute(_LINKS, {"providers": None if providers is None else list(providers)}).fetchall()


def index_statuses(connection: psycopg.Connection[object], dag_id: str | None = None) -> list[IndexStatus]:
    """Return the status of search indices; `dag_id` limits it to those that this DAG has patched."""
    with connection.cursor(row_factory=class_row(IndexStatus)) as cursor:
        return cursor.execute(_INDICES, {"dag": dag_id}).fetchall()


def target_statuses(
    connection: psycopg.Connection[object], targets: Sequence[str], *, only_these: bool = False
) -> list[TargetStatus]:
    """Return the status of these targets and, unless `only_these`, of all others that have a queue or have run."""
    with connection.cursor(row_factory=class_row(TargetStatus)) as cursor:
        return cursor.execute(_TARGETS, {"targets": list(targets), "all": not only_these}).fetchall()
