"""Orders and offers as they are read from the views."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from include.errors import ConfigurationError
from include.models.orders import Answer, CheckinList, InvoiceAddress, Question, SourceStock
from include.store import orders as store
from include.store.orders import find_orders, load_events, load_offers, load_orders, orders_between

DAY = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def shop(connection):
    """Two events; the order FULL with a ticket, a canceled one and an add-on, the order BARE with nothing."""
    connection.execute(
        """
        INSERT INTO event (id, slug, name, date_from, locales, public_url) VALUES
            (1, 'fair', 'Book Fair', '2026-05-01 10:00+02', '{fr,en}', 'https://tickets.example.org/fair');
        INSERT INTO event (id, slug, name, name_parts) VALUES (2, 'night', 'Night', '{full_name}');
        INSERT INTO sub_event (id, event_id, name, date_from, date_to) VALUES
            (3, 1, 'Saturday', '2026-05-02 10:00+02', '2026-05-02 18:00+02');
        INSERT INTO ticket_product (id, event_id, name, internal_name, is_admission) VALUES
            (1, 1, 'Ticket', '', true), (2, 1, 'Lunch', 'Lunch (caterer)', false);
        INSERT INTO question (id, event_id, identifier, label, type) VALUES
            (1, 1, 'menu', 'Menu', 'C'), (2, 1, 'age', 'Age', 'N'), (3, 2, 'why', 'Why?', 'T');
        INSERT INTO question_option (id, question_id, identifier, label) VALUES
            (1, 1, 'z', 'Fish'), (2, 1, 'a', 'None');
        INSERT INTO checkin_list (id, event_id, name) VALUES (7, 1, 'Door'), (8, 1, 'Bar');
        INSERT INTO customer_order (id, event_id, code, status, email, total, placed_at, secret) VALUES
            (1, 1, 'FULL', 'p', 'ada@example.org', 23, '2026-03-01 12:00+00', 's3cret');
        INSERT INTO customer_order (id, event_id, code, placed_at) VALUES (2, 2, 'BARE', '2026-03-02 12:00+00');
        INSERT INTO payment (order_id, amount, paid_at) VALUES
            (1, 20, '2026-03-01 13:00+00'), (1, 3, '2026-03-01 14:00+00'), (1, 9, NULL);
        INSERT INTO invoice_address (order_id, company, name_parts) VALUES (1, 'ACME', '{"given_name": "Ada"}');
        INSERT INTO order_position (id, order_id, number, parent_id, product_id, is_canceled) VALUES
            (13, 1, 2, NULL, 1, true);
        INSERT INTO order_position (id, order_id, number, product_id, variation, sub_event_id, price, secret,
            voucher_code, attendee_name_parts, attendee_email, company, street, zipcode, city, country) VALUES
            (12, 1, 1, 1, 'full price', 3, 23, 't1cket', 'FREE', '{"given_name": "Ada"}', 'ada@example.org', 'ACME',
             '1 Street', '12345', 'Town', 'FR');
        INSERT INTO order_position (id, order_id, number, parent_id, product_id) VALUES (11, 1, 3, 12, 2);
        INSERT INTO answer (position_id, question_id, answer, options) VALUES
            (12, 1, 'Fish', '{z}'), (12, 2, '36', '{}');
        INSERT INTO checkin (position_id, list_id, at, type, is_successful, is_annulled) VALUES
            (12, 7, '2026-05-02 09:00+00', 'entry', true, true),
            (12, 7, '2026-05-02 09:10+00', 'entry', false, false),
            (12, 7, '2026-05-02 09:20+00', 'exit', true, false),
            (12, 7, '2026-05-02 09:40+00', 'entry', true, false),
            (12, 7, '2026-05-02 09:30+00', 'entry', true, false);
        """
    )
    return connection


@pytest.fixture
def other_views(shop):
    """The shop's connection, on which views may be changed: it is all undone at the end."""
    with shop.transaction(force_rollback=True):
        yield shop


@pytest.fixture
def statements(monkeypatch):
    """The views that were read, in their order."""
    read, seen = store._read, []

    def counted(connection, view, *arguments, **more):
        seen.append(view)
        return read(connection, view, *arguments, **more)

    monkeypatch.setattr(store, "_read", counted)
    return seen


def test_an_order_has_all_that_belongs_to_it(shop):
    order = load_orders(shop, [1])[1]
    assert (order.order_id, order.event_id, order.code, order.status, order.email, order.locale, order.secret) == (
        1, 1, "FULL", "p", "ada@example.org", "en", "s3cret",
    )  # fmt: skip
    assert order.total == Decimal("23.00")
    assert (order.placed_at, order.paid_at) == (DAY, DAY + timedelta(hours=2))
    assert order.invoice_address == InvoiceAddress("ACME", {"given_name": "Ada"})
    assert order.event.slug == "fair"
    assert [position.number for position in order.positions] == [1, 2, 3]


