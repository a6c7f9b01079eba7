"""Bad movies are of the kinds that the fault asks for; test_titelive_stocks.py checks each kind of bad stock."""

import json
from contextlib import nullcontext

import pytest
import requests

from sandbox.movies import movies
from sandbox.suppliers import corrupt_movies
from sandbox.suppliers.corrupt_records import bad_kind
from sandbox.world import Settings

SETTINGS = Settings(books=10, offers=0)
THEATRE = "P0101"

CHECKS = {
    "missing": lambda record, name: name not in record,
    "null": lambda record, name: record[name] is None,
    "number": lambda record, name: type(record[name]) is int,
    "list": lambda record, name: type(record[name]) is list,
    "text": lambda record, name: type(record[name]) is str,
}
MOVIES = {
    "missing_showtimes": lambda _, node: "showtimes" not in node,
    "bad_runtime": lambda movie, _: not movie["runtime"].startswith("PT"),
    "null_movie": lambda movie, _: movie is None,
    "null_showtimes": lambda _, node: node["showtimes"] is None,
    "null_showtime": lambda _, node: node["showtimes"][0] is None and node["showtimes"][1],
    "bad_starts_at": lambda _, node: [one["startsAt"][:3] for one in node["showtimes"][:2]] == ["tom", "202"],
    "null_starts_at": lambda _, node: node["showtimes"][0]["startsAt"] is None,
    "unknown_version": lambda _, node: node["showtimes"][0]["diffusionVersion"] == "MUMBLED",
    "nul_in_title": lambda movie, _: movie["title"].endswith("\0"),
    "lone_surrogate": lambda movie, _: movie["title"].endswith("\ud800"),
    "invalid_utf8": lambda movie, _: movie["title"].endswith("\udcff"),
    "long_title": lambda movie, _: len(movie["title"]) == 300,
}


def is_bad_movie(kind, node):
    what, _, name = kind.replace("internal_id", "internalId").partition("_")
    return MOVIES[kind](node["movie"], node) if kind in MOVIES else CHECKS[what](node["movie"], name)


@pytest.fixture
def edges(url):
    def edges():
        query = {"theater": THEATRE, "token": "sandbox-allocine"}
        return requests.get(f"{url}/allocine/api/query/movieShowtimeList", params=query, timeout=10).content

    return edges


def read(body):
    return json.loads(body.decode("utf-8", "surrogateescape"))["movieShowtimeList"]["edges"]


@pytest.mark.parametrize("kind", corrupt_movies.BAD_RECORDS)
def test_each_kind_of_bad_movie(fault, edges, kind):
    good = read(edges())
    fault("bad_records", kinds=[kind], times=1)
    bad = read(body := edges())
    assert len(bad) == len(good)
    if kind == "not_an_object":
        assert bad == [edge["node"]["movie"]["internalId"] for edge in good]
    else:
        assert all(is_bad_movie(kind, edge["node"]) for edge in bad)
    with pytest.raises(UnicodeDecodeError) if kind == "invalid_utf8" else nullcontext():
        body.decode()


def test_a_share_of_bad_records_affects_the_predicted_movies(fault, edges, world):
    fault("bad_records", kinds=["not_an_object"], share=0.4)
    found = [edge for edge in read(edges()) if type(edge) is int]
    keys = [listed.internal_id for listed, _ in movies(world, THEATRE)]
    assert found == [key for key in keys if bad_kind(world.settings.seed, str(key), ["not_an_object"], 0.4)]
    assert 0 < len(found) < len(keys)
