"""Manual overrides: providers do not overwrite them, reports count them, and a release gives them back."""

import pytest

from include.models import Stock
from tests.inbound.items import day
from tests.inbound.shows import Shows, film

DATED = pytest.mark.parametrize("is_dated", [False, True], ids=["dateless", "dated"])


class Named(Shows):
    """Shows whose offers are updated too."""

    complete_tables = ()

    def __next__(self):
        infos = super().__next__()
        for info in infos:
            info.role, info.date_modified_at_provider = "sync", infos[-1].date_modified_at_provider
        return infos

    def fill_object_attributes(self, obj):
        super().fill_object_attributes(obj)
        if not isinstance(obj, Stock):
            obj.name = self.record["name"]


@pytest.fixture
def listed(sync, cinema):
    """List one film with two shows at this price."""

    def run(number, price=10, is_dated=False, **options):
        date = day(number) if is_dated else None
        return sync(Shows([film("a", 1, 2, date=date, price=price)], cinema), **options)

    return run


@DATED
def test_an_edit_survives_later_syncs(listed, connection, stocks, is_dated):
    listed(1, is_dated=is_dated)
    connection.execute("UPDATE stock SET price = 7 WHERE id_at_providers = 'a#1'")
    for number in (2, 3):
        report = listed(number, 10 + number, is_dated)
        assert stocks("price") == {"a#1": 7, "a#2": 10 + number}
        assert (report.held_back, report.held_back_fields) == (1, {"stock.price": 1})
        assert "1 with manual overrides kept (stock.price 1)" in report.summary()
    connection.execute("UPDATE stock SET quantity = 3 WHERE id_at_providers = 'a#1'")
    for number in (4, 5):
        report = listed(number, 10 + number, is_dated)
        assert stocks("price", "quantity") == {"a#1": (7, 3), "a#2": (10 + number, 100)}
        assert (report.held_back, report.held_back_fields) == (1, {"stock.price": 1, "stock.quantity": 1})
    found = connection.execute("SELECT load_report.held_back FROM load_report ORDER BY instance_id").fetchall()
    assert [row[0] for row in found] == [0, 1, 1, 1, 1]


@DATED
def test_a_release_gives_it_back(listed, connection, stocks, is_dated):
    listed(1, is_dated=is_dated)
    connection.execute("UPDATE stock SET price = 7, quantity = 3 WHERE id_at_providers = 'a#1'")
    listed(2, is_dated=is_dated)
    (row_id,) = connection.execute("SELECT id FROM stock WHERE id_at_providers = 'a#1'").fetchone()
    released = connection.execute("SELECT release_fields('stock', %s, 'price')", (row_id,)).fetchone()
    assert released == (["price"],)
    report = listed(2, is_dated=is_dated)
    assert stocks("price", "quantity") == {"a#1": (10, 3), "a#2": (10, 100)}
    assert report.held_back_fields == {"stock.quantity": 1}
    connection.execute("SELECT release_fields('stock', %s)", (row_id,))
    report = listed(2, is_dated=is_dated)
    assert set(stocks("price", "quantity").values()) == {(10, 100)}
    assert report.held_back == 0
    assert "manual overrides" not in report.summary()


def test_what_is_held_back_is_counted_without_a_write_unless_the_provider_agrees(listed, connection, versions):
    listed(1)
    connection.execute("UPDATE stock SET price = 7 WHERE id_at_providers = 'a#1'")
    before = versions("stock")
    assert [listed(2, dry_run=True).held_back, listed(2).held_back] == [1, 1]
    assert versions("stock") == before
    assert [listed(3, 7).held_back, listed(4, 7).held_back] == [0, 0]


def test_a_sync_is_no_person(listed, connection):
    found = "SELECT table_name, field, value FROM fields_held_back"
    listed(1)
    listed(2, 11)
    assert connection.execute(found).fetchall() == []
    connection.execute("UPDATE stock SET price = 7 WHERE id_at_providers = 'a#1'")
    assert connection.execute(found).fetchall() == [("stock", "price", 7)]


@DATED
def test_offers_and_products_too(sync, cinema, connection, is_dated):
    def run(number, name):
        listing = [film(name, 1, date=day(number) if is_dated else None) | {"film": "a", "name": name}]
        return sync(Named(listing, cinema))

    names = "SELECT offer.name, product.name FROM offer, product"
    run(1, "one")
    connection.execute("UPDATE offer SET name = 'mine'; UPDATE product SET name = 'mine too'")
    report = run(2, "two")
    assert connection.execute(names).fetchall() == [("mine", "mine too")]
    assert (report.held_back, report.held_back_fields) == (2, {"offer.name": 1, "product.name": 1})
    assert "2 with manual overrides kept (offer.name 1, product.name 1)" in report.summary()
    connection.execute("SELECT release_fields('offer', id), release_fields('product', product_id) FROM offer")
    run(2, "two")
    assert connection.execute(names).fetchall() == [("two", "two")]


def test_a_provider_that_does_not_know_of_deletion_undoes_none(sync, cinema, connection, stocks):
    class Unaware(Shows):
        complete_tables = ()

        def fill_stock(self, stock):
            before = stock.is_soft_deleted
            super().fill_stock(stock)
            stock.is_soft_deleted = before

    sync(Unaware([film("a", 1)], cinema))
    connection.execute("UPDATE stock SET is_soft_deleted = true")
    connection.execute("UPDATE stock SET fields_updated = '{}'")  # as rows are from before edits were noted
    assert sync(Unaware([film("a", 1, price=12)], cinema)).updated == 1
    assert stocks("is_soft_deleted", "price") == {"a#1": (True, 12)}
