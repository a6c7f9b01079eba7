"""The stand-in lists showtimes in the real service's shape, moves on, and fails as told."""

import base64
import io
import json
import re
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from html import unescape

import pytest
import requests
from PIL import Image

from sandbox.movies import movie, movies, showtimes, theatres
from sandbox.suppliers.corrupt_movies import BAD_RECORDS
from sandbox.suppliers.corrupt_records import bad_kind
from sandbox.testing import serving
from sandbox.world import Settings, World

KEY = {"Authorization": "Bearer sandbox-allocine"}
THEATRE = "P0101"
MORNING = datetime(2026, 11, 21, 3, tzinfo=UTC)


@pytest.fixture(scope="module")
def world():
    return World(Settings(venues=1, books=10, theatres=4))


@pytest.fixture(scope="module")
def served(world):
    with serving(world) as url:
        yield url


@pytest.fixture
def url(served):
    """The sandbox's address; the world, the faults and the log of requests are new."""
    requests.post(f"{served}/sandbox/reset", timeout=10).raise_for_status()
    return served


@pytest.fixture
def ask(url):
    def ask(theatre=THEATRE, headers=KEY, **query):
        address = f"{url}/allocine/api/query/movieShowtimeList"
        return requests.get(address, params={"theater": theatre, **query}, headers=headers, timeout=10)

    return ask


@pytest.fixture
def edges(ask):
    def edges(theatre=THEATRE):
        found = ask(theatre).json()["movieShowtimeList"]
        assert found["totalCount"] == len(found["edges"])
        return found["edges"]

    return edges


@pytest.fixture
def fault(url):
    def add(fault, **rule):
        rules = [{"fault": fault, "service": "allocine", **rule}]
        answer = requests.post(f"{url}/sandbox/faults", json=rules, timeout=10)
        assert answer.status_code == 200, answer.text

    return add


@pytest.fixture
def posters(edges):
    """The addresses of the posters of all that is listed, each once."""
    found = [edge["node"]["movie"].get("poster") for each in ("P0101", "P0102") for edge in edges(each)]
    return list(dict.fromkeys(poster["url"] for poster in found if poster))


def listed(edge):
    """A listed movie as the truth has it: its id, and its showtimes."""
    return edge["node"]["movie"]["internalId"], [
        (one["startsAt"], one["diffusionVersion"], tuple(one["projection"]), one["experience"])
        for one in edge["node"]["showtimes"]
    ]


def expected(world, theatre, now=None):
    return [
        (found.internal_id, [(one.starts_at.strftime("%Y-%m-%dT%H:%M:00"), *one[2:]) for one in shown])
        for found, shown in movies(world, theatre, now)
    ]


def test_the_listing_is_the_truth(edges, world):
    for theatre in theatres(world):
        before = datetime.now(UTC)
        found = list(map(listed, edges(theatre.id)))
        assert found in (expected(world, theatre.id, before), expected(world, theatre.id))
        assert 11 <= len(found) <= 12
        assert 6 * 12 * 2 <= sum(len(shown) for _, shown in found) <= 7 * 12 * 4


def test_a_movie_has_the_shape_of_the_real_service(edges):
    node = edges()[1]["node"]
    assert list(node) == ["movie", "showtimes"]
    found = node["movie"]
    assert base64.b64decode(found["id"]).decode() == f"Movie:{found['internalId']}"
    assert found["type"] == "FEATURE_FILM"
    assert re.fullmatch(r"PT\dH\d+M0S", found["runtime"])
    assert found["poster"]["url"].startswith("http://127.0.0.1:")
    assert list(found["backlink"]) == ["url", "label"]
    (release,) = found["releases"]
    assert re.fullmatch(r"2026-\d\d-\d\d", release["releaseDate"]["date"])
    assert release["data"]["visa_number"].isdecimal()
    (director,) = found["credits"]["edges"]
    assert director["node"]["position"] == {"name": "DIRECTOR"}
    assert list(director["node"]["person"]) == ["firstName", "lastName"]
    assert list(found["cast"]) == ["backlink", "edges"]
    assert list(found["cast"]["edges"][0]["node"]) == ["actor", "role"]
    assert all(list(country) == ["name", "alpha3"] for country in found["countries"])
    assert all(genre.isupper() for genre in found["genres"])
    assert found["companies"][0]["activity"] == "Production"
    assert found["companies"][0]["company"]["name"]
    assert list(node["showtimes"][0]) == ["startsAt", "diffusionVersion", "projection", "experience"]
    assert datetime.fromisoformat(node["showtimes"][0]["startsAt"]).tzinfo is None


