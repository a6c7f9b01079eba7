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

CHECKS = {
    "missing": lambda record, name: name not in record,
    "null": lambda record, name: record[name] is None,
    "number": lambda record, name: type(record[name]) is int,
    "list": lambda record, name: type(record[name]) is list,
    "text": lambda record, name: type(record[name]) is str,
    "negative": lambda record, name: record[name] < 0,
    "huge": lambda record, name: record[name] > 2**63,
}
STOCKS = {
    "nul_in_ref": lambda stock: stock["ref"].endswith("\0"),
    "lone_surrogate": lambda stock: stock["ref"].endswith("\ud800"),
    "invalid_utf8": lambda stock: stock["ref"].endswith("\udcff"),
    "huge_string": lambda stock: len(stock["ref"]) > 10_000_000,
    "not_an_object": lambda stock: type(stock) is int,
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


def is_bad_stock(kind, stock):
    what, _, name = kind.partition("_")
    return STOCKS[kind](stock) if kind in STOCKS else CHECKS[what](stock, name) and len(stock) >= 2


def is_bad_movie(kind, node):
    what, _, name = kind.replace("internal_id", "internalId").partition("_")
    return MOVIES[kind](node["movie"], node) if kind in MOVIES else CHECKS[what](node["movie"], name)


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
    assert all(is_bad_stock(kind, stock) for stock in bad[:count])
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
        assert all(is_bad_movie(kind, edge["node"]) for edge in bad)
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
