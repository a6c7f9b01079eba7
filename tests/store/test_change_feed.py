"""The change feed: what its triggers write, and how outbound targets read it into their queue."""

import threading
import time
from contextlib import ExitStack, contextmanager

import psycopg
import pytest

from include.errors import ConfigurationError, DatabaseUnavailable
from include.models.outbound import FeedCounts
from include.store import change_feed, queue
from include.store.change_feed import Position, horizon, lags, purge, subscribe, unsubscribe

TRIGGERS = "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'feed\\_%'"


def entries(connection):
    """What was fed, and forget it."""
    rows = connection.execute(
        "WITH fed AS (DELETE FROM change_feed RETURNING source, source_id, change)"
        " SELECT DISTINCT source_id, change FROM fed ORDER BY 1, 2"
    ).fetchall()
    return [f"{change} {source_id}" for source_id, change in rows]


KINDS = (
    "placed", "paid", "canceled", "reactivated", "expired", "expiry_changed", "changed", "modified", "checkin",
    "checkin_annulled", "created", "stock_changed",
)  # fmt: skip


def block(connection, consumer="c", source="order", limit=1000):
    """Queue the objects of the next entries; returns the counts."""
    below = horizon(connection)
    with connection.transaction():
        return queue.queue_changes(
            connection, f"target {consumer}", source, KINDS, consumer=consumer, horizon=below, limit=limit
        )


def queued(connection, consumer="c"):
    """What is in the queue, and empty it: each object with the first of its changes in KINDS."""
    rows = connection.execute(
        "WITH taken AS (DELETE FROM outbound_queue WHERE target = %s RETURNING source_id, triggered_by)"
        " SELECT source_id, triggered_by FROM taken ORDER BY 1",
        (f"target {consumer}",),
    ).fetchall()
    return [f"{change} {source_id}" for source_id, change in rows]


def take(connection, consumer="c", source="order", limit=1000):
    block(connection, consumer, source, limit)
    return queued(connection, consumer)


def new_event(connection):
    connection.execute(
        "INSERT INTO event (slug, name) VALUES ('e', 'E'); INSERT INTO ticket_product (event_id, name) VALUES (1, 'T');"
        "INSERT INTO sub_event (event_id, name) VALUES (1, 'S');"
        "INSERT INTO question (event_id, identifier, label, type) VALUES (1, 'Q', 'Q', 'S'), (1, 'R', 'R', 'S');"
        "INSERT INTO checkin_list (event_id, name) VALUES (1, 'L')"
    )


@pytest.fixture
def shop(connection):
    """Two orders of an event, the first with all that an order can have; nothing is subscribed."""
    new_event(connection)
    place(connection, 1)
    connection.execute("INSERT INTO customer_order (event_id, code, total) VALUES (1, 'O2', 5)")
    return connection


def place(connection, number):
    """An order with two positions, a payment, an address, an answer and a check-in, a statement each."""
    order = connection.execute(
        "INSERT INTO customer_order (event_id, code, email, expires_at) VALUES (1, %s, 'a@b.c', '2026-01-01Z')"
        " RETURNING id",
        (f"O{number}",),
    ).fetchone()[0]
    first = connection.execute(
        "INSERT INTO order_position (order_id, number, product_id) VALUES (%(o)s, 1, 1), (%(o)s, 2, 1) RETURNING id",
        {"o": order},
    ).fetchone()[0]
    connection.execute("INSERT INTO payment (order_id, amount) VALUES (%s, 10)", (order,))
    connection.execute("INSERT INTO invoice_address (order_id, city) VALUES (%s, 'Bonn')", (order,))
    connection.execute("INSERT INTO answer (position_id, question_id, answer) VALUES (%s, 1, 'x')", (first,))
    connection.execute("INSERT INTO checkin (position_id, list_id) VALUES (%s, 1)", (first,))
    connection.execute("UPDATE customer_order SET total = 10, email = 'b@b.c' WHERE id = %s", (order,))
    return order


@pytest.fixture
def orders(shop):
    """The shop, with a consumer of its orders."""
    subscribe(shop, "c", "order")
    return shop


