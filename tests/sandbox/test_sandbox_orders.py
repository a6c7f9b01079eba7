"""The demo orders are consistent, and are loaded once."""

from collections import Counter
from decimal import Decimal

import pytest

from include.store.orders import load_orders, orders_between
from local import demo
from sandbox.orders import ORDERS, events
from sandbox.world import Settings

TYPES = {"N", "S", "T", "B", "C", "M", "D", "H", "W", "CC", "TEL", "F"}


@pytest.fixture(scope="module")
def world():
    """The tables by slug, with the default seed."""
    return {event["slug"]: tables for event, tables in events(Settings())}


@pytest.mark.parametrize("seed", [1, 2, 77])
def test_there_is_some_of_everything(seed):
    world = {event["slug"]: tables for event, tables in events(Settings(seed=seed))}
    assert {question["type"] for tables in world.values() for question in tables["question"]} == TYPES
    for tables in world.values():
        orders, positions = tables["customer_order"], tables["order_position"]
        assert len(orders) == len({order["code"] for order in orders}) == ORDERS
        assert {"p", "c"} < {order["status"] for order in orders}
        assert len(tables["checkin_list"]) == 1
        assert tables["checkin"]
        assert {position["parent_id"] is None for position in positions} == {True, False}
        assert {position["is_canceled"] for position in positions} == {True, False}
        assert {position["number"] for position in positions} >= {1, 2, 3}
        answered = Counter(answer["question_id"] for answer in tables["answer"])
        assert all(1 < answered[question["id"]] < len(positions) for question in tables["question"])
        newsletter = next(question["id"] for question in tables["question"] if question["type"] == "B")
        assert {a["answer"] for a in tables["answer"] if a["question_id"] == newsletter} == {"True", "False"}
    assert {order["status"] for tables in world.values() for order in tables["customer_order"]} == set("npec")


def test_the_edge_cases_exist(world):
    positions = world["salon"]["order_position"]
    tickets = {order: [p for p in positions if p["order_id"] == order and not p["parent_id"]] for order in (1, 2)}
    assert all("🦉" in ticket["attendee_name_parts"]["given_name"] for ticket in tickets[1])
    assert tickets[1]
    assert [ticket["attendee_name_parts"] for ticket in tickets[2]] == [None] * len(tickets[2]) != []
    address = next(row for row in world["salon"]["invoice_address"] if row["order_id"] == 3)
    assert address["company"]
    assert not world["salon"]["customer_order"][2]["email"].isascii()
    assert any(order["email"] is None for tables in world.values() for order in tables["customer_order"])


def test_the_totals_are_those_of_the_positions(world):
    for tables in world.values():
        for order in tables["customer_order"]:
            of_order = [p for p in tables["order_position"] if p["order_id"] == order["id"]]
            counted = [p["price"] for p in of_order if order["status"] == "c" or not p["is_canceled"]]
            assert order["total"] == sum(counted, Decimal(0))
            (payment,) = [p for p in tables["payment"] if p["order_id"] == order["id"]]
            assert (payment["paid_at"] is not None) >= (order["status"] == "p")
            assert payment["paid_at"] is None or payment["paid_at"] > order["placed_at"]


def test_add_ons_belong_to_a_ticket_of_their_order(world):
    for tables in world.values():
        positions = {position["id"]: position for position in tables["order_position"]}
        for position in positions.values():
            if position["parent_id"]:
                parent = positions[position["parent_id"]]
                assert (parent["order_id"], parent["parent_id"]) == (position["order_id"], None)


def test_they_are_loaded_once_next_to_other_orders(database, connection):
    connection.execute("INSERT INTO event (slug, name) VALUES ('mine', 'Mine')")
    connection.execute("INSERT INTO customer_order (event_id, code) VALUES (1, 'MINE')")
    demo.load(database)
    connection.execute("UPDATE customer_order SET email = 'changed@example.org'")
    assert demo.load(database) == 0
    ids = list(orders_between(connection, None, None))
    orders = load_orders(connection, ids)
    assert Counter(order.event.slug for order in orders.values()) == {"mine": 1, "salon": ORDERS, "nights": ORDERS}
    assert {order.email for order in orders.values()} == {"changed@example.org"}
    assert all(order.positions for order in orders.values() if order.event.slug != "mine")
    products = connection.execute(
        "SELECT count(*) FROM order_position AS position JOIN customer_order AS o ON o.id = position.order_id"
        " JOIN ticket_product AS product ON product.id = position.product_id WHERE product.event_id <> o.event_id"
    ).fetchone()
    assert products == (0,)
    connection.execute("INSERT INTO event (slug, name) VALUES ('later', 'Later')")  # the ids that are left are free
    connection.execute("INSERT INTO customer_order (event_id, code) SELECT id, 'LATER' FROM event")
