"""Products, offers and stocks: the rows that inbound providers feed.

The tables follow the relational model of pass Culture's API (`pcapi/core/offers` in
https://github.com/pass-culture/pass-culture-main).
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar

import msgspec

from include.models.base import Providable


class Product(Providable):
    """A book, a film or another product, independent of who sells it. Several providers may feed the same row."""

    table_name: ClassVar[str] = "product"
    is_shared: ClassVar[bool] = True
    has_thumbs: ClassVar[bool] = True

    name: str | None = None
    description: str | None = None
    extra_data: dict[str, Any] | None = None
    subcategory_id: str | None = None
    is_gcu_compatible: bool = True
    is_synchronization_compatible: bool = True
    duration_minutes: int | None = None
    thumbs: dict[str, Any] = msgspec.field(default_factory=dict)
    """Images by number from "1": `key` in the object storage, and `source`, which changes with the image."""


class Offer(Providable):
    """A product that one venue offers. `id_at_provider` is the venue's own reference."""

    table_name: ClassVar[str] = "offer"
    has_venue_reference: ClassVar[bool] = True

    product_id: int | None = None
    venue_id: int | None = None
    name: str | None = None
    description: str | None = None
    extra_data: dict[str, Any] | None = None
    subcategory_id: str | None = None
    booking_email: str | None = None
    withdrawal_details: str | None = None
    is_active: bool = True
    is_duo: bool = False
    """Whether two seats can be booked together."""


class Stock(Providable):
    """The bookable quantity of an offer and its price. `quantity` None means unlimited."""

    table_name: ClassVar[str] = "stock"
    parent: ClassVar[tuple[str, type[Providable]] | None] = ("offer_id", Offer)
    passes_at: ClassVar[str] = "beginning_datetime"
    can_be_gone: ClassVar[bool] = True
    off_sale: ClassVar[str] = "is_soft_deleted"
    read_only: ClassVar[tuple[str, ...]] = ("booked_quantity",)

    offer_id: int | None = None
    price: Decimal | None = None
    quantity: int | None = None
    raw_provider_quantity: int | None = None
    beginning_datetime: datetime | None = None
    booking_limit_datetime: datetime | None = None
    is_soft_deleted: bool = False
    """Off sale."""
    booked_quantity: int = 0
    """Total quantity of the bookings that are not canceled; the database maintains it."""