@pytest.fixture
def offers(connection):
    """Three offers, the first two with a stock, and a consumer."""
    connection.execute("INSERT INTO venue (name) VALUES ('v')")
    connection.execute("INSERT INTO product (name, subcategory_id) VALUES ('p', 's')")
    connection.execute(
        "INSERT INTO offer (product_id, venue_id, name, subcategory_id, id_at_providers, id_at_provider)"
        " SELECT 1, 1, 'o', 's', 'k' || n, 'k' || n FROM generate_series(1, 3) AS n"
    )
    connection.execute("INSERT INTO stock (offer_id, price, id_at_providers) VALUES (1, 1, 'k1'), (2, 1, 'k2')")
    subscribe(connection, "c", "offer")
    return connection


ORDER_CHANGES = {
    "placed": (
        "INSERT INTO customer_order (event_id, code) VALUES (1, 'A'), (1, 'B')",
        ["placed 3", "placed 4"],
    ),
    "placed and paid": (
        "INSERT INTO customer_order (event_id, code, status) VALUES (1, 'A', 'p'), (1, 'B', 'c'), (1, 'C', 'e')",
        ["paid 3", "placed 3", "canceled 4", "placed 4", "expired 5", "placed 5"],
    ),
    "paid": ("UPDATE customer_order SET status = 'p'", ["paid 1", "paid 2"]),
    "canceled": ("UPDATE customer_order SET status = 'c' WHERE id = 2", ["canceled 2"]),
    "expired": ("UPDATE customer_order SET status = 'e' WHERE id = 1", ["expired 1"]),
    "extended": ("UPDATE customer_order SET expires_at = '2026-02-01Z' WHERE id = 1", ["expiry_changed 1"]),
    "no expiry": ("UPDATE customer_order SET expires_at = NULL", ["expiry_changed 1"]),
    "total": ("UPDATE customer_order SET total = 5", ["changed 1"]),
    "code": ("UPDATE customer_order SET code = 'N' WHERE id = 1", ["changed 1"]),
    "e-mail": ("UPDATE customer_order SET email = 'n@b.c' WHERE id = 1", ["modified 1"]),
    "first e-mail": ("UPDATE customer_order SET email = 'b@b.c'", ["modified 2"]),
    "locale": ("UPDATE customer_order SET locale = 'de' WHERE id = 2", ["modified 2"]),
    "several at once": (
        "UPDATE customer_order SET status = 'p', total = 11, locale = 'de' WHERE id = 1",
        ["changed 1", "modified 1", "paid 1"],
    ),
    "nothing": ("UPDATE customer_order SET total = total, email = email, status = status", []),
    "no row": ("UPDATE customer_order SET total = 99 WHERE false", []),
    "position": (
        "INSERT INTO order_position (order_id, number, product_id) VALUES (2, 1, 1), (2, 2, 1)",
        ["changed 2"],
    ),
    "price": ("UPDATE order_position SET price = 7", ["changed 1"]),
    "date": ("UPDATE order_position SET sub_event_id = 1 WHERE number = 1", ["changed 1"]),
    "voucher": ("UPDATE order_position SET voucher_code = 'V' WHERE number = 1", ["changed 1"]),
    "position canceled": ("UPDATE order_position SET is_canceled = true WHERE number = 2", ["changed 1"]),
    "moved": ("UPDATE order_position SET order_id = 2 WHERE number = 1", ["changed 1", "changed 2"]),
    "position removed": ("DELETE FROM order_position WHERE number = 1", ["changed 1"]),
    "attendee": ('UPDATE order_position SET attendee_name_parts = \'{"given_name": "A"}\'', ["modified 1"]),
    "attendee's address": ("UPDATE order_position SET city = 'Kiel' WHERE number = 2", ["modified 1"]),
    "same position": ("UPDATE order_position SET price = price, city = city", []),
    "payment": ("INSERT INTO payment (order_id, amount) VALUES (2, 5)", ["changed 2"]),
    "payment made": ("UPDATE payment SET paid_at = now()", ["changed 1"]),
    "payment moved": ("UPDATE payment SET order_id = 2", ["changed 1", "changed 2"]),
    "same payment": ("UPDATE payment SET amount = 10.00", []),
    "payment removed": ("DELETE FROM payment", ["changed 1"]),
    "address": ("INSERT INTO invoice_address (order_id) VALUES (2)", ["modified 2"]),
    "city": ("UPDATE invoice_address SET city = 'Kiel'", ["modified 1"]),
    "name": ('UPDATE invoice_address SET name_parts = \'{"a": "b"}\'', ["modified 1"]),
    "address removed": ("DELETE FROM invoice_address", ["modified 1"]),
    "answer": ("INSERT INTO answer (position_id, question_id) VALUES (1, 2), (2, 2)", ["modified 1"]),
    "other answer": ("UPDATE answer SET options = '{a}'", ["modified 1"]),
    "same answer": ("UPDATE answer SET answer = 'x'", []),
    "answer removed": ("DELETE FROM answer", ["modified 1"]),
    "question removed": ("DELETE FROM question", ["modified 1"]),
    "checkin": ("INSERT INTO checkin (position_id, list_id, type) VALUES (2, 1, 'exit')", ["checkin 1"]),
    "failed scan": ("INSERT INTO checkin (position_id, list_id, is_successful) VALUES (2, 1, false)", []),
    "annulled": ("UPDATE checkin SET is_annulled = true", ["checkin_annulled 1"]),
    "other time": ("UPDATE checkin SET at = '2026-01-01Z'", ["checkin 1"]),
    "same checkin": ("UPDATE checkin SET type = 'entry'", []),
    "checkin removed": ("DELETE FROM checkin", ["checkin_annulled 1"]),
    "upsert": (
        "INSERT INTO customer_order (event_id, code, total) VALUES (1, 'O2', 6), (1, 'A', 6)"
        " ON CONFLICT (event_id, code) DO UPDATE SET total = excluded.total",
        ["changed 2", "placed 4"],
    ),
    "upsert of an answer": (
        "INSERT INTO answer (position_id, question_id, answer) VALUES (1, 1, 'x')"
        " ON CONFLICT (position_id, question_id) DO UPDATE SET answer = excluded.answer",
        [],
    ),
    "merge": (
        "MERGE INTO customer_order AS o USING (VALUES ('O2'), ('A')) AS given (code) ON o.code = given.code"
        " WHEN MATCHED THEN UPDATE SET status = 'p'"
        " WHEN NOT MATCHED THEN INSERT (event_id, code) VALUES (1, given.code)",
        ["paid 2", "placed 3"],
    ),
    "order deleted": ("DELETE FROM customer_order", []),
    "event deleted": ("DELETE FROM event", []),
}


