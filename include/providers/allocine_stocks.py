"""Allociné: the showtimes of a cinema, as offers in the original language and in French with a stock per showtime.

`GET <base>/movieShowtimeList?theater=<theatre's id>` returns everything that the theatre shows in one response (see
`allocine_listing`); the API key is the header `Authorization: Bearer …` of the connection. The rules are those of
`AllocineStocks` in https://github.com/pass-culture/pass-culture-main. Prices, `is_duo` and quantity are settings of the
venue link::

    {"prices": [{"price": 7, "version": "VF"}, {"price": 9}], "is_duo": true, "quantity": 80}
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html import unescape
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import msgspec
from msgspec import UNSET

from include.connectors.decoding import Rejected
from include.connectors.pagination import SinglePage
from include.errors import ConfigurationError, RejectRecord, SkipObject
from include.models import Offer, Product, Providable, Stock, VenueLink
from include.providers.allocine_listing import (
    Connection,
    Country,
    Credit,
    Edge,
    Movie,
    Release,
    Role,
    Showtime,
    Version,
    decode_listing,
    minutes,
    movie_id,
    salvage,
)
from include.providers.base import ProvidableInfo
from include.providers.paged import PagedProvider
from include.providers.time_zones import zone_of
from include.texts import shortened

if TYPE_CHECKING:
    from include.connectors.http import HttpConnector

SHOWING = "SEANCE_CINE"
MAX_NAME_LENGTH = 140
MAX_PRICE = 10_000
MAX_MOVE = timedelta(hours=3)
"""A removed and a new showtime of the same day count as one that was rescheduled, if no further apart than this."""


class PriceRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The price of a ticket; the first rule that applies to a showtime counts."""

    price: Decimal
    version: Version | None = None
    """Applies to showtimes of this version; None: to all."""

    def __post_init__(self) -> None:
        if not (self.price.is_finite() and 0 <= self.price <= MAX_PRICE):
            raise ValueError(f"price: {self.price} is not between 0 and {MAX_PRICE}")


class AllocineSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The settings of a cinema's venue link."""

    prices: Annotated[list[PriceRule], msgspec.Meta(min_length=1)]
    is_duo: bool = False
    """Set on new offers only; later, a person may change it."""
    quantity: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] | None = None
    """Places per showtime, including booked ones; None: no limit."""

    def __post_init__(self) -> None:
        for version in ("VO", "VF"):
            if not any(rule.version in (None, version) for rule in self.prices):
                raise ValueError(
                    f"no price applies to a showtime in {version}: add a price without a version as the last one"
                )

    def price(self, version: Version) -> Decimal:
        """Return the price of a ticket."""
        return next(rule.price for rule in self.prices if rule.version in (None, version))


