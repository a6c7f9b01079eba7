"""Stocks of a bookshop over the stock provider API, which several suppliers implement.

`GET <base>/<venue's id>?limit=1000[&after=<last ref>][&modifiedSince=<UTC time>]` returns
`{"total": …, "limit": …, "offset": 0, "stocks": [{"ref": EAN, "available": 6, "price": 3500}]}`; an empty page ends a
listing. The rules are those of `synchronize_stocks` in https://github.com/pass-culture/pass-culture-main, and
`check_link` does what its `is_siret_registered` does.
"""

from __future__ import annotations

from datetime import UTC
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import quote

import msgspec

from include.connectors.decoding import PageDecoder, Rejected
from include.connectors.pagination import KeysetPaginator
from include.errors import RejectRecord, SkipObject
from include.models import Offer, Product, Providable, Stock
from include.providers.base import ProvidableInfo
from include.providers.paged import PagedProvider

CENT = Decimal("0.01")
MAX_PRICE = Decimal("99999999.99")
BOOK = "LIVRE_PAPIER"


class StockRecord(msgspec.Struct):
    """A row of the listing. Without a price (missing or null) the book's fixed price applies; 0 is a price."""

    ref: Annotated[str, msgspec.Meta(min_length=1, max_length=70)]
    available: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
    price: Decimal | None = None


class StockPage(msgspec.Struct):
    """A page of the listing; `total` counts the whole listing, whatever `after` is."""

    stocks: list[StockRecord | Rejected]
    total: int | None = None


class StockApiProvider(PagedProvider[StockRecord]):
    """Offers and stocks of one venue. Subclasses state the facts of one supplier."""

    can_create: ClassVar[bool] = True
    key_patterns: ClassVar[tuple[str, ...]] = ("@{}",)
    window: ClassVar[Literal["none", "since", "between"]] = "since"
    page_size: ClassVar[int] = 1000
    prices_in_cents: ClassVar[bool] = False
    decode: ClassVar[PageDecoder[StockPage]] = PageDecoder(StockPage, StockRecord, "stocks", empty=StockPage([]))
    key_field: ClassVar[str] = "ref"
    cursor_field: ClassVar[str] = "ref"
    unknown_venue_hint: ClassVar[str] = "A venue without an id there is known by its SIRET once it is registered"

    @property
    def path(self) -> str:
        """The venue's id at the supplier."""
        return quote(self.venue.venue_id_at_offer_provider, safe="")

    def paginator(self) -> KeysetPaginator:
        """Page by reference, from the last saved one on."""
        filters = {} if self.since is None else {"modifiedSince": f"{self.since.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"}
        return KeysetPaginator(
            records="stocks", total="total", key="ref", size=self.page_size, start=self.resume_from, params=filters
        )

    def describe(self, record: StockRecord) -> list[ProvidableInfo]:
        """Return the venue's offer of a book that we know, and its stock."""
        ref = record.ref
        if "\0" in ref:
            raise RejectRecord("ref: contains a NUL character", payload=record)
        if record.price is not None and not self._is_price(record.price):
            reason = f"price: {record.price} is not between 0 and {MAX_PRICE}"
            raise RejectRecord(reason, payload=record, reference=ref)
        key = f"{ref}@{self.venue.venue_id_at_offer_provider}"
        return [
            self.create_reference(Product, ref),
            self.create_only_info(Offer, key, ref),
            self.create_providable_info(Stock, key),
        ]

    def fill_object_attributes(self, obj: Providable) -> None:
        """Fill an offer from its product, a stock from the record; create nothing that is not available."""
        product = self.row_of(Product, self.record.ref)
        if not (product.subcategory_id == BOOK and product.is_gcu_compatible and product.is_synchronization_compatible):
            raise SkipObject("its product is not eligible")
        if obj.id is None and self.record.available == 0:
            raise SkipObject("it is not available")
        if isinstance(obj, Offer):
            self._fill_offer(obj, product)
        elif isinstance(obj, Stock):
            self._fill_stock(obj, product)

    def _fill_offer(self, offer: Offer, product: Product) -> None:
        self._price(product)  # rejects the record: an offer whose stock would be rejected is not created either
        offer.product_id = product.id
        offer.venue_id = self.venue.venue_id
        offer.booking_email = self.venue.booking_email
        offer.withdrawal_details = self.venue.withdrawal_details
        offer.name = product.name
        offer.description = product.description
        offer.extra_data = product.extra_data
        offer.subcategory_id = product.subcategory_id

    def _fill_stock(self, stock: Stock, product: Product) -> None:
        if stock.id is None:
            stock.offer_id = self.id_of(Offer, f"{self.record.ref}@{self.venue.venue_id_at_offer_provider}")
        stock.quantity = self.record.available + stock.booked_quantity
        stock.raw_provider_quantity = self.record.available
        stock.price = self._price(product)

    def _is_price(self, price: Decimal) -> bool:
        try:
            return 0 <= price <= (MAX_PRICE * 100 if self.prices_in_cents else MAX_PRICE)
        except InvalidOperation:  # "NaN"
            return False

    def _price(self, product: Product) -> Decimal:
        price = self.record.price
        if price is None:
            price = _fixed_price(product)
        elif self.prices_in_cents:
            price /= 100
        return price.quantize(CENT, ROUND_HALF_UP)


def _fixed_price(product: Product) -> Decimal:
    """Return the book's fixed price, in euros."""
    fixed: Any = (product.extra_data or {}).get("prix_livre")
    try:
        price = Decimal(str(fixed).replace(",", "."))
        if 0 <= price <= MAX_PRICE:
            return price
    except InvalidOperation:
        pass
    raise RejectRecord("price: missing, and the book has no fixed price either")
