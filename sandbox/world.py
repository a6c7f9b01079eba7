"""The data behind the stand-ins: which venues and books exist, and what changed when.

Everything is computed from the settings and the list of generations; `sandbox.listing` computes the rows of a venue.
Only the generations are stored, so memory does not grow with the number of books.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

START = datetime(2024, 1, 1, tzinfo=UTC)
"""Modification time of every row before the first change."""

SHOPS = {"titelive": 0, "fnac": 90_000, "libraires": 91_000, "praxiel": 92_000}
"""First venue number of the bookshops, by the service that lists their stocks."""

_MASK = (1 << 64) - 1
_TYPES = ("text", "float", "date", "boolean", "multiple-choice")


def _setting(default: Any, description: str) -> Any:
    return field(default=default, metadata={"help": description})


@dataclass(frozen=True)
class Settings:
    """Settings of the sandbox. Each is an option of `python -m sandbox` and a variable `SANDBOX_<NAME>`."""

    seed: int = _setting(1, "random seed of all data")
    venues: int = _setting(5, "bookshops whose stocks TiteLive lists")
    books: int = _setting(3000, "books that each of them lists")
    max_available: int = _setting(20, "maximum number of copies of a book")
    valid_until: bool = _setting(False, "whether some rows have validUntil")
    max_limit: int = _setting(1000, "maximum number of rows per page, whatever limit is requested")
    latency_ms: float = _setting(0.0, "milliseconds added to every response of a service")
    fnac_shops: int = _setting(2, "bookshops whose stocks Fnac lists")
    libraires_shops: int = _setting(2, "bookshops whose stocks Libraires lists")
    praxiel_shops: int = _setting(1, "bookshops whose stocks Praxiel lists")
    theatres: int = _setting(3, "cinemas whose showtimes Allociné lists")
    movies: int = _setting(40, "number of movies")
    movies_per_theatre: int = _setting(12, "movies that each cinema shows at first")
    showtimes_per_day: int = _setting(3, "showtimes of a movie per day, plus or minus one; at most 4")
    days_ahead: int = _setting(7, "days for which Allociné lists showtimes, including today")
    allocine_key: str = _setting("sandbox-allocine", "the token that Allociné requires; empty: none")
    auth: str = _setting(
        "fnac=sandbox:fnac-token",
        "services that require Basic authentication: service=user:password, separated by commas",
    )
    offers: int = _setting(5000, "initial number of records in the Algolia index `offers`; 0: no such index")
    algolia_application: str = _setting("SANDBOX", "the Algolia application id")
    algolia_keys: str = _setting(
        "sandbox-admin=*,sandbox-patch=logs+browse+addObject+settings+listIndexes",
        "the Algolia API keys and their rights: key=right+right, * for all rights, separated by commas",
    )
    algolia_task_ms: float = _setting(0.0, "milliseconds until a write that Algolia accepted takes effect")
    algolia_log_entries: int = _setting(1000, "number of calls in Algolia's log")
    teams_signature: str = _setting("sandbox-signature", "the signature (sig) that the Teams workflow requires")
    brevo_key: str = _setting("sandbox-brevo", "the API key that Brevo requires; empty: none")
    brevo_lists: str = _setting("1,2,3", "ids of the Brevo account's lists, separated by commas")
    brevo_attributes: str = _setting(
        "FIRSTNAME=text,LASTNAME=text,COMPANY=text,COUNTRY=text,LANGUAGE=text,EVENT=text,EVENT_DATE=text,ORDER=text,"
        "ORDER_STATUS=text,ORDER_TOTAL=float,ORDER_DATE=text,TICKET=text,TICKET_ID=text,TICKET_STATUS=text,"
        "BIRTHDAY=date,INTERESTS=multiple-choice,IS_MEMBER=boolean",
        "attributes of contacts and their types: name=text, float, date, boolean or multiple-choice",
    )
    brevo_rate: int = _setting(0, "requests per second that Brevo allows; 0: no limit")
    brevo_longest_text: int = _setting(10_000, "maximum number of characters of a Brevo attribute")
    state: str = _setting("", "JSON file that stores the changes of /sandbox/advance; empty: they are lost at exit")

    @property
    def shift(self) -> int:
        """Catalogue numbers between the first books of two successive venues."""
        return self.books // 10

    @property
    def catalogue_size(self) -> int:
        """Number of different books of all venues together."""
        return self.books + self.shift * (self.venues - 1)


class Generation(NamedTuple):
    """A change of the data: its time and the percentage of rows that it affects."""

    at: datetime
    percent: float


class World:
    """The settings, the generations so far, the bookshops and the credentials."""

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
        self.credentials = _pairs("auth", self.settings.auth, "service=user:password", lambda value: ":" in value)
        rights = _pairs("algolia_keys", self.settings.algolia_keys, "key=right+right")
        self.algolia_rights = {key: frozenset(each.split("+")) for key, each in rights.items()}
        self.brevo_lists = _ids(self.settings.brevo_lists)
        form = f"name=type, with the types {', '.join(_TYPES)},"
        self.brevo_attributes = _pairs("brevo_attributes", self.settings.brevo_attributes, form, _TYPES.__contains__)
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
        """Change `percent` of each venue's rows, now or at a time that is not before the last generation."""
        if not 0 < percent <= 100:
            raise ValueError("percent must be above 0 and at most 100")
        with self._lock:
            last = self.generations[-1].at
            if at is not None and at < last:
                raise ValueError(f"the last change is later: {format_time(last)}")
            moment = (at or max(datetime.now(UTC), last)).replace(microsecond=0)
            self._save((*self.generations, Generation(moment, percent)))
            return self.generations[-1]

    def reset(self) -> None:
        """Go back to the first generation."""
        with self._lock:
            self._save(self.generations[:1])

    def _save(self, generations: tuple[Generation, ...]) -> None:
        if self._path:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            draft = self._path.with_name(self._path.name + ".new")
            draft.write_text(json.dumps([{"at": format_time(g.at), "percent": g.percent} for g in generations[1:]]))
            draft.replace(self._path)
        self.generations = generations


