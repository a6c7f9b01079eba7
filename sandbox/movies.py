"""Which cinema shows which movie when, computed from the settings and the generations.

A cinema shows the same movies day after day, each at its own times. A generation removes, adds or moves showtimes (by
15 to 60 minutes), replaces whole movies, and changes posters, titles and synopses. It affects about its percentage of
the showtimes and of a cinema's movies, and at least 5 % of the posters and texts, so that a small world changes too. A
day's showtimes do not depend on the current day, except that past ones are left out.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from sandbox.world import Generation, Settings, World, salt, scatter, siret

FIRST_THEATRE = 93_000
"""First venue number of the cinemas."""

_THEATRES = (
    ("Cinéma Le Lanternon", "75"),
    ("Cinéma La Ravine Bleue", "974"),
    ("Cinéma Le Fromager", "971"),
    ("Cinéma Le Banian", "988"),
    ("Cinéma L'Entracte", "69"),
    ("Cinéma Le Grand Bleu", "33"),
)
_ZONES = {"974": "Indian/Reunion", "971": "America/Guadeloupe", "988": "Pacific/Noumea"}

TITLE_BEGINNINGS = (
    "Le Passage", "La Nuit", "L'Écho", "Le Retour", "La Promesse", "L'Automne", "Le Secret", "La Route",
    "L'Étoile", "Le Dernier Bal", "La Gardienne", "L'Orage", "Le Voyage", "La Légende", "L'Absence", "Le Pacte",
)  # fmt: skip
TITLE_ENDINGS = (
    "des lucioles", "de sable", "du funambule", "des marées", "de cristal", "aux trois lunes", "du vent", "des oubliés",
    "de l'île", "du botaniste", "des hauts plateaux", "de cendre", "sans fin", "des hirondelles", "du port", "de mars",
)  # fmt: skip
_GENRES = ("DRAMA", "COMEDY", "ANIMATION", "THRILLER", "DOCUMENTARY", "SCIENCE_FICTION", "ADVENTURE", "ROMANCE")
_ABROAD = (("USA", "USA"), ("Japon", "JPN"), ("Italie", "ITA"), ("Grande-Bretagne", "GBR"))
FIRST_NAMES = ("Alma", "Basile", "Cléo", "Driss", "Edmée", "Félix", "Garance", "Hakim", "Inès", "Jules")
LAST_NAMES = ("Arvencourt", "Belmotte", "Castagnier", "Dufresnoy", "Esparvel", "Grandval", "Houdemont", "Lestrange")
_HEROES = ("une pilote", "deux frères", "un projectionniste", "une apicultrice", "un cuisinier", "trois voisines")
_DO = ("cherche un trésor", "traverse le désert", "perd la mémoire", "change de vie", "sauve un cinéma")
_STUDIOS = ("Films du Cormoran", "Studio Belle-Île", "Pellicule & Cie", "Les Productions du Phare")

_SLOTS, _FIRST_SLOT, _SLOT = 5, 10 * 60, 155  # minutes; showtimes move by at most 60, so those of a day never overlap


@dataclass(frozen=True)
class Theatre:
    """A cinema."""

    number: int
    id: str
    internal_id: str
    siret: str
    name: str
    departement: str

    @property
    def zone(self) -> ZoneInfo:
        """The time zone of its showtimes."""
        return ZoneInfo(_ZONES.get(self.departement, "Europe/Paris"))


class Showtime(NamedTuple):
    """A showtime of a movie in a cinema."""

    movie: int
    """The movie's `internal_id`."""
    starts_at: datetime
    """In the cinema's time zone."""
    version: str
    projection: tuple[str, ...]
    experience: str | None

    @property
    def is_plain(self) -> bool:
        """True for a standard screening: digital, two-dimensional, without a special experience."""
        return self.projection == ("DIGITAL",) and self.experience is None


@dataclass(frozen=True)
class Movie:
    """A movie at one time. An attribute that is None is null or missing in the listing."""

    number: int
    internal_id: int
    title: str
    """As listed: characters such as `&` may be HTML entities."""
    type: str
    minutes: int | None
    synopsis: str | None
    poster_version: int | None
    is_french: bool

    @property
    def id(self) -> str:
        """Its id in the API."""
        return base64.b64encode(f"Movie:{self.internal_id}".encode()).decode()


def theatres(world: World) -> list[Theatre]:
    """Return the cinemas."""
    return [_theatre(number) for number in range(world.settings.theatres)]


def find_theatre(world: World, theatre: str) -> Theatre | None:
    """Return the cinema with an id (either of its two), or None."""
    return next((found for found in theatres(world) if theatre in (found.id, found.internal_id)), None)


@lru_cache(maxsize=1000)
def _theatre(number: int) -> Theatre:
    id_ = f"P{number + 101:04d}"
    name, departement = _THEATRES[number % len(_THEATRES)]
    name += f" {number // len(_THEATRES) + 1}" if number >= len(_THEATRES) else ""
    internal_id = base64.b64encode(f"Theater:{id_}".encode()).decode()
    return Theatre(number, id_, internal_id, siret(FIRST_THEATRE + number), name, departement)


