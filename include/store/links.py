"""Venue links as people change them, and the rows that follow. Every function works in the caller's transaction."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from include.errors import ConfigurationError
from include.models import LinkStatus, VenueLink
from include.store.rows import as_json

Connection = psycopg.Connection[Any]

MAX_NAMED = 5
"""Keys named in the message about a collision."""

# A row is fed by a link if the link's provider wrote it last, in the link's venue, and if its key does not end in the
# id of another link of the two.
_FED = sql.SQL("""
    {row}.last_provider_id = link.provider_id AND offer.venue_id = link.venue_id AND NOT EXISTS (
        SELECT FROM venue_provider AS other
        WHERE other.venue_id = link.venue_id AND other.provider_id = link.provider_id AND other.id <> link.id
        AND right({row}.id_at_providers, length(other.venue_id_at_offer_provider) + 1)
            = '@' || other.venue_id_at_offer_provider
    )
""")
_OFFER, _STOCK = sql.Identifier("offer"), sql.Identifier("stock")
_NEW_KEY = sql.SQL("regexp_replace({row}.id_at_providers, %(old)s, %(new)s)")
_HAS_OLD_KEY = sql.SQL("{row}.id_at_providers ~ %(old)s")
_RELATIONS = {
    "offer": sql.SQL("offer"),
    "stock": sql.SQL("stock JOIN offer ON offer.id = stock.offer_id"),
}
_LINK = sql.SQL("""
    SELECT link.id, link.venue_id, link.venue_id_at_offer_provider, venue.siret, venue.name AS venue_name,
           venue.departement_code, venue.booking_email, venue.withdrawal_details, link.settings,
           provider.local_class AS provider, link.provider_id, link.is_active, link.last_sync_date{counts}
    FROM (
        SELECT * FROM venue_provider
        WHERE (id = %(link)s OR %(link)s::bigint IS NULL) AND (venue_id = %(venue)s OR %(venue)s::bigint IS NULL)
        ORDER BY id LIMIT %(limit)s
    ) AS link JOIN venue ON venue.id = link.venue_id JOIN provider ON provider.id = link.provider_id {counting}
    ORDER BY venue.name, link.id
""")
_COUNTING = sql.SQL("""
    CROSS JOIN LATERAL (SELECT count(*) AS offers FROM offer WHERE {offer_fed}) AS offers
    CROSS JOIN LATERAL (
        SELECT count(*) AS stocks, count(*) FILTER (
            WHERE offer.is_active AND NOT stock.is_soft_deleted
            AND (stock.quantity IS NULL OR stock.quantity > stock.booked_quantity)
            AND coalesce(least(stock.booking_limit_datetime, stock.beginning_datetime) > now(), true)
        ) AS stocks_on_sale
        FROM stock JOIN offer ON offer.id = stock.offer_id WHERE {stock_fed}
    ) AS stocks
""").format(offer_fed=_FED.format(row=_OFFER), stock_fed=_FED.format(row=_STOCK))


class TakenOver(NamedTuple):
    """What a change of provider did to a venue's rows."""

    offers: int
    stocks: int
    held_quantities: int
    """Stocks whose quantity a person has edited: no provider fills it before it is released."""


def find_venue(connection: Connection, siret_or_id: str) -> VenueLink:
    """A venue by SIRET or id, as a link to be: with the id 0 and without an id at a provider.

    Raises:
        ConfigurationError: there is none.
    """
    asked = "".join(siret_or_id.split())
    column = "siret" if len(asked) == 14 else "id::text"
    with connection.cursor(row_factory=class_row(VenueLink)) as cursor:
        venue = cursor.execute(
            sql.SQL(
                "SELECT 0::bigint AS id, id AS venue_id, '' AS venue_id_at_offer_provider, siret, name AS venue_name,"
                " departement_code, booking_email, withdrawal_details FROM venue WHERE {} = %s"
            ).format(sql.SQL(column)),
            (asked,),
        ).fetchone()
    if venue is None:
        raise ConfigurationError(
            f"There is no venue {siret_or_id!r}: give the SIRET (14 digits) or id of a row of venue"
        )
    return venue


