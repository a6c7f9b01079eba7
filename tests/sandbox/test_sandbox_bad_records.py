"""Bad records are those that the fault asks for, of the kinds and in the share that it asks for."""

import json

import pytest
import requests

from sandbox.movies import movies
from sandbox.suppliers import corrupt_movies, corrupt_stocks
from sandbox.suppliers.corrupt_records import bad_kind
from sandbox.suppliers.stock_api import rows
from sandbox.world import Settings

SETTINGS = Settings(venues=2, books=50, offers=0)
THEATRE = "P0101"

STOCKS = {
    "missing_ref": lambda stock: "ref" not in stock,
    "missing_available": lambda stock: "available" not in stock and stock["ref"],
    "missing_price": lambda stock: "price" not in stock and stock["ref"],
    "null_ref": lambda stock: stock["ref"] is None,
    "null_available": lambda stock: stock["available"] is None,
    "null_price": lambda stock: stock["price"] is None,
    "number_ref": lambda stock: type(stock["ref"]) is int,
    "list_available": lambda stock: type(stock["available"]) is list,
    "text_available": lambda stock: type(stock["available"]) is str,
    "text_price": lambda stock: type(stock["price"]) is str,
    "negative_available": lambda stock: stock["available"] < 0,
    "negative_price": lambda stock: stock["price"] < 0,
    "huge_available": lambda stock: stock["available"] > 2**63,
    "huge_price": lambda stock: stock["price"] > 2**63,
    "nul_in_ref": lambda stock: stock["ref"].endswith("\0"),
    "lone_surrogate": lambda stock: stock["ref"].endswith("\ud800"),
    "invalid_utf8": lambda stock: stock["ref"].endswith("\udcff"),
    "huge_string": lambda stock: len(stock["ref"]) > 10_000_000,
    "not_an_object": lambda stock: type(stock) is int,
}
MOVIES = {
    "missing_id": lambda movie, _: "id" not in movie,
    "missing_internal_id": lambda movie, _: "internalId" not in movie,
    "missing_title": lambda movie, _: "title" not in movie,
    "missing_type": lambda movie, _: "type" not in movie,
    "missing_genres": lambda movie, _: "genres" not in movie,
    "missing_companies": lambda movie, _: "companies" not in movie,
    "missing_showtimes": lambda _, shown: shown == "missing",
    "number_id": lambda movie, _: type(movie["id"]) is int,
    "text_internal_id": lambda movie, _: type(movie["internalId"]) is str,
    "number_title": lambda movie, _: type(movie["title"]) is int,
    "list_type": lambda movie, _: type(movie["type"]) is list,
    "text_genres": lambda movie, _: type(movie["genres"]) is str,
    "null_companies": lambda movie, _: movie["companies"] is None,
    "bad_runtime": lambda movie, _: not movie["runtime"].startswith("PT"),
    "null_movie": lambda movie, _: movie is None,
    "null_showtimes": lambda _, shown: shown is None,
    "null_showtime": lambda _, shown: shown[0] is None and shown[1],
    "bad_starts_at": lambda _, shown: shown[0]["startsAt"] == "tomorrow night" and shown[1]["startsAt"][:2] == "20",
    "null_starts_at": lambda _, shown: shown[0]["startsAt"] is None,
    "unknown_version": lambda _, shown: shown[0]["diffusionVersion"] == "MUMBLED",
    "nul_in_title": lambda movie, _: movie["title"].endswith("\0"),
    "lone_surrogate": lambda movie, _: movie["title"].endswith("\ud800"),
    "invalid_utf8": lambda movie, _: movie["title"].endswith("\udcff"),
    "long_title": lambda movie, _: len(movie["title"]) == 300,
}


@pytest.fixture
def stocks(url, world):
    def stocks(limit=3):
        return requests.get(f"{url}/titelive/stocks/{world.sirets[0]}", params={"limit": limit}, timeout=10).content

    return stocks


@pytest.fixture
def edges(url):
    def edges():
        query = {"theater": THEATRE, "token": "sandbox-allocine"}
        return requests.get(f"{url}/allocine/api/query/movieShowtimeList", params=query, timeout=10).content

    return edges


def read(body):
    content = json.loads(body.decode("utf-8", "surrogateescape"))
    return content["stocks"] if "stocks" in content else content["movieShowtimeList"]["edges"]


def check_encoding(body, kind):
    if kind == "invalid_utf8":
        with pytest.raises(UnicodeDecodeError):
            body.decode()
    else:
        body.decode()


@pytest.mark.parametrize("kind", corrupt_stocks.BAD_RECORDS)
def test_each_kind_of_bad_stock(fault, stocks, kind):
    good = read(stocks())
    fault("bad_records", kinds=[kind])
    bad = read(body := stocks())
    assert len(bad) == len(good)
    count = 1 if kind == "huge_string" else len(bad)
    assert all(STOCKS[kind](stock) for stock in bad[:count])
    assert bad[count:] == good[count:]
    check_encoding(body, kind)


@pytest.mark.parametrize("kind", corrupt_movies.BAD_RECORDS)
def test_each_kind_of_bad_movie(fault, edges, kind):
    good = read(edges())
    fault("bad_records", kinds=[kind], times=1)
    bad = read(body := edges())
    assert len(bad) == len(good)
    if kind == "not_an_object":
        assert bad == [edge["node"]["movie"]["internalId"] for edge in good]
    else:
        assert all(MOVIES[kind](edge["node"]["movie"], edge["node"].get("showtimes", "missing")) for edge in bad)
    check_encoding(body, kind)


def test_a_share_of_bad_records_affects_the_predicted_rows(fault, stocks, world):
    kinds = ["missing_available", "null_price"]
    fault("bad_records", kinds=kinds, share=0.3)
    found = {
        stock["ref"]: "missing_available" if "available" not in stock else "null_price"
        for stock in read(stocks(50))
        if "available" not in stock or stock["price"] is None
    }
    expected = {row.ref: bad_kind(world.settings.seed, row.ref, kinds, 0.3) for row in rows(world, world.sirets[0])}
    assert found == {ref: kind for ref, kind in expected.items() if kind}
    assert 5 < len(found) < 28
    assert set(found.values()) == set(kinds)


def test_a_share_of_bad_records_affects_the_predicted_movies(fault, edges, world):
    fault("bad_records", kinds=["not_an_object"], share=0.4)
    found = [edge for edge in read(edges()) if type(edge) is int]
    keys = [listed.internal_id for listed, _ in movies(world, THEATRE)]
    assert found == [key for key in keys if bad_kind(world.settings.seed, str(key), ["not_an_object"], 0.4)]
    assert 0 < len(found) < len(keys)
