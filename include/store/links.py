"""Change venue links, and transfer the rows that they feed. Every function runs in the caller's transaction."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from psycopg import sql
from psycopg.rows import class_row

from include.errors import ConfigurationError
from include.models import LinkStatus, VenueLink
from include.store import Connection
from include.store.rows import as_json

MAX_NAMED = 5
"""Conflicting keys named in a message."""

# A link feeds a row if the link's provider wrote the row last, in the link's venue, and the row's key does not end in
# the id of another link between the two.
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
    """How many rows a change of provider transferred."""

    offers: int
    stocks: int
    overridden_quantities: int
    """Of the stocks, those with a manual override of the quantity: no provider fills it until it is released."""


def find_venue(connection: Connection, siret_or_id: str) -> VenueLink:
    """Return a venue by SIRET or id, as a link with id 0 and without an id at a provider.

    Raises:
        ConfigurationError: there is no such venue.
    """
    identifier = "".join(siret_or_id.split())
    column = "siret" if len(identifier) == 14 else "id::text"
    with connection.cursor(row_factory=class_row(VenueLink)) as cursor:
        venue = cursor.execute(
            sql.SQL(
                "SELECT 0::bigint AS id, id AS venue_id, '' AS venue_id_at_offer_provider, siret, name AS venue_name,"
                " departement_code, booking_email, withdrawal_details FROM venue WHERE {} = %s"
            ).format(sql.SQL(column)),
            (identifier,),
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
    """Return venue links by venue, active or not: all, those of a venue, or one; with counts of what they feed."""
    statement = _LINK.format(
        counts=sql.SQL(", offers.offers, stocks.stocks, stocks.stocks_on_sale" if with_counts else ""),
        counting=_COUNTING if with_counts else sql.SQL(""),
    )
    with connection.cursor(row_factory=class_row(LinkStatus)) as cursor:
        return cursor.execute(statement, {"venue": venue_id, "link": link_id, "limit": limit}).fetchall()


def count_links(connection: Connection, *, venue_id: int | None = None) -> int:
    """Count all venue links, or those of a venue."""
    row = connection.execute(
        "SELECT count(*) FROM venue_provider WHERE venue_id = %(venue)s OR %(venue)s::bigint IS NULL",
        {"venue": venue_id},
    ).fetchone()
    return int(row[0]) if row else 0


def lock_link(connection: Connection, link_id: int) -> LinkStatus | None:
    """Return a venue link locked until the transaction ends; None if it no longer exists."""
    connection.execute("SELECT FROM venue_provider WHERE id = %s FOR UPDATE", (link_id,))
    return next(iter(list_links(connection, link_id=link_id)), None)


def pivot_of(connection: Connection, provider_id: int, venue_id: int) -> str | None:
    """Return the venue's id at a provider from `provider_pivot`."""
    row = connection.execute(
        "SELECT id_at_provider FROM provider_pivot WHERE provider_id = %s AND venue_id = %s", (provider_id, venue_id)
    ).fetchone()
    return row[0] if row else None


def provider_is_active(connection: Connection, provider_id: int) -> bool:
    """Whether a provider's row is active."""
    row = connection.execute("SELECT is_active FROM provider WHERE id = %s", (provider_id,)).fetchone()
    return bool(row and row[0])


def insert_link(connection: Connection, link: VenueLink, provider_id: int) -> int:
    """Insert a link, active and never read; return its id."""
    row = connection.execute(
        "INSERT INTO venue_provider (venue_id, provider_id, venue_id_at_offer_provider, settings)"
        " VALUES (%s, %s, %s, %s) RETURNING id",
        (link.venue_id, provider_id, link.venue_id_at_offer_provider, as_json(link.settings)),
    ).fetchone()
    assert row is not None
    return int(row[0])


def repoint_link(connection: Connection, link: VenueLink, provider_id: int) -> None:
    """Give a link this provider and the id and settings of `link`; it is active, and the next run reads everything."""
    connection.execute(
        "UPDATE venue_provider SET provider_id = %s, venue_id_at_offer_provider = %s, settings = %s, is_active = true,"
        " last_sync_date = NULL WHERE id = %s",
        (provider_id, link.venue_id_at_offer_provider, as_json(link.settings), link.id),
    )


def switch_link(connection: Connection, link_id: int, *, is_active: bool) -> None:
    """Activate or deactivate a link; after activating, the next run reads everything."""
    connection.execute(
        "UPDATE venue_provider SET is_active = %(active)s,"
        " last_sync_date = CASE WHEN is_active OR NOT %(active)s THEN last_sync_date END WHERE id = %(link)s",
        {"active": is_active, "link": link_id},
    )


def set_settings(connection: Connection, link_id: int, settings: Mapping[str, Any]) -> None:
    """Replace the settings of a link; the next run reads everything."""
    connection.execute(
        "UPDATE venue_provider SET settings = %s, last_sync_date = NULL WHERE id = %s", (as_json(settings), link_id)
    )


