"""Source fields of offers and stocks."""

from __future__ import annotations

from functools import partial

from include.models.orders import Inputs, SourceOffer
from include.targets.fields import field as f
from include.targets.fields.field import Field, Getter, amount, iso, whole

_offer = partial(Field, required_input="offer")
_stock = partial(Field, required_input="stock")


def offer_fields() -> list[Field]:
    """Return the fields that need an offer."""

    def value(name: str) -> Getter:
        return lambda inputs: getattr(inputs["offer"], name)

    return [
        _offer("offer_id", "Offer id", f.NUMBER, f.OFFER, lambda inputs: str(inputs["offer"].offer_id)),
        _offer("offer_name", "Name", f.TEXT, f.OFFER, value("name")),
        _offer("offer_description", "Description", f.LONG_TEXT, f.OFFER, value("description")),
        _offer("offer_reference", "Reference at its provider", f.TEXT, f.OFFER, value("id_at_providers")),
        _offer("offer_is_active", "Is active", f.YES_NO, f.OFFER, lambda inputs: bool(inputs["offer"].is_active)),
        _offer("venue_name", "Venue", f.TEXT, f.OFFER, value("venue_name")),
        _offer("venue_siret", "SIRET of the venue", f.TEXT, f.OFFER, value("venue_siret")),
        _offer("offer_price_min", "Lowest price", f.NUMBER, f.OFFER, _lowest_price),
        _offer("offer_quantity", "Total quantity of its stocks, empty if one is unlimited", f.NUMBER, f.OFFER,
               lambda inputs: whole(_quantity(inputs["offer"]))),
    ]  # fmt: skip


def stock_fields() -> list[Field]:
    """Return the fields that need a stock."""
    return [
        _stock("stock_id", "Stock id", f.NUMBER, f.STOCK, lambda inputs: str(inputs["stock"].stock_id)),
        _stock("stock_price", "Price", f.NUMBER, f.STOCK, lambda inputs: amount(inputs["stock"].price)),
        _stock("stock_quantity", "Quantity, empty if unlimited", f.NUMBER, f.STOCK,
               lambda inputs: whole(inputs["stock"].quantity)),
        _stock("stock_beginning", "Start", f.DATETIME, f.STOCK, lambda inputs: iso(inputs["stock"].beginning)),
        _stock("stock_booking_limit", "Booking deadline", f.DATETIME, f.STOCK,
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