def _check_suppliers(settings: Settings) -> None:
    few = (settings.fnac_shops, settings.libraires_shops, settings.praxiel_shops, settings.theatres)
    if min(few) < 0 or max(few) >= 1000:
        raise ValueError("fnac_shops, libraires_shops, praxiel_shops and theatres must be at least 0 and below 1000")
    if not 1 <= settings.movies_per_theatre <= settings.movies:
        raise ValueError("movies_per_theatre must be at least 1 and at most movies")
    if not 1 <= settings.showtimes_per_day <= 4 or settings.days_ahead < 1:
        raise ValueError("showtimes_per_day must be from 1 to 4 and days_ahead at least 1")


def _pairs(setting: str, text: str, form: str, is_valid: Callable[[str], bool] = bool) -> dict[str, str]:
    found = dict(entry.partition("=")[::2] for entry in text.split(",") if entry)
    if not all([key and is_valid(value) for key, value in found.items()]):
        raise ValueError(f"{setting} must have the form {form} separated by commas")
    return found


def _ids(lists: str) -> frozenset[int]:
    try:
        return frozenset(int(each) for each in lists.split(",") if each.strip())
    except ValueError as error:
        raise ValueError("brevo_lists must be whole numbers, separated by commas") from error


def _read(path: Path) -> tuple[Generation, ...]:
    try:
        return tuple(
            Generation(parse_time(each["at"]), float(each["percent"])) for each in json.loads(path.read_text())
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} does not contain generations; remove it to start from scratch: {error}") from error


def parse_time(text: str) -> datetime:
    """Parse `YYYY-MM-DDTHH:MM:SSZ`; raise ValueError for any other format."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


def format_time(moment: datetime) -> str:
    """Format a time as `YYYY-MM-DDTHH:MM:SSZ`."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def salt(*parts: object) -> int:
    """Return 64 bits that make one use of `scatter` independent of others."""
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
    """Return the SIRET of a venue: its Luhn keys are valid, and it starts with 0, as no real one does."""
    siren = f"0{scatter(number + 1, 0) % 100:02d}{number:05d}"
    siren += str(_luhn_key(siren))
    return f"{siren}0001{_luhn_key(siren + '0001')}"