def list_links(
    connection: Connection,
    *,
    venue_id: int | None = None,
    link_id: int | None = None,
    limit: int | None = None,
    with_counts: bool = False,
) -> list[LinkStatus]:
    """Venue links by venue, active or not: all, those of a venue, or one. What they feed is counted if asked for."""
    statement = _LINK.format(
        counts=sql.SQL(", offers.offers, stocks.stocks, stocks.stocks_on_sale" if with_counts else ""),
        counting=_COUNTING if with_counts else sql.SQL(""),
    )
    with connection.cursor(row_factory=class_row(LinkStatus)) as cursor:
        return cursor.execute(statement, {"venue": venue_id, "link": link_id, "limit": limit}).fetchall()


def count_links(connection: Connection, *, venue_id: int | None = None) -> int:
    """How many venue links there are, or how many a venue has."""
    row = connection.execute(
        "SELECT count(*) FROM venue_provider WHERE venue_id = %(venue)s OR %(venue)s::bigint IS NULL",
        {"venue": venue_id},
    ).fetchone()
    return int(row[0]) if row else 0


def lock_link(connection: Connection, link_id: int) -> LinkStatus | None:
    """A venue link as it is now, locked until the transaction ends; None if it is gone."""
    connection.execute("SELECT FROM venue_provider WHERE id = %s FOR UPDATE", (link_id,))
    return next(iter(list_links(connection, link_id=link_id)), None)


def pivot_of(connection: Connection, provider_id: int, venue_id: int) -> str | None:
    """What a provider calls a venue by `provider_pivot`."""
    row = connection.execute(
        "SELECT id_at_provider FROM provider_pivot WHERE provider_id = %s AND venue_id = %s", (provider_id, venue_id)
    ).fetchone()
    return row[0] if row else None


def provider_is_active(connection: Connection, provider_id: int) -> bool:
    """Whether a provider's row is active."""
    row = connection.execute("SELECT is_active FROM provider WHERE id = %s", (provider_id,)).fetchone()
    return bool(row and row[0])


def insert_link(connection: Connection, link: VenueLink, provider_id: int) -> int:
    """Write a new link, active and never synchronised; returns its id."""
    row = connection.execute(
        "INSERT INTO venue_provider (venue_id, provider_id, venue_id_at_offer_provider, settings)"
        " VALUES (%s, %s, %s, %s) RETURNING id",
        (link.venue_id, provider_id, link.venue_id_at_offer_provider, as_json(link.settings)),
    ).fetchone()
    assert row is not None
    return int(row[0])


def repoint_link(connection: Connection, link: VenueLink, provider_id: int) -> None:
    """Make a link one of this provider, with the id and settings of `link`: active, and to be read wholly."""
    connection.execute(
        "UPDATE venue_provider SET provider_id = %s, venue_id_at_offer_provider = %s, settings = %s, is_active = true,"
        " last_sync_date = NULL WHERE id = %s",
        (provider_id, link.venue_id_at_offer_provider, as_json(link.settings), link.id),
    )


def switch_link(connection: Connection, link_id: int, *, is_active: bool) -> None:
    """Activate or deactivate a link; one that was not active is to be read wholly."""
    connection.execute(
        "UPDATE venue_provider SET is_active = %(active)s,"
        " last_sync_date = CASE WHEN is_active OR NOT %(active)s THEN last_sync_date END WHERE id = %(link)s",
        {"active": is_active, "link": link_id},
    )


def set_settings(connection: Connection, link_id: int, settings: Mapping[str, Any]) -> None:
    """Give a link other settings; it is to be read wholly."""
    connection.execute(
        "UPDATE venue_provider SET settings = %s, last_sync_date = NULL WHERE id = %s", (as_json(settings), link_id)
    )


def keys_in_the_way(connection: Connection, link: LinkStatus, new_id: str, marks: Sequence[str]) -> list[str]:
    """Keys that rows of a link would get under another id at the provider, and that other rows have; a few of them.

    `marks` are the provider's `key_patterns`.
    """
    keys: list[str] = []
    for name, relation in _RELATIONS.items():
        row = sql.Identifier(name)
        statement = sql.SQL(
            "SELECT held.id_at_providers FROM {relation}"
            " JOIN venue_provider AS link ON link.id = %(link)s"
            " JOIN {row} AS held ON held.id_at_providers = {new_key}"
            " WHERE {fed} AND {has_old_key} ORDER BY 1 LIMIT {limit}"
        ).format(
            relation=relation,
            row=row,
            new_key=_NEW_KEY.format(row=row),
            has_old_key=_HAS_OLD_KEY.format(row=row),
            fed=_FED.format(row=row),
            limit=MAX_NAMED,
        )
        keys += [f"{name} {key}" for (key,) in connection.execute(statement, _patterns(link, new_id, marks))]
    return keys


