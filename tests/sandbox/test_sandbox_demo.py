"""The demo data matches what the sandbox lists."""

from collections import Counter

import psycopg
import pytest

from include.inbound.loads import register_providers
from include.store.providers import find_links, register_provider
from local.demo import load
from sandbox import demo
from sandbox.movies import theatres
from sandbox.suppliers import find_suppliers
from sandbox.suppliers.stock_api import rows
from sandbox.world import Settings, World


def luhn(digits):
    doubled = [int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits))]
    return sum(value // 10 + value % 10 for value in doubled) % 10


@pytest.mark.parametrize("venues", [5, 40])
def test_the_venues_are_those_that_are_listed(venues):
    world = World(Settings(venues=venues))
    found = list(demo.venues(world.settings))
    assert [venue["siret"] for venue in found] == world.sirets
    assert len({venue["name"] for venue in found}) == len({venue["siret"] for venue in found}) == venues
    for venue in found:
        assert len(venue["siret"]) == 14
        assert luhn(venue["siret"]) == luhn(venue["siret"][:9]) == 0
        assert 2 <= len(venue["departement_code"]) <= 3
        assert venue["booking_email"].endswith("@example.org")


def test_the_products_are_the_listed_books_with_gaps_and_exceptions():
    world = World(Settings())
    listed = {row.ref for siret in world.sirets for row in rows(world, siret)}
    products = list(demo.products(world.settings))
    refs = [product["id_at_providers"] for product in products]
    assert refs == sorted(set(refs))
    assert set(refs) < listed
    assert 0.02 < 1 - len(refs) / len(listed) < 0.06
    assert len(refs) / len(listed) > 0.85
    kinds = Counter(
        (
            product["subcategory_id"] == "LIVRE_PAPIER",
            product["is_gcu_compatible"],
            product["is_synchronization_compatible"],
        )
        for product in products
    )
    assert kinds[True, True, True] > 0.9 * len(products)
    assert min(kinds[False, True, True], kinds[True, False, True], kinds[True, True, False]) > 10
    assert all(1 <= len(product["name"]) <= 140 and product["description"] for product in products)
    assert all(product["extra_data"]["author"] for product in products)
    unpriced = sum("prix_livre" not in product["extra_data"] for product in products)
    assert 10 < unpriced < 0.1 * len(products)
    assert len({product["name"] for product in products}) > 500


def test_the_suppliers_links_are_loaded_if_their_provider_exists(database, monkeypatch):
    monkeypatch.setenv("SANDBOX_BOOKS", "20")
    world = World(Settings(books=20))
    suppliers = {supplier.provider: supplier for supplier in find_suppliers(world)}
    with psycopg.connect(database, autocommit=True) as connection:
        register_providers(connection)
        load(database)
        venues = {link.venue["siret"] for supplier in suppliers.values() for link in supplier.links}
        assert len(venues) >= 5 + 2 + 2 + 1 + 3
        assert {row[0] for row in connection.execute("SELECT siret FROM venue")} == venues
        known = {row[0] for row in connection.execute("SELECT local_class FROM provider")}
        linked = dict(
            connection.execute(
                "SELECT local_class, count(*) FROM venue_provider JOIN provider ON provider.id = provider_id GROUP BY 1"
            ).fetchall()
        )
        assert linked == {name: len(each.links) for name, each in suppliers.items() if name in known}
        assert linked["TiteLiveStocks"] == 5

        provider_id = register_provider(connection, "AllocineStocks", "Allociné")
        load(database)
        assert load(database) == 0
        links = find_links(connection, provider_id)
        expected = theatres(world)
        assert [(link.siret, link.venue_id_at_offer_provider, link.departement_code) for link in links] == [
            (theatre.siret, theatre.id, theatre.departement) for theatre in expected
        ]
        assert links[0].settings == {"prices": [{"price": 9.5}], "is_duo": True}
        assert links[1].settings == {"prices": [{"price": 7, "version": "VF"}, {"price": 9}], "quantity": 80}
        pivots = connection.execute("SELECT venue_id, id_at_provider, internal_id FROM provider_pivot ORDER BY 1")
        assert pivots.fetchall() == [
            (link.venue_id, theatre.id, theatre.internal_id) for link, theatre in zip(links, expected, strict=True)
        ]


def test_manual_changes_are_kept(database, monkeypatch):
    monkeypatch.setenv("SANDBOX_BOOKS", "20")
    with psycopg.connect(database, autocommit=True) as connection:
        provider_id = register_provider(connection, "AllocineStocks", "Allociné")
        load(database)
        connection.execute("UPDATE venue_provider SET settings = '{}', is_active = false")
        connection.execute("UPDATE provider_pivot SET internal_id = NULL")
        load(database)
        assert find_links(connection, provider_id) == []
        assert connection.execute("SELECT DISTINCT settings::text FROM venue_provider").fetchall() == [("{}",)]
        assert connection.execute("SELECT count(internal_id) FROM provider_pivot").fetchone() == (0,)
