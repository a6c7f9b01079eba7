"""Orders of ticketed events as outbound targets see them: rows of the views `source_event`, `source_order`,
`source_position`, and for the catalogue `source_offer` with its stocks."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec


class Question(msgspec.Struct, gc=False):
    """A question of an event; `options` are (identifier, label), of choices only."""

    identifier: str
    label: str
    type: str
    options: list[tuple[str, str]] = []


class CheckinList(msgspec.Struct, gc=False):
    """A list at which tickets are scanned."""

    id: int
    name: str


class Event(msgspec.Struct):
    """A ticketed event. `name_parts` are those of which its names consist, in their order."""

    event_id: int
    slug: str
    name: str
    date_from: datetime | None = None
    date_to: datetime | None = None
    locales: list[str] = msgspec.field(default_factory=lambda: ["en"])
    name_parts: list[str] = msgspec.field(default_factory=lambda: ["given_name", "family_name"])
    public_url: str = ""
    questions: list[Question] = []
    checkin_lists: list[CheckinList] = []


class Occasion(msgspec.Struct, gc=False):
    """One date of an event that has several."""

    name: str
    date_from: datetime | None = None
    date_to: datetime | None = None


class InvoiceAddress(msgspec.Struct, gc=False):
    """Who gets the invoice."""

    company: str = ""
    name_parts: dict[str, str] = {}
    street: str = ""
    zipcode: str = ""
    city: str = ""
    country: str = ""


class Answer(msgspec.Struct, gc=False):
    """The answer to a question; `options` are the identifiers of those chosen."""

    answer: str = ""
    options: list[str] = []


class Position(msgspec.Struct, gc=False):
    """A position of an order: a ticket or an add-on, whose `parent` lends it what it lacks.

    `checkins` maps the id of a check-in list to the first successful entry.
    """

    position_id: int
    order_id: int
    number: int
    product_id: int
    product: str
    parent_id: int | None = None
    variation: str | None = None
    is_admission: bool = True
    price: Decimal = Decimal(0)
    is_canceled: bool = False
    secret: str = ""
    voucher_code: str = ""
    attendee_name_parts: dict[str, str] | None = None
    attendee_email: str | None = None
    company: str | None = None
    street: str | None = None
    zipcode: str | None = None
    city: str | None = None
    country: str | None = None
    sub_event_id: int | None = None
    sub_event_name: str | None = None
    sub_event_date_from: datetime | None = None
    sub_event_date_to: datetime | None = None
    answers: dict[str, Answer] = {}
    checkins: dict[int, datetime] = {}
    parent: Position | None = None


class Order(msgspec.Struct, gc=False):
    """An order with all its positions, also canceled ones and add-ons, by their number."""

    order_id: int
    event_id: int
    code: str
    status: str
    email: str | None
    locale: str
    total: Decimal
    placed_at: datetime
    paid_at: datetime | None = None
    secret: str = ""
    invoice_address: InvoiceAddress | None = None
    positions: list[Position] = []
    event: Any = None
    """The Event it belongs to."""


class SourceStock(msgspec.Struct, gc=False):
    """A stock of an offer, as targets see it."""

    stock_id: int
    price: Decimal
    quantity: int | None = None
    beginning: datetime | None = None
    booking_limit: datetime | None = None
    booked_quantity: int = 0


class SourceOffer(msgspec.Struct, gc=False):
    """An offer with its stocks, as targets see it."""

    offer_id: int
    venue_id: int
    name: str
    description: str | None = None
    id_at_providers: str | None = None
    product_id: int | None = None
    is_active: bool = True
    venue_name: str = ""
    venue_siret: str | None = None
    stocks: list[SourceStock] = []