def take_over(
    connection: Connection, link: LinkStatus, provider_id: int, new_id: str, marks: Sequence[str]
) -> TakenOver:
    """Give the rows that a link feeds to a provider; what is not booked goes off sale until that one has filled it.

    Where keys hold the id, as the provider's `key_patterns` say, they hold the new one then. The dates of the rows were
    the old provider's and are forgotten. `fields_updated` stays as it is.
    """
    connection.execute("SET LOCAL provider_sync.writer = 'sync'")
    given = {**_patterns(link, new_id, marks), "provider": provider_id}
    found = connection.execute(
        sql.SQL(
            "WITH taken AS ("
            " UPDATE stock SET quantity = stock.booked_quantity, raw_provider_quantity = 0,"
            " last_provider_id = %(provider)s, date_modified_at_last_provider = NULL, id_at_providers = {key}"
            " FROM offer, venue_provider AS link WHERE link.id = %(link)s AND offer.id = stock.offer_id AND {fed}"
            " RETURNING 'quantity' = ANY(stock.fields_updated) AS is_held"
            ") SELECT count(*), count(*) FILTER (WHERE is_held) FROM taken"
        ).format(key=_kept_or_new_key(_STOCK), fed=_FED.format(row=_STOCK)),
        given,
    ).fetchone()
    assert found is not None
    offers = connection.execute(
        sql.SQL(
            "UPDATE offer SET last_provider_id = %(provider)s, date_modified_at_last_provider = NULL,"
            " id_at_provider = CASE WHEN id_at_provider = id_at_providers THEN {key} ELSE id_at_provider END,"
            " id_at_providers = {key} FROM venue_provider AS link WHERE link.id = %(link)s AND {fed}"
        ).format(key=_kept_or_new_key(_OFFER), fed=_FED.format(row=_OFFER)),
        given,
    ).rowcount
    return TakenOver(offers, found[0], found[1])


def forget_progress(connection: Connection, link_id: int) -> None:
    """Let unfinished operations of a link start over when they are tried again: what they read was for another link."""
    connection.execute(
        "UPDATE catalog_scheme_operation_instance SET cursor = NULL WHERE cursor IS NOT NULL AND catalog_id IN"
        " (SELECT id FROM catalog WHERE venue_provider_id = %s)",
        (link_id,),
    )


def give_up_rejections(connection: Connection, link_id: int, provider_id: int) -> int:
    """Close the rejected records that a link has open with a provider, which will not be replayed; returns how many."""
    return connection.execute(
        "UPDATE rejected_record SET resolved_at = now(), resolution = 'given up'"
        " WHERE venue_provider_id = %s AND provider_id = %s AND resolved_at IS NULL",
        (link_id, provider_id),
    ).rowcount


def _kept_or_new_key(row: sql.Identifier) -> sql.Composed:
    return sql.SQL("CASE WHEN {has_old_key} THEN {new_key} ELSE {row}.id_at_providers END").format(
        has_old_key=_HAS_OLD_KEY.format(row=row), new_key=_NEW_KEY.format(row=row), row=row
    )


def _patterns(link: LinkStatus, new_id: str, marks: Sequence[str]) -> dict[str, Any]:
    """Where keys hold the link's id, and what stands there with the new one, as `regexp_replace` takes it."""
    around = [mark.partition("{}") for mark in marks or ("@{}",)]
    old, new = re.escape(link.venue_id_at_offer_provider), new_id.replace("\\", "\\\\")
    pattern = "|".join(f"({re.escape(before)}){old}({re.escape(after) or '$'})" for before, _, after in around)
    groups = range(1, 2 * len(around), 2)
    begin, end = "".join(f"\\{group}" for group in groups), "".join(f"\\{group + 1}" for group in groups)
    return {"link": link.id, "old": pattern, "new": f"{begin}{new}{end}"}
