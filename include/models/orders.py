"""Orders of ticketed events, and offers, as outbound targets see them.

They are read from the views `source_event`, `source_order`, `source_position` and `source_offer`.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import TypedDict

import msgspec


class Question(msgspec.Struct, gc=False):
    """A question of an event. Only choice questions have `options`: (identifier, label) pairs."""

    identifier: str
    label: str
    type: str
    options: list[tuple[str, str]] = []


class CheckinList(msgspec.Struct, gc=False):
    """A list that tickets are scanned against."""

    id: int
    name: str


class Event(msgspec.Struct):
    """A ticketed event. `name_parts` are the parts of personal names that it collects, in display order."""

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
    """One date of an event series."""

    name: str
    date_from: datetime | None = None
    date_to: datetime | None = None


class InvoiceAddress(msgspec.Struct, gc=False):
    """The name and address on the invoice."""

    company: str = ""
    name_parts: dict[str, str] = {}
    street: str = ""
    zipcode: str = ""
    city: str = ""
    country: str = ""


class Answer(msgspec.Struct, gc=False):
    """The answer to a question; `options` holds the identifiers of the chosen options."""

    answer: str = ""
    options: list[str] = []


class Position(msgspec.Struct, gc=False):
    """A ticket or add-on of an order. An add-on takes missing attendee data and answers from its `parent`.

    `checkins` maps the id of a check-in list to the time of the first successful entry.
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


_UNKNOWN_EVENT = Event(0, "", "")


class Order(msgspec.Struct, gc=False):
    """An order with all its positions, canceled ones and add-ons included, by number."""

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
    event: Event = msgspec.field(default_factory=lambda: _UNKNOWN_EVENT)
    """Set when the order is read: events are shared by their orders."""

    @property
    def source_id(self) -> int:
        """The id that queue and results know the order by."""
        return self.order_id

    @property
    def label(self) -> str:
        """What logs call the order."""
        return self.code


class SourceStock(msgspec.Struct, gc=False):
    """A stock of an offer."""

    stock_id: int
    price: Decimal
    quantity: int | None = None
    beginning: datetime | None = None
    booking_limit: datetime | None = None
    booked_quantity: int = 0


class SourceOffer(msgspec.Struct, gc=False):
    """An offer with its stocks."""

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

    @property
    def event(self) -> None:
        """Offers belong to no event."""
        return

    @property
    def source_id(self) -> int:
        """The id that queue and results know the offer by."""
        return self.offer_id

    @property
    def label(self) -> str:
        """What logs call the offer: its reference at its provider, if it has one."""
        return self.id_at_providers or ""


SourceItem = Order | SourceOffer
"""What one row of the queue stands for: an order with its positions, or an offer with its stocks."""


class Inputs(TypedDict, total=False):
    """What the source fields of a mapping are computed from, by the mapping's source model.

    - Order: `order`, `event`; OrderPosition: also `position` and `event_or_subevent` (the date the position is for).
    - Offer: `offer`; Stock: also `stock`.
    """

    order: Order
    event: Event
    position: Position
    event_or_subevent: Event | Occasion
    offer: SourceOffer
    stock: SourceStock


Scalar = str | int | float | bool | None
Value = Scalar | list[Scalar] | list[str]
"""The value of a source field: a list only where a field has several and the target keeps lists."""
