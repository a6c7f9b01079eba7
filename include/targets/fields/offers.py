"""Source fields of offers and stocks."""

from __future__ import annotations

from include.models.orders import Inputs, SourceOffer
from include.targets.fields import field as f
from include.targets.fields.field import Field, Getter, amount, iso, whole


def offer_fields() -> list[Field]:
    """Return the fields that need an offer."""

    def value(name: str) -> Getter:
        return lambda inputs: getattr(inputs["offer"], name)

    return [
        Field("offer_id", "Offer id", f.NUMBER, f.OFFER, "offer", lambda inputs: str(inputs["offer"].offer_id)),
        Field("offer_name", "Name", f.TEXT, f.OFFER, "offer", value("name")),
        Field("offer_description", "Description", f.LONG_TEXT, f.OFFER, "offer", value("description")),
        Field("offer_reference", "Reference at its provider", f.TEXT, f.OFFER, "offer", value("id_at_providers")),
        Field("offer_is_active", "Is active", f.YES_NO, f.OFFER, "offer",
              lambda inputs: bool(inputs["offer"].is_active)),
        Field("venue_name", "Venue", f.TEXT, f.OFFER, "offer", value("venue_name")),
        Field("venue_siret", "SIRET of the venue", f.TEXT, f.OFFER, "offer", value("venue_siret")),
        Field("offer_price_min", "Lowest price", f.NUMBER, f.OFFER, "offer", _lowest_price),
        Field("offer_quantity", "Total quantity of its stocks, empty if one is unlimited", f.NUMBER, f.OFFER, "offer",
              lambda inputs: whole(_quantity(inputs["offer"]))),
    ]  # fmt: skip


def stock_fields() -> list[Field]:
    """Return the fields that need a stock."""
    return [
        Field("stock_id", "Stock id", f.NUMBER, f.STOCK, "stock", lambda inputs: str(inputs["stock"].stock_id)),
        Field("stock_price", "Price", f.NUMBER, f.STOCK, "stock", lambda inputs: amount(inputs["stock"].price)),
        Field("stock_quantity", "Quantity, empty if unlimited", f.NUMBER, f.STOCK, "stock",
              lambda inputs: whole(inputs["stock"].quantity)),
        Field("stock_beginning", "Start", f.DATETIME, f.STOCK, "stock", lambda inputs: iso(inputs["stock"].beginning)),
        Field("stock_booking_limit", "Booking deadline", f.DATETIME, f.STOCK, "stock",
              lambda inputs: iso(inputs["stock"].booking_limit)),
    ]  # fmt: skip


def _lowest_price(inputs: Inputs) -> str | None:
    return amount(min((stock.price for stock in inputs["offer"].stocks), default=None))


def _quantity(offer: SourceOffer) -> int | None:
    total = 0
    for stock in offer.stocks:
        if stock.quantity is None:
            return None
        total += stock.quantity
    return total
