"""Stocks of a bookshop by the stock provider API, which several suppliers speak.

`GET <base>/<venue's id>?limit=1000[&after=<last ref>][&modifiedSince=<UTC time>]` answers
`{"total": …, "limit": …, "offset": 0, "stocks": [{"ref": EAN, "available": 6, "price": 3500}]}`; a listing ends with
an empty page. The rules are those of `synchronize_stocks` in https://github.com/pass-culture/pass-culture-main.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import quote

import msgspec

from include.connectors.decoding import PageDecoder, Rejected, raw_field
from include.connectors.pagination import KeysetPaginator
from include.connectors.records import Page, RecordStream
from include.errors import ConfigurationError, RejectRecord, RequestRefused, SkipObject
from include.models import Offer, Product, Providable, Stock
from include.providers.base import LocalProvider, ProvidableInfo

CENT = Decimal("0.01")
MAX_PRICE = Decimal("99999999.99")
BOOK = "LIVRE_PAPIER"
OK, NOT_FOUND = 200, 404


class StockRecord(msgspec.Struct):
    """A row of the listing. A price that is missing or null is the book's fixed price; 0 is a price."""

    ref: Annotated[str, msgspec.Meta(min_length=1, max_length=70)]
    available: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
    price: Decimal | None = None


class StockPage(msgspec.Struct):
    """A page of the listing; `total` counts the whole listing, whatever `after` says."""

    stocks: list[StockRecord | Rejected]
    total: int | None = None


_DECODE = PageDecoder(StockPage, StockRecord, "stocks", empty=StockPage([]))


class StockApiProvider(LocalProvider):
    """Offers and stocks of one venue. Subclasses are the facts of one supplier."""

    can_create: ClassVar[bool] = True
    link_marks: ClassVar[tuple[str, ...]] = ("@{}",)
    window: ClassVar[Literal["none", "since", "between"]] = "since"
    page_size: ClassVar[int] = 1000
    prices_in_cents: ClassVar[bool] = False

    record: StockRecord

    def open(self) -> None:
        """Read the venue's listing, from the last saved reference on."""
        self.records: RecordStream[StockRecord] = RecordStream(self._pages())

    def _pages(self) -> Iterator[Page[StockRecord]]:
        path = quote(self.venue.venue_id_at_offer_provider, safe="")
        filters = {} if self.since is None else {"modifiedSince": f"{self.since.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"}
        paginator = KeysetPaginator(key="ref", size=self.page_size, start=self.resume_from, params=filters)
        while not paginator.finished:
            answer = self.connector.get(path, paginator.params, decode=_DECODE)
            yield Page(answer.value.stocks, answer.asked_at, paginator.page)
            paginator.advance(answer.value.stocks, total=answer.value.total)

    def check_link(self) -> None:
        """Ask for one row of the venue's listing, as `is_siret_registered` of the followed project does.

        Raises:
            ConfigurationError: the service does not know the venue's id, or the link has settings, which nobody reads.
        """
        if self.venue.settings:
            raise ConfigurationError(f"{self.name} has no settings: leave out {', '.join(sorted(self.venue.settings))}")
        venue_id = self.venue.venue_id_at_offer_provider
        decode = PageDecoder(StockPage, StockRecord, "stocks", empty=StockPage([]))
        try:
            is_known = self.connector.get(quote(venue_id, safe=""), {"limit": 1}, decode=decode).status == OK
        except RequestRefused as error:
            if error.status != NOT_FOUND:
                raise
            is_known = False
        if not is_known:
            raise self.unknown_venue("A venue without an id of its own there is known by its SIRET once it registered")

    def __next__(self) -> list[ProvidableInfo]:
        """A record is an offer of the venue and its stock; both refer to a book that we know."""
        try:
            self.record = record = next(self.records)
        except RejectRecord as error:
            if error.reference is None and isinstance(error.payload, bytes):
                error.reference = _reference(error.payload)
            raise
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

    def decode_record(self, raw: bytes) -> StockRecord:
        """A row of a listing by itself."""
        record: StockRecord = _DECODE.record(raw)
        return record

    @property
    def cursor(self) -> str | None:
        """The listing goes on after a reference."""
        return self.record.ref if self.record is not None else None

    def fill_object_attributes(self, obj: Providable) -> None:
        """Fill an offer from its product, a stock from the record; nothing is created that is not available."""
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
        self._price(product)  # an offer whose stock would be rejected is not created either
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


def _reference(raw: bytes) -> str | None:
    """What the key of a row's offer and stock begins with, if that much can be read of the row."""
    ref = raw_field(raw, "ref")
    return None if ref is None else str(ref) or None


def _fixed_price(product: Product) -> Decimal:
    """The book's own price, in euros."""
    fixed: Any = (product.extra_data or {}).get("prix_livre")
    try:
        price = Decimal(str(fixed).replace(",", "."))
        if 0 <= price <= MAX_PRICE:
            return price
    except InvalidOperation:
        pass
    raise RejectRecord("price: missing, and the book has no fixed price either")
