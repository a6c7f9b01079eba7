"""The bookshops, their books, and the sums that the tables must come to: computed from numbers, in any amount."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import psycopg

from include.inbound.loads import register_providers

PROVIDERS = {
    "titelive_stocks": "TiteLiveStocks",
    "fnac_stocks": "FnacStocks",
    "libraires_stocks": "LibrairesStocks",
    "praxiel_stocks": "PraxielStocks",
}
"""The provider classes of the suppliers, by their DAGs; the SIRETs of their venues begin with their number here."""
PAGE_SIZE = 1000


class Record(NamedTuple):
    """A book in stock."""

    ref: str
    available: int
    price: int


Sums = tuple[int, int, int]
"""What a supplier's rows come to: the number of offers, that of stocks, and the sum of their quantities."""


@dataclass(frozen=True)
class Shops:
    """The number of venues per supplier and of books per venue, out of a pool of twice as many books."""

    venues: int
    books: int

    def first_book(self, venue: int) -> int:
        """Return the first of the consecutive books that a venue has."""
        return venue * 37 % self.books

    def records(self) -> Iterator[Record]:
        """Return all books, in the order of their references."""
        for book in range(2 * self.books):
            yield Record(f"978{book:010d}", book % 20 + 1, 500 + book % 90 * 10)

    def sums(self) -> Sums:
        """Return what the rows of each supplier must come to."""
        available = [record.available for record in self.records()]
        firsts = map(self.first_book, range(self.venues))
        quantity = sum(sum(available[first : first + self.books]) for first in firsts)
        return self.venues * self.books, self.venues * self.books, quantity


def siret(supplier: int, venue: int) -> str:
    """Return the SIRET of a venue."""
    return f"{supplier + 1}{venue:013d}"


def fill(connection: psycopg.Connection[Any], shops: Shops) -> None:
    """Insert the books and the venues, and link these; links that exist become inactive."""
    register_providers(connection)
    connection.execute("UPDATE venue_provider SET is_active = false")
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO product (name, subcategory_id, id_at_providers, extra_data)"
            " VALUES (%s, 'LIVRE_PAPIER', %s, '{\"prix_livre\": \"12.50\"}')",
            [(f"Livre {record.ref}", record.ref) for record in shops.records()],
        )
    for number, name in enumerate(PROVIDERS.values()):
        connection.execute(
            "WITH inserted AS (INSERT INTO venue (name, siret, departement_code)"
            " SELECT 'Librairie ' || key, key, '75'"
            " FROM (SELECT %s || lpad(n::text, 13, '0') AS key FROM generate_series(0, %s) AS n) AS keys"
            " RETURNING id, siret)"
            " INSERT INTO venue_provider (venue_id, provider_id, venue_id_at_offer_provider)"
            " SELECT inserted.id, provider.id, siret FROM inserted, provider WHERE local_class = %s ORDER BY siret",
            (str(number + 1), shops.venues - 1, name),
        )
    connection.execute("ANALYZE product, venue, venue_provider")


def read_sums(connection: psycopg.Connection[Any]) -> dict[str, Sums]:
    """Return what the rows of each supplier come to now."""
    rows = connection.execute(
        "SELECT local_class, count(DISTINCT offer.id), count(*), sum(quantity)::bigint"
        " FROM stock JOIN offer ON offer.id = offer_id JOIN provider ON provider.id = stock.last_provider_id"
        " GROUP BY local_class"
    ).fetchall()
    return {name: tuple(sums) for name, *sums in rows}