class AllocineStocks(PagedProvider[Edge]):
    """A cinema's movies, offers and showtimes."""

    name: ClassVar[str] = "Allociné stocks"
    can_create: ClassVar[bool] = True
    conn_id: ClassVar[str] = "allocine_api"
    requests_per_second: ClassVar[float | None] = 100 / 60
    needs_pivot: ClassVar[bool] = True
    key_patterns: ClassVar[tuple[str, ...]] = ("%{}-", "%{}#")
    complete_tables: ClassVar[tuple[type[Providable], ...]] = (Stock,)
    public_fields: ClassVar[frozenset[str]] = frozenset({"firstName", "lastName"})  # of directors and actors
    decode = decode_listing
    unknown_venue_hint: ClassVar[str] = "The id of a theatre comes from provider_pivot.id_at_provider"
    path = "movieShowtimeList"

    def __init__(self, venue_provider: VenueLink | None = None, connector: HttpConnector | None = None) -> None:
        super().__init__(venue_provider, connector)
        self._keyed: tuple[Edge | None, dict[str, Showtime]] = (None, {})
        self._partly_read: set[str | None] = set()
        """References of movies with unreadable showtimes."""

    def open(self) -> None:
        """Read the settings of the venue link, then the theatre's listing."""
        self.check_settings()
        super().open()

    def check_settings(self) -> None:
        """Read the settings of the venue link."""
        try:
            self.settings = msgspec.convert(self.venue.settings, AllocineSettings, strict=False)
        except msgspec.ValidationError as error:
            raise ConfigurationError(
                f"The settings of venue link {self.venue.id} cannot be used: {error}. Correct them in the DAG "
                'venue_links, as in {"prices": [{"price": 9.5}], "is_duo": true, "quantity": 80}'
            ) from None

    def paginator(self) -> SinglePage:
        """Request everything at once; a listing with fewer movies than it announces is not complete."""
        theatre = {"theater": self.venue.venue_id_at_offer_provider}
        return SinglePage(records="edges", total="total_count", received="received", params=theatre)

    def check_link(self) -> None:
        """Check the settings, that the time zone is known, and that Allociné knows the theatre."""
        self.check_settings()
        if not self.venue.departement_code:
            raise ConfigurationError(
                f"Venue {self.venue.venue_id} has no departement_code, which gives the time zone of its showtimes: set "
                "it in the table venue"
            )
        super().check_link()

    def decode_record(self, raw: bytes) -> Edge:
        """Decode one edge of the listing."""
        self.check_settings()
        for found in salvage(Rejected(raw, "it is no edge of the listing")):
            if isinstance(found, Rejected):
                raise RejectRecord(found.reason, payload=found.raw, reference=self.reference(found.raw))
            edge = found
        return edge

    def reference(self, raw: bytes) -> str | None:
        """Return what the keys of a movie's offers and showtimes start with."""
        found = movie_id(raw)
        return _reference_of(found) if found else None

    def __next__(self) -> list[ProvidableInfo]:
        """Read a movie; remember those with unreadable showtimes."""
        try:
            return super().__next__()
        except RejectRecord as error:
            self._partly_read.add(error.reference)
            raise

    def describe(self, record: Edge) -> list[ProvidableInfo]:
        """Return a movie, its offer in each version, and a stock per showtime."""
        movie = record.node.movie
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
        """Return the plain showtimes of the current record, by key."""
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
        """Fill the movie, or the offer or showtime with this key."""
        movie = self.record.node.movie
        if isinstance(obj, Product):
            self._fill_product(obj, movie)
        elif isinstance(obj, Offer):
            self._fill_offer(obj, movie, "VO" if self.key.endswith("VO") else "VF")
        elif isinstance(obj, Stock):
            self._fill_stock(obj, self._showtimes()[self.key])

    def _fill_product(self, product: Product, movie: Movie) -> None:
        product.name = shortened(unescape(movie.title), MAX_NAME_LENGTH)
        product.subcategory_id = SHOWING
        product.extra_data = _extra_data(product.extra_data, movie)
        if movie.synopsis is not UNSET or movie.backlink is not UNSET:
            product.description = _description(movie)
        if movie.runtime is not UNSET:
            product.duration_minutes = minutes(movie.runtime) if movie.runtime else None

    def _fill_offer(self, offer: Offer, movie: Movie, version: Version) -> None:
        offer.product_id = self.id_of(Product, movie.id)
        offer.venue_id = self.venue.venue_id
        offer.name = f"{shortened(unescape(movie.title), MAX_NAME_LENGTH - 5)} - {version}"
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

    def fill_removed_attributes(self, obj: Providable) -> None:
        """Take a showtime off sale; one with bookings stays, but accepts no further bookings."""
        if not isinstance(obj, Stock):
            raise SkipObject("only showtimes can be removed")
        if obj.booked_quantity:
            obj.quantity = obj.booked_quantity
        else:
            obj.is_soft_deleted = True

    def match_rekeyed(
        self, new: Sequence[ProvidableInfo], unmatched_rows: Sequence[tuple[str, Providable]]
    ) -> Mapping[str, ProvidableInfo]:
        """Match rescheduled showtimes of one version and day: as many removed as new, moved by at most three hours."""
        if _reference_of(self.record.node.movie.id) in self._partly_read:
            return {}  # a showtime that looks removed may be an unreadable one
        added: dict[str, list[ProvidableInfo]] = defaultdict(list)
        removed: dict[str, list[str]] = defaultdict(list)
        for info in new:
            added[_day(info.id_at_providers)].append(info)
        listed = {self._stock_key(showtime) for showtime in self.record.node.showtimes}
        for key, row in unmatched_rows:
            if key not in listed and isinstance(row, Stock) and not row.is_soft_deleted:
                removed[_day(key)].append(key)
        moved: dict[str, ProvidableInfo] = {}
        for day, infos in added.items():
            keys = sorted(removed.get(day, ()))
            infos.sort(key=lambda info: info.id_at_providers)
            pairs = list(zip(keys, infos, strict=False))
            if len(keys) == len(infos) and all(_distance(key, info) <= MAX_MOVE for key, info in pairs):
                moved.update(pairs)
        return moved

    def get_object_thumb_index(self) -> int:
        """Return 1 if the movie has a poster."""
        return 1 if self.record.node.movie.poster else 0

    def get_object_thumb_source(self) -> str | None:
        """Return the URL of the poster."""
        poster = self.record.node.movie.poster
        return poster.url if poster else None


def _reference_of(movie: str) -> str:
    return f"{movie}%"


def _day(key: str) -> str:
    return key.rpartition("T")[0]


def _distance(key: str, info: ProvidableInfo) -> timedelta:
    before, after = (datetime.fromisoformat(one.rpartition("/")[2]) for one in (key, info.id_at_providers))
    return abs(after - before)


def _description(movie: Movie) -> str | None:
    parts = [unescape(movie.synopsis)] if movie.synopsis else []
    if movie.backlink:
        parts.append(f"{movie.backlink.label}: {movie.backlink.url}")
    return "\n".join(parts) or None


def _extra_data(stored: dict[str, Any] | None, movie: Movie) -> dict[str, Any]:
    """Merge a movie into the stored data: fields that were not sent stay, fields sent as null or empty are removed."""
    found = dict(stored or {})
    found.update(genres=movie.genres, type=movie.type, companies=movie.companies)
    for optional, names in _FROM_OPTIONAL.items():
        if (value := getattr(movie, optional)) is UNSET:
            continue
        for name, read in names.items():
            content = read(value) if value else None
            if content:
                found[name] = content
            else:
                found.pop(name, None)
    return found


def _visa(releases: list[Release]) -> str | None:
    return releases[0].data.visa_number if releases[0].data else None


def _release_date(releases: list[Release]) -> str | None:
    return releases[0].release_date.date.isoformat() if releases[0].release_date else None


def _director(credits: Connection[Credit]) -> str | None:
    node = credits.edges[0].node if credits.edges else None
    return node.person.name if node and node.person else None


def _actors(cast: Connection[Role]) -> list[str]:
    return [edge.node.actor.name for edge in cast.edges if edge.node and edge.node.actor and edge.node.actor.name]


def _names(countries: list[Country]) -> list[str]:
    return [country.name for country in countries]


_FROM_OPTIONAL: dict[str, dict[str, Callable[[Any], Any]]] = {
    "releases": {"visa": _visa, "releaseDate": _release_date},
    "credits": {"stageDirector": _director},
    "cast": {"cast": _actors},
    "countries": {"countries": _names},
}
"""The names in `extra_data` per optional field of a movie; the website reads them from there."""
