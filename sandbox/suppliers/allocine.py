"""A stand-in for the showtimes that Allociné gives to pass Culture, and for the posters of the movies.

`GET /allocine/api/query/movieShowtimeList?theater=P0101` with `Authorization: Bearer <key>`, or the older
`&token=<key>`: everything that a cinema shows from now on, in one answer, as the client in
https://github.com/pass-culture/pass-culture-main reads it. Showtimes are local times of the cinema without a zone.
Posters are at the addresses that the movies name and need no key: `GET /allocine/posters/<number>-<version>.jpg`.

Calls for fault rules: `showtimes` and `poster`; `venue` is the id in the address.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response

from sandbox.answers import Answer, refusal, send
from sandbox.bad_movies import BAD_RECORDS
from sandbox.bad_records import render
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
from sandbox.suppliers import Link, Supplier
from sandbox.world import World, salt, scatter

SERVICE = "allocine"
_LISTING = ANY_SERVICE | {"empty_page", "bad_records", "duplicates", "shrunk_listing"}
_POSTER = ANY_SERVICE | {"truncated_image", "image_bomb"}
MISHAPS = Service(_LISTING | _POSTER, ("showtimes", "poster"), BAD_RECORDS)

_LINK_SETTINGS: tuple[dict[str, Any], ...] = (
    {"prices": [{"price": 9.5}], "is_duo": True},
    {"prices": [{"price": 7, "version": "VF"}, {"price": 9}], "quantity": 80},
)


def suppliers(world: World) -> Sequence[Supplier]:
    """Return the service; its cinemas are linked at different prices."""
    links = [
        Link(
            venue(FIRST_THEATRE + each.number, each.name, each.departement),
            each.id,
            _LINK_SETTINGS[each.number % len(_LINK_SETTINGS)],
            each.internal_id,
        )
        for each in theatres(world)
    ]
    return [Supplier(SERVICE, "AllocineStocks", MISHAPS, partial(_router, world), links)]


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
        fired = faults.fire(request, SERVICE, venue=theater, call="showtimes", possible=_LISTING)
        edges = [_edge(world, str(request.base_url), *found) for found in movies(world, theater)]
        if shrunk := fired.get("shrunk_listing"):
            edges = edges[: round(len(edges) * (1 - shrunk.missing))]
        if "empty_page" in fired:
            edges = []
        if duplicates := fired.get("duplicates"):
            edges = [copy for edge in edges[: duplicates.within] for copy in (edge, edge)] + edges[duplicates.within :]
        records = render(
            settings.seed, edges, lambda edge: str(edge["node"]["movie"]["internalId"]), fired, BAD_RECORDS
        )
        body = b'{"movieShowtimeList":{"totalCount":%d,"edges":[%b]}}' % (len(edges), b",".join(records))
        return await send(refusal(fired) or Answer(body), fired)

    @routes.get(f"/{SERVICE}/posters/{{internal_id}}-{{version}}.jpg")
    async def show_poster(request: Request, internal_id: int, version: int) -> Response:
        number = movie_number(settings, internal_id)
        newest = None if number is None else movie(world, number).poster_version
        if newest is None or not 1 <= version <= newest:
            raise HTTPException(404, f"no poster {internal_id}-{version}")
        fired = faults.fire(request, SERVICE, venue=str(internal_id), call="poster", possible=_POSTER)
        body, media_type = poster(settings.seed, internal_id, version)
        answer = Answer(body, media_type=media_type)
        if "truncated_image" in fired:
            answer = replace(answer, body=body[: len(body) // 2])
        if "image_bomb" in fired:
            answer = replace(answer, body=bomb(), media_type="image/png")
        return await send(refusal(fired) or answer, fired)

    return routes
