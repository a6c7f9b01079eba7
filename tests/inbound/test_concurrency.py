"""Several at once: two runs of one link, two providers of one table, and people who book meanwhile."""

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from queue import Queue

import psycopg
import pytest

from include.errors import DatabaseUnavailable, LinkBusy
from include.inbound.run import sync_provider
from include.models import Product, Stock
from include.store.locks import link_lock
from tests.inbound.items import CursorItems, Item, Items, day, item

WAIT = 30
KEYS = [f"k{n:03d}" for n in range(200)]


@pytest.fixture
def elsewhere():
    """A thread of its own: `elsewhere(function, …)` gives a future."""
    with ThreadPoolExecutor(4) as pool:
        yield pool.submit


class Pausing(Items):
    """Tells when it is reading and goes on when it may."""

    def __init__(self, records):
        super().__init__(records)
        self.is_reading, self.may_go_on = threading.Event(), threading.Event()

    def __next__(self):
        self.is_reading.set()
        assert self.may_go_on.wait(WAIT)
        return super().__next__()


class TestOneRunPerLink:
    def test_the_second_finds_the_link_busy_and_the_first_goes_on(self, connect, elsewhere, rows, connection):
        first = Pausing([item("a"), item("b")])
        running = elsewhere(sync_provider, first, connect())
        assert first.is_reading.wait(WAIT)
        with pytest.raises(LinkBusy) as busy:
            sync_provider(Pausing([item("c")]), connection)
        assert busy.value.retry_after > 0
        assert busy.value.where == {"provider": "Items"}
        first.may_go_on.set()
        assert running.result(WAIT).created == 2
        assert list(rows()) == ["a", "b"]
        states = connection.execute("SELECT state FROM catalog ORDER BY id").fetchall()
        assert states == [("loaded",), ("failed",)]

    def test_another_link_or_provider_is_not_kept_waiting(self, connect):
        with (
            link_lock(connect(), 1, None),
            link_lock(connect(), 1, 1),
            link_lock(connect(), 2, None),
            pytest.raises(LinkBusy),
            link_lock(connect(), 1, None, wait_seconds=0),
        ):
            pass

    def test_a_lock_goes_with_its_connection(self, connect):
        holder = connect()
        with link_lock(holder, 1, None):
            holder.close()
            with link_lock(connect(), 1, None):
                pass

    def test_it_is_given_back_after_an_error(self, sync, connection):
        with pytest.raises(LinkBusy):
            sync([LinkBusy("made up")])
        assert connection.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone() == (0,)


class Texts(Items):
    model = Product

    def fill_object_attributes(self, obj):
        obj.subcategory_id, obj.name = "LIVRE_PAPIER", obj.name or "?"
        super().fill_object_attributes(obj)


class Pictures(Texts):
    pass


@pytest.mark.parametrize("dated", [True, False])
@pytest.mark.parametrize("chunk_size", [7, 100])
def test_two_providers_on_one_table_in_opposite_order(connect, elsewhere, connection, dated, chunk_size):
    """They create and update the same rows, from both ends: each one's fields arrive, nothing is stuck."""
    for generation in (1, 2):
        date = day(generation) if dated else None
        texts = [{"key": key, "date": date, "name": f"{key} {generation}"} for key in KEYS]
        pictures = [{"key": key, "date": date, "description": f"{key} {generation}"} for key in reversed(KEYS)]
        running = [
            elsewhere(sync_provider, Texts(texts), connect(), chunk_size=chunk_size),
            elsewhere(sync_provider, Pictures(pictures), connect(), chunk_size=chunk_size),
        ]
        reports = [one.result(WAIT * 2) for one in running]
        assert sum(report.created for report in reports) == (200 if generation == 1 else 0)
        assert sum(report.updated for report in reports) == (200 if generation == 1 else 400)
        found = connection.execute("SELECT name, description FROM product ORDER BY 1").fetchall()
        assert found == [(f"{key} {generation}", f"{key} {generation}") for key in KEYS]


class Shows(Items):
    """Each record is a product, which others list too, and an item of its own."""

    def __next__(self):
        self.record = next(self.records)
        product = self.create_providable_info(Product, self.record["key"])
        return [product, self.create_providable_info(Item, f"{self.record['key']} {type(self).__name__}")]

    def fill_object_attributes(self, obj):
        obj.name = self.record["key"]
        if isinstance(obj, Product):
            obj.subcategory_id = "SEANCE_CINE"
        else:
            obj.quantity = self.id_of(Product, self.record["key"])


@pytest.mark.parametrize("chunk_size", [20, 1000])
def test_many_that_create_the_same_parents_at_once(connect, elsewhere, connection, chunk_size):
    """None gives up, none waits for a deadlock to be broken, and each finds the parents that another made."""
    running = []
    for number in range(4):
        provider_class = type(f"Shows{number}", (Shows,), {})
        listing = [{"key": key} for key in random.Random(number).sample(KEYS, len(KEYS))]
        running.append(elsewhere(sync_provider, provider_class(listing), connect(), chunk_size=chunk_size))
    reports = [one.result(WAIT) for one in running]
    assert sum(report.created for report in reports) == 200 + 4 * 200
    assert {report.checked for report in reports} == {400}
    wrong = "SELECT count(*), count(*) FILTER (WHERE product.name <> item.name) FROM item JOIN product"
    assert connection.execute(f"{wrong} ON product.id = quantity").fetchone() == (800, 0)


