"""The theatres, what they show, and the rows that the tables must have: computed from numbers, in any amount.

Each theatre shows some movies of a shared pool in an order of its own, so that several theatres list the same product.
A movie has three plain showtimes a day over three days, at minutes that depend on the theatre, and one with a
projection that the provider ignores. Two movies in three are foreign: they are shown both in the original language and
dubbed. One movie in sixty has an unreadable field.
"""

from __future__ import annotations

import json
import random
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import cached_property
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import psycopg
from psycopg.types.json import Jsonb

from include.providers.allocine_stocks import AllocineStocks
from include.store.providers import register_provider

FIRST, CHANGED = 0, 1
"""The generations: the first listings, and the same with one showtime in a hundred twenty minutes later."""
POOL = 10
"""The pool has POOL times as many movies as a theatre."""
DAYS = 3
BEGINNINGS = ((13, 30), (17, 10), (20, 45))
SETTINGS = {"prices": [{"price": 7.5, "version": "VF"}, {"price": 9}], "is_duo": True, "quantity": 80}
PRICES = {"VF": Decimal("7.50"), "VO": Decimal("9.00")}
ZONES = {"75": ZoneInfo("Europe/Paris"), "974": ZoneInfo("Indian/Reunion")}
_MOVED = timedelta(minutes=20)
_WORDS = (
    *("une", "nuit", "le", "phare", "sur", "la", "côte", "où", "deux", "sœurs", "que", "tout", "sépare"),
    *("retrouvent", "sans", "le", "vouloir", "leur", "ancien", "voisin"),
)
_GENRES = ("DRAMA", "COMEDY", "THRILLER", "ANIMATION", "DOCUMENTARY")
_TITLES = ("Le phare sans retour", "Les heures d'ambre", "Une saison à l'estran", "La cartographe", "Minuit, rue Neuve")


class Showtime(NamedTuple):
    """A plain showtime, in the local time of the theatre."""

    version: str
    at: datetime


Tables = dict[str, set[tuple[Any, ...]]]
"""The rows of each table."""


@dataclass(frozen=True)
class Schedule:
    """What a number of theatres show, each a number of movies, from a day on."""

    theatres: int
    movies: int
    day: date

    def movies_of(self, theatre: int) -> list[int]:
        """Return the movies of a theatre, in its order."""
        return random.Random(theatre).sample(range(POOL * self.movies), self.movies)

    def showtimes(self, theatre: int, movie: int, generation: int) -> list[Showtime]:
        """Return the plain showtimes of a movie in a theatre."""
        minutes = (7 * theatre + 11 * movie) % 12 * 5
        found = []
        for number in range(DAYS * len(BEGINNINGS)):
            day, place = divmod(number, len(BEGINNINGS))
            at = datetime.combine(self.day + timedelta(days=day), time(*BEGINNINGS[place]))
            if generation == CHANGED and (101 * theatre + 11 * movie + number) % 100 == 37:
                at += _MOVED
            version = ("VO", "VF")[number % 2] if movie % 3 else "VF"
            found.append(Showtime(version, at + timedelta(minutes=minutes)))
        return found

    def edges(self, theatre: int, generation: int) -> Iterator[tuple[bytes, bytes]]:
        """Return the listing of a theatre: per movie two parts, the first of which is one object for all theatres."""
        for movie in self.movies_of(theatre):
            listed = [
                _rendered(one, "LOCAL" if not movie % 3 else {"VO": "ORIGINAL", "VF": "DUBBED"}[one.version], theatre)
                for one in self.showtimes(theatre, movie, generation)
            ]
            at = datetime.combine(self.day, time(21))
            listed.append(_rendered(Showtime("VF", at), "LOCAL", theatre, projection="IMAX", experience="DOLBY_CINEMA"))
            yield self._movies[movie], f'"showtimes":[{",".join(listed)}]}}}}'.encode()

    @cached_property
    def _movies(self) -> list[bytes]:
        return [f'{{"node":{{"movie":{_compact(_described(m))},'.encode() for m in range(POOL * self.movies)]

    def tables(self, generation: int) -> Tables:
        """Return what the tables must have: exactly the listed showtimes are on sale."""
        products, offers, stocks = set(), set(), set()
        for theatre in range(self.theatres):
            zone = ZONES[_departement(theatre)]
            for movie in self.movies_of(theatre):
                key, title = _movie_id(movie), _title(movie)
                products.add((key, title, _runtime(movie), str(100_000 + movie)))
                for one in self.showtimes(theatre, movie, generation):
                    prefix = f"{key}%{theatre_id(theatre)}"
                    offer = f"{prefix}-{one.version}"
                    offers.add((offer, f"{title} - {one.version}", key, _siret(theatre)))
                    at = one.at.replace(tzinfo=zone).astimezone(UTC)
                    stock = f"{prefix}#{one.version}/{one.at.isoformat()}"
                    stocks.add((stock, offer, at, PRICES[one.version], SETTINGS["quantity"]))
        return {"product": products, "offer": offers, "stock": stocks}


_QUERIES = {
    "product": "SELECT id_at_providers, name, duration_minutes, extra_data ->> 'visa' FROM product",
    "offer": "SELECT offer.id_at_providers, offer.name, product.id_at_providers, siret"
    " FROM offer JOIN product ON product.id = product_id JOIN venue ON venue.id = venue_id",
    "stock": "SELECT stock.id_at_providers, offer.id_at_providers, beginning_datetime, price, quantity"
    " FROM stock JOIN offer ON offer.id = offer_id WHERE NOT is_soft_deleted",
}