@pytest.mark.parametrize(("statement", "expected"), ORDER_CHANGES.values(), ids=ORDER_CHANGES)
def test_a_change_of_orders(orders, statement, expected):
    if statement.endswith("FROM event"):
        orders.execute("DELETE FROM order_position")
        entries(orders)
    orders.execute(statement)
    assert entries(orders) == expected


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("c", "n", ["reactivated 2"]),
        ("c", "p", ["paid 2", "reactivated 2"]),
        ("c", "e", ["expired 2"]),
        ("e", "n", ["changed 2"]),
        ("p", "n", ["changed 2"]),
        ("e", "p", ["paid 2"]),
        ("p", "c", ["canceled 2"]),
    ],
)
def test_every_change_of_status_is_recorded(orders, before, after, expected):
    orders.execute("UPDATE customer_order SET status = %s WHERE id = 2", (before,))
    entries(orders)
    orders.execute("UPDATE customer_order SET status = %s WHERE id = 2", (after,))
    assert entries(orders) == expected


def test_what_belongs_to_an_order_is_part_of_its_being_placed(orders):
    with orders.transaction():
        number = place(orders, 3)
        orders.execute("UPDATE order_position SET city = 'Kiel' WHERE order_id = %s", (number,))
        orders.execute("UPDATE customer_order SET status = 'p', expires_at = NULL WHERE id = %s", (number,))
    assert entries(orders) == [f"checkin {number}", f"paid {number}", f"placed {number}"]
    orders.execute("UPDATE customer_order SET total = 99")
    assert entries(orders) == ["changed 1", "changed 2", f"changed {number}"]


