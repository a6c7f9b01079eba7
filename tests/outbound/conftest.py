"""Orders in PostgreSQL, and targets that write down what they are sent."""

import threading
from types import SimpleNamespace

import pytest

from include.errors import RecoverableSyncError
from include.outbound.worker import drain
from include.store import orders
from include.store import queue as store
from include.targets.base import OutboundSyncProvider, StaticMapping


def entry(source_field, external_field, overwrite="overwrite", value_map=""):
    return {
        "source_field": source_field,
        "external_field": external_field,
        "value_map": value_map,
        "overwrite": overwrite,
    }


ORDERS = StaticMapping(
    1, "Order", "deal", "order_code", "code", [entry("email", "mail"), entry("order_total", "total")]
)
TICKETS = StaticMapping(
    2,
    "OrderPosition",
    "person",
    "ticket_id",
    "ticket",
    [entry("attendee_name", "name"), entry("attendee_email", "mail"), entry("product", "product")],
)


class Shop:
    """Writes events and orders."""

    def __init__(self, connection):
        self.connection = connection
        self.events = {}

    def _one(self, statement, *values):
        return self.connection.execute(statement, values).fetchone()[0]

    def event(self, slug):
        if slug not in self.events:
            event = self._one(
                "INSERT INTO event (slug, name, public_url) VALUES (%s, %s, 'https://x.example') RETURNING id",
                slug,
                slug.title(),
            )
            product = self._one("INSERT INTO ticket_product (event_id, name) VALUES (%s, 'Seat') RETURNING id", event)
            self.events[slug] = event, product
        return self.events[slug]

    def order(self, code, *, event="show", email="ada@example.org", attendees=(), placed_at="2026-05-01T12:00Z"):
        """Add an order with a position per attendee (name, address); returns its id."""
        event_id, product = self.event(event)
        order = self._one(
            "INSERT INTO customer_order (event_id, code, status, email, total, placed_at, secret)"
            " VALUES (%s, %s, 'p', %s, 23, %s, 's3cr3t') RETURNING id",
            event_id,
            code,
            email,
            placed_at,
        )
        for number, (name, address) in enumerate(attendees, 1):
            given, _, family = name.partition(" ")
            self.connection.execute(
                "INSERT INTO order_position (order_id, number, product_id, attendee_name_parts, attendee_email)"
                " VALUES (%s, %s, %s, jsonb_build_object('given_name', %s::text, 'family_name', %s::text), %s)",
                (order, number, product, given, family, address),
            )
        return order

    def orders(self, count, *, event="show", **more):
        return [self.order(f"{event[:6].upper()}{number}", event=event, **more) for number in range(count)]

    def change(self, order, email):
        self.connection.execute("UPDATE customer_order SET email = %s WHERE id = %s", (email, order))

    def load(self, order):
        return orders.load_orders(self.connection, [order])[order]


class Recording(OutboundSyncProvider):
    """Writes down its calls. `answer` says what it returns, or raises."""

    identifier = "recording"
    mappings = (ORDERS,)

    def __init__(self, event):
        super().__init__(event)
        self.note("made", getattr(event, "slug", None))

    @classmethod
    def note(cls, *what):
        with cls.lock:
            cls.noted.append(what)

    def sync_object_with_properties(self, **arguments):
        with self.lock:
            self.calls.append(SimpleNamespace(**arguments, provider=self, thread=threading.get_ident()))
        return self.answer(SimpleNamespace(**arguments))

    def answer(self, call):
        return {"action": "upsert", "external_link_href": f"https://x.example/{call.id_value}"}

    def finalize_sync_order(self, order):
        self.note("finalized", order.code)

    def close(self):
        self.note("closed", getattr(self.event, "slug", None))


@pytest.fixture
def make_target():
    """A function that makes a target class of its own, with other members; `calls` and `noted` tell what it met."""

    def make(name="recording", base=Recording, **members):
        own = {"identifier": name, "calls": [], "noted": [], "lock": threading.Lock()}
        return type("Target", (base,), own | members)

    return make


@pytest.fixture
def shop(connection):
    return Shop(connection)


@pytest.fixture
def queue(connection):
    """A function that puts orders into the queue of a target."""

    def queue(target, *order_ids, by="placed"):
        return store.enqueue_orders(connection, target.identifier, order_ids, triggered_by=by)

    return queue


@pytest.fixture
def send(connection, queue):
    """A function that queues orders, if any are given, and empties the queue; returns the report."""

    def send(target, *order_ids, **options):
        queue(target, *order_ids)
        return drain(target, connection, **options)

    return send


@pytest.fixture
def rows(connection):
    """A function that gives columns of the rows of a table, by id."""

    def rows(columns, table="outbound_queue", where="true"):
        found = connection.execute(f"SELECT {columns} FROM {table} WHERE {where}").fetchall()
        return [row[0] for row in found] if "," not in columns else found

    return rows


@pytest.fixture
def make_due(connection):
    """A function that lets all that waits be due now."""
    return lambda: connection.execute("UPDATE outbound_queue SET not_before = now() WHERE NOT in_flight")


def fail(error):
    """What `answer` does to raise an error, given as the exception or as a function that makes one."""

    def answer(self, call):
        raise error() if callable(error) else error

    return answer


def down():
    return RecoverableSyncError(["The service is down"])
