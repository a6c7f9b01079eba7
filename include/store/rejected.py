"""SQL of rejected records, which are stored with their payload, personal fields masked, until the retention time ends.

A record is open until it is resolved: replayed, rejected again, listed again, or given up.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import NamedTuple

from psycopg import sql
from psycopg.rows import class_row

from include.store import Connection
from include.store.ledger import Instance, Place


class RejectedRow(NamedTuple):
    """A record to store: class name and key of the object, the reason, and the masked payload."""

    model: str | None
    key: str | None
    reason: str
    payload: str | None


class Example(NamedTuple):
    """A rejected record as a task log names it."""

    id: int
    reference: str | None
    reason: str


class OpenRecord(NamedTuple):
    """An open rejected record."""

    id: int
    key: str
    is_record: bool
    """Whether no object could be read from it: `key` is then what the keys of its objects begin with."""
    requested_at: datetime
    """When its page was requested."""


class OpenPayload(NamedTuple):
    """An open rejected record with its payload; `requested_at` is the latest one of the rows with this payload."""

    id: int
    payload: str
    requested_at: datetime
    first_id: int
    """The first open row with this payload."""
    model: str | None
    key: str | None


def _is_open(alias: str, place: Place) -> sql.Composed:
    """The condition that a row of `alias` is an open record of this place."""
    return sql.SQL("{0}.provider_id = {1} AND {2} AND {0}.resolved_at IS NULL").format(
        sql.Identifier(alias), place.provider_id, place.of_link(alias)
    )


def _has_payload(alias: str, place: Place) -> sql.Composed:
    """The condition that a row of `alias` is an open record of this place that can be replayed."""
    return sql.SQL("{} AND {} IS NOT NULL").format(_is_open(alias, place), sql.Identifier(alias, "payload"))


def save_rejections(
    connection: Connection, instance: Instance, rows: Iterable[RejectedRow], requested_at: datetime
) -> None:
    """Store rejected records, in the transaction of their chunk; `requested_at` is the date of its undated records."""
    statement = (
        "COPY rejected_record (provider_id, venue_provider_id, instance_id, asked_at, model, id_at_providers, reason,"
        " payload) FROM STDIN"
    )
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row((instance.provider_id, instance.venue_provider_id, instance.id, requested_at, *row))


def delete_open(connection: Connection, instance_id: int) -> None:
    """Delete the open records of an instance that starts over."""
    connection.execute("DELETE FROM rejected_record WHERE instance_id = %s AND resolved_at IS NULL", (instance_id,))


def links_with_rejections(connection: Connection, provider_id: int) -> set[int | None]:
    """Return the venue links of a provider (None for one without) that have records to replay."""
    found = connection.execute(
        "SELECT DISTINCT venue_provider_id FROM rejected_record"
        " WHERE provider_id = %s AND resolved_at IS NULL AND payload IS NOT NULL",
        (provider_id,),
    )
    return {row[0] for row in found}


def rejected_examples(connection: Connection, instance_id: int, count: int = 5) -> list[Example]:
    """Return the first records that an instance rejected."""
    with connection.cursor(row_factory=class_row(Example)) as cursor:
        return cursor.execute(
            "SELECT id, id_at_providers AS reference, reason FROM rejected_record WHERE instance_id = %s"
            " ORDER BY id LIMIT %s",
            (instance_id, count),
        ).fetchall()


def open_records(connection: Connection, place: Place, limit: int) -> list[OpenRecord]:
    """Return the newest open records of a place that have a key."""
    statement = sql.SQL(
        "SELECT id, id_at_providers AS key, model IS NULL AS is_record, coalesce(asked_at, created_at) AS requested_at"
        " FROM rejected_record WHERE {} AND id_at_providers IS NOT NULL ORDER BY id DESC LIMIT %s"
    ).format(_is_open("rejected_record", place))
    with connection.cursor(row_factory=class_row(OpenRecord)) as cursor:
        return cursor.execute(statement, (limit,)).fetchall()


def resolve_listed_again(connection: Connection, records: Collection[OpenRecord]) -> None:
    """Resolve records that a chunk lists again, in its transaction."""
    connection.execute(
        "UPDATE rejected_record SET resolved_at = clock_timestamp(), resolution = 'listed again'"
        " WHERE id = ANY(%s) AND resolved_at IS NULL",
        ([record.id for record in records],),
    )


def resolve_before(connection: Connection, instance: Instance) -> None:
    """Resolve what other instances rejected at this place before an instance began that has read everything since."""
    connection.execute(
        sql.SQL(
            "UPDATE rejected_record SET resolved_at = clock_timestamp(), resolution = 'listed again'"
            " WHERE {} AND instance_id IS DISTINCT FROM %s AND coalesce(asked_at, created_at) < %s"
        ).format(_is_open("rejected_record", instance.place)),
        (instance.id, instance.started_at),
    )


def open_payloads(connection: Connection, instance: Instance, after: int, limit: int) -> list[OpenPayload]:
    """Return the `limit` records after an id that a replay reads next, without those that it has rejected itself."""
    statement = sql.SQL(
        "WITH page AS MATERIALIZED ("
        " SELECT record.id, record.payload, record.model, record.id_at_providers FROM rejected_record AS record"
        " WHERE {record_is_open} AND record.instance_id IS DISTINCT FROM %(instance)s AND record.id > %(after)s"
        " ORDER BY record.id LIMIT %(limit)s"
        ") SELECT page.id, page.payload, alike.requested_at, alike.first_id, page.model, page.id_at_providers AS key"
        " FROM page CROSS JOIN LATERAL ("
        " SELECT max(coalesce(same.asked_at, same.created_at)) AS requested_at, min(same.id) AS first_id"
        " FROM rejected_record AS same WHERE {same_is_open} AND same.instance_id IS DISTINCT FROM %(instance)s"
        " AND md5(same.payload) = md5(page.payload) AND same.payload = page.payload"
        ") AS alike ORDER BY page.id"
    ).format(record_is_open=_has_payload("record", instance.place), same_is_open=_has_payload("same", instance.place))
    with connection.cursor(row_factory=class_row(OpenPayload)) as cursor:
        return cursor.execute(statement, {"instance": instance.id, "after": after, "limit": limit}).fetchall()


def resolve_payloads(connection: Connection, place: Place, resolutions: Collection[tuple[str, str]]) -> None:
    """Resolve all open records with these payloads as `replayed` or `rejected again`, in the transaction of the chunk.

    A payload that a person has changed since it was read stays open.
    """
    connection.execute(
        sql.SQL(
            "UPDATE rejected_record AS same SET resolved_at = clock_timestamp(), resolution = done.resolution"
            " FROM unnest(%s::text[], %s::text[]) AS done (payload, resolution)"
            " WHERE {} AND md5(same.payload) = md5(done.payload) AND same.payload = done.payload"
        ).format(_has_payload("same", place)),
        ([payload for payload, _ in resolutions], [resolution for _, resolution in resolutions]),
    )