def test_a_position_has_all_that_belongs_to_it(shop):
    ticket, canceled, lunch = load_orders(shop, [1])[1].positions
    assert (ticket.position_id, ticket.order_id, ticket.product_id, ticket.product) == (12, 1, 1, "Ticket")
    assert (ticket.variation, ticket.price, ticket.secret) == ("full price", Decimal("23.00"), "t1cket")
    assert (ticket.voucher_code, ticket.attendee_name_parts) == ("FREE", {"given_name": "Ada"})
    assert (ticket.attendee_email, ticket.company, ticket.street) == ("ada@example.org", "ACME", "1 Street")
    assert (ticket.zipcode, ticket.city, ticket.country) == ("12345", "Town", "FR")
    assert (ticket.sub_event_id, ticket.sub_event_name) == (3, "Saturday")
    assert ticket.sub_event_date_from == datetime(2026, 5, 2, 8, tzinfo=UTC)
    assert ticket.sub_event_date_to == datetime(2026, 5, 2, 16, tzinfo=UTC)
    assert ticket.answers == {"menu": Answer("Fish", ["z"]), "age": Answer("36")}
    assert ticket.checkins == {7: datetime(2026, 5, 2, 9, 30, tzinfo=UTC)}
    assert (canceled.is_canceled, canceled.attendee_name_parts, canceled.answers, canceled.checkins) == (
        True, None, {}, {},
    )  # fmt: skip
    assert (lunch.product, lunch.is_admission, lunch.parent) == ("Lunch (caterer)", False, ticket)
    assert ticket.parent is None


def test_an_order_may_have_nothing(shop):
    order = load_orders(shop, [2])[2]
    assert (order.email, order.paid_at, order.invoice_address, order.positions) == (None, None, None, [])


def test_a_position_of_another_order_is_no_parent(shop):
    shop.execute("INSERT INTO order_position (order_id, number, parent_id, product_id) VALUES (2, 1, 12, 1)")
    assert load_orders(shop, [1, 2])[2].positions[0].parent is None
    assert load_orders(shop, [2])[2].positions[0].parent is None


def test_an_event_has_its_questions_and_lists(shop):
    found = load_events(shop, [1, 2, 3])
    assert found[1].questions == [
        Question("menu", "Menu", "C", [("z", "Fish"), ("a", "None")]),
        Question("age", "Age", "N"),
    ]
    assert found[1].checkin_lists == [CheckinList(7, "Door"), CheckinList(8, "Bar")]
    assert (found[1].locales, found[1].name_parts) == (["fr", "en"], ["given_name", "family_name"])
    assert (found[1].public_url, found[1].date_to) == ("https://tickets.example.org/fair", None)
    assert found[1].date_from == datetime(2026, 5, 1, 8, tzinfo=UTC)
    assert (found[2].name_parts, found[2].checkin_lists) == (["full_name"], [])
    assert set(found) == {1, 2}


@pytest.mark.parametrize("ids", [[1], [1, 2], range(1, 500)])
def test_any_number_of_orders_takes_three_queries(shop, statements, ids):
    assert set(load_orders(shop, ids)) <= {1, 2}
    assert statements == ["source_order", "source_event", "source_position"]


def test_known_events_are_lent_and_new_ones_kept(shop, statements):
    events = {}
    load_orders(shop, [1], events)
    first = events[1]
    orders = load_orders(shop, [1, 2], events)
    assert orders[1].event is first
    assert set(events) == {1, 2}
    del statements[:]
    load_orders(shop, [2, 1], events)
    assert statements == ["source_order", "source_position"]


def test_what_is_gone_is_missing(shop):
    assert load_orders(shop, []) == {}
    assert load_orders(shop, [4]) == {}
    assert set(load_orders(shop, [4, 2, 2])) == {2}


def test_an_order_without_its_event_is_missing(other_views):
    other_views.execute(
        "ALTER VIEW source_event RENAME TO theirs;CREATE VIEW source_event AS SELECT * FROM theirs WHERE event_id <> 2"
    )
    assert set(load_orders(other_views, [1, 2])) == {1}


def test_moments_do_not_depend_on_the_time_zone_of_the_session(shop):
    before = load_orders(shop, [1])[1]
    shop.execute("SET TimeZone = 'Asia/Kathmandu'")
    after = load_orders(shop, [1])[1]
    assert after == before


