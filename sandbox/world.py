"""The world that the stand-ins describe: which venues, which books, and what changed when.

Everything follows by arithmetic from the settings and the list of generations; `listing` knows what a venue holds. Only
the generations are stored, and nothing grows with the number of books.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

START = datetime(2024, 1, 1, tzinfo=UTC)
"""When every row was last modified before anything moved on."""

SHOPS = {"titelive": 0, "fnac": 90_000, "libraires": 91_000, "praxiel": 92_000}
"""Where the numbers of the bookshops begin, by who lists their stocks."""

_MASK = (1 << 64) - 1
_TYPES = ("text", "float", "date", "boolean", "multiple-choice")


def _setting(default: Any, told: str) -> Any:
    return field(default=default, metadata={"help": told})


@dataclass(frozen=True)
class Settings:
    """What the world is like. Each is also an option of `python -m sandbox` and a variable `SANDBOX_<NAME>`."""

    seed: int = _setting(1, "another seed, other data")
    venues: int = _setting(5, "bookshops whose stocks TiteLive lists")
    books: int = _setting(3000, "books listed by each of them")
    max_available: int = _setting(20, "copies of a book at most")
    valid_until: bool = _setting(False, "true: some rows carry validUntil")
    max_limit: int = _setting(1000, "rows of a page at most, whatever limit is asked for")
    latency_ms: float = _setting(0.0, "milliseconds added to every answer of a service")
    fnac_shops: int = _setting(2, "bookshops whose stocks Fnac lists")
    libraires_shops: int = _setting(2, "bookshops whose stocks Libraires lists")
    praxiel_shops: int = _setting(1, "bookshops whose stocks Praxiel lists")
    theatres: int = _setting(3, "cinemas whose showtimes Allociné lists")
    movies: int = _setting(40, "movies that there are")
    movies_per_theatre: int = _setting(12, "movies that each cinema shows before anything moved on")
    showtimes_per_day: int = _setting(3, "showtimes of a movie on a day, one more or less; at most 4")
    days_ahead: int = _setting(7, "days of which Allociné lists the showtimes, today among them")
    allocine_key: str = _setting("sandbox-allocine", "the token that Allociné asks for; without one, all come in")
    auth: str = _setting(
        "fnac=sandbox:fnac-token",
        "who asks for Basic authentication: service=user:password, separated by commas",
    )
    offers: int = _setting(5000, "records in the Algolia index `offers` at the start; 0: there is no such index")
    algolia_application: str = _setting("SANDBOX", "the Algolia application's id")
    algolia_keys: str = _setting(
        "sandbox-admin=*,sandbox-patch=logs+browse+addObject+settings+listIndexes",
        "the Algolia API keys and what they may do: key=right+right, * for everything, separated by commas",
    )
    algolia_task_ms: float = _setting(0.0, "milliseconds from when Algolia accepts a write until it is seen")
    algolia_log_entries: int = _setting(1000, "calls that Algolia's log keeps")
    teams_signature: str = _setting("sandbox-signature", "the sig that the Teams workflow asks for")
    brevo_key: str = _setting("sandbox-brevo", "the API key of the Brevo account; without one, all come in")
    brevo_lists: str = _setting("1,2,3", "ids of the Brevo account's lists, separated by commas")
    brevo_attributes: str = _setting(
        "FIRSTNAME=text,LASTNAME=text,COMPANY=text,COUNTRY=text,LANGUAGE=text,EVENT=text,EVENT_DATE=text,ORDER=text,"
        "ORDER_STATUS=text,ORDER_TOTAL=float,ORDER_DATE=text,TICKET=text,TICKET_ID=text,TICKET_STATUS=text,"
        "BIRTHDAY=date,INTERESTS=multiple-choice,IS_MEMBER=boolean",
        "attributes of contacts and their types: name=text, float, date, boolean or multiple-choice",
    )
    brevo_rate: int = _setting(0, "requests a second that Brevo allows; 0: as many as come")
    brevo_longest_text: int = _setting(10_000, "characters of a Brevo attribute at most")
    state: str = _setting("", "JSON file that keeps what /sandbox/advance did; without one it is forgotten at the end")

    @property
    def shift(self) -> int:
        """The catalogue number at which a venue's listing begins, less that of the venue before."""
        return self.books // 10

    @property
    def catalogue_size(self) -> int:
        """How many books there are in all venues together."""
        return self.books + self.shift * (self.venues - 1)


class Generation(NamedTuple):
    """A moment at which data moved on, and how much of it."""

    at: datetime
    percent: float