def internal_id(settings: Settings, number: int) -> int:
    """Return the number that identifies a movie of the catalogue in the API."""
    return 10_007 + 37 * number + scatter(number, _salt(settings.seed, "movie id", 0)) % 37


def movie_number(settings: Settings, internal_id_: int) -> int | None:
    """Return the catalogue number of a movie, or None if there is no such movie."""
    number = (internal_id_ - 10_007) // 37
    return number if 0 <= number < settings.movies and internal_id(settings, number) == internal_id_ else None


def movie(world: World, number: int) -> Movie:
    """Return the current state of a movie of the catalogue."""
    return _movie(world.settings, world.generations, number)


@lru_cache(maxsize=10_000)
def _movie(settings: Settings, generations: tuple[Generation, ...], number: int) -> Movie:
    changes = {"poster": 0, "title": 0, "synopsis": 0}
    for generation in range(1, len(generations)):
        share = max(0.05, generations[generation].percent / 100)
        for what in changes:
            changes[what] += _draw_change(settings.seed, what, generation, share, number) is not None
    draw = scatter(number, salt(settings.seed, "movie"))
    title = f"{TITLE_BEGINNINGS[number % 16]} {TITLE_ENDINGS[(number // 16 + number * 3) % 16]}"
    title += f" {number // 256 + 1}" if number >= 256 else ""
    if number % 8 == 1:
        title += " &amp; compagnie"
    if changes["title"]:
        title += f" (montage {changes['title'] + 1})"
    synopsis = f"{_HEROES[draw % 6].capitalize()} {_DO[draw // 6 % 5]}."
    if number % 4 == 1:
        synopsis += " Une histoire d&#39;amiti&eacute; &amp; de courage."
    if changes["synopsis"]:
        synopsis += f" {changes['synopsis']} fois prolongé."
    return Movie(
        number=number,
        internal_id=internal_id(settings, number),
        title=title,
        type="SPECIAL_EVENT" if number % 10 == 9 else "FEATURE_FILM",
        minutes=None if number % 11 == 3 else 52 if number % 19 == 10 else 80 + draw % 100,
        synopsis=None if number % 9 == 5 else synopsis,
        poster_version=None if number % 13 == 4 else 1 + changes["poster"],
        is_french=_is_french(number),
    )


def _draw_change(seed: int, what: str, generation: int, share: float, key: int) -> int | None:
    """Return a random number if the generation changes this object, otherwise None."""
    by = _salt(seed, what, generation)
    return scatter(~key, by) if scatter(key, by) < share * 2**32 else None


@lru_cache(maxsize=10_000)
def _salt(seed: int, what: str, generation: int) -> int:
    return salt(seed, what, generation)


def movies(world: World, theatre: str, now: datetime | None = None) -> Iterator[tuple[Movie, list[Showtime]]]:
    """Yield the movies that a cinema (by id) lists at a time (default: now), with their future showtimes.

    The order is that of the listing. Tests compare with this.
    """
    found = find_theatre(world, theatre)
    if found is None:
        raise KeyError(theatre)
    local = (now or datetime.now(UTC)).astimezone(found.zone)
    days = [local.date() + timedelta(days=day) for day in range(world.settings.days_ahead)]
    for number in _program(world.settings, world.generations, found.number):
        shown = [one for day in days for one in _day(world.settings, world.generations, found, number, day)]
        coming = [one for one in shown if one.starts_at > local]
        if coming:
            yield movie(world, number), coming


def showtimes(world: World, theatre: str, now: datetime | None = None) -> list[Showtime]:
    """Return the showtimes that a cinema (by id) lists at a time (default: now), movie by movie."""
    return [one for _, shown in movies(world, theatre, now) for one in shown]