def test_an_order_that_is_placed_and_deleted_at_once_does_not_fail(orders):
    with orders.transaction():
        place(orders, 3)
        orders.execute("DELETE FROM customer_order WHERE code = 'O3'")
    assert {entry.split()[0] for entry in entries(orders)} <= {"placed", "checkin"}


OFFER_CHANGES = {
    "created": (
        "INSERT INTO offer (product_id, venue_id, name, subcategory_id) VALUES (1, 1, 'n', 's')",
        ["created 4"],
    ),
    "changed": ("UPDATE offer SET name = 'n' WHERE id < 3", ["changed 1", "changed 2"]),
    "description": ("UPDATE offer SET description = 'd' WHERE id = 3", ["changed 3"]),
    "only its date": ("UPDATE offer SET date_modified_at_last_provider = now(), last_provider_id = 1", []),
    "stock": (
        "INSERT INTO stock (offer_id, price) VALUES (3, 1), (3, 2), (1, 1)",
        ["stock_changed 1", "stock_changed 3"],
    ),
    "quantity": ("UPDATE stock SET quantity = 3 WHERE id = 2", ["stock_changed 2"]),
    "moved": ("UPDATE stock SET offer_id = 3 WHERE id = 2", ["stock_changed 2", "stock_changed 3"]),
    "booking": ("INSERT INTO booking (stock_id, quantity) VALUES (1, 1)", ["stock_changed 1"]),
    "stock's date": ("UPDATE stock SET date_modified_at_last_provider = now()", []),
    "stock removed": ("DELETE FROM stock", ["stock_changed 1", "stock_changed 2"]),
    "upsert": (
        "INSERT INTO stock (offer_id, price, id_at_providers) VALUES (2, 9, 'k2'), (3, 9, 'k3')"
        " ON CONFLICT (id_at_providers) DO UPDATE SET price = excluded.price",
        ["stock_changed 2", "stock_changed 3"],
    ),
}


@pytest.mark.parametrize(("statement", "expected"), OFFER_CHANGES.values(), ids=OFFER_CHANGES)
def test_a_change_of_offers(offers, statement, expected):
    offers.execute(statement)
    assert entries(offers) == expected


def test_copy(offers):
    with offers.cursor() as cursor, cursor.copy("COPY stock (offer_id, price) FROM STDIN") as copy:
        for offer in (3, 3, 2):
            copy.write_row((offer, 1))
    assert entries(offers) == ["stock_changed 2", "stock_changed 3"]


def test_a_plan_made_for_one_row_serves_many(offers):
    offers.execute(
        "INSERT INTO stock (offer_id, price) SELECT 1 + n % 3, 1 FROM generate_series(1, 20000) AS n; ANALYZE stock"
    )
    offers.execute("UPDATE stock SET price = 2 WHERE id = 1")
    entries(offers)
    began = time.monotonic()
    offers.execute("UPDATE stock SET price = 3")
    assert time.monotonic() - began < 10
    assert entries(offers) == ["stock_changed 1", "stock_changed 2", "stock_changed 3"]


def test_no_triggers_without_a_consumer(shop):
    assert shop.execute(TRIGGERS).fetchone() == (0,)
    assert subscribe(shop, "c", "order")
    assert not subscribe(shop, "c", "order")
    assert shop.execute(TRIGGERS).fetchone() == (17,)
    subscribe(shop, "d", "order")
    subscribe(shop, "d", "offer")
    assert shop.execute(TRIGGERS).fetchone() == (22,)
    assert unsubscribe(shop, "c", "order")
    assert not unsubscribe(shop, "c", "order")
    shop.execute("UPDATE customer_order SET total = 1")
    assert entries(shop) == ["changed 1", "changed 2"]
    unsubscribe(shop, "d", "order")
    shop.execute("UPDATE customer_order SET total = 2")
    assert entries(shop) == []
    assert shop.execute(TRIGGERS).fetchone() == (5,)
    unsubscribe(shop, "d", "offer")
    assert shop.execute(TRIGGERS).fetchone() == (0,)