def test_parents_that_others_create_all_the_while(connect, connection):
    """Between each look-up and its writing another one appears: they are taken as known, the chunk is not given up."""
    keys = KEYS[:20]
    coming, other = iter(keys), connect()

    class Raced(Shows):
        def fill_object_attributes(self, obj):
            if isinstance(obj, Product) and self.key == keys[-1] and (key := next(coming, None)):
                insert = "INSERT INTO product (name, subcategory_id, id_at_providers) VALUES ('?', 'SEANCE_CINE', %s)"
                other.execute(insert, (key,))
            super().fill_object_attributes(obj)

    report = sync_provider(Raced([{"key": key} for key in keys]), connection)
    assert (report.created, report.updated, report.rejected) == (19 + 20, 1, 0)
    assert connection.execute("SELECT count(*), count(DISTINCT name) FROM product").fetchone() == (20, 20)


class Meddling(Items):
    """Runs a statement on another connection at its first fill: between the look-up and the writing of a chunk."""

    def __init__(self, records, connection, *statement):
        super().__init__(records)
        self.other, self.statement = connection, statement

    def fill_object_attributes(self, obj):
        if self.statement:
            self.other.execute(*self.statement)
            self.statement = ()
        super().fill_object_attributes(obj)


def test_a_row_inserted_by_another_after_the_look_up_is_updated(counts, connect, rows):
    insert = "INSERT INTO item (name, quantity, id_at_providers) VALUES ('by another', 7, 'b')"
    assert counts(Meddling([item(key, quantity=1) for key in "abc"], connect(), insert)) == (2, 1, 0, 0, 0)
    assert rows("item", "name", "quantity") == {key: (f"name of {key}", 1) for key in "abc"}


def test_a_row_inserted_by_another_that_is_newer_stays(counts, connect, rows, sync):
    sync([])
    newer = (
        "INSERT INTO item (name, quantity, id_at_providers, last_provider_id, date_modified_at_last_provider)"
        " SELECT 'newer', 7, 'b', id, %s FROM provider WHERE local_class = 'Meddling'"
    )
    listing = [item(key, date=day(2), quantity=1) for key in "abc"]
    sync(Meddling([], None))
    assert counts(Meddling(listing, connect(), newer, (day(3),))) == (2, 0, 1, 0, 0)
    assert rows("item", "name")["b"] == "newer"


def test_a_row_deleted_by_another_after_the_look_up_is_left_out(counts, connect, rows):
    counts([item(key, quantity=1) for key in "abc"])
    delete = "DELETE FROM item WHERE name = 'name of b'"
    assert counts(Meddling([item(key, quantity=2) for key in "abc"], connect(), delete)) == (0, 2, 0, 1, 0)
    assert rows("item", "quantity") == {"a": 2, "c": 2}


def test_a_row_updated_by_another_after_the_look_up_is_filled_from_what_is_there(counts, connect, rows):
    counts([item("a", quantity=1)])
    edit = "UPDATE item SET name = 'edited', price = 5, fields_updated = '{name}'"
    assert counts(Meddling([item("a", quantity=2)], connect(), edit)) == (0, 1, 0, 0, 0)
    assert rows("item", "name", "quantity", "price") == {"a": ("edited", 2, Decimal(5))}


def test_a_row_that_another_holds_is_waited_for(connect, elsewhere, rows, sync, connection):
    sync([item("a", quantity=1)])
    with psycopg.connect(connection.info.dsn) as other:
        other.execute("UPDATE item SET price = 5")
        running = elsewhere(sync_provider, Items([item("a", quantity=2)]), connect())
        until_blocked(connection)
    assert running.result(WAIT).updated == 1
    assert rows("item", "quantity", "price") == {"a": (2, Decimal(5))}


def until_blocked(connection):
    """Wait until some session of the database waits for another."""
    for _ in range(WAIT * 100):
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE cardinality(pg_blocking_pids(pid)) > 0"
        if connection.execute(waiting).fetchone()[0]:
            return
        connection.execute("SELECT pg_sleep(0.01)")
    raise AssertionError("nobody waits")


def test_somebody_who_always_comes_in_between_ends_the_try(sync, connection):
    """As if the key were there at each insertion and gone at each look-up: given up, to be tried later."""
    connection.execute(
        "CREATE FUNCTION too_late() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE unique_violation USING CONSTRAINT = 'item_id_at_providers_key'; END $$"
    )
    connection.execute("CREATE TRIGGER too_late BEFORE INSERT ON item FOR EACH ROW EXECUTE FUNCTION too_late()")
    with pytest.raises(DatabaseUnavailable, match="5 times in a row"):
        sync([item("a")])