@lru_cache(maxsize=10_000)
def _program(settings: Settings, generations: tuple[Generation, ...], theatre: int) -> tuple[int, ...]:
    """Return the numbers of the movies that a cinema shows; generations add and remove some."""
    count = settings.movies_per_theatre
    first = theatre * max(1, count * 3 // 4)
    shown = []
    for place in range(min(settings.movies, count + max(2, count // 3))):
        number, is_shown = (first + place) % settings.movies, place < count
        for generation in range(1, len(generations)):
            share = generations[generation].percent / 100
            draw = _draw_change(settings.seed, "program", generation, share, theatre * 10**6 + number)
            if draw is not None and (draw % 2 == 0 or not is_shown):
                is_shown = not is_shown
        if is_shown:
            shown.append(number)
    return tuple(shown)


@lru_cache(maxsize=50_000)
def _day(
    settings: Settings, generations: tuple[Generation, ...], theatre: Theatre, number: int, day: date
) -> tuple[Showtime, ...]:
    place = (theatre.number * 10**6 + day.toordinal()) * 10**6 + number
    draw = scatter(place, _salt(settings.seed, "day", 0))
    count = max(1, settings.showtimes_per_day + draw % 3 - 1)
    found = []
    for slot in range(_SLOTS):
        key = place * _SLOTS + slot
        is_shown, moved = (2 * slot + draw) % _SLOTS < count, 0
        for generation in range(1, len(generations)):
            change = _draw_change(settings.seed, "showtime", generation, generations[generation].percent / 100, key)
            if change is None:
                continue
            if change % (4 if is_shown else 2) == 0:
                is_shown = not is_shown
            elif is_shown:
                by = 15 * (1 + change // 4 % 4)
                earlier = moved > 0 or (moved == 0 and change // 16 % 2 == 0)
                moved += -by if earlier else by
        if is_shown:
            minute = _FIRST_SLOT + _SLOT * slot + moved
            starts_at = datetime.combine(day, time(minute // 60, minute % 60), theatre.zone)
            found.append(_showtime(settings, number, key, starts_at))
    return tuple(found)


def _showtime(settings: Settings, number: int, key: int, about: datetime) -> Showtime:
    draw = scatter(key, _salt(settings.seed, "slot", 0))
    projection, experience = _ways(draw // 7, is_never_plain=number % 20 == 10)
    foreign = "DUBBED" if draw // 1000 % 5 < 2 else "ORIGINAL"
    version = "LOCAL" if _is_french(number) else foreign
    starts_at = about + timedelta(minutes=5 * (draw % 7))
    return Showtime(internal_id(settings, number), starts_at, version, projection, experience)


def _is_french(number: int) -> bool:
    return number % 5 in (0, 3)


def _ways(draw: int, *, is_never_plain: bool) -> tuple[tuple[str, ...], str | None]:
    way = draw % (4 if is_never_plain else 40)
    if way == 0:
        return ("IMAX",), None
    if way == 1:
        return ("DIGITAL",), "ECLAIR_COLOR"
    if way == 2:
        return (), None
    return (("3D",), None) if way == 3 else (("DIGITAL",), None)


def record(movie: Movie, poster: str, draw: int) -> dict[str, object]:
    """Return the movie as the API lists it. `poster` is the URL of its image, `draw` a random number of the movie.

    Every optional attribute is missing or null in some movies.
    """
    number = movie.number
    site = f"https://movies.example.org/{movie.internal_id}"
    hours, minutes = divmod(movie.minutes or 0, 60)
    found: dict[str, object] = {
        "id": movie.id,
        "internalId": movie.internal_id,
        "type": movie.type,
        "title": movie.title,
        "runtime": None if movie.minutes is None else f"PT{hours}H{minutes}M0S",
        "poster": None if movie.poster_version is None else {"url": poster},
        "synopsis": movie.synopsis,
        "backlink": {"url": f"{site}/", "label": "Tout savoir sur le film"},
        "releases": _releases(number, draw),
        "credits": {"edges": _credits(number, draw)},
        "cast": {"backlink": {"url": f"{site}/cast/", "label": "Casting complet"}, "edges": _cast(number, draw)},
        "countries": _countries(movie),
        "genres": [_GENRES[(draw + place) % len(_GENRES)] for place in range(1 + draw % 2)],
        "companies": [
            {"activity": activity, "company": {"name": _STUDIOS[(draw + place) % len(_STUDIOS)]}}
            for place, activity in enumerate(("Production", "Distribution")[: 1 + draw // 2 % 2])
        ],
    }
    for key, is_missing in (
        ("cast", number % 14 == 0),
        ("backlink", number % 16 == 3),
        ("synopsis", movie.synopsis is None and number % 2 == 0),
        ("runtime", movie.minutes is None and number % 2 == 0),
        ("countries", number % 15 == 8),
    ):
        if is_missing:
            del found[key]
    return found


def _releases(number: int, draw: int) -> list[dict[str, object]]:
    if number % 10 == 6:
        return []
    data = None if number % 10 == 8 else {"visa_number": str(150_000 + draw % 10_000)}
    return [{"releaseDate": {"date": f"2026-{1 + draw % 12:02d}-{1 + draw // 12 % 28:02d}"}, "data": data}]


def _person(draw: int) -> dict[str, str]:
    return {"firstName": FIRST_NAMES[draw % 10], "lastName": LAST_NAMES[draw // 10 % 8]}


def _credits(number: int, draw: int) -> list[dict[str, object]]:
    if number % 12 == 7:
        return []
    return [{"node": {"person": _person(draw), "position": {"name": "DIRECTOR"}}}]


def _cast(number: int, draw: int) -> list[dict[str, object]]:
    actors = [_person(draw // (place + 3)) for place in range(1 + draw % 3)]
    cast: list[dict[str, object]] = [
        {"node": {"actor": actor, "role": FIRST_NAMES[(draw + place) % 10]}} for place, actor in enumerate(actors)
    ]
    return [*cast, {"node": {"actor": None, "role": "La voix"}}] if number % 18 == 11 else cast


def _countries(movie: Movie) -> list[dict[str, str]] | None:
    if movie.number % 15 == 2:
        return None
    name, alpha3 = ("France", "FRA") if movie.is_french else _ABROAD[movie.number % len(_ABROAD)]
    return [{"name": name, "alpha3": alpha3}]
