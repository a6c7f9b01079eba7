"""The listing of one theatre as Allociné sends it, decoded so that an irregular part does not affect the rest.

`{"movieShowtimeList": {"totalCount": …, "edges": [{"node": {"movie": {…}, "showtimes": [{…}]}}]}}`. Malformed optional
fields are dropped, unreadable showtimes and movies without a required field are rejected, everything else is kept.
The structure is the one that `pcapi/connectors/serialization/allocine_serializers.py` reads in
https://github.com/pass-culture/pass-culture-main.
"""

from __future__ import annotations

import re
from datetime import date, datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from include.connectors.decoding import PageDecoder, Rejected

T = TypeVar("T")
Version = Literal["VO", "VF"]
VERSIONS: dict[str, Version] = {"ORIGINAL": "VO", "LOCAL": "VF", "DUBBED": "VF"}
_RUNTIME = re.compile(r"PT(?:(\d{1,2})H)?(?:(\d{1,4})M)?(?:\d{1,2}S)?")


class Lenient(msgspec.Struct, rename="camel"):
    """A part of the listing; unknown fields are ignored."""


class Showtime(Lenient):
    """A showtime, in the local time of the theatre."""

    starts_at: Annotated[datetime, msgspec.Meta(tz=False)]
    diffusion_version: Literal["ORIGINAL", "LOCAL", "DUBBED"]
    projection: list[str] | None = None
    experience: str | None = None

    @property
    def is_plain(self) -> bool:
        """Whether it is an ordinary digital projection; all others have special prices."""
        return (self.projection or [])[:1] == ["DIGITAL"] and self.experience is None

    @property
    def version(self) -> Version:
        """VO (original language) or VF (French)."""
        return VERSIONS[self.diffusion_version]


class Poster(Lenient):
    """The URL of the poster."""

    url: str


class Backlink(Lenient):
    """A link to the movie's page."""

    url: str
    label: str


class ReleaseData(Lenient, rename=None):
    """The registration of a release."""

    visa_number: str | None = None


class ReleaseDate(Lenient):
    """The date of a release."""

    date: date


class Release(Lenient):
    """The release of the movie in a country."""

    release_date: ReleaseDate | None = None
    data: ReleaseData | None = None


class Person(Lenient):
    """A person; either part of the name may be missing."""

    first_name: str | None = None
    last_name: str | None = None

    @property
    def name(self) -> str:
        """First and last name."""
        return " ".join(filter(None, (self.first_name, self.last_name)))


class Credit(Lenient):
    """A person who worked on the movie."""

    person: Person | None = None


class Role(Lenient):
    """An actor of the movie."""

    actor: Person | None = None


class Entry(Lenient, Generic[T]):
    """An entry of a `Connection`."""

    node: T | None = None


class Connection(Lenient, Generic[T]):
    """A list in the form of GraphQL (https://relay.dev/graphql/connections.htm)."""

    edges: list[Entry[T]] = []


class Country(Lenient):
    """A country in which the movie was produced."""

    name: str


class Movie(Lenient):
    """A movie. UNSET fields were not sent, None was sent as null; the first six fields are required."""

    id: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    internal_id: int
    title: Annotated[str, msgspec.Meta(min_length=1)]
    type: str
    genres: list[str]
    companies: list[dict[str, Any]]
    runtime: str | UnsetType | None = UNSET
    synopsis: str | UnsetType | None = UNSET
    poster: Poster | UnsetType | None = UNSET
    backlink: Backlink | UnsetType | None = UNSET
    releases: list[Release] | UnsetType | None = UNSET
    credits: Connection[Credit] | UnsetType | None = UNSET
    cast: Connection[Role] | UnsetType | None = UNSET
    countries: list[Country] | UnsetType | None = UNSET


class Node(Lenient):
    """A movie with its showtimes."""

    movie: Movie
    showtimes: list[Showtime]


class Edge(Lenient):
    """A record of the listing."""

    node: Node


class Listing(Lenient):
    """The listing of a theatre, which has a single page."""

    edges: list[Edge | Rejected]
    total_count: int | None = None
    received: int = 0
    """Number of edges in the response, before edges of the same movie were merged."""


_OPTIONAL = {field.encode_name: field.type for field in msgspec.structs.fields(Movie) if not field.required}


class _ListingDecoder(PageDecoder[Listing]):
    """Decodes a response into a listing whose edges are an `Edge` or, in its place, its unusable part as `Rejected`."""

    def __call__(self, body: bytes) -> Listing:
        listing = super().__call__(body)
        edges: list[Edge | Rejected] = []
        by_id: dict[str, Edge] = {}
        for received in listing.edges:
            for edge in salvage(received) if isinstance(received, Rejected) else (received,):
                if isinstance(edge, Edge) and (first := by_id.setdefault(edge.node.movie.id, edge)) is not edge:
                    first.node.showtimes += edge.node.showtimes  # a record has all showtimes of its movie
                else:
                    edges.append(edge)
        listing.edges, listing.received = edges, len(listing.edges)
        return listing


decode_listing = _ListingDecoder(Listing, Edge, "edges", within="movieShowtimeList")


def salvage(rejected: Rejected) -> list[Edge | Rejected]:
    """Return the usable part of an irregular edge, without malformed optional fields.

    Unreadable showtimes come before it as one `Rejected`: the same edge with only those showtimes.
    """
    try:
        edge = msgspec.json.decode(rejected.raw)
        movie, showtimes = edge["node"]["movie"], edge["node"].get("showtimes")
        for name in _OPTIONAL.keys() & movie.keys():
            if _problem(movie[name], _OPTIONAL[name]):
                del movie[name]
        if not isinstance(showtimes, list):
            edge["node"]["showtimes"] = []
            return [Rejected(rejected.raw, "showtimes: a list is needed"), msgspec.convert(edge, Edge)]
        bad = {place: problem for place, one in enumerate(showtimes) if (problem := _problem(one, Showtime))}
        edge["node"]["showtimes"] = [one for place, one in enumerate(showtimes) if place not in bad]
        good = msgspec.convert(edge, Edge)
    except (msgspec.MsgspecError, UnicodeDecodeError, KeyError, TypeError, AttributeError):
        return [rejected]
    if not bad:
        return [good]
    edge["node"]["showtimes"] = [showtimes[place] for place in bad]
    place, problem = next(iter(bad.items()))
    more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
    return [Rejected(msgspec.json.encode(edge), f"showtimes[{place}]: {problem}{more}"), good]


def _problem(value: Any, expected: Any) -> str:
    try:
        msgspec.convert(value, expected)
    except msgspec.ValidationError as error:
        return str(error)
    return ""


class _Id(Lenient):
    id: str | None = None


class _Named(Lenient):
    movie: _Id | None = None


class _Identified(Lenient):
    node: _Named | None = None


def movie_id(raw: bytes) -> str | None:
    """Return the id of the movie of an unusable edge, or None if it cannot be read."""
    try:
        node = msgspec.json.decode(raw, type=_Identified).node
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return node.movie.id if node and node.movie else None


def minutes(runtime: str) -> int | None:
    """Return the minutes of an ISO 8601 duration such as `PT1H46M0S`; None if it is invalid or zero."""
    found = _RUNTIME.fullmatch(runtime)
    return (60 * int(found[1] or 0) + int(found[2] or 0) or None) if found else None