def test_what_may_be_missing_sometimes_is(edges, world):
    found = {
        edge["node"]["movie"]["internalId"]: edge["node"]["movie"]
        for theatre in theatres(world)
        for edge in edges(theatre.id)
    }.values()
    for key in ("poster", "runtime", "synopsis", "countries"):
        assert {each.get(key) is None for each in found} == {True, False}, key
    for key in ("cast", "backlink", "synopsis"):
        assert {key in each for each in found} == {True, False}, key
    assert {bool(each["releases"]) for each in found} == {True, False}
    assert {each["releases"][0]["data"] is None for each in found if each["releases"]} == {True, False}
    assert {bool(each["credits"]["edges"]) for each in found} == {True, False}
    assert {actor["node"]["actor"] is None for each in found for actor in each.get("cast", {"edges": []})["edges"]} == {
        True,
        False,
    }
    assert {each["type"] for each in found} == {"FEATURE_FILM", "SPECIAL_EVENT"}
    for key in ("title", "synopsis"):
        assert any(unescape(each.get(key) or "") != (each.get(key) or "") for each in found), key


def test_showtimes_are_of_several_kinds(world):
    found = [one for theatre in theatres(world) for one in showtimes(world, theatre.id, MORNING)]
    assert {one.version for one in found} == {"LOCAL", "ORIGINAL", "DUBBED"}
    assert {(one.projection, one.experience) for one in found} == {
        (("DIGITAL",), None),
        (("DIGITAL",), "ECLAIR_COLOR"),
        (("IMAX",), None),
        (("3D",), None),
        ((), None),
    }
    assert 0.05 < sum(not one.is_plain for one in found) / len(found) < 0.25
    plain = [any(one.is_plain for one in shown) for _, shown in movies(world, THEATRE, MORNING)]
    assert plain.count(False) == 1
    assert all(
        {one.version for one in shown} == {"LOCAL"} for it, shown in movies(world, THEATRE, MORNING) if it.is_french
    )


def test_showtimes_are_in_the_cinemas_time_and_in_the_future(world):
    assert {theatre.departement for theatre in theatres(world)} == {"75", "974", "971", "988"}
    hours = {"75": 1, "974": 4, "971": -4, "988": 11}
    for theatre in theatres(world):
        offset = timedelta(hours=hours[theatre.departement])
        for now in (MORNING, MORNING + timedelta(hours=14)):
            found = showtimes(world, theatre.id, now)
            assert {one.starts_at.utcoffset() for one in found} == {offset}
            assert min(one.starts_at for one in found) > now
            days = {one.starts_at.date() for one in found}
            today = (now + offset).date()
            assert days <= {today + timedelta(days=day) for day in range(7)}
            assert len(days) >= 6
            assert {9 <= one.starts_at.hour <= 22 for one in found} == {True}


def test_past_showtimes_drop_out_and_nothing_else_changes(world):
    now = showtimes(world, THEATRE, MORNING)
    later = showtimes(world, THEATRE, MORNING + timedelta(hours=30))
    assert [one for one in now if one.starts_at > MORNING + timedelta(hours=30)] == [
        one for one in later if one.starts_at.date() <= (MORNING + timedelta(days=6)).date()
    ]
    assert len(set(now)) == len(now)
    assert len({(one.movie, one.starts_at) for one in now}) == len(now)


def test_advance_takes_moves_and_brings(url, world):
    assert world.generations[1:] == ()
    before, films = set(showtimes(world, THEATRE, MORNING)), dict(movies(world, THEATRE, MORNING))
    world.advance(30)
    after, films_now = set(showtimes(world, THEATRE, MORNING)), dict(movies(world, THEATRE, MORNING))
    changed = len(before - after) / len(before)
    assert 0.2 < changed < 0.5
    assert after - before
    gone, new = before - after, after - before
    moved = [
        (old, one)
        for old in gone
        for one in new
        if (one.movie, one.version, one.starts_at.date()) == (old.movie, old.version, old.starts_at.date())
        and abs(one.starts_at - old.starts_at) <= timedelta(hours=1)
    ]
    assert len(moved) > 20
    assert all((one.starts_at - old.starts_at) % timedelta(minutes=15) == timedelta() for old, one in moved)
    assert len({old for old, _ in moved}) < len(gone)
    assert len({one for _, one in moved}) < len(new)
    assert len({(one.movie, one.starts_at) for one in after}) == len(after)
    numbers, numbers_now = {film.number for film in films}, {film.number for film in films_now}
    assert numbers - numbers_now or numbers_now - numbers