def test_there_are_only_orders_and_offers(connection):
    with pytest.raises(ConfigurationError, match="'products', only for order, offer"):
        subscribe(connection, "c", "products")
    with pytest.raises(ConfigurationError, match="nobody has not subscribed"):
        block(connection, "nobody")


def test_each_consumer_has_a_position_of_its_own_from_its_subscription_on(orders):
    orders.execute("UPDATE customer_order SET total = 1 WHERE id = 1")
    subscribe(orders, "d", "order")
    orders.execute("UPDATE customer_order SET total = 1 WHERE id = 2")
    assert take(orders) == ["changed 1", "changed 2"]
    assert take(orders) == []
    with orders.transaction(force_rollback=True):
        assert take(orders, "d") == ["changed 2"]
    assert take(orders, "d") == ["changed 2"]
    assert take(orders, "d") == []


def test_blocks_do_not_part_what_a_transaction_did_to_an_object(orders):
    orders.execute("UPDATE customer_order SET total = 1, status = 'p', email = 'n'")
    blocks = [block(orders, limit=1) for _ in range(3)]
    assert blocks == [FeedCounts(read=3, queued=1), FeedCounts(read=3, queued=1), FeedCounts()]
    assert queued(orders) == ["paid 1", "paid 2"]


def test_equal_entries_of_a_transaction_are_read_together(orders):
    with orders.transaction():
        for total in range(20, 25):
            orders.execute("UPDATE customer_order SET total = %s", (total,))
    assert [take(orders, limit=2) for _ in range(3)] == [["changed 1"], ["changed 2"], []]


def test_a_transaction_that_commits_late_is_read_in_its_turn(orders, connect):
    late, other = connect(), connect()
    late.execute("BEGIN")
    late.execute("UPDATE customer_order SET total = 1 WHERE id = 1")
    other.execute("UPDATE customer_order SET total = 1 WHERE id = 2")
    assert take(orders) == []
    late.execute("COMMIT")
    assert take(orders) == ["changed 1", "changed 2"]
    assert take(orders) == []


def test_late_transactions_are_neither_missed_nor_read_twice(orders, connect):
    """Eight writers with open transactions of all lengths, and a reader at the same time."""
    orders.execute("INSERT INTO customer_order (event_id, code) SELECT 1, 'N' || n FROM generate_series(1, 400) AS n")
    take(orders)
    numbers = [row[0] for row in orders.execute("SELECT id FROM customer_order WHERE code LIKE 'N%'")]
    done = threading.Event()

    def write(mine, pause):
        writer = connect()
        for number in mine:
            with writer.transaction():
                writer.execute("UPDATE customer_order SET total = total + 1 WHERE id = %s", (number,))
                time.sleep(pause)

    writers = [threading.Thread(target=write, args=(numbers[n::8], 0.001 * n)) for n in range(8)]
    waiter = threading.Thread(target=lambda: ([w.join() for w in writers], done.set()))
    for thread in (*writers, waiter):
        thread.start()
    found = []
    while not done.is_set():
        found += take(orders, limit=7)
    waiter.join()
    while block := take(orders, limit=7):
        found += block
    assert sorted(found) == sorted(f"changed {number}" for number in numbers)


def test_what_was_rolled_back_leaves_nothing(orders):
    with orders.transaction(force_rollback=True):
        place(orders, 3)
    with orders.transaction(), orders.transaction(force_rollback=True):
        place(orders, 4)
    assert entries(orders) == []
    with orders.transaction():
        orders.execute("UPDATE customer_order SET total = 1 WHERE id = 1")
        with orders.transaction(force_rollback=True):
            place(orders, 4)
        place(orders, 4)
    assert [entry.split()[0] for entry in entries(orders)] == ["changed", "checkin", "placed"]


@contextmanager
def writing(connection, table="customer_order"):
    """A transaction that has a table open for writing."""
    with connection.transaction():
        connection.execute(f"LOCK TABLE {table} IN ROW EXCLUSIVE MODE")
        yield


