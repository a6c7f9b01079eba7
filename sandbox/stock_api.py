"""A stand-in for the stock interface that bookshops' software offers to pass Culture: TiteLive's.

`GET /titelive/stocks/{siret}?limit=1000&after=<ref>&modifiedSince=2024-01-31T00:00:00Z`, as its client in
https://github.com/pass-culture/pass-culture-main calls it: rows in ascending order of `ref`; `after` goes on behind a
key and leaves `total` as it is; `modifiedSince` keeps the rows modified at that moment or later. Prices are in cents.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Annotated, NamedTuple

from fastapi import APIRouter, HTTPException, Query, Request, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from sandbox.answers import Answer, check_access, refusal, send
from sandbox.bad_stocks import BAD_RECORDS, repeat, spoil
from sandbox.faults import PARAMETERS, Faults, Service
from sandbox.listing import Listing
from sandbox.world import START, World, format_time, parse_time, salt, scatter

SERVICE = "titelive"
MISHAPS = Service(faults=PARAMETERS, bad_kinds=BAD_RECORDS)
_VALID_UNTIL = format_time(START + timedelta(days=3653))


class Row(NamedTuple):
    """A row of a listing, and when it was last modified."""

    ref: str
    available: int
    price: int
    valid_until: str | None
    modified: datetime


def rows(world: World, venue: str, since: datetime | None = None) -> Iterator[Row]:
    """Return what the listing of a venue (its SIRET) holds now: the truth that a test compares with."""
    listing = Listing.of(world, world.venue_numbers[venue])
    first, low = listing.first_generation(since), 0
    while indexes := listing.select(first, low, 1000):
        yield from _rows(listing, first, indexes)
        low = indexes[-1] + 1


def _rows(listing: Listing, first: int, indexes: Sequence[int]) -> list[Row]:
    if not indexes:
        return []
    settings = listing.settings
    last_changes = listing.last_changes(first, indexes[0], indexes[-1] + 1)
    by = salt(settings.seed, "row", listing.venue)
    steps = settings.max_available + 1
    page = []
    for index, ref in zip(indexes, listing.refs(indexes), strict=True):
        rest, available = divmod(scatter(index, by), steps)
        rest, price = divmod(rest, 300)
        price = 500 + 10 * price if rest % 50 else 0
        valid_until = _VALID_UNTIL if settings.valid_until and rest % 20 == 1 else None
        generation = last_changes.get(index, 0)
        if generation:  # no two generations give a row the same quantity and price
            available = (available + generation) % steps
            price += 20 * (generation // steps)
            if price and (index + generation) % 4 == 0:
                price += 10
        page.append(Row(ref, available, price, valid_until, listing.generations[generation].at))
    return page


def _render(row: Row) -> str:
    until = f',"validUntil":"{row.valid_until}"' if row.valid_until else ""
    return f'{{"ref":"{row.ref}","available":{row.available},"price":{row.price}{until}}}'


def _is_time(text: str) -> str:
    parse_time(text)
    return text


class StockQuery(BaseModel):
    """The query of a listing. Anything else in it is refused: a misspelt parameter should not go unnoticed."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(ge=1)] = 1000
    after: str = ""
    modified_since: Annotated[str | None, Field(alias="modifiedSince"), AfterValidator(_is_time)] = None


def router(world: World, faults: Faults) -> APIRouter:
    """Return the routes of the service."""
    routes = APIRouter()
    settings = world.settings

    @routes.get(f"/{SERVICE}/stocks/{{siret}}")
    async def list_stocks(siret: str, request: Request, query: Annotated[StockQuery, Query()]) -> Response:
        check_access(request, SERVICE, world.credentials)
        venue = world.venue_numbers.get(siret)
        if venue is None:
            raise HTTPException(404, f"no venue with SIRET {siret}")
        listing = Listing.of(world, venue)
        first = listing.first_generation(parse_time(query.modified_since) if query.modified_since else None)
        limit = min(query.limit, settings.max_limit)
        low = listing.behind(query.after) if query.after else 0

        def page_number() -> int:
            before = listing.count(first, low)
            return (before + limit // 2) // limit + 1  # rounded: the last rows of a page may have been bad ones

        fired = faults.fire(request, SERVICE, venue=siret, page=page_number)
        if "repeat_page" in fired:
            low = 0
        indexes = listing.select(first, low, limit)
        duplicates = fired.get("duplicates")
        if duplicates and duplicates.across:
            indexes = [*listing.changed(first, 0, low)[-duplicates.across :], *indexes][:limit]
        page = _rows(listing, first, indexes)
        if duplicates:
            page = repeat(page, duplicates.within)[:limit]
        if "empty_page" in fired:
            page = []
        if bad_records := fired.get("bad_records"):
            stocks = b",".join(spoil(settings.seed, [(row, _render(row)) for row in page], bad_records))
        else:
            stocks = ",".join(map(_render, page)).encode()
        body = b'{"total":%d,"limit":%d,"offset":0,"stocks":[%b]}' % (listing.count(first), limit, stocks)
        return await send(refusal(fired) or Answer(body), fired)

    return routes
