"""The records that every competitor loads: any number of them, rendered page by page at almost no cost.

A page is a template with the page number filled in. So a page costs the same in a listing of ten million records as in
one of a thousand, and nothing is stored. The sums that a table must come to follow from the template as well.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, NamedTuple

PAGE_SIZE = 1000
COLUMNS = ("ref", "available", "price", "title", "author", "publisher", "modified")
FIRST, CHANGED = 0, 1
"""The generations: the first listing, and the same with one record in a hundred changed."""

_PLACE = "@@@@@@"
"""The place of the page number: digits 4 to 9 of the reference, and the end of the title."""
_BEGIN = datetime(2025, 1, 1, tzinfo=UTC)
_TITLES = ("La traversée des grands vents", "Le cahier du cartographe", "L'herbier de minuit", "Le phare sans retour")
_AUTHORS = ("Aline Corvaisier", "Baptiste Delmarre", "Céleste Hautecombe", "Diane Fontbrune", "Émile Jolivart")
_PUBLISHERS = ("Éditions du Grèbe", "Presses de l'Estran", "La Ronce", "Maison Quatre-Vents")


class Sums(NamedTuple):
    """What the rows of a table come to; compared with the listing."""

    count: int
    first: str
    last: str
    available: int
    cents: int
    characters: int
    seconds: int | None


@dataclass(frozen=True)
class Listing:
    """A listing of whole pages, of one generation, with a modification date per record or without."""

    records: int
    generation: int = FIRST
    dated: bool = True

    def __post_init__(self) -> None:
        if self.records < PAGE_SIZE or self.records % PAGE_SIZE or self.records > 10**9:
            raise ValueError(f"{self.records} records: a listing consists of whole pages of {PAGE_SIZE}")

    @property
    def pages(self) -> int:
        """The number of pages with records; an empty page after them ends the listing."""
        return self.records // PAGE_SIZE

    @property
    def path(self) -> str:
        """The path on the server."""
        return f"/{self.records}/{self.generation}/{'dated' if self.dated else 'dateless'}/stocks"

    def page_after(self, ref: str) -> bytes:
        """Return the page after the last reference of a page; the first page for an empty reference."""
        number = int(ref[3:9]) + 1 if ref else 0
        if number >= self.pages:
            return b'{"total":%d,"stocks":[]}' % self.records
        body = _json_template(self.generation, self.dated).replace(_PLACE.encode(), b"%06d" % number)
        return b'{"total":%d,"stocks":[%b]}' % (self.records, body)

    def lines(self) -> Iterator[bytes]:
        """Return the pages in the text format of COPY."""
        for number in range(self.pages):
            yield _copy_template(self.generation).replace(_PLACE.encode(), b"%06d" % number)

    def sums(self) -> Sums:
        """Return what a table comes to that has exactly the records of this listing."""
        page = _page(self.generation)
        return Sums(
            self.records,
            page[0]["ref"].replace(_PLACE, "000000"),
            page[-1]["ref"].replace(_PLACE, f"{self.pages - 1:06d}"),
            self.pages * sum(record["available"] for record in page),
            self.pages * sum(round(100 * record["price"]) for record in page),
            self.pages * sum(len(record["title"]) for record in page),
            self.pages * sum(int(datetime.fromisoformat(record["modified"]).timestamp()) for record in page)
            if self.dated
            else None,
        )


@cache
def _page(generation: int) -> tuple[dict[str, Any], ...]:
    return tuple(_record(index, generation) for index in range(PAGE_SIZE))


def _record(index: int, generation: int) -> dict[str, Any]:
    mixed = (index + 1) * 2654435761 % 2**32 >> 8
    changed = generation if index % 100 == 37 else 0
    return {
        "ref": f"978{_PLACE}{index:04d}",
        "available": mixed % 50 + changed,
        "price": round(4.9 + mixed % 4000 / 100 + changed / 2, 2),
        "title": f"{_TITLES[mixed % 4]}, récit en {mixed % 90 + 10} chapitres, tome {_PLACE}",
        "author": _AUTHORS[mixed % 5],
        "publisher": f"{_PUBLISHERS[mixed // 4 % 4]}, collection {mixed % 900 + 100}",
        "modified": f"{_BEGIN + timedelta(seconds=mixed % 10**7, days=200 * changed):%Y-%m-%dT%H:%M:%SZ}",
    }


@cache
def _json_template(generation: int, dated: bool) -> bytes:
    names = COLUMNS if dated else COLUMNS[:-1]
    records = [{name: record[name] for name in names} for record in _page(generation)]
    return ",".join(json.dumps(record, ensure_ascii=False, separators=(",", ":")) for record in records).encode()


@cache
def _copy_template(generation: int) -> bytes:
    return "".join("\t".join(map(str, record.values())) + "\n" for record in _page(generation)).encode()