def test_subscribing_waits_for_writers_without_holding_others_up(shop, connect, monkeypatch):
    monkeypatch.setattr(change_feed, "SUBSCRIBE_TRIES", 2)
    writer, other = connect(), connect()
    with writing(writer), pytest.raises(DatabaseUnavailable, match="other transactions keep its tables locked"):
        subscribe(shop, "c", "order")
    monkeypatch.setattr(change_feed, "SUBSCRIBE_TRIES", 50)
    thread = threading.Thread(target=lambda: subscribe(shop, "c", "order"))
    with writing(writer, "payment"):
        thread.start()
        for total in range(10):
            began = time.monotonic()
            other.execute("UPDATE customer_order SET total = %s", (total,))
            assert time.monotonic() - began < 0.9
        writer.execute("UPDATE customer_order SET locale = 'fr'")
    thread.join(20)
    assert other.execute("SHOW lock_timeout").fetchone() == shop.execute("SHOW lock_timeout").fetchone() == ("0",)
    other.execute("UPDATE customer_order SET total = 77")
    assert take(shop)[-2:] == ["changed 1", "changed 2"]


def test_a_transaction_older_than_the_subscription_is_read(shop, connect):
    old = connect()
    old.execute("BEGIN")
    old.execute("CREATE TEMPORARY TABLE t (n integer)")
    subscribe(shop, "c", "order")
    old.execute("UPDATE customer_order SET total = 1 WHERE id = 1")
    old.execute("COMMIT")
    assert take(shop) == ["changed 1"]


def test_subscribing_keeps_the_caller_s_lock_timeout(shop):
    with shop.transaction():
        shop.execute("SET LOCAL lock_timeout = '7s'")
        subscribe(shop, "c", "order")
        assert shop.execute("SHOW lock_timeout").fetchone() == ("7s",)


