"""The bookshops, the books they have, and what the tables must come to: all of it from numbers, in any amount."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import psycopg

from include.inbound.loads import register_providers

SUPPLIERS = ("TiteLiveStocks", "FnacStocks", "LibrairesStocks", "PraxielStocks")
"""The provider classes, in the order of their numbers."""
PAGE_SIZE = 1000


class Record(NamedTuple):
    """A book that a venue has."""

    ref: str
    available: int
    price: int


class Sums(NamedTuple):
    """What the offers and stocks of a supplier come to."""

    offers: int
    stocks: int
    quantity: int


@dataclass(frozen=True)
class Shops:
    """So many venues per supplier, with so many books each out of some more that all know."""

    venues: int
    books: int

    @property
    def pool(self) -> int:
        """How many books there are."""
        return 2 * self.books

    def first_book(self, venue: int) -> int:
        """A venue has the books from this one on."""
        return venue * 37 % self.books

    def records(self) -> Iterator[Record]:
        """All books, in the order of their references."""
        for book in range(self.pool):
            yield Record(f"978{book:010d}", book % 20 + 1, 500 + book % 90 * 10)

    def sums(self) -> Sums:
        """What the rows of each supplier must come to."""
        available = [record.available for record in self.records()]
        firsts = map(self.first_book, range(self.venues))
        quantity = sum(sum(available[first : first + self.books]) for first in firsts)
        return Sums(self.venues * self.books, self.venues * self.books, quantity)


def siret(supplier: int, venue: int) -> str:
    """The key of a venue of a supplier."""
    return f"{supplier + 1}{venue:013d}"


def fill(connection: psycopg.Connection[Any], shops: Shops) -> None:
    """Make the books, and link the venues, instead of those that are linked now."""
    register_providers(connection)
    connection.execute("UPDATE venue_provider SET is_active = false")
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO product (name, subcategory_id, id_at_providers, extra_data)"
            " VALUES (%s, 'LIVRE_PAPIER', %s, '{\"prix_livre\": \"12.50\"}')",
            [(f"Livre {record.ref}", record.ref) for record in shops.records()],
        )
    for number, name in enumerate(SUPPLIERS):
        connection.execute(
            "WITH made AS (INSERT INTO venue (name, siret, departement_code)"
            " SELECT 'Librairie ' || key, key, '75'"
            " FROM (SELECT %s || lpad(n::text, 13, '0') AS key FROM generate_series(0, %s) AS n) AS keys"
            " RETURNING id, siret)"
            " INSERT INTO venue_provider (venue_id, provider_id, venue_id_at_offer_provider)"
            " SELECT made.id, provider.id, siret FROM made, provider WHERE local_class = %s ORDER BY siret",
            (str(number + 1), shops.venues - 1, name),
        )
    connection.execute("ANALYZE product, venue, venue_provider")


def held_sums(connection: psycopg.Connection[Any]) -> dict[str, Sums]:
    """What the rows of each supplier come to now."""
    rows = connection.execute(
        "SELECT local_class, count(DISTINCT offer.id), count(*), sum(quantity)::bigint"
        " FROM stock JOIN offer ON offer.id = offer_id JOIN provider ON provider.id = stock.last_provider_id"
        " GROUP BY local_class"
    ).fetchall()
    return {row[0]: Sums(*row[1:]) for row in rows}