def test_movies_come_and_go_and_change_as_the_world_moves_on(url, world):
    def everything():
        shown = {each.number for theatre in theatres(world) for each, _ in movies(world, theatre.id, MORNING)}
        return shown, [movie(world, number) for number in range(40)]

    shown, before = everything()
    world.advance(10)
    shown_now, after = everything()
    assert shown - shown_now or shown_now - shown
    for what in ("poster_version", "title", "synopsis"):
        changed = sum(getattr(old, what) != getattr(new, what) for old, new in zip(before, after, strict=True))
        assert 0 < changed < 15, what
    for _ in range(5):
        world.advance(100)
    for theatre in theatres(world):
        found = showtimes(world, theatre.id, MORNING)
        assert len({(one.movie, one.starts_at) for one in found}) == len(found)
        assert {9 <= one.starts_at.hour <= 22 for one in found} == {True}
    world.reset()
    assert everything() == (shown, before)


def test_both_ids_of_a_cinema_are_known(ask, edges, world):
    first = theatres(world)[0]
    found = [edges(each)[1]["node"]["movie"] for each in (first.internal_id, first.id)]
    assert found[0] == found[1]
    answer = ask("P9999")
    assert answer.status_code == 404
    assert answer.json()["detail"]


def test_a_key_is_needed_in_the_header_or_the_older_way(ask):
    assert ask(headers={}, token="sandbox-allocine").status_code == 200
    for headers, query in (({}, {}), ({"Authorization": "Bearer x"}, {}), ({}, {"token": "x"})):
        answer = ask(headers=headers, **query)
        assert answer.status_code == 401
        assert answer.headers["content-type"] == "application/json"
        assert answer.json()["detail"]


def test_the_key_does_not_show(ask, url):
    ask(token="sandbox-allocine")
    (entry,) = requests.get(f"{url}/sandbox/requests", timeout=10).json()
    assert entry["query"] == {"theater": THEATRE, "token": "***"}
    assert requests.get(f"{url}/sandbox/state", timeout=10).json()["settings"]["allocine_key"] == "***"


def test_the_data_follow_from_the_seed(world):
    def listing(seed):
        return expected(World(Settings(seed=seed)), THEATRE, MORNING)

    assert listing(1) == listing(1) != listing(2)


def test_a_big_listing_comes_at_once():
    world = World(Settings(theatres=50, movies=100, movies_per_theatre=60))
    for _ in range(5):
        world.advance(1)
    with serving(world) as url:
        start = time.monotonic()
        answer = requests.get(
            f"{url}/allocine/api/query/movieShowtimeList", params={"theater": "P0150"}, headers=KEY, timeout=10
        )
        assert time.monotonic() - start < 2
    assert 50 <= answer.json()["movieShowtimeList"]["totalCount"] <= 70


@pytest.mark.parametrize("status", [404, 429, 500, 503])
def test_a_status_on_request(ask, fault, status):
    fault("status", status=status, retry_after=2, times=1)
    answer = ask()
    assert (answer.status_code, answer.headers["retry-after"]) == (status, "2")
    assert ask().status_code == 200


def test_faults_of_any_answer(ask, fault):
    for name, options in (("html", {}), ("empty_body", {}), ("truncated_json", {})):
        fault(name, times=1, **options)
        with pytest.raises(requests.JSONDecodeError):
            ask().json()
    fault("cut", times=1)
    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        ask()
    fault("delay", seconds=0.2, times=1)
    assert ask().elapsed.total_seconds() > 0.2


@pytest.fixture
def numbers(edges):
    """The listed movies, by `internalId`."""
    return lambda: [edge["node"]["movie"]["internalId"] for edge in edges()]


