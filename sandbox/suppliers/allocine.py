"""Stand-in for the showtime API that Allociné offers to pass Culture, and for the movies' posters.

`GET /allocine/api/query/movieShowtimeList?theater=P0101` with `Authorization: Bearer <key>`, or the older
`&token=<key>`, returns all future showtimes of a cinema in one response, as the client in
https://github.com/pass-culture/pass-culture-main expects. Showtimes are in the cinema's local time, without a zone.
Posters are at the URLs that the movies name and need no key: `GET /allocine/posters/<number>-<version>.jpg`.

Calls in fault rules: `showtimes` and `poster`; `venue` is the id in the URL.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response

from sandbox.demo import venue
from sandbox.faults import ANY_SERVICE, Faults, Service
from sandbox.movies import (
    FIRST_THEATRE,
    Movie,
    Showtime,
    find_theatre,
    movie,
    movie_number,
    movies,
    record,
    theatres,
)
from sandbox.posters import bomb, poster
from sandbox.responses import PlannedResponse, error_response, send
from sandbox.suppliers import Link, Supplier
from sandbox.suppliers.corrupt_movies import BAD_RECORDS
from sandbox.suppliers.corrupt_records import render
from sandbox.world import World, salt, scatter

SERVICE = "allocine"
_LISTING = ANY_SERVICE | {"empty_page", "bad_records", "duplicates", "shrunk_listing"}
_POSTER = ANY_SERVICE | {"truncated_image", "image_bomb"}
FAULTS = Service(_LISTING | _POSTER, ("showtimes", "poster"), BAD_RECORDS)

_LINK_SETTINGS: tuple[dict[str, Any], ...] = (
    {"prices": [{"price": 9.5}], "is_duo": True},
    {"prices": [{"price": 7, "version": "VF"}, {"price": 9}], "quantity": 80},
)


def suppliers(world: World) -> Sequence[Supplier]:
    """Return the service. Its cinemas are linked with different prices."""
    links = [
        Link(
            venue(FIRST_THEATRE + each.number, each.name, each.departement),
            each.id,
            _LINK_SETTINGS[each.number % len(_LINK_SETTINGS)],
            each.internal_id,
        )
        for each in theatres(world)
    ]
    return [Supplier(SERVICE, "AllocineStocks", FAULTS, partial(_router, world), links)]


def _check_key(request: Request, key: str, token: str | None) -> None:
    if key and request.headers.get("authorization") != f"Bearer {key}" and token != key:
        raise HTTPException(401, "a valid key is needed", {"WWW-Authenticate": f'Bearer realm="{SERVICE}"'})


def _edge(world: World, base: str, movie: Movie, shown: Sequence[Showtime]) -> dict[str, Any]:
    address = f"{base}{SERVICE}/posters/{movie.internal_id}-{movie.poster_version}.jpg"
    draw = scatter(movie.number, salt(world.settings.seed, "record"))
    return {
        "node": {
            "movie": record(movie, address, draw),
            "showtimes": [
                {
                    "startsAt": one.starts_at.replace(tzinfo=None).isoformat(),
                    "diffusionVersion": one.version,
                    "projection": list(one.projection),
                    "experience": one.experience,
                }
                for one in shown
            ],
        }
    }


def _router(world: World, faults: Faults) -> APIRouter:
    routes = APIRouter()
    settings = world.settings

    @routes.get(f"/{SERVICE}/api/query/movieShowtimeList")
    async def list_showtimes(request: Request, theater: str, token: str | None = None) -> Response:
        _check_key(request, settings.allocine_key, token)
        if find_theatre(world, theater) is None:
            raise HTTPException(404, f"no theater {theater}")
        active = faults.inject(request, SERVICE, venue=theater, call="showtimes", possible=_LISTING)
        edges = [_edge(world, str(request.base_url), *found) for found in movies(world, theater)]
        if shrunk := active.get("shrunk_listing"):
            edges = edges[: round(len(edges) * (1 - shrunk.missing))]
        if "empty_page" in active:
            edges = []
        if duplicates := active.get("duplicates"):
            edges = [copy for edge in edges[: duplicates.within] for copy in (edge, edge)] + edges[duplicates.within :]
        records = render(
            settings.seed, edges, lambda edge: str(edge["node"]["movie"]["internalId"]), active, BAD_RECORDS
        )
        body = b'{"movieShowtimeList":{"totalCount":%d,"edges":[%b]}}' % (len(edges), b",".join(records))
        return await send(error_response(active) or PlannedResponse(body), active)

    @routes.get(f"/{SERVICE}/posters/{{internal_id}}-{{version}}.jpg")
    async def show_poster(request: Request, internal_id: int, version: int) -> Response:
        number = movie_number(settings, internal_id)
        newest = None if number is None else movie(world, number).poster_version
        if newest is None or not 1 <= version <= newest:
            raise HTTPException(404, f"no poster {internal_id}-{version}")
        active = faults.inject(request, SERVICE, venue=str(internal_id), call="poster", possible=_POSTER)
        body, media_type = poster(settings.seed, internal_id, version)
        planned = PlannedResponse(body, media_type=media_type)
        if "truncated_image" in active:
            planned = replace(planned, body=body[: len(body) // 2])
        if "image_bomb" in active:
            planned = replace(planned, body=bomb(), media_type="image/png")
        return await send(error_response(active) or planned, active)

    return routes
