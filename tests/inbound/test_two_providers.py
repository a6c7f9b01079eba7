"""Two providers of one row: each is compared with its own last date, and fills its own fields."""

import itertools

import pytest

from include.models import Offer, Product, Stock
from tests.inbound.items import Item, Items, day


class Texts(Items):
    """Names and subcategory."""

    name = "Texts"
    model = Product

    def fill_object_attributes(self, obj):
        obj.subcategory_id = "LIVRE_PAPIER"
        obj.name = self.record["text"]


class Pictures(Items):
    """Completes products with a description."""

    name = "Pictures"
    model = Product
    can_create = False

    def fill_object_attributes(self, obj):
        obj.description = self.record["text"]


@pytest.fixture
def feed(counts):
    """Feed a product from one of the two: `feed(Texts, 3)` is its record of the third day. Whether that changed it."""

    def run(provider_class, number, key="a"):
        text = f"{provider_class.name} {number}"
        found = counts([{"key": key, "date": day(number), "text": text}], provider_class)
        assert sum(found) == 1
        return found[0] + found[1] == 1

    return run


@pytest.fixture
def stored(connection):
    """What the product holds: name, description, and the day per provider."""

    def read():
        name, description, dates = connection.execute(
            "SELECT name, description, (SELECT jsonb_object_agg(provider.name, extract(day FROM value::timestamptz"
            " AT TIME ZONE 'UTC')::int) FROM jsonb_each_text(provider_dates) JOIN provider ON provider.id::text = key)"
            " FROM product WHERE id_at_providers = 'a'"
        ).fetchone()
        return name, description, dates

    return read


def test_whatever_the_order_the_newest_of_each_is_held(feed, stored, connection):
    steps = [(Texts, 5), (Texts, 12), (Pictures, 3), (Pictures, 8)]
    for order in itertools.permutations(steps):
        connection.execute("DELETE FROM product")
        feed(Texts, 1)
        newest = {Texts: 1, Pictures: 0}
        for provider_class, number in order:
            assert feed(provider_class, number) == (number > newest[provider_class]), order
            newest[provider_class] = max(number, newest[provider_class])
        assert stored() == ("Texts 12", "Pictures 8", {"Texts": 12, "Pictures": 8}), order


def test_the_same_date_of_both(feed, stored, versions):
    feed(Texts, 5)
    assert feed(Pictures, 5)
    before = versions("product")
    assert not feed(Texts, 5)
    assert not feed(Pictures, 5)
    assert versions("product") == before
    assert stored() == ("Texts 5", "Pictures 5", {"Texts": 5, "Pictures": 5})


def test_dateless_providers_do_not_undo_each_other_without_news(counts, versions):
    counts([{"key": "a", "text": "name"}], Texts)
    assert counts([{"key": "a", "text": "description"}], Pictures) == (0, 1, 0, 0, 0)
    before = versions("product")
    assert counts([{"key": "a", "text": "name"}], Texts) == (0, 0, 1, 0, 0)
    assert counts([{"key": "a", "text": "description"}], Pictures) == (0, 0, 1, 0, 0)
    assert versions("product") == before


def test_one_without_dates_next_to_one_with(counts, feed, stored):
    feed(Texts, 5)
    undated = [{"key": "a", "text": "no date"}]
    assert counts(undated, Pictures) == (0, 1, 0, 0, 0)
    assert counts(undated, Pictures) == (0, 0, 1, 0, 0)
    assert not feed(Texts, 4)
    assert feed(Texts, 6)
    assert stored()[:2] == ("Texts 6", "no date")


def test_a_table_that_one_provider_feeds_has_no_dates_to_keep(connection):
    with_dates = "SELECT table_name FROM information_schema.columns WHERE column_name = 'provider_dates'"
    assert connection.execute(with_dates).fetchall() == [("product",)]
    assert [model.is_shared for model in (Product, Offer, Stock, Item)] == [True, False, False, False]
