"""The demo world fits what the sandbox lists."""

from collections import Counter

import pytest

from sandbox import demo
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


def test_the_demo_follows_from_the_seed():
    assert list(demo.products(Settings())) == list(demo.products(Settings()))
    assert next(demo.products(Settings())) != next(demo.products(Settings(seed=2)))