def test_a_shrunk_listing_looks_whole(numbers, fault):
    whole = numbers()
    fault("shrunk_listing", times=1)
    assert numbers() == whole[:6]
    fault("shrunk_listing", missing=0.25, times=1, venue=THEATRE)
    assert numbers() == whole[:9]
    fault("empty_page", times=1)
    assert numbers() == []
    assert numbers() == whole


def test_a_movie_listed_twice(numbers, fault):
    whole = numbers()
    fault("duplicates", within=1)
    assert numbers() == [whole[0], *whole]


SPOILT = {
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


@pytest.mark.parametrize("kind", BAD_RECORDS)
def test_each_kind_of_bad_record(ask, edges, fault, kind):
    good = edges()
    fault("bad_records", kinds=[kind], times=1)
    body = ask().content
    bad = json.loads(body.decode("utf-8", "surrogateescape"))["movieShowtimeList"]["edges"]
    assert len(bad) == len(good)
    if kind == "not_an_object":
        assert bad == [edge["node"]["movie"]["internalId"] for edge in good]
    else:
        assert all(SPOILT[kind](edge["node"]["movie"], edge["node"].get("showtimes", "missing")) for edge in bad)
    if kind == "invalid_utf8":
        with pytest.raises(UnicodeDecodeError):
            body.decode()
    else:
        body.decode()


def test_a_share_of_bad_records_hits_the_movies_that_the_truth_names(ask, fault, world):
    fault("bad_records", kinds=["not_an_object"], share=0.4)
    seen = [edge for edge in ask().json()["movieShowtimeList"]["edges"] if type(edge) is int]
    keys = [found.internal_id for found, _ in movies(world, THEATRE)]
    assert seen == [key for key in keys if bad_kind(world.settings.seed, str(key), ["not_an_object"], 0.4)]
    assert 0 < len(seen) < len(keys)


def test_posters_are_pictures_that_need_no_key(posters, url):
    kinds, sizes = Counter(), set()
    for address in posters:
        assert address.startswith(f"{url}/allocine/posters/")
        answer = requests.get(address, timeout=10)
        with Image.open(io.BytesIO(answer.content)) as picture:
            picture.load()
            assert answer.headers["content-type"] == Image.MIME[picture.format]
            kinds[picture.format, picture.mode] += 1
            sizes.add(picture.size)
        assert len(answer.content) < 100_000
        assert requests.get(address, timeout=10).content == answer.content
    assert kinds.keys() == {("JPEG", "RGB"), ("PNG", "RGBA")}
    assert kinds["JPEG", "RGB"] > 2 * kinds["PNG", "RGBA"]
    assert len(sizes) > 3


def test_another_version_of_a_poster_has_another_address_and_picture(url, world):
    before = {number: movie(world, number).poster_version for number in range(40)}
    world.advance(20)
    changed = [number for number in before if movie(world, number).poster_version != before[number]]
    number = movie(world, changed[0]).internal_id
    answers = [requests.get(f"{url}/allocine/posters/{number}-{version}.jpg", timeout=10) for version in (1, 2, 3)]
    assert [answer.status_code for answer in answers] == [200, 200, 404]
    assert answers[0].content != answers[1].content
    assert requests.get(f"{url}/allocine/posters/1-1.jpg", timeout=10).status_code == 404


def test_posters_fail_as_told_and_the_listing_does_not(ask, posters, fault):
    good = requests.get(posters[0], timeout=10).content
    for status in (404, 500):
        fault("status", status=status, call="poster", times=1)
        assert ask().status_code == 200
        assert requests.get(posters[0], timeout=10).status_code == status
    fault("html", call="poster", times=1)
    assert requests.get(posters[0], timeout=10).headers["content-type"].startswith("text/html")
    fault("truncated_image", times=1)
    assert ask().json()
    assert requests.get(posters[0], timeout=10).content == good[: len(good) // 2]
    fault("delay", seconds=0.2, call="poster", times=1)
    assert requests.get(posters[0], timeout=10).elapsed.total_seconds() > 0.2
    fault("shrunk_listing", times=1)
    assert requests.get(posters[0], timeout=10).content == good
    assert len(ask().json()["movieShowtimeList"]["edges"]) == 6


def test_a_decompression_bomb_is_small_and_huge(posters, fault):
    fault("image_bomb", times=1)
    answer = requests.get(posters[0], timeout=10)
    assert answer.headers["content-type"] == "image/png"
    assert len(answer.content) < 200_000
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(answer.content))