def find_key_conflicts(connection: Connection, link: LinkStatus, new_id: str, key_patterns: Sequence[str]) -> list[str]:
    """Return the first keys that rows of a link would get under another id at the provider, but that exist already.

    `key_patterns` are those of the link's provider.
    """
    keys: list[str] = []
    for name, relation in _RELATIONS.items():
        row = sql.Identifier(name)
        statement = sql.SQL(
            "SELECT existing.id_at_providers FROM {relation}"
            " JOIN venue_provider AS link ON link.id = %(link)s"
            " JOIN {row} AS existing ON existing.id_at_providers = {new_key}"
            " WHERE {fed} AND {has_old_key} ORDER BY 1 LIMIT {limit}"
        ).format(
            relation=relation,
            row=row,
            new_key=_NEW_KEY.format(row=row),
            has_old_key=_HAS_OLD_KEY.format(row=row),
            fed=_FED.format(row=row),
            limit=MAX_NAMED,
        )
        keys += [f"{name} {key}" for (key,) in connection.execute(statement, _patterns(link, new_id, key_patterns))]
    return keys


def take_over(
    connection: Connection, link: LinkStatus, provider_id: int, new_id: str, key_patterns: Sequence[str]
) -> TakenOver:
    """Transfer the rows that a link feeds to a provider; unbooked quantities go off sale until it fills the rows.

    Keys that contain the id, by the old provider's `key_patterns`, get the new id. The dates of the rows came from the
    old provider and are cleared. `fields_updated` does not change.
    """
    connection.execute("SET LOCAL provider_sync.writer = 'sync'")
    parameters = {**_patterns(link, new_id, key_patterns), "provider": provider_id}
    found = connection.execute(
        sql.SQL(
            "WITH taken AS ("
            " UPDATE stock SET quantity = stock.booked_quantity, raw_provider_quantity = 0,"
            " last_provider_id = %(provider)s, date_modified_at_last_provider = NULL, id_at_providers = {key}"
            " FROM offer, venue_provider AS link WHERE link.id = %(link)s AND offer.id = stock.offer_id AND {fed}"
            " RETURNING 'quantity' = ANY(stock.fields_updated) AS is_overridden"
            ") SELECT count(*), count(*) FILTER (WHERE is_overridden) FROM taken"
        ).format(key=_key_after_change(_STOCK), fed=_FED.format(row=_STOCK)),
        parameters,
    ).fetchone()
    assert found is not None
    offers = connection.execute(
        sql.SQL(
            "UPDATE offer SET last_provider_id = %(provider)s, date_modified_at_last_provider = NULL,"
            " id_at_provider = CASE WHEN id_at_provider = id_at_providers THEN {key} ELSE id_at_provider END,"
            " id_at_providers = {key} FROM venue_provider AS link WHERE link.id = %(link)s AND {fed}"
        ).format(key=_key_after_change(_OFFER), fed=_FED.format(row=_OFFER)),
        parameters,
    ).rowcount
    return TakenOver(offers, found[0], found[1])


def forget_progress(connection: Connection, link_id: int) -> None:
    """Make unfinished operations of a link start from scratch: what they have read was for another link."""
    connection.execute(
        "UPDATE catalog_scheme_operation_instance SET cursor = NULL WHERE cursor IS NOT NULL AND catalog_id IN"
        " (SELECT id FROM catalog WHERE venue_provider_id = %s)",
        (link_id,),
    )


def give_up_rejections(connection: Connection, link_id: int, provider_id: int) -> int:
    """Close the open rejected records of a link and a provider, which will not be replayed; return how many."""
    return connection.execute(
        "UPDATE rejected_record SET resolved_at = now(), resolution = 'given up'"
        " WHERE venue_provider_id = %s AND provider_id = %s AND resolved_at IS NULL",
        (link_id, provider_id),
    ).rowcount


def _key_after_change(row: sql.Identifier) -> sql.Composed:
    return sql.SQL("CASE WHEN {has_old_key} THEN {new_key} ELSE {row}.id_at_providers END").format(
        has_old_key=_HAS_OLD_KEY.format(row=row), new_key=_NEW_KEY.format(row=row), row=row
    )


def _patterns(link: LinkStatus, new_id: str, key_patterns: Sequence[str]) -> dict[str, Any]:
    """Return the parameters of `_NEW_KEY`: a pattern for the id within keys, and the replacement with the new id."""
    around = [pattern.partition("{}") for pattern in key_patterns or ("@{}",)]
    old, new = re.escape(link.venue_id_at_offer_provider), new_id.replace("\\", "\\\\")
    pattern = "|".join(f"({re.escape(before)}){old}({re.escape(after) or '$'})" for before, _, after in around)
    groups = range(1, 2 * len(around), 2)
    begin, end = "".join(f"\\{group}" for group in groups), "".join(f"\\{group + 1}" for group in groups)
    return {"link": link.id, "old": pattern, "new": f"{begin}{new}{end}"}