def read_tables(connection: psycopg.Connection[Any]) -> Tables:
    """Return what the tables have now."""
    return {name: set(connection.execute(query).fetchall()) for name, query in _QUERIES.items()}


def fill(connection: psycopg.Connection[Any], theatres: int) -> None:
    """Empty the tables, then insert and link the theatres."""
    connection.execute("TRUNCATE provider, venue, product RESTART IDENTITY CASCADE")
    provider_id = register_provider(connection, AllocineStocks.row_name(), AllocineStocks.name)
    rows = [(f"Cinéma {n}", _siret(n), _departement(n), "caisse@cinema.example") for n in range(theatres)]
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO venue (name, siret, departement_code, booking_email) VALUES (%s, %s, %s, %s)", rows
        )
        cursor.executemany(
            "INSERT INTO venue_provider (venue_id, provider_id, venue_id_at_offer_provider, settings)"
            " SELECT id, %s, %s, %s FROM venue WHERE siret = %s",
            [(provider_id, theatre_id(n), Jsonb(SETTINGS), _siret(n)) for n in range(theatres)],
        )
        cursor.executemany(
            "INSERT INTO provider_pivot (provider_id, venue_id, id_at_provider, internal_id)"
            " SELECT %s, id, %s, %s FROM venue WHERE siret = %s",
            [(provider_id, theatre_id(n), f"P{n:05d}", _siret(n)) for n in range(theatres)],
        )


def _described(movie: int) -> dict[str, Any]:
    """Return a movie as the service describes it, including fields that the provider does not read."""
    return {
        "id": _movie_id(movie),
        "internalId": 100_000 + movie,
        "title": _title(movie),
        "originalTitle": _title(movie).upper(),
        "type": "FEATURE_FILM",
        "runtime": f"PT{_runtime(movie) // 60}H{_runtime(movie) % 60}M0S",
        "languages": ["FRENCH"],
        "synopsis": " ".join(_WORDS[movie * (n + 3) % 19] for n in range(110)).capitalize() + ".",
        "poster": {"url": f"https://pictures.example/posters/{movie:06d}.jpg", "height": 800, "width": 600},
        "backlink": {"url": f"https://movies.example/film/{100_000 + movie}.html", "label": "Tout sur le film"},
        "genres": [_GENRES[movie % 5], _GENRES[movie // 5 % 5]],
        "companies": [
            {"activity": activity, "company": {"name": f"Les Films du Grèbe {movie % 40}"}}
            for activity in ("PRODUCTION", "DISTRIBUTION", "INTERNATIONAL_DISTRIBUTION_EXPORTS")
        ],
        "countries": [{"name": "France"}, {"name": "Belgique"}] if movie % 60 != 59 else "France",
        "credits": {"edges": [_credit(movie, "DIRECTOR")]},
        "cast": {"edges": [_role(movie, n) for n in range(6)], "backlink": {"url": "https://movies.example/cast"}},
        "releases": [
            {
                "name": "Released",
                "releaseDate": {"date": f"2026-{movie % 12 + 1:02d}-11"},
                "data": {"visa_number": str(100_000 + movie)},
                "certificate": None,
            }
        ],
        "stats": {"userRating": {"score": 3.5, "count": 1200 + movie}, "pressReview": {"score": 3.1, "count": 21}},
    }


def _person(number: int) -> dict[str, str]:
    return {"firstName": f"Prénom{number % 300}", "lastName": f"Delmarre-{number % 700}"}


def _credit(movie: int, position: str) -> dict[str, Any]:
    return {"node": {"person": _person(movie), "position": {"name": position}}}


def _role(movie: int, place: int) -> dict[str, Any]:
    return {"node": {"actor": _person(7 * movie + place), "role": f"Rôle {place}", "rank": place}}


def _rendered(
    one: Showtime, diffusion: str, theatre: int, *, projection: str = "DIGITAL", experience: str | None = None
) -> str:
    shown = "null" if experience is None else f'"{experience}"'
    at = one.at.isoformat()
    return (
        f'{{"startsAt":"{at}","diffusionVersion":"{diffusion}","projection":["{projection}"],"experience":{shown},'
        '"service":["ACCESSIBILITY_HANDICAP"],"comfort":null,"picture":["F_2K"],"sound":["DOLBY_51"],"tags":[],'
        f'"data":{{"ticketing":[{{"provider":"DEFAULT","urls":["https://tickets.example/{theatre}/{at}"]}}]}}}}'
    )


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _movie_id(movie: int) -> str:
    return b64encode(f"Movie:{100_000 + movie}".encode()).decode()


def _title(movie: int) -> str:
    return f"{_TITLES[movie % 5]}, {movie}"


def _runtime(movie: int) -> int:
    return 80 + movie % 70


def theatre_id(theatre: int) -> str:
    """Return the id of a theatre at the service."""
    return f"T{theatre:05d}"


def _siret(theatre: int) -> str:
    return f"{30_000_000_000_000 + theatre}"


def _departement(theatre: int) -> str:
    """Return the département of a theatre: one in fifty is overseas."""
    return "974" if theatre % 50 == 49 else "75"