def test_many_subscribe_and_go_at_once(shop, connect):
    failures = []

    def come_and_go(name):
        mine = connect()
        try:
            for _ in range(5):
                subscribe(mine, name, "order")
                unsubscribe(mine, name, "order")
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=come_and_go, args=(f"c{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (failures, shop.execute(TRIGGERS).fetchone()) == ([], (0,))


@pytest.fixture
def role(connection, database):
    """A function that opens a connection of a role that has only these rights."""
    connection.execute("DROP ROLE IF EXISTS clerk; CREATE ROLE clerk; GRANT USAGE ON SCHEMA public TO clerk")
    with ExitStack() as opened:

        def role(*rights):
            for right in rights:
                connection.execute(f"GRANT {right} TO clerk")
            clerk = opened.enter_context(psycopg.connect(database, autocommit=True))
            clerk.execute("SET ROLE clerk")
            return clerk

        yield role
    connection.execute("DROP OWNED BY clerk; DROP ROLE clerk")


WRITE = "SELECT, INSERT, UPDATE, DELETE ON"


def test_a_writer_needs_no_right_to_the_feed(offers, shop, role):
    subscribe(shop, "c", "order")
    clerk = role(f"{WRITE} customer_order, order_position, answer, checkin, stock")
    clerk.execute("CREATE TEMPORARY TABLE change_feed (source text, source_id bigint, change text)")
    clerk.execute("CREATE TEMPORARY TABLE order_position (id bigint)")
    clerk.execute("SET search_path = pg_temp, public")
    clerk.execute("UPDATE customer_order SET total = 3 WHERE id = 1")
    clerk.execute("UPDATE answer SET answer = 'new'")
    clerk.execute("UPDATE stock SET price = 3 WHERE offer_id = 2")
    clerk.execute("INSERT INTO public.order_position (order_id, number, product_id) VALUES (2, 1, 1)")
    for stolen in (
        "SELECT feed_order_parts('{1}', 'paid')",
        "DELETE FROM public.change_feed",
        "CREATE TABLE pg_temp.mine (id bigint); CREATE TRIGGER t AFTER INSERT ON mine"
        " REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.feed_offers()",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            clerk.execute(stolen)
    assert entries(shop) == ["changed 1", "modified 1", "changed 2", "stock_changed 2"]


def test_a_reader_needs_no_right_to_the_tables(shop, role):
    reader = role(f"{WRITE} change_feed, change_feed_consumer, outbound_queue", "SELECT ON source_order")
    subscribe(reader, "c", "order")
    shop.execute("UPDATE customer_order SET total = 1")
    assert take(reader) == ["changed 1", "changed 2"]
    assert (str(lags(reader)[0]), purge(reader)) == ("c has read all changes (order)", 2)
    unsubscribe(reader, "c", "order")


@pytest.mark.parametrize("limit", [1, 3, 1000])
def test_purging_leaves_what_somebody_has_not_read(orders, limit):
    subscribe(orders, "d", "order")
    for total in range(20, 25):
        orders.execute(
            "UPDATE customer_order SET total = %s, status = CASE status WHEN 'p' THEN 'c' ELSE 'p' END", (total,)
        )
    assert purge(orders, limit=limit) == 0
    take(orders)
    assert purge(orders, limit=limit) == 0
    take(orders, "d", limit=3)
    assert purge(orders, limit=limit) == 4
    assert block(orders, "d").read == 20
    assert purge(orders, limit=limit) == 20
    assert entries(orders) == []


def test_what_nobody_reads_any_more_is_purged(orders, offers):
    orders.execute("UPDATE customer_order SET total = 1")
    orders.execute("UPDATE offer SET name = 'n'")
    unsubscribe(orders, "c", "order")
    assert purge(orders) == 2
    assert take(orders, source="offer") == ["changed 1", "changed 2", "changed 3"]


def test_lags(orders, connect):
    assert [str(lag) for lag in lags(orders)] == ["c has read all changes (order)"]
    orders.execute("UPDATE customer_order SET total = 1")
    orders.execute("UPDATE change_feed SET at = at - interval '90 s'")
    (lag,) = lags(orders)
    assert lag.seconds == pytest.approx(90, abs=10)
    assert (lag.is_held_back, lag.held_by) == (False, None)
    assert str(lag).startswith("c is 9")
    take(orders)
    blocker = connect()
    blocker.execute("SET application_name = 'the culprit'")
    blocker.execute("BEGIN; CREATE TEMPORARY TABLE t (n integer)")
    orders.execute("UPDATE customer_order SET total = 2")
    (lag,) = lags(orders)
    assert lag.is_held_back
    assert f"process {blocker.info.backend_pid} (database test_" in lag.held_by
    assert "the culprit) since 2" in str(lag)
    assert str(lag).endswith("idle in transaction")
    assert take(orders) == []


def test_on_another_server_all_is_read_again(orders):
    """A dump was restored where fewer transactions have been counted."""
    subscribe(orders, "d", "order")
    orders.execute("UPDATE customer_order SET total = 1")
    take(orders)
    orders.execute("UPDATE change_feed SET txid = '900000000000'")
    orders.execute("UPDATE change_feed_consumer SET last_txid = '900000000000', cluster = 1")
    orders.execute("UPDATE customer_order SET total = 2, locale = 'fr' WHERE id = 2")
    assert purge(orders) == 0
    assert block(orders).read == 3
    assert queued(orders) == ["changed 1", "changed 2"]
    orders.execute("UPDATE customer_order SET total = 3 WHERE id = 1")
    assert take(orders) == ["changed 1"]
    assert block(orders, "d").read == 4
    assert queued(orders, "d") == ["changed 1", "changed 2"]
    assert purge(orders) == 4


def test_positions_use_the_index(orders):
    orders.execute(
        "INSERT INTO change_feed (source, source_id, change)"
        " SELECT 'offer', n, 'changed' FROM generate_series(1, 5000) AS n"
    )
    orders.execute("ANALYZE change_feed")
    position = Position(5, 5)
    plan = orders.execute(
        f"EXPLAIN {change_feed.BLOCK}",
        {"source": "order", "txid": position.txid, "source_id": position.source_id, "horizon": 2**40, "limit": 100},
    ).fetchall()
    text = "\n".join(line for (line,) in plan)
    assert "Index Cond" in text
    assert "Sort" not in text
    assert "ROW(txid, source_id) > ROW" in text.partition("Filter")[0]
