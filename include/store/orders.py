"""Reads orders and offers for outbound targets, through the views `source_*`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any, TypeVar

import msgspec
import psycopg
from psycopg import errors

from include.errors import ConfigurationError
from include.models.orders import (
    Answer,
    CheckinList,
    Event,
    InvoiceAddress,
    Order,
    Position,
    Question,
    SourceItem,
    SourceOffer,
    SourceStock,
)

T = TypeVar("T")

BATCH = 10_000
"""Ids read per query."""

_EVENT = (
    "event_id, slug, name, date_from, date_to, locales, name_parts, public_url, questions::text, checkin_lists::text"
)
_ORDER = "order_id, event_id, code, status, email, locale, total, placed_at, paid_at, secret, invoice_address::text"
_POSITION = (
    "position_id, order_id, number, product_id, product, parent_id, variation, is_admission, price, is_canceled,"
    " secret, voucher_code, attendee_name_parts::text, attendee_email, company, street, zipcode, city, country,"
    " sub_event_id, sub_event_name, sub_event_date_from, sub_event_date_to, answers::text, checkins::text"
)
_OFFER = (
    "offer_id, venue_id, name, description, id_at_providers, product_id, is_active, venue_name, venue_siret,"
    " stocks::text"
)
_NAME_PARTS = Position.__struct_fields__.index("attendee_name_parts")

_questions = msgspec.json.Decoder(list[Question]).decode
_checkin_lists = msgspec.json.Decoder(list[CheckinList]).decode
_answers = msgspec.json.Decoder(dict[str, Answer]).decode
_checkins = msgspec.json.Decoder(dict[int, datetime]).decode
_stocks = msgspec.json.Decoder(list[SourceStock]).decode
_json = msgspec.json.Decoder().decode


def load(
    connection: psycopg.Connection, source: str, ids: Collection[int], events: dict[int, Event] | None = None
) -> Mapping[int, SourceItem]:
    """Return orders (`source` is "order") or offers, by id; see `load_orders` and `load_offers`."""
    return load_orders(connection, ids, events) if source == "order" else load_offers(connection, ids)


def load_orders(
    connection: psycopg.Connection, ids: Collection[int], events: dict[int, Event] | None = None
) -> dict[int, Order]:
    """Return orders by id, each with its event and all its positions by number, in three queries.

    Orders that no longer exist, or whose event does not, are missing. `events` is a cache: events in it are not read
    again, and events that are read are added.

    Raises:
        ConfigurationError: a view is missing, or returns values that do not make up an order.
    """
    events = {} if events is None else events
    orders = _read(connection, "source_order", _ORDER, ids, key="order_id", build=_order)
    if missing := {order.event_id for order in orders.values()} - events.keys():
        events.update(load_events(connection, missing))
    orders = {order_id: order for order_id, order in orders.items() if order.event_id in events}
    for order in orders.values():
        order.event = events[order.event_id]
    positions = _read(connection, "source_position", _POSITION, orders, key="order_id", build=_position)
    for position in sorted(positions.values(), key=attrgetter("number")):
        parent = positions.get(position.parent_id) if position.parent_id is not None else None
        position.parent = parent if parent is not None and parent.order_id == position.order_id else None
        orders[position.order_id].positions.append(position)
    return orders


def load_events(connection: psycopg.Connection, ids: Collection[int]) -> dict[int, Event]:
    """Return events by id, with their questions and check-in lists, in one query."""
    return _read(connection, "source_event", _EVENT, ids, key="event_id", build=_event)


def event_ids(connection: psycopg.Connection) -> list[int]:
    """Return the ids of all events."""
    return [row[0] for row in connection.execute("SELECT event_id FROM source_event")]


def find_event(connection: psycopg.Connection, slug: str) -> Event:
    """Return the event with this slug.

    Raises:
        ConfigurationError: there is none.
    """
    rows = connection.execute("SELECT event_id FROM source_event WHERE slug = %s", (slug,)).fetchall()
    for event in load_events(connection, [row[0] for row in rows]).values():
        return event
    raise ConfigurationError(f"There is no event {slug!r}")


def load_offers(connection: psycopg.Connection, ids: Collection[int]) -> dict[int, SourceOffer]:
    """Return offers by id, with their stocks, in one query."""
    return _read(connection, "source_offer", _OFFER, ids, key="offer_id", build=_offer)


def find_orders(connection: psycopg.Connection, codes: Sequence[str], event_slug: str | None = None) -> list[int]:
    """Return the ids of the orders with these codes in an event (None: in any).

    Raises:
        ConfigurationError: an event or code is unknown, or several events have an order with the same code and
            `event_slug` is None.
    """
    where = ""
    if event_slug is not None:
        find_event(connection, event_slug)
        where = f" of event {event_slug!r}"
    found = connection.execute(
        "SELECT order_id, code FROM source_order WHERE code = ANY (%(codes)s)"
        " AND (%(slug)s::text IS NULL OR event_id = (SELECT event_id FROM source_event WHERE slug = %(slug)s))",
        {"codes": list(codes), "slug": event_slug},
    ).fetchall()
    counts = Counter(code for _, code in found)
    if unknown := [code for code in dict.fromkeys(codes) if not counts[code]]:
        raise ConfigurationError(f"There is no order{where} with the code {', '.join(unknown)}")
    if several := [code for code in dict.fromkeys(codes) if counts[code] > 1]:
        raise ConfigurationError(f"Several events have an order {', '.join(several)}: specify the event")
    return [order_id for order_id, _ in found]


def orders_between(
    connection: psycopg.Connection, start: datetime | None, end: datetime | None, *, batch: int = BATCH
) -> Iterator[int]:
    """Yield the ids of the orders placed at or after `start` and before `end`, ascending; None means no bound.

    Each batch is a query of its own, so the caller may write and commit in between.
    """
    last = -1
    while True:
        rows = connection.execute(
            "SELECT order_id FROM source_order WHERE order_id > %(last)s"
            " AND (%(start)s::timestamptz IS NULL OR placed_at >= %(start)s)"
            " AND (%(end)s::timestamptz IS NULL OR placed_at < %(end)s)"
            " ORDER BY order_id LIMIT %(batch)s",
            {"last": last, "start": start, "end": end, "batch": batch},
        ).fetchall()
        yield from (order_id for (order_id,) in rows)
        if len(rows) < batch:
            return
        last = rows[-1][0]


def _read(
    connection: psycopg.Connection,
    view: str,
    columns: str,
    ids: Collection[int],
    *,
    key: str,
    build: Callable[[Any], T],
) -> dict[int, T]:
    """Return the objects built from the rows of a view, by their first column."""
    requested = f"{{{','.join(map(str, ids))}}}"
    statement = f"SELECT {columns} FROM {view} WHERE {key} = ANY (%s::bigint[])"  # noqa: S608 - constants
    try:
        with connection.cursor(binary=True) as cursor:
            return {row[0]: build(row) for row in cursor.execute(statement, (requested,))}
    except (errors.UndefinedTable, errors.UndefinedColumn, errors.InsufficientPrivilege) as error:
        raise ConfigurationError(f"{view}: {error.diag.message_primary}") from None
    except msgspec.DecodeError as error:
        raise ConfigurationError(f"{view}: {error}") from None


def _event(row: Sequence[Any]) -> Event:
    *values, questions, checkin_lists = row
    values += _questions(questions), _checkin_lists(checkin_lists)
    return Event(*values)


def _order(row: Sequence[Any]) -> Order:
    *values, address = row
    values.append(_address(_json(address)) if address else None)
    return Order(*values)


def _address(found: dict[str, Any]) -> InvoiceAddress:
    return InvoiceAddress(**{name: found[name] for name in InvoiceAddress.__struct_fields__ if found.get(name)})


def _position(row: Sequence[Any]) -> Position:
    *values, answers, checkins = row
    values[_NAME_PARTS] = _json(values[_NAME_PARTS]) if values[_NAME_PARTS] else None
    # Most positions have neither: comparing with the text is faster than decoding it.
    values += (
        _answers(answers) if answers not in (None, "{}") else {},
        _checkins(checkins) if checkins not in (None, "{}") else {},
    )
    return Position(*values)


def _offer(row: Sequence[Any]) -> SourceOffer:
    *values, stocks = row
    values.append(_stocks(stocks))
    return SourceOffer(*values)
