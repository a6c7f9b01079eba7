"""Stand-ins for the stock API that four bookshop systems offer to pass Culture.

`GET /titelive/stocks/{siret}?limit=1000&after=<ref>&modifiedSince=2024-01-31T00:00:00Z`, as its client in
https://github.com/pass-culture/pass-culture-main calls it. Rows come in ascending order of `ref`; `after` continues
behind a key and does not change `total`; `modifiedSince` selects the rows modified at that time or later. Differences:

- TiteLive: prices in cents;
- Fnac: euros with up to three decimals, some prices null or missing; requires Basic authentication (setting `auth`);
- Libraires: euros, some books at 0;
- Praxiel: euros; ignores `modifiedSince`, and returns at most 400 rows per page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Request, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from sandbox.demo import in_towns, venue, venues
from sandbox.faults import ANY_SERVICE, Faults, Service
from sandbox.listing import Listing
from sandbox.responses import PlannedResponse, check_access, error_response, send
from sandbox.suppliers import Link, Supplier
from sandbox.suppliers.corrupt_stocks import BAD_RECORDS, Row, corrupt, duplicate
from sandbox.world import START, World, format_time, parse_time, salt, scatter

FAULTS = Service(faults=ANY_SERVICE | {"empty_page", "repeat_page", "bad_records", "duplicates"}, bad_kinds=BAD_RECORDS)
_VALID_UNTIL = format_time(START + timedelta(days=3653))


Pricing = Callable[[int, int], int | Decimal | None]
"""Returns the price as the service lists it, from the price in cents and a random number of the row."""


def _in_euros(cents: int, _draw: int) -> Decimal:
    return Decimal(cents) / 100


def _in_euros_with_gaps(cents: int, draw: int) -> Decimal | None:
    thousandths = draw // 25 % 10 if cents and draw % 3 == 0 else 0
    return None if draw % 25 == 1 else Decimal(10 * cents + thousandths) / 1000


@dataclass(frozen=True)
class _Variant:
    """The specifics of one service."""

    service: str
    provider: str
    path: str
    pricing: Pricing
    shop: str = ""
    """Start of its shops' names, before the town; empty for TiteLive, whose shops have names of their own."""
    max_rows: int = 1_000_000
    """Per page."""
    has_modified_since: bool = True


_VARIANTS = (
    _Variant("titelive", "TiteLiveStocks", "/titelive/stocks", lambda cents, _draw: cents),
    _Variant("fnac", "FnacStocks", "/fnac/api/v1/pass-culture/stocks", _in_euros_with_gaps, "Le Grand Comptoir"),
    _Variant("libraires", "LibrairesStocks", "/libraires/stocks", _in_euros, "La Librairie du Marché"),
    _Variant(
        "praxiel",
        "PraxielStocks",
        "/praxiel/3027011420000/stocks",
        _in_euros,
        "La Papeterie",
        400,
        has_modified_since=False,
    ),
)


def suppliers(world: World) -> Sequence[Supplier]:
    """Return the four services."""
    return [
        Supplier(variant.service, variant.provider, FAULTS, partial(_router, world, variant), _links(world, variant))
        for variant in _VARIANTS
    ]


def _links(world: World, variant: _Variant) -> list[Link]:
    numbers = world.shops[variant.service]
    found = (
        [venue(number, *in_towns(variant.shop, place)) for place, number in enumerate(numbers)]
        if variant.shop
        else venues(world.settings)
    )
    return [Link(row, row["siret"]) for row in found]


def rows(world: World, venue: str, since: datetime | None = None) -> Iterator[Row]:
    """Yield the rows that a venue (a SIRET) lists now, for tests to compare with."""
    number = world.venue_numbers[venue]
    (variant,) = (variant for variant in _VARIANTS if number in world.shops[variant.service])
    listing = Listing.of(world, number)
    first, low = listing.first_generation(since if variant.has_modified_since else None), 0
    while indexes := listing.select(first, low, 1000):
        yield from _rows(listing, first, indexes, variant.pricing)
        low = indexes[-1] + 1


def _rows(listing: Listing, first: int, indexes: Sequence[int], pricing: Pricing) -> list[Row]:
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
        if generation:  # every generation gives a row another quantity or price
            available = (available + generation) % steps
            price += 20 * (generation // steps)
            if price and (index + generation) % 4 == 0:
                price += 10
        page.append(Row(ref, available, pricing(price, rest), valid_until, listing.generations[generation].at))
    return page


def _render(row: Row) -> str:
    if row.price is None:
        price = ',"price":null' if int(row.ref) % 20 < 10 else ""
    else:
        price = f',"price":{float(row.price) if row.price and isinstance(row.price, Decimal) else row.price}'
    until = f',"validUntil":"{row.valid_until}"' if row.valid_until else ""
    return f'{{"ref":"{row.ref}","available":{row.available}{price}{until}}}'


def _is_time(text: str) -> str:
    parse_time(text)
    return text


class StockQuery(BaseModel):
    """The query of a listing. Unknown parameters are refused, so that a misspelt one does not go unnoticed."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(ge=1)] = 1000
    after: str = ""
    modified_since: Annotated[str | None, Field(alias="modifiedSince"), AfterValidator(_is_time)] = None


def _router(world: World, variant: _Variant, faults: Faults) -> APIRouter:
    routes = APIRouter()
    settings = world.settings

    @routes.get(f"{variant.path}/{{siret}}")
    async def list_stocks(siret: str, request: Request, query: Annotated[StockQuery, Query()]) -> Response:
        check_access(request, variant.service, world.credentials)
        number = world.venue_numbers.get(siret, -1)
        if number not in world.shops[variant.service]:
            raise HTTPException(404, f"no venue with SIRET {siret}")
        listing = Listing.of(world, number)
        since = parse_time(query.modified_since) if query.modified_since and variant.has_modified_since else None
        first = listing.first_generation(since)
        limit = min(query.limit, settings.max_limit, variant.max_rows)
        low = listing.behind(query.after) if query.after else 0

        def page_number() -> int:
            # Rounded, since the previous page may have ended in bad rows, which clients cannot continue behind.
            return (listing.count(first, low) + limit // 2) // limit + 1

        active = faults.inject(request, variant.service, venue=siret, page=page_number)
        if "repeat_page" in active:
            low = 0
        indexes = listing.select(first, low, limit)
        duplicates = active.get("duplicates")
        if duplicates and duplicates.across:
            indexes = [*listing.changed(first, 0, low)[-duplicates.across :], *indexes][:limit]
        page = _rows(listing, first, indexes, variant.pricing)
        if duplicates:
            page = duplicate(page, duplicates.within)[:limit]
        if "empty_page" in active:
            page = []
        if bad_records := active.get("bad_records"):
            stocks = b",".join(corrupt(settings.seed, [(row, _render(row)) for row in page], bad_records))
        else:
            stocks = ",".join(map(_render, page)).encode()
        body = b'{"total":%d,"limit":%d,"offset":0,"stocks":[%b]}' % (listing.count(first), limit, stocks)
        return await send(error_response(active) or PlannedResponse(body), active)

    return routes
