"""Open problems: what is failing, and what waits for a person. Read-only; `include.store.status` has failed loads."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec
import psycopg
from psycopg.rows import class_row


class Rejections(msgspec.Struct):
    """Unresolved rejected records of a venue with the same reason.

    :param replayable: number of those whose payload is still stored.
    :param example_id: id of the newest; `reference` and `run_id` are its key and its run.
    """

    provider: str
    local_class: str
    venue: str
    reason: str
    count: int
    replayable: int
    example_id: int
    reference: str | None
    run_id: str | None
    since: datetime


class UnsentOrder(msgspec.Struct):
    """An order or offer that could not be sent.

    :param reason: why it is parked until a person acts; None if it is retried at `next_try_at`.
    """

    target: str
    code: str
    event: str | None
    reason: str | None
    messages: list[str]
    failed_attempts: int
    next_try_at: datetime | None


class SearchProblem(msgspec.Struct):
    """A search index whose last pass failed or left records unpatched.

    :param refused: number of records that could not be patched.
    :param refusals: reasons by the ids of some of these records.
    """

    index_name: str
    error: str | None
    refused: int
    refusals: dict[str, str]
    at: datetime
    run_id: str | None


class Incident(msgspec.Struct):
    """A DAG that has been failing since `began_at`."""

    subject: str
    began_at: datetime
    last_at: datetime
    failures: int
    error: str


class OffSale(msgspec.Struct):
    """Booked stocks of a venue that its provider no longer lists."""

    provider: str | None
    venue: str
    stocks: int
    booked: int
    example_id: int
    example: str


_REJECTIONS = """
    SELECT example.provider, provider.local_class, example.venue, waiting.reason, waiting.count, waiting.replayable,
           waiting.example_id, example.reference, example.run_id, waiting.since
    FROM (
        SELECT provider_id, reason, count(*) AS count, count(payload) AS replayable, max(id) AS example_id,
               min(created_at) AS since
        FROM rejected_record WHERE resolved_at IS NULL GROUP BY provider_id, venue_provider_id, reason
    ) AS waiting
    JOIN provider ON provider.id = waiting.provider_id JOIN rejected_report AS example ON example.id = example_id
    WHERE %(providers)s::text[] IS NULL OR provider.local_class = ANY (%(providers)s)
    ORDER BY waiting.count DESC, example.provider, example.venue, waiting.reason
"""

_UNSENT = """
    SELECT target, code, event, reason, messages, failed_attempts, next_try_at FROM outbound_problems
    WHERE %(targets)s::text[] IS NULL OR target = ANY (%(targets)s)
    ORDER BY reason IS NULL, target, triggered_at, code
"""

# Each pass reads the whole index, so the last one shows its state.
_SEARCH = """
    SELECT pass.index_name, pass.error, coalesce((pass.report ->> 'refused_count')::bigint, 0) AS refused,
           coalesce(pass.report -> 'refused', '{}') AS refusals, coalesce(pass.finished_at, pass.started_at) AS at,
           pass.run_id
    FROM search_index AS index CROSS JOIN LATERAL (
        SELECT * FROM search_pass WHERE NOT dry_run
          AND (search_pass.application_id, search_pass.index_name) = (index.application_id, index.index_name)
        ORDER BY id DESC LIMIT 1
    ) AS pass
    WHERE (pass.error IS NOT NULL OR (pass.report ->> 'refused_count')::bigint > 0)
      AND (%(dag)s::text IS NULL OR starts_with(pass.run_id, %(dag)s || '/'))
    ORDER BY pass.index_name
"""

_INCIDENTS = """
    SELECT subject, began_at, last_at, failures, error FROM failure_episode
    WHERE %(dag)s::text IS NULL OR subject = %(dag)s ORDER BY began_at
"""

_OFF_SALE = """
    SELECT gone.provider, gone.venue, count(*) AS stocks, sum(gone.booked_quantity)::bigint AS booked,
           min(gone.stock_id) AS example_id, (array_agg(gone.offer ORDER BY gone.stock_id))[1] AS example
    FROM gone_with_bookings AS gone JOIN stock ON stock.id = gone.stock_id
    LEFT JOIN provider ON provider.id = stock.last_provider_id
    WHERE %(providers)s::text[] IS NULL OR provider.local_class = ANY (%(providers)s)
    GROUP BY gone.provider, gone.venue ORDER BY gone.provider, gone.venue
"""


def rejections(connection: psycopg.Connection[object], providers: Sequence[str] | None = None) -> list[Rejections]:
    """Return unresolved rejected records by provider, venue and reason, the most frequent first."""
    with connection.cursor(row_factory=class_row(Rejections)) as cursor:
        return cursor.execute(_REJECTIONS, {"providers": _listed(providers)}).fetchall()


def unsent_orders(connection: psycopg.Connection[object], targets: Sequence[str] | None = None) -> list[UnsentOrder]:
    """Return what could not be sent to these targets (None: all): parked ones first, then the oldest first."""
    with connection.cursor(row_factory=class_row(UnsentOrder)) as cursor:
        return cursor.execute(_UNSENT, {"targets": _listed(targets)}).fetchall()


def search_problems(connection: psycopg.Connection[object], dag_id: str | None = None) -> list[SearchProblem]:
    """Return the indices with problems; `dag_id` limits them to passes of this DAG."""
    with connection.cursor(row_factory=class_row(SearchProblem)) as cursor:
        return cursor.execute(_SEARCH, {"dag": dag_id}).fetchall()


def incidents(connection: psycopg.Connection[object], dag_id: str | None = None) -> list[Incident]:
    """Return open incidents, the oldest first; `dag_id` limits them to this DAG."""
    with connection.cursor(row_factory=class_row(Incident)) as cursor:
        return cursor.execute(_INCIDENTS, {"dag": dag_id}).fetchall()


def off_sale(connection: psycopg.Connection[object], providers: Sequence[str] | None = None) -> list[OffSale]:
    """Return booked stocks that a complete listing no longer had, by venue."""
    with connection.cursor(row_factory=class_row(OffSale)) as cursor:
        return cursor.execute(_OFF_SALE, {"providers": _listed(providers)}).fetchall()


def count_overrides(connection: psycopg.Connection[object]) -> int:
    """Return the number of manual overrides."""
    row = connection.execute("SELECT count(*) FROM fields_held_back").fetchone()
    return int(row[0]) if isinstance(row, tuple) else 0


def _listed(names: Sequence[str] | None) -> list[str] | None:
    return None if names is None else list(names)