class Available(Items):
    """Stocks, of which `available` are there besides those that are booked."""

    model = Stock
    local_class = "Available"

    def fill_object_attributes(self, obj):
        self.filled += 1
        self.before_fill()
        obj.quantity = self.record["available"] + obj.booked_quantity
        obj.raw_provider_quantity = self.record["available"]
        self.after_fill(obj)

    def before_fill(self):
        pass

    def after_fill(self, obj):
        pass


def book(connection, quantity):
    connection.execute("INSERT INTO booking (stock_id, quantity) SELECT id, %s FROM stock", (quantity,))


class TestBookings:
    """quantity = available + booked, in whichever order a booking and a sync come."""

    @pytest.fixture(autouse=True)
    def _stock(self, connection):
        connection.execute(
            "WITH v AS (INSERT INTO venue (name) VALUES ('v') RETURNING id),"
            " p AS (INSERT INTO product (name, subcategory_id) VALUES ('p', 's') RETURNING id),"
            " o AS (INSERT INTO offer (product_id, venue_id, name, subcategory_id)"
            "       SELECT p.id, v.id, 'o', 's' FROM v, p RETURNING id)"
            " INSERT INTO stock (offer_id, price, quantity, id_at_providers) SELECT id, 1, 10, 'a' FROM o"
        )

    @pytest.fixture
    def state(self, connection):
        return lambda: connection.execute("SELECT quantity, booked_quantity FROM stock").fetchone()

    def test_a_booking_before_the_row_is_locked(self, connect, sync, state):
        class Booked(Available):
            def before_fill(self):
                if self.filled == 1:  # the comparison, without a lock
                    book(connect(), 3)

        assert sync([{"key": "a", "available": 5}], Booked).updated == 1
        assert state() == (8, 3)

    def test_a_booking_while_the_row_is_locked(self, connect, sync, state, elsewhere):
        done = Queue()

        class Booked(Available):
            def after_fill(self, obj):
                if self.filled == 2:  # the update, under lock
                    done.put(elsewhere(book, connect(), 3))
                    until_blocked(connect())

        sync([{"key": "a", "available": 5}], Booked)
        done.get().result(WAIT)
        assert state() == (5, 3)
        sync([{"key": "a", "available": 2}], Available)
        assert state() == (5, 3)

    def test_a_booking_that_is_open_when_the_sync_comes(self, connect, connection, state, elsewhere):
        with psycopg.connect(connection.info.dsn) as other:
            book(other, 3)
            running = elsewhere(sync_provider, Available([{"key": "a", "available": 5}]), connect())
            until_blocked(connection)
        assert running.result(WAIT).updated == 1
        assert state() == (8, 3)

    def test_a_quantity_never_falls_below_the_bookings(self, connection, sync, state, rejections):
        class Careless(Available):
            def after_fill(self, obj):
                obj.quantity = self.record["available"]

        book(connection, 3)
        assert sync([{"key": "a", "available": 2}], Careless).rejected == 1
        assert rejections()[0][1] == "quantity: less than what is already booked"
        assert state() == (10, 3)

    def test_cancelling_moving_and_deleting_are_counted(self, connection, state):
        book(connection, 3), book(connection, 2)
        for statement, booked in [
            ("UPDATE booking SET is_cancelled = true WHERE quantity = 3", 2),
            ("UPDATE booking SET quantity = 4 WHERE quantity = 2", 4),
            ("UPDATE booking SET is_cancelled = false WHERE quantity = 3", 7),
            ("DELETE FROM booking WHERE quantity = 4", 3),
        ]:
            connection.execute(statement)
            assert state() == (10, booked)

    def test_many_bookings_and_syncs_at_once(self, connect, connection, sync, state, elsewhere):
        connection.execute("SET provider_sync.writer = 'sync'")  # nobody's decision, so that the sync may correct it
        connection.execute("UPDATE stock SET quantity = 1000")

        def booking():
            other = connect()
            for _ in range(30):
                book(other, 1)

        def syncing():
            other = connect()
            for number in range(15):
                assert sync([{"key": "a", "available": 500 + number}], Available, on=other).rejected == 0

        for one in [elsewhere(booking), elsewhere(booking), elsewhere(syncing)]:
            one.result(WAIT * 2)
        assert state()[1] == 60
        sync([{"key": "a", "available": 100}], Available)
        assert state() == (160, 60)


def test_a_run_that_is_cancelled_by_the_database_says_so(sync, connection):
    with psycopg.connect(connection.info.dsn) as other:
        sync([item("a")], CursorItems)
        other.execute("UPDATE item SET price = 1")
        connection.execute("SET lock_timeout = '50ms'")
        with pytest.raises(DatabaseUnavailable, match="PostgreSQL gave up: canceling statement due to lock timeout"):
            sync([item("a", quantity=2)], CursorItems)
    last = "SELECT state, error FROM catalog_scheme_operation_instance ORDER BY id DESC LIMIT 1"
    state, error = connection.execute(last).fetchone()
    assert state == "failed"
    assert "lock timeout" in error
