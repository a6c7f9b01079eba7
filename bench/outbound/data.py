"""The orders that are sent, generated in PostgreSQL in any number, and the objects that a target must receive."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from zlib import crc32

import msgspec
import psycopg

TARGET = "bench"
EVENTS = 3
POSITIONS = 2
OBJECTS = 1 + POSITIONS
"""Objects per order: its buyer and its attendees."""
BUYER, ATTENDEE = "buyer", "attendee"

BUYER_FIELDS = {"EMAIL": "email", "TOTAL": "order_total", "STATUS": "order_status", "EVENT": "event_name"}
ATTENDEE_FIELDS = {"NAME": "attendee_name", "EMAIL": "attendee_email", "TICKET": "product", "PRICE": "ticket_price"}
"""Field at the target → source field."""


def fill(connection: psycopg.Connection[Any], orders: int) -> None:
    """Replace all orders by new ones in three events, with two positions each. The queue is empty."""
    connection.execute(
        "TRUNCATE event, customer_order, outbound_queue, outbound_result, outbound_log, outbound_run"
        " RESTART IDENTITY CASCADE"
    )
    connection.execute(
        "INSERT INTO event (id, slug, name) SELECT g, 'e' || g, 'Event ' || g FROM generate_series(0, %s) AS g",
        (EVENTS - 1,),
    )
    connection.execute("INSERT INTO ticket_product (id, event_id, name) SELECT id, id, 'Ticket ' || id FROM event")
    connection.execute(
        "INSERT INTO customer_order (id, event_id, code, status, email, total)"
        " SELECT g, g %% %s, 'A' || g, 'p', 'a' || g || '@example.org', g %% 100 FROM generate_series(1, %s) AS g",
        (EVENTS, orders),
    )
    connection.execute(
        "INSERT INTO order_position (order_id, number, product_id, price, attendee_name_parts, attendee_email)"
        " SELECT g, n, g %% %s, n, jsonb_build_object('given_name', 'Ann ' || g, 'family_name', 'Lee ' || n),"
        " 'p' || g || '-' || n || '@example.org' FROM generate_series(1, %s) AS g, generate_series(1, %s) AS n",
        (EVENTS, orders, POSITIONS),
    )
    connection.execute("VACUUM (ANALYZE) event, ticket_product, customer_order, order_position")


def queue(connection: psycopg.Connection[Any], limit: int | None = None) -> None:
    """Put all orders, or the first ones, into the queue, as if they had just been placed."""
    connection.execute(
        "INSERT INTO outbound_queue (source_id, event_id, target, triggered_by)"
        " SELECT id, event_id, %s, 'placed' FROM customer_order ORDER BY id LIMIT %s",
        (TARGET, limit),
    )
    connection.execute("VACUUM (ANALYZE) outbound_queue, outbound_result, outbound_log")


def objects(orders: int) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield what the target must have: the path of each object and its fields."""
    for g in range(1, orders + 1):
        event = g % EVENTS
        yield (
            f"/{BUYER}/A{g}",
            {"EMAIL": f"a{g}@example.org", "TOTAL": f"{g % 100:.2f}", "STATUS": "p", "EVENT": f"Event {event}"},
        )
        for n in range(1, POSITIONS + 1):
            yield (
                f"/{ATTENDEE}/A{g}-{n}",
                {
                    "NAME": f"Ann {g} Lee {n}",
                    "EMAIL": f"p{g}-{n}@example.org",
                    "TICKET": f"Ticket {event}",
                    "PRICE": f"{n}.00",
                },
            )


def digest(path: str, fields: Any) -> int:
    """Return the checksum of an object, independent of the order of its fields. A sum of them covers all objects."""
    return crc32(path.encode() + b" " + msgspec.json.encode(fields, order="sorted"))


def checksum(orders: int) -> int:
    """Return the sum of the checksums of all objects."""
    return sum(digest(path, fields) for path, fields in objects(orders))
