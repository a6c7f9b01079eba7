"""The stand-in for Allociné lists showtimes in the real service's format, changes them, and supports faults."""

import base64
import io
import re
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from html import unescape

import pytest
import requests
from PIL import Image

from sandbox.movies import movie, movies, showtimes, theatres
from sandbox.testing import serving
from sandbox.world import Settings, World

KEY = {"Authorization": "Bearer sandbox-allocine"}
THEATRE = "P0101"
SERVICE = "allocine"
SETTINGS = Settings(venues=1, books=10, theatres=4)
MORNING = datetime(2026, 11, 21, 3, tzinfo=UTC)


@pytest.fixture
def get(url):
    def get(theatre=THEATRE, headers=KEY, **query):
        address = f"{url}/allocine/api/query/movieShowtimeList"
        return requests.get(address, params={"theater": theatre, **query}, headers=headers, timeout=10)

    return get


@pytest.fixture
def edges(get):
    def edges(theatre=THEATRE):
        found = get(theatre).json()["movieShowtimeList"]
        assert found["totalCount"] == len(found["edges"])
        return found["edges"]

    return edges


@pytest.fixture
def posters(edges):
    """The URLs of all listed posters, without duplicates."""
    found = [edge["node"]["movie"].get("poster") for each in ("P0101", "P0102") for edge in edges(each)]
    return list(dict.fromkeys(poster["url"] for poster in found if poster))


def listed(edge):
    """A listed movie as in `expected`: its id and its showtimes."""
    return edge["node"]["movie"]["internalId"], [
        (one["startsAt"], one["diffusionVersion"], tuple(one["projection"]), one["experience"])
        for one in edge["node"]["showtimes"]
    ]


def expected(world, theatre, now=None):
    return [
        (found.internal_id, [(one.starts_at.strftime("%Y-%m-%dT%H:%M:00"), *one[2:]) for one in shown])
        for found, shown in movies(world, theatre, now)
    ]


def test_the_listing_is_what_the_world_contains(edges, world):
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


def test_optional_values_are_sometimes_missing(edges, world):
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
    actors = [actor["node"]["actor"] for each in found for actor in each.get("cast", {"edges": []})["edges"]]
    assert {actor is None for actor in actors} == {True, False}
    assert {each["type"] for each in found} == {"FEATURE_FILM", "SPECIAL_EVENT"}
    for key in ("title", "synopsis"):
        assert any(unescape(each.get(key) or "") != (each.get(key) or "") for each in found), key


def test_showtimes_are_of_several_kinds(world):
    found = [one for theatre in theatres(world) for one in showtimes(world, theatre.id, MORNING)]
    assert {one.version for one in found} == {"LOCAL", "ORIGINAL", "DUBBED"}
    kinds = {("DIGITAL", None), ("DIGITAL", "ECLAIR_COLOR"), ("IMAX", None), ("3D", None), ("", None)}
    assert {("".join(one.projection), one.experience) for one in found} == kinds
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


def test_advance_removes_moves_and_adds_showtimes(url, world):
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


def test_advance_replaces_and_changes_movies(url, world):
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


def test_both_ids_of_a_cinema_are_known(get, edges, world):
    first = theatres(world)[0]
    found = [edges(each)[1]["node"]["movie"] for each in (first.internal_id, first.id)]
    assert found[0] == found[1]
    response = get("P9999")
    assert response.status_code == 404
    assert response.json()["detail"]


def test_a_large_listing_is_fast():
    world = World(Settings(theatres=50, movies=100, movies_per_theatre=60))
    for _ in range(5):
        world.advance(1)
    with serving(world) as url:
        start = time.monotonic()
        response = requests.get(
            f"{url}/allocine/api/query/movieShowtimeList", params={"theater": "P0150"}, headers=KEY, timeout=10
        )
        assert time.monotonic() - start < 2
    assert 50 <= response.json()["movieShowtimeList"]["totalCount"] <= 70


def test_shrunk_empty_and_duplicated_listings_look_complete(edges, fault):
    whole = edges()
    fault("shrunk_listing", times=1)
    assert edges() == whole[:6]
    fault("shrunk_listing", missing=0.25, times=1, venue=THEATRE)
    assert edges() == whole[:9]
    fault("empty_page", times=1)
    assert edges() == []
    fault("duplicates", within=1, times=1)
    assert edges() == [whole[0], *whole]
    assert edges() == whole


def test_posters_are_images_that_need_no_key(posters, url):
    kinds, sizes = Counter(), set()
    for address in posters:
        assert address.startswith(f"{url}/allocine/posters/")
        response = requests.get(address, timeout=10)
        with Image.open(io.BytesIO(response.content)) as picture:
            picture.load()
            assert response.headers["content-type"] == Image.MIME[picture.format]
            kinds[picture.format, picture.mode] += 1
            sizes.add(picture.size)
        assert len(response.content) < 100_000
        assert requests.get(address, timeout=10).content == response.content
    assert kinds.keys() == {("JPEG", "RGB"), ("PNG", "RGBA")}
    assert kinds["JPEG", "RGB"] > 2 * kinds["PNG", "RGBA"]
    assert len(sizes) > 3


def test_another_version_of_a_poster_has_another_address_and_picture(url, world):
    before = {number: movie(world, number).poster_version for number in range(40)}
    world.advance(20)
    changed = [number for number in before if movie(world, number).poster_version != before[number]]
    number = movie(world, changed[0]).internal_id
    responses = [requests.get(f"{url}/allocine/posters/{number}-{version}.jpg", timeout=10) for version in (1, 2, 3)]
    assert [response.status_code for response in responses] == [200, 200, 404]
    assert responses[0].content != responses[1].content
    assert requests.get(f"{url}/allocine/posters/1-1.jpg", timeout=10).status_code == 404


def test_faults_of_posters_do_not_affect_the_listing(get, posters, fault):
    good = requests.get(posters[0], timeout=10).content
    fault("status", status=404, call="poster", times=1)
    assert get().status_code == 200
    assert requests.get(posters[0], timeout=10).status_code == 404
    fault("truncated_image", times=1)
    assert get().json()
    assert requests.get(posters[0], timeout=10).content == good[: len(good) // 2]
    fault("shrunk_listing", times=1)
    assert requests.get(posters[0], timeout=10).content == good
    assert len(get().json()["movieShowtimeList"]["edges"]) == 6


def test_a_decompression_bomb_is_a_small_file_of_a_huge_image(posters, fault):
    fault("image_bomb", times=1)
    response = requests.get(posters[0], timeout=10)
    assert response.headers["content-type"] == "image/png"
    assert len(response.content) < 200_000
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(response.content))
