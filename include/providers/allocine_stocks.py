"""Allociné: the showtimes of a cinema, as offers in the original language and in French with a stock per showtime.

`GET <base>/movieShowtimeList?theater=<theatre's id>` answers with everything that the theatre shows, without pages
(see `allocine_listing`); the key is the header `Authorization: Bearer …` of the connection. The rules are those of
`AllocineStocks` in https://github.com/pass-culture/pass-culture-main. Prices, `is_duo` and quantity are settings of the
venue link::

    {"prices": [{"price": 7, "version": "VF"}, {"price": 9}], "is_duo": true, "quantity": 80}
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html import unescape
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import msgspec
from msgspec import UNSET

from include.connectors.decoding import Rejected
from include.connectors.records import Page, RecordStream
from include.errors import ConfigurationError, PaginationError, RejectRecord, RequestRefused, SkipObject
from include.models import Offer, Product, Providable, Stock, VenueLink
from include.providers.allocine_listing import (
    Cast,
    Country,
    Credits,
    Edge,
    Movie,
    Release,
    Showtime,
    Version,
    decode_listing,
    minutes,
    movie_id,
    salvage,
)
from include.providers.base import LocalProvider, ProvidableInfo
from include.providers.time_zones import zone_of

if TYPE_CHECKING:
    from include.connectors.http import HttpConnector

SHOWING = "SEANCE_CINE"
MAX_NAME_LENGTH = 140
MAX_PRICE = 10_000
FURTHEST_MOVE = timedelta(hours=3)
"""A showtime that vanishes and one that appears on the same day are taken for one that moved, if no further apart."""


class PriceRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a place costs; the first rule that fits counts."""

    price: Decimal
    version: Version | None = None
    """Fits showtimes of this version; None fits all."""

    def __post_init__(self) -> None:
        if not (self.price.is_finite() and 0 <= self.price <= MAX_PRICE):
            raise ValueError(f"price: {self.price} is not between 0 and {MAX_PRICE}")


class AllocineSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a person decides for a cinema."""

    prices: Annotated[list[PriceRule], msgspec.Meta(min_length=1)]
    is_duo: bool = False
    """Of new offers; later it is a person's to change."""
    quantity: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] | None = None
    """Places per showtime, booked ones included; None: without limit."""

    def __post_init__(self) -> None:
        for version in ("VO", "VF"):
            if not any(rule.version in (None, version) for rule in self.prices):
                raise ValueError(
                    f"no price applies to a showtime in {version}: add a price without a version as the last one"
                )

    def price(self, version: Version) -> Decimal:
        """What a place costs."""
        return next(rule.price for rule in self.prices if rule.version in (None, version))


