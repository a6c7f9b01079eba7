"""Providers and their venue links."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg.rows import class_row

from include.errors import ConfigurationError
from include.models import VenueLink
from include.store import Connection

_LINKS = """
    SELECT link.id, link.venue_id, link.venue_id_at_offer_provider, venue.siret, venue.name AS venue_name,
           venue.departement_code, venue.booking_email, venue.withdrawal_details, link.settings, pivot.internal_id
    FROM venue_provider AS link JOIN venue ON venue.id = link.venue_id
    LEFT JOIN provider_pivot AS pivot ON pivot.provider_id = link.provider_id AND pivot.venue_id = link.venue_id
"""


def register_provider(connection: Connection, local_class: str, name: str) -> int:
    """Return the id of the row of a provider class; insert the row if it is missing."""
    connection.execute(
        "INSERT INTO provider (name, local_class) SELECT %(name)s, %(class)s"
        " WHERE NOT EXISTS (SELECT FROM provider WHERE local_class = %(class)s) ON CONFLICT DO NOTHING",
        {"name": name, "class": local_class},
    )
    row = connection.execute("SELECT id FROM provider WHERE local_class = %s", (local_class,)).fetchone()
    if row is None:
        raise ConfigurationError(f"The provider row of {local_class} was deleted while it was read")
    return int(row[0])


def find_links(connection: Connection, provider_id: int, requested: Sequence[str] = ()) -> list[VenueLink]:
    """Return the active venue links of a provider, by id; `requested` limits them to link ids or SIRETs.

    Raises:
        ConfigurationError: a requested link does not exist or is not active; the message lists the active links.
    """
    with connection.cursor(row_factory=class_row(VenueLink)) as cursor:
        links = cursor.execute(
            _LINKS + " WHERE link.provider_id = %s AND link.is_active ORDER BY link.id", (provider_id,)
        ).fetchall()
    if not requested:
        return links
    chosen = [link for link in links if str(link.id) in requested or link.siret in requested]
    missing = set(requested) - {str(link.id) for link in chosen} - {str(link.siret) for link in chosen}
    if missing:
        known = ", ".join(f"{link.id} (SIRET {link.siret}, {link.venue_name})" for link in links[:20])
        more = f" and {len(links) - 20} more" if len(links) > 20 else ""
        raise ConfigurationError(
            f"No active venue link {', '.join(sorted(missing))}; the active ones are: {known or 'none'}{more}"
        )
    return chosen


def load_link(connection: Connection, venue_provider_id: int) -> VenueLink:
    """Return a venue link, active or not.

    Raises:
        ConfigurationError: it no longer exists.
    """
    with connection.cursor(row_factory=class_row(VenueLink)) as cursor:
        link = cursor.execute(_LINKS + " WHERE link.id = %s", (venue_provider_id,)).fetchone()
    if link is None:
        raise ConfigurationError(f"Venue link {venue_provider_id} no longer exists")
    return link


def is_active(connection: Connection, provider_id: int, venue_provider_id: int | None) -> bool:
    """Whether the provider and the link, if any, are active; False if the link now belongs to another provider."""
    row = connection.execute(
        "SELECT provider.is_active"
        " AND coalesce(link.is_active AND link.provider_id = provider.id, %(link)s::bigint IS NULL)"
        " FROM provider LEFT JOIN venue_provider AS link ON link.id = %(link)s WHERE provider.id = %(provider)s",
        {"provider": provider_id, "link": venue_provider_id},
    ).fetchone()
    return bool(row and row[0])


def is_current(connection: Connection, link: VenueLink) -> bool:
    """Whether a venue link still has the id at the provider and the settings that it was loaded with."""
    row = connection.execute(
        "SELECT venue_id_at_offer_provider, settings FROM venue_provider WHERE id = %s", (link.id,)
    ).fetchone()
    return row is not None and tuple(row) == (link.venue_id_at_offer_provider, link.settings)