class World:
    """The settings, the generations so far, the bookshops, and who may come in."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        if min(self.settings.venues, self.settings.books, self.settings.max_available, self.settings.max_limit) < 1:
            raise ValueError("venues, books, max_available and max_limit must be at least 1")
        if self.settings.venues > SHOPS["fnac"]:
            raise ValueError(f"venues must be at most {SHOPS['fnac']}")
        _check_suppliers(self.settings)
        if self.settings.catalogue_size > 10**8:
            raise ValueError(f"{self.settings.venues} venues of {self.settings.books} books need too many EANs")
        if min(self.settings.offers, self.settings.algolia_task_ms, self.settings.algolia_log_entries - 1) < 0:
            raise ValueError("offers and algolia_task_ms must be at least 0 and algolia_log_entries at least 1")
        if self.settings.brevo_rate < 0 or self.settings.brevo_longest_text < 1:
            raise ValueError("brevo_rate must be at least 0 and brevo_longest_text at least 1")
        self.credentials = _credentials(self.settings.auth)
        self.algolia_rights = _rights(self.settings.algolia_keys)
        self.brevo_lists = _ids(self.settings.brevo_lists)
        self.brevo_attributes = _types(self.settings.brevo_attributes)
        counts = {"titelive": self.settings.venues} | {
            service: getattr(self.settings, f"{service}_shops") for service in SHOPS if service != "titelive"
        }
        self.shops = {service: range(first, first + counts[service]) for service, first in SHOPS.items()}
        self.venue_numbers = {siret(number): number for numbers in self.shops.values() for number in numbers}
        self.sirets = [siret(number) for number in self.shops["titelive"]]
        self._lock = threading.Lock()
        self._path = Path(self.settings.state) if self.settings.state else None
        self.generations: tuple[Generation, ...] = (Generation(START, 100.0),)
        if self._path and self._path.exists():
            self.generations += _read(self._path)

    def advance(self, percent: float, at: datetime | None = None) -> Generation:
        """Change `percent` of each venue's rows, now or at a moment not before the last generation."""
        if not 0 < percent <= 100:
            raise ValueError("percent must be above 0 and at most 100")
        with self._lock:
            last = self.generations[-1].at
            if at is not None and at < last:
                raise ValueError(f"the world has already moved on to {format_time(last)}")
            moment = (at or max(datetime.now(UTC), last)).replace(microsecond=0)
            self._keep((*self.generations, Generation(moment, percent)))
            return self.generations[-1]

    def reset(self) -> None:
        """Go back to the first generation."""
        with self._lock:
            self._keep(self.generations[:1])

    def _keep(self, generations: tuple[Generation, ...]) -> None:
        if self._path:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            written = self._path.with_name(self._path.name + ".new")
            written.write_text(json.dumps([{"at": format_time(g.at), "percent": g.percent} for g in generations[1:]]))
            written.replace(self._path)
        self.generations = generations


def _check_suppliers(settings: Settings) -> None:
    few = (settings.fnac_shops, settings.libraires_shops, settings.praxiel_shops, settings.theatres)
    if min(few) < 0 or max(few) >= 1000:
        raise ValueError("fnac_shops, libraires_shops, praxiel_shops and theatres must be at least 0 and below 1000")
    if not 1 <= settings.movies_per_theatre <= settings.movies:
        raise ValueError("movies_per_theatre must be at least 1 and at most movies")
    if not 1 <= settings.showtimes_per_day <= 4 or settings.days_ahead < 1:
        raise ValueError("showtimes_per_day must be from 1 to 4 and days_ahead at least 1")


def _credentials(auth: str) -> dict[str, str]:
    found = {}
    for entry in filter(None, auth.split(",")):
        service, equals, credentials = entry.partition("=")
        if not equals or ":" not in credentials:
            raise ValueError("auth must read service=user:password, separated by commas")
        found[service] = credentials
    return found


def _rights(keys: str) -> dict[str, frozenset[str]]:
    found = {}
    for entry in filter(None, keys.split(",")):
        key, equals, rights = entry.partition("=")
        if not (key and equals and rights):
            raise ValueError("algolia_keys must read key=right+right, separated by commas")
        found[key] = frozenset(rights.split("+"))
    return found


def _ids(lists: str) -> frozenset[int]:
    try:
        return frozenset(int(each) for each in lists.split(",") if each.strip())
    except ValueError as error:
        raise ValueError("brevo_lists must be whole numbers, separated by commas") from error


def _types(attributes: str) -> dict[str, str]:
    found = {}
    for entry in filter(None, attributes.split(",")):
        name, equals, kind = entry.partition("=")
        if not (name and equals and kind in _TYPES):
            raise ValueError(
                f"brevo_attributes must read name=type, separated by commas; types are {', '.join(_TYPES)}"
            )
        found[name] = kind
    return found


def _read(path: Path) -> tuple[Generation, ...]:
    try:
        return tuple(
            Generation(parse_time(kept["at"]), float(kept["percent"])) for kept in json.loads(path.read_text())
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} does not hold generations, remove it to begin anew: {error}") from error


def parse_time(text: str) -> datetime:
    """Read `YYYY-MM-DDTHH:MM:SSZ`; anything else is a ValueError."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


def format_time(moment: datetime) -> str:
    """Write `YYYY-MM-DDTHH:MM:SSZ`."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def salt(*parts: object) -> int:
    """Return 64 bits that tell one use of `scatter` from another."""
    return int.from_bytes(sha256(repr(parts).encode()).digest()[:8], "big")


def scatter(number: int, by: int) -> int:
    """Hash a number to 32 bits."""
    mixed = ((number ^ by) * 0x9E3779B97F4A7C15) & _MASK
    mixed = ((mixed ^ mixed >> 29) * 0xBF58476D1CE4E5B9) & _MASK
    return mixed >> 32


def _luhn_key(digits: str) -> int:
    doubled = (int(digit) * (2 if place % 2 == 0 else 1) for place, digit in enumerate(reversed(digits)))
    return -sum(value - 9 if value > 9 else value for value in doubled) % 10


def siret(number: int) -> str:
    """Return the SIRET of a venue: valid Luhn keys, and the leading zero that no real company has."""
    siren = f"0{scatter(number + 1, 0) % 100:02d}{number:05d}"
    siren += str(_luhn_key(siren))
    return f"{siren}0001{_luhn_key(siren + '0001')}"