class AllocineStocks(LocalProvider):
    """A cinema's movies, offers and showtimes."""

    name: ClassVar[str] = "Allociné stocks"
    can_create: ClassVar[bool] = True
    conn_id: ClassVar[str] = "allocine_api"
    requests_per_second: ClassVar[float | None] = 100 / 60
    link_marks: ClassVar[tuple[str, ...]] = ("%{}-", "%{}#")
    needs_pivot: ClassVar[bool] = True
    public_fields: ClassVar[frozenset[str]] = frozenset({"firstName", "lastName"})  # of directors and actors
    complete: ClassVar[tuple[type[Providable], ...]] = (Stock,)

    record: Edge

    def __init__(self, venue_provider: VenueLink | None = None, connector: HttpConnector | None = None) -> None:
        super().__init__(venue_provider, connector)
        self._keyed: tuple[Edge | None, dict[str, Showtime]] = (None, {})
        self._partly_read: set[str | None] = set()
        """References of movies of which showtimes could not be read."""

    def open(self) -> None:
        """Read the theatre's listing."""
        self.settings = self._settings()
        self.records: RecordStream[Edge] = RecordStream(self._pages())

    def _settings(self) -> AllocineSettings:
        try:
            return msgspec.convert(self.venue.settings, AllocineSettings, strict=False)
        except msgspec.ValidationError as error:
            raise ConfigurationError(
                f"The settings of venue link {self.venue.id} cannot be used: {error}. Correct them in the DAG "
                'venue_links, as in {"prices": [{"price": 9.5}], "is_duo": true, "quantity": 80}'
            ) from None

    def _pages(self) -> Iterator[Page[Edge]]:
        theatre = self.venue.venue_id_at_offer_provider
        answer = self.connector.get("movieShowtimeList", {"theater": theatre}, decode=decode_listing)
        listing = answer.value
        yield Page(listing.edges, answer.asked_at, 1)
        if listing.total_count is not None and listing.total_count > listing.received:
            raise PaginationError(
                f"the listing has {listing.received} movies, but announces {listing.total_count}: it is not complete; "
                "run again, and ask Allociné if it happens again"
            )

    def check_link(self) -> None:
        """See that the settings are right, that the time zone is known, and that Allociné knows the theatre."""
        self._settings()
        if not self.venue.departement_code:
            raise ConfigurationError(
                f"Venue {self.venue.venue_id} has no departement_code, which gives the time zone of its showtimes: set "
                "it in the table venue"
            )
        theatre = self.venue.venue_id_at_offer_provider
        try:
            self.connector.get("movieShowtimeList", {"theater": theatre}, decode=decode_listing)
        except RequestRefused as error:
            if error.status != 404:
                raise
            raise self.unknown_venue("The id of a theatre comes from provider_pivot.id_at_provider") from None

    def decode_record(self, raw: bytes) -> Edge:
        """An edge of the listing from the payload kept of it."""
        self.settings = self._settings()
        for found in salvage(Rejected(raw, "it is no edge of the listing")):
            if isinstance(found, Rejected):
                raise RejectRecord(found.reason, payload=found.raw, reference=_reference(found.raw))
            edge = found
        return edge

    def __next__(self) -> list[ProvidableInfo]:
        """A record is a movie, its offer in each version, and a stock per showtime."""
        try:
            self.record = next(self.records)
        except RejectRecord as error:
            if error.reference is None and isinstance(error.payload, bytes):
                error.reference = _reference(error.payload)
            self._partly_read.add(error.reference)
            raise
        movie = self.record.node.movie
        if movie.type == "SPECIAL_EVENT":
            return []
        showtimes = self._showtimes()
        return [
            self.create_providable_info(Product, movie.id),
            *(
                self.create_providable_info(Offer, key, None, key)
                for key in dict.fromkeys(self._offer_key(showtime.version) for showtime in showtimes.values())
            ),
            *(self.create_providable_info(Stock, key) for key in showtimes),
        ]

    def _showtimes(self) -> dict[str, Showtime]:
        """The showtimes of the current record that are for us, by their keys."""
        if self._keyed[0] is not self.record:
            keyed = {
                self._stock_key(showtime): showtime for showtime in self.record.node.showtimes if showtime.is_plain
            }
            self._keyed = (self.record, keyed)
        return self._keyed[1]

    def _stock_key(self, showtime: Showtime) -> str:
        theatre = self.venue.venue_id_at_offer_provider
        return f"{self.record.node.movie.id}%{theatre}#{showtime.version}/{showtime.starts_at.isoformat()}"

    def _offer_key(self, version: Version) -> str:
        return f"{self.record.node.movie.id}%{self.venue.venue_id_at_offer_provider}-{version}"

    def fill_object_attributes(self, obj: Providable) -> None:
        """Fill the movie, or the offer or showtime of this key."""
        movie = self.record.node.movie
        if isinstance(obj, Product):
            self._fill_product(obj, movie)
        elif isinstance(obj, Offer):
            self._fill_offer(obj, movie, "VO" if self.key.endswith("VO") else "VF")
        elif isinstance(obj, Stock):
            self._fill_stock(obj, self._showtimes()[self.key])

    def _fill_product(self, product: Product, movie: Movie) -> None:
        product.name = _shortened(unescape(movie.title), MAX_NAME_LENGTH)
        product.subcategory_id = SHOWING
        product.extra_data = _extra_data(product.extra_data, movie)
        if movie.synopsis is not UNSET or movie.backlink is not UNSET:
            product.description = _description(movie)
        if movie.runtime is not UNSET:
            product.duration_minutes = minutes(movie.runtime) if movie.runtime else None

    def _fill_offer(self, offer: Offer, movie: Movie, version: Version) -> None:
        offer.product_id = self.id_of(Product, movie.id)
        offer.venue_id = self.venue.venue_id
        offer.name = f"{_shortened(unescape(movie.title), MAX_NAME_LENGTH - 5)} - {version}"
        offer.booking_email = self.venue.booking_email
        offer.withdrawal_details = self.venue.withdrawal_details
        offer.subcategory_id = SHOWING
        theater = {"allocine_movie_id": movie.internal_id, "allocine_room_id": self.venue.internal_id}
        offer.extra_data = {**_extra_data(offer.extra_data, movie), "theater": theater}
        if movie.synopsis is not UNSET or movie.backlink is not UNSET:
            offer.description = _description(movie)
        if offer.id is None:
            offer.is_duo = self.settings.is_duo

    def _fill_stock(self, stock: Stock, showtime: Showtime) -> None:
        stock.offer_id = self.id_of(Offer, self._offer_key(showtime.version))
        beginning = showtime.starts_at.replace(tzinfo=zone_of(self.venue.departement_code)).astimezone(UTC)
        stock.beginning_datetime = stock.booking_limit_datetime = beginning
        stock.price = self.settings.price(showtime.version)
        quantity = self.settings.quantity
        stock.quantity = None if quantity is None else max(quantity, stock.booked_quantity)
        stock.is_soft_deleted = False

    def fill_gone_attributes(self, obj: Providable) -> None:
        """Take a showtime off sale; one with bookings stays, with nothing more to be booked."""
        if not isinstance(obj, Stock):
            raise SkipObject("only showtimes can be removed")
        if obj.booked_quantity:
            obj.quantity = obj.booked_quantity
        else:
            obj.is_soft_deleted = True

    def recognise(
        self, new: Sequence[ProvidableInfo], unlisted: Sequence[tuple[str, Providable]]
    ) -> Mapping[str, ProvidableInfo]:
        """Showtimes of one version and day that moved: as many vanished as appeared, none by more than three hours."""
        if _reference_of(self.record.node.movie.id) in self._partly_read:
            return {}  # what seems to have vanished may be what could not be read
        appeared: dict[str, list[ProvidableInfo]] = defaultdict(list)
        vanished: dict[str, list[str]] = defaultdict(list)
        for info in new:
            appeared[_day(info.id_at_providers)].append(info)
        listed = {self._stock_key(showtime) for showtime in self.record.node.showtimes}
        for key, row in unlisted:
            if key not in listed and isinstance(row, Stock) and not row.is_soft_deleted:
                vanished[_day(key)].append(key)
        moved: dict[str, ProvidableInfo] = {}
        for day, infos in appeared.items():
            keys = sorted(vanished.get(day, ()))
            infos.sort(key=lambda info: info.id_at_providers)
            pairs = list(zip(keys, infos, strict=False))
            if len(keys) == len(infos) and all(_distance(key, info) <= FURTHEST_MOVE for key, info in pairs):
                moved.update(pairs)
        return moved

    def get_object_thumb_index(self) -> int:
        """A movie has one picture, its poster."""
        return 1 if self.record.node.movie.poster else 0

    def get_object_thumb_source(self) -> str | None:
        """The poster's address."""
        poster = self.record.node.movie.poster
        return poster.url if poster else None


