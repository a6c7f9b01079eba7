"""What becomes of each object: created, updated, unchanged, skipped, rejected; and in what order records count."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import ClassVar

import pytest

from include.errors import ConfigurationError
from include.models import Offer, Product, Stock
from tests.inbound.items import Item, Items, day, item

CHUNK_SIZES = pytest.mark.parametrize("chunk_size", [1, 7, 1000])
DATED = pytest.mark.parametrize("dates", [(None, None), (day(1), day(2))], ids=["dateless", "dated"])


@CHUNK_SIZES
@DATED
def test_objects_are_created_updated_and_left_alone(counts, rows, chunk_size, dates):
    first = [item(f"k{n:02d}", date=dates[0], quantity=n) for n in range(20)]
    assert counts(first, chunk_size=chunk_size) == (20, 0, 0, 0, 0)
    assert counts(first, chunk_size=chunk_size) == (0, 0, 20, 0, 0)
    second = [item(f"k{n:02d}", date=dates[1] if n < 5 else dates[0], quantity=n + 100 * (n < 5)) for n in range(25)]
    assert counts(second, chunk_size=chunk_size) == (5, 5, 15, 0, 0)
    assert list(rows("item", "quantity").values()) == [n + 100 * (n < 5) for n in range(25)]
    assert set(rows("item", "name").values()) == {f"name of k{n:02d}" for n in range(25)}


@CHUNK_SIZES
def test_a_report_adds_up(sync, chunk_size):
    sync([item("a"), item("b")])
    report = sync(
        [item("a", quantity=1), None, item("b"), item("c", price=-1), KeyError("price"), item("d"), item("e")],
        chunk_size=chunk_size,
    )
    assert (report.records, report.checked) == (7, 7)
    assert (report.created, report.updated, report.unchanged, report.skipped, report.rejected) == (2, 1, 1, 1, 2)
    assert report.state == "done"


def test_a_source_that_only_completes_updates_what_it_knows(counts, connection, rows):
    class Completing(Items):
        can_create = False

    connection.execute("INSERT INTO item (name, id_at_providers) VALUES ('by hand', 'a')")
    assert counts([item("a", quantity=1), item("b"), item("b")], Completing) == (0, 1, 0, 2, 0)
    assert rows("item", "name", "quantity") == {"a": ("name of a", 1)}


class TestDuplicates:
    """A key listed several times ends as if each record had come alone, whatever the chunks."""

    @CHUNK_SIZES
    def test_dated_the_later_wins(self, counts, rows, chunk_size):
        records = [("new", 2), ("old", 3), ("new", 1), ("new", 2), ("old", 5), ("new", 4), ("old", 4)]
        counts([item("old", date=day(1), quantity=1)])
        listing = [item(key, date=day(number), quantity=number * 10 + n) for n, (key, number) in enumerate(records)]
        assert counts(listing, chunk_size=chunk_size) == (1, 3, 3, 0, 0)
        assert rows("item", "quantity", "date_modified_at_last_provider") == {"new": (45, day(4)), "old": (54, day(5))}

    @CHUNK_SIZES
    def test_dateless_the_last_wins(self, counts, rows, chunk_size):
        records = [("new", 1), ("old", 1), ("new", 2), ("old", 2), ("new", 2), ("old", 3), ("old", 2)]
        counts([item("old", quantity=0)])
        listing = [item(key, quantity=quantity) for key, quantity in records]
        assert counts(listing, chunk_size=chunk_size) == (1, 5, 1, 0, 0)
        assert rows("item", "quantity") == {"new": 2, "old": 2}

    @CHUNK_SIZES
    def test_a_later_dateless_record_does_not_undo_a_date_that_is_ahead(self, counts, rows, chunk_size):
        ahead = datetime.now(UTC) + timedelta(hours=12)
        listing = [item("a", date=ahead, quantity=1), item("a", quantity=2)]
        assert counts(listing, chunk_size=chunk_size) == (1, 0, 1, 0, 0)
        assert rows("item", "quantity", "date_modified_at_last_provider") == {"a": (1, ahead)}

    @CHUNK_SIZES
    def test_a_date_is_kept_when_a_later_dateless_record_undoes_the_change(self, counts, rows, chunk_size):
        counts([item("a", date=day(1), quantity=1)])
        listing = [item("a", date=day(3), quantity=3), item("a", quantity=1)]
        assert counts(listing, chunk_size=chunk_size) == (0, 2, 0, 0, 0)
        assert counts([item("a", date=day(2), quantity=2)]) == (0, 0, 1, 0, 0)
        assert rows("item", "quantity") == {"a": 1}

    @CHUNK_SIZES
    def test_of_records_that_only_create_the_first_counts(self, counts, rows, chunk_size):
        class CreateOnly(Items):
            def __next__(self):
                self.record = next(self.records)
                return [self.create_only_info(Item, self.record["key"])]

        assert counts([item("a", quantity=n) for n in range(3)], CreateOnly, chunk_size=chunk_size) == (1, 0, 2, 0, 0)
        assert rows("item", "quantity") == {"a": 0}

    @CHUNK_SIZES
    def test_a_record_that_postgresql_refuses_leaves_the_others_of_its_key(self, counts, rows, rejections, chunk_size):
        listing = [item(key, quantity=n, price=1 if n % 2 else -1) for n in range(1, 5) for key in ("a", "b")]
        assert counts(listing, chunk_size=chunk_size) == (2, 2, 0, 0, 4)
        assert rows("item", "quantity", "price") == {"a": (3, 1), "b": (3, 1)}
        assert counts([*listing[4:], *listing[:4]], chunk_size=chunk_size) == (0, 2, 2, 0, 4)
        assert rows("item", "quantity") == {"a": 1, "b": 1}
        assert len(rejections()) == 8

    @CHUNK_SIZES
    def test_a_bad_record_of_a_key_leaves_the_good_ones(self, counts, rows, rejections, chunk_size):
        class Picky(Items):
            def fill_object_attributes(self, obj):
                if self.record["quantity"] < 0:
                    raise ValueError("negative")
                super().fill_object_attributes(obj)

        listing = [item(key, quantity=n) for n in (-1, 1, -2, 2) for key in ("a", "b")]
        assert counts(listing, Picky, chunk_size=chunk_size) == (2, 2, 0, 0, 4)
        assert rows("item", "quantity") == {"a": 2, "b": 2}
        assert counts(listing[:6], Picky, chunk_size=chunk_size) == (0, 2, 0, 0, 4)
        assert rows("item", "quantity") == {"a": 1, "b": 1}
        assert {reason for _, reason, _ in rejections()} == {"ValueError: negative"}


class TestDates:
    def test_older_never_overwrites_newer(self, counts, rows):
        counts([item("a", date=day(5), quantity=5)])
        for number in (4, 5):
            assert counts([item("a", date=day(number), quantity=0)]) == (0, 0, 1, 0, 0)
        assert rows("item", "quantity") == {"a": 5}

    def test_to_the_microsecond(self, counts, rows):
        base = datetime(2026, 3, 4, 5, 6, 7, 999_998, tzinfo=timezone(timedelta(hours=5, minutes=30)))
        for step in range(3):
            moment = base + timedelta(microseconds=step)
            assert counts([item("a", date=moment, quantity=step)])[step > 0] == 1
            assert counts([item("a", date=moment, quantity=-step)]) == (0, 0, 1, 0, 0)
        assert rows("item", "quantity") == {"a": 2}

    @pytest.mark.parametrize("year", [1, 1900, 1970])
    def test_a_very_old_date_is_a_date(self, counts, rows, year):
        old = datetime(year, 1, 1, 12, tzinfo=UTC)
        assert counts([item("a", date=old, quantity=1)]) == (1, 0, 0, 0, 0)
        assert counts([item("a", date=old, quantity=2)]) == (0, 0, 1, 0, 0)
        assert counts([item("a", date=old + timedelta(seconds=1), quantity=3)]) == (0, 1, 0, 0, 0)
        assert rows("item", "quantity") == {"a": 3}

    def test_a_date_in_the_future_does_not_keep_corrections_out(self, counts, rows):
        future = datetime(2999, 1, 1, tzinfo=UTC)
        assert counts([item("a", date=future, quantity=1)]) == (1, 0, 0, 0, 0)
        assert rows("item", "date_modified_at_last_provider")["a"] < datetime.now(UTC)
        assert counts([item("a", date=future, quantity=1)]) == (0, 0, 1, 0, 0)
        assert counts([item("a", date=future, quantity=2)]) == (0, 1, 0, 0, 0)
        assert counts([item("a", date=datetime.now(UTC), quantity=3)]) == (0, 1, 0, 0, 0)
        assert rows("item", "quantity") == {"a": 3}

    @pytest.mark.parametrize(
        "date",
        [datetime(2026, 1, 1), "2026-01-01", datetime(2026, 1, 1).date(), 1, "", 0, False],  # noqa: DTZ001
    )
    def test_a_date_without_a_zone_or_of_another_type_is_rejected(self, counts, rows, rejections, date):
        good = item("b", date=day(2))
        assert counts([item("a", date=date), good]) == (1, 0, 0, 0, 1)
        assert list(rows()) == ["b"]
        ((key, reason, payload),) = rejections()
        assert key == "a"
        assert "date" in reason
        assert "name of a" in payload


class TestEditsOfPeople:
    def test_dated_records_with_only_protected_differences_write_their_date_once(self, counts, protect, rows):
        counts([item("a", date=day(1), quantity=1)])
        protect("a", "quantity")
        assert counts([item("a", date=day(2), quantity=2)]) == (0, 1, 0, 0, 0)
        assert counts([item("a", date=day(2), quantity=2)]) == (0, 0, 1, 0, 0)
        assert rows("item", "quantity", "date_modified_at_last_provider") == {"a": (1, day(2))}

    def test_names_of_no_field_do_no_harm(self, counts, protect, rows):
        counts([item("a", quantity=1)])
        protect("a", "no_such_field", "id", "id_at_providers", "")
        assert counts([item("a", quantity=2)]) == (0, 1, 0, 0, 0)
        assert rows("item", "quantity") == {"a": 2}

    def test_duplicates_respect_them_too(self, counts, protect, rows):
        counts([item("a", quantity=1)])
        protect("a", "quantity")
        assert counts([item("a", quantity=2), item("a", quantity=3, price=Decimal(1))]) == (0, 1, 1, 0, 0)
        assert rows("item", "quantity", "price") == {"a": (1, Decimal(1))}


@DATED
def test_absent_keeps_and_null_clears(counts, rows, dates):
    counts([item("a", date=dates[0], quantity=1, price=Decimal(1))])
    assert counts([{"key": "a", "date": dates[1], "price": None}]) == (0, 1, 0, 0, 0)
    assert rows("item", "name", "quantity", "price") == {"a": ("name of a", 1, None)}


def test_absent_on_creation_takes_the_default(counts, rows):
    counts([item("a")])
    assert rows("item", "is_active", "extra_data", "quantity") == {"a": (True, None, None)}


@DATED
def test_a_dictionary_changed_in_place_is_noticed(counts, rows, dates):
    class InPlace(Items):
        def fill_object_attributes(self, obj):
            obj.name = self.record["key"]
            if obj.extra_data is None:
                obj.extra_data = {"seen": [0]}
            else:
                obj.extra_data["seen"].append(self.record["count"])

    counts([item("a", date=dates[0])], InPlace)
    assert counts([item("a", date=dates[1], count=7)], InPlace) == (0, 1, 0, 0, 0)
    assert rows("item", "extra_data") == {"a": {"seen": [0, 7]}}


@pytest.mark.parametrize(
    "value",
    [{"price": 9.99}, {"price": 10}, {"price": "12.50"}, {"price": Decimal("1.005")},
     {"price": Decimal("NaN")}, {"starts_at": "2026-01-01T00:00:00Z"}, {"name": "é" * 140},
     {"extra_data": {"a": [1, 2.5, None, {"b": "c"}]}}, {"extra_data": {}}],
    ids=str,
)  # fmt: skip
def test_a_value_that_postgresql_casts_is_not_written_again_and_again(counts, versions, value):
    counts([item("a", **value)])
    before = versions()
    assert counts([item("a", **value)]) == (0, 0, 1, 0, 0)
    assert versions() == before


class Shop(Items):
    """Several objects per record; keeps its record on itself only."""

    name = "Shop"

    def __init__(self, records, venue_id):
        super().__init__(records)
        self.venue_id = venue_id

    def __next__(self):
        self.record = record = next(self.records)
        key, date = record["key"], record.get("date")
        return [
            self.create_providable_info(Product, key, date),
            self.create_providable_info(Offer, key, date, key),
            self.create_providable_info(Stock, key, date),
        ]

    def fill_object_attributes(self, obj):
        record = self.record
        if isinstance(obj, Product):
            obj.name, obj.subcategory_id = record["name"], "LIVRE_PAPIER"
        elif isinstance(obj, Offer):
            obj.product_id, obj.venue_id = self.id_of(Product, record["key"]), self.venue_id
            obj.name, obj.subcategory_id = record["name"] + "!", "LIVRE_PAPIER"
        else:
            obj.offer_id = self.id_of(Offer, record["key"])
            obj.price, obj.quantity = record["price"], record["quantity"]


@pytest.fixture
def venue_id(connection):
    return connection.execute("INSERT INTO venue (name) VALUES ('Shop') RETURNING id").fetchone()[0]


class TestSeveralObjectsPerRecord:
    @CHUNK_SIZES
    @DATED
    def test_each_object_holds_the_values_of_its_own_record(self, sync, connection, venue_id, chunk_size, dates):
        def listing(numbers, date, plus=0):
            rows = [(n, n + plus) for n in numbers]
            return [{"key": f"k{n}", "date": date, "name": f"n{p}", "price": p, "quantity": p} for n, p in rows]

        report = sync(Shop(listing(range(0, 30, 2), dates[0]), venue_id), chunk_size=chunk_size)
        assert (report.records, report.checked, report.created) == (15, 45, 45)
        mixed = sorted(listing(range(10), dates[1], 100) + listing(range(10, 30), dates[0]), key=lambda r: r["key"])
        report = sync(Shop(mixed, venue_id), chunk_size=chunk_size)
        assert (report.created, report.updated, report.unchanged) == (45, 15, 30)
        found = connection.execute(
            "SELECT product.id_at_providers, product.name, offer.name, offer.id_at_provider, price::int, quantity"
            " FROM stock JOIN offer ON offer.id = offer_id JOIN product ON product.id = product_id"
            " WHERE stock.id_at_providers = offer.id_at_providers AND stock.id_at_providers = product.id_at_providers"
        ).fetchall()
        values = [(n, n + 100 * (n < 10)) for n in range(30)]
        assert sorted(found) == sorted((f"k{n}", f"n{p}", f"n{p}!", f"k{n}", p, p) for n, p in values)

    @CHUNK_SIZES
    def test_children_of_a_rejected_parent_are_left_out(self, sync, connection, venue_id, chunk_size):
        listing = [{"key": f"k{n}", "name": "x" * 200 * (n == 1) or "x", "price": 1, "quantity": 1} for n in range(3)]
        report = sync(Shop(listing, venue_id), chunk_size=chunk_size)
        assert (report.created, report.skipped, report.rejected) == (6, 2, 1)
        reasons = connection.execute("SELECT reason FROM rejected_record").fetchall()
        assert reasons == [("name: must have 1 to 140 characters",)]

    def test_asking_for_rows_that_no_record_names_is_a_mistake_of_the_author(self, sync):
        class Asking(Items):
            def fill_object_attributes(self, obj):
                self.row_of(Offer, "a")

        with pytest.raises(ConfigurationError, match="create_reference"):
            sync([item("a")], Asking)


def test_a_provider_may_not_write_what_the_database_keeps(sync, connection, venue_id):
    class Booking(Shop):
        def fill_object_attributes(self, obj):
            super().fill_object_attributes(obj)
            if isinstance(obj, Stock) and obj.id is not None:
                obj.booked_quantity = 5

    record = {"key": "a", "name": "n", "price": 1, "quantity": 9}
    sync(Booking([record], venue_id))
    with pytest.raises(ConfigurationError, match="booked_quantity"):
        sync(Booking([record | {"quantity": 8}], venue_id))


def test_the_model_says_what_it_needs(sync):
    class Elsewhere(Item):
        table_name = "no_such_table"

    class Lost(Items):
        model = Elsewhere

    with pytest.raises(ConfigurationError, match="make migrate"):
        sync([item("a")], Lost)


class Child(Item):
    """A row that needs its item, in a table of its own."""

    table_name: ClassVar[str] = "child"


class Family(Items):
    """An item and its child, which looks its product up only when it is filled."""

    def __next__(self):
        self.record = record = next(self.records)
        return [
            self.create_reference(Product, "p"),
            self.create_providable_info(Item, record["key"]),
            self.create_providable_info(Child, record["key"]),
        ]

    def fill_object_attributes(self, obj):
        self.filled += 1
        if self.filled > 200:
            pytest.fail("without an end")
        obj.name = self.row_of(Product, "p").name if type(obj) is Child else "an item"
        obj.price = self.record["price"]


@pytest.fixture
def family(connection):
    connection.execute("CREATE TABLE child (LIKE item INCLUDING ALL)")
    connection.execute(
        "INSERT INTO product (name, subcategory_id, id_at_providers) VALUES ('a book', 'LIVRE_PAPIER', 'p')"
    )


def test_a_refused_parent_does_not_keep_its_child_from_being_looked_up(sync, connection, family):
    report = sync([{"key": "a", "price": -1}, {"key": "b", "price": 1}], Family)
    assert (report.created, report.rejected) == (2, 2)
    assert connection.execute("SELECT id_at_providers, name FROM child").fetchall() == [("b", "a book")]


def test_a_dry_run_leaves_the_sequences_alone(sync, connection, family):
    sequences = (
        "SELECT (SELECT last_value FROM item_id_seq), (SELECT is_called FROM item_id_seq),"
        " (SELECT last_value FROM pg_sequences WHERE sequencename = 'child_id_seq')"
    )
    before = connection.execute(sequences).fetchone()
    assert sync([{"key": str(number), "price": 1} for number in range(50)], Family, dry_run=True).created == 100
    assert connection.execute(sequences).fetchone() == before