def test_views_of_ones_own_may_say_less(other_views):
    other_views.execute(
        """
        ALTER VIEW source_order RENAME TO theirs;
        CREATE VIEW source_order AS SELECT order_id, event_id, code, status, email, locale, total, placed_at, secret,
            paid_at, '{"company": null, "name_parts": null, "vat_id": "X"}'::json AS invoice_address FROM theirs
        """
    )
    assert load_orders(other_views, [1])[1].invoice_address == InvoiceAddress()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("DROP VIEW source_position", 'source_position: relation "source_position" does not exist'),
        ("ALTER VIEW source_position RENAME COLUMN city TO town", 'source_position: column "city" does not exist'),
        (
            "ALTER VIEW source_position RENAME COLUMN answers TO a;"
            " ALTER VIEW source_position RENAME COLUMN attendee_name_parts TO answers;"
            " ALTER VIEW source_position RENAME COLUMN a TO attendee_name_parts",
            r"source_position: Expected `object`, got `str` - at `\$\[...\]`",
        ),
    ],
)
def test_views_that_do_not_fit_are_named(other_views, change, message):
    other_views.execute(change)
    with pytest.raises(ConfigurationError, match=message):
        load_orders(other_views, [1])


def test_codes_are_found(shop):
    shop.execute("INSERT INTO customer_order (id, event_id, code) VALUES (3, 2, 'FULL')")
    assert find_orders(shop, ["BARE", "BARE"]) == [2]
    assert find_orders(shop, ["FULL"], event_slug="night") == [3]
    assert find_orders(shop, []) == []


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"codes": ["FULL", "NONE", "GONE"]}, "There is no order with the code NONE, GONE"),
        ({"codes": ["BARE"], "event_slug": "fair"}, "There is no order of event 'fair' with the code BARE"),
        ({"codes": ["FULL"], "event_slug": "fairs"}, "There is no event 'fairs'"),
        ({"codes": ["BARE", "FULL"]}, "Several events have an order FULL: specify the event"),
    ],
)
def test_codes_that_do_not_say_which_order_are_refused(shop, asked, message):
    shop.execute("INSERT INTO customer_order (id, event_id, code) VALUES (3, 2, 'FULL')")
    with pytest.raises(ConfigurationError, match=message):
        find_orders(shop, **asked)


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (None, None, [1, 2]),
        (DAY, DAY + timedelta(days=1), [1]),
        (DAY + timedelta(seconds=1), None, [2]),
        (None, DAY, []),
    ],
)
def test_an_interval_has_its_start_and_not_its_end(shop, start, end, expected):
    assert list(orders_between(shop, start, end)) == expected


@pytest.mark.parametrize("batch", [1, 2, 3, 50])
def test_orders_are_streamed_while_others_write(shop, batch):
    shop.execute(
        "INSERT INTO customer_order (id, event_id, code)"
        " SELECT 10 + nr * nr, 1, 'X' || nr FROM generate_series(1, 4) AS nr"
    )
    seen = []
    for order_id in orders_between(shop, None, None, batch=batch):
        seen.append(order_id)
        with shop.transaction():
            shop.execute("UPDATE customer_order SET total = total + 1 WHERE id = %s", (order_id,))
    assert seen == [row[0] for row in shop.execute("SELECT id FROM customer_order ORDER BY id")]


def test_an_offer_has_its_stocks(connection):
    connection.execute(
        """
        INSERT INTO venue (name, siret) VALUES ('Shop', '12345678901234');
        INSERT INTO product (name, subcategory_id) VALUES ('Book', 'LIVRE_PAPIER');
        INSERT INTO offer (id, product_id, venue_id, name, description, subcategory_id, id_at_providers, is_active)
            VALUES (1, 1, 1, 'Book', 'Old', 'LIVRE_PAPIER', 'ref-1', false),
                   (2, 1, 1, 'Other', NULL, 'LIVRE_PAPIER', NULL, true);
        INSERT INTO stock (id, offer_id, price, quantity, beginning_datetime, booking_limit_datetime, is_soft_deleted)
            VALUES (1, 1, 9.5, 3, '2026-05-02 09:00+00', '2026-05-01 09:00+00', false),
                   (2, 1, 7, NULL, NULL, NULL, false), (3, 1, 1, 1, NULL, NULL, true);
        """
    )
    offers = load_offers(connection, [1, 2, 3])
    assert set(offers) == {1, 2}
    first = offers[1]
    assert (first.offer_id, first.venue_id, first.name, first.description) == (1, 1, "Book", "Old")
    assert (first.id_at_providers, first.product_id, first.is_active) == ("ref-1", 1, False)
    assert (first.venue_name, first.venue_siret) == ("Shop", "12345678901234")
    assert first.stocks == [
        SourceStock(
            1, Decimal("9.50"), 3, datetime(2026, 5, 2, 9, tzinfo=UTC), datetime(2026, 5, 1, 9, tzinfo=UTC)
        ),
        SourceStock(2, Decimal("7.00")),
    ]  # fmt: skip
    assert offers[2].stocks == []