def _reference(raw: bytes) -> str | None:
    """What the keys of a movie's offers and showtimes begin with."""
    found = movie_id(raw)
    return _reference_of(found) if found else None


def _reference_of(movie: str) -> str:
    return f"{movie}%"


def _day(key: str) -> str:
    return key.rpartition("T")[0]


def _distance(key: str, info: ProvidableInfo) -> timedelta:
    before, after = (datetime.fromisoformat(one.rpartition("/")[2]) for one in (key, info.id_at_providers))
    return abs(after - before)


def _shortened(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _description(movie: Movie) -> str | None:
    parts = [unescape(movie.synopsis)] if movie.synopsis else []
    if movie.backlink:
        parts.append(f"{movie.backlink.label}: {movie.backlink.url}")
    return "\n".join(parts) or None


def _extra_data(held: dict[str, Any] | None, movie: Movie) -> dict[str, Any]:
    """What is held with what was sent: a field that was not sent stays, one sent as null or without content goes."""
    found = dict(held or {})
    found.update(genres=movie.genres, type=movie.type, companies=movie.companies)
    for optional, names in _FROM_OPTIONAL.items():
        if (value := getattr(movie, optional)) is UNSET:
            continue
        for name, read in names.items():
            wanted = read(value) if value else None
            if wanted:
                found[name] = wanted
            else:
                found.pop(name, None)
    return found


def _visa(releases: list[Release]) -> str | None:
    return releases[0].data.visa_number if releases[0].data else None


def _release_date(releases: list[Release]) -> str | None:
    return releases[0].release_date.date.isoformat() if releases[0].release_date else None


def _director(credit: Credits) -> str | None:
    node = credit.edges[0].node if credit.edges else None
    return node.person.name if node and node.person else None


def _actors(cast: Cast) -> list[str]:
    return [edge.node.actor.name for edge in cast.edges if edge.node and edge.node.actor and edge.node.actor.name]


def _names(countries: list[Country]) -> list[str]:
    return [country.name for country in countries]


_FROM_OPTIONAL: dict[str, dict[str, Callable[[Any], Any]]] = {
    "releases": {"visa": _visa, "releaseDate": _release_date},
    "credits": {"stageDirector": _director},
    "cast": {"cast": _actors},
    "countries": {"countries": _names},
}
"""Per optional field of a movie the names in `extra_data`, as the site that shows the offers reads them."""
