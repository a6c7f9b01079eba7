"""What is read of a theatre's listing, however irregular it is."""

import json

import msgspec
import pytest
from msgspec import UNSET

from include.connectors.decoding import Rejected
from include.providers.allocine_listing import Edge, decode_listing, minutes, movie_id

REQUIRED = {"id": "TW92aWU6MQ==", "internalId": 1, "title": "Le Quai", "type": "FEATURE_FILM", "genres": ["DRAMA"],
            "companies": [{"activity": "Production", "company": {"name": "Les Films"}}]}  # fmt: skip
OPTIONAL = {
    "runtime": "PT1H46M0S",
    "synopsis": "Un quai.",
    "poster": {"url": "https://example.org/1.jpg"},
    "backlink": {"url": "https://example.org/1", "label": "Tout savoir"},
    "releases": [{"releaseDate": {"date": "2026-11-04"}, "data": {"visa_number": "158026"}}],
    "credits": {"edges": [{"node": {"person": {"firstName": "Agnès", "lastName": "Morel"}}}]},
    "cast": {"edges": [{"node": {"actor": {"firstName": "Jean", "lastName": "Faber"}, "role": "Le gardien"}}]},
    "countries": [{"name": "France", "alpha3": "FRA"}],
}
SHOWTIME = {"startsAt": "2026-11-21T10:30:00", "diffusionVersion": "DUBBED", "projection": ["DIGITAL"],
            "experience": None}  # fmt: skip


def edge(showtimes=(SHOWTIME,), **movie):
    whole = {name: value for name, value in {**REQUIRED, **OPTIONAL, **movie}.items() if value is not ...}
    return {"node": {"movie": whole, "showtimes": list(showtimes) if showtimes is not None else None}}


def read(*edges, total=None):
    listing = {"totalCount": len(edges) if total is None else total, "edges": list(edges)}
    return decode_listing(json.dumps({"movieShowtimeList": listing}).encode())


def test_a_regular_edge_is_read_completely():
    listing = read(edge())
    (found,) = listing.edges
    assert isinstance(found, Edge)
    assert (listing.total_count, listing.received) == (1, 1)
    movie = found.node.movie
    assert (movie.internal_id, movie.poster.url, movie.credits.edges[0].node.person.name) == (
        1,
        "https://example.org/1.jpg",
        "Agnès Morel",
    )
    assert found.node.showtimes[0].starts_at.isoformat() == "2026-11-21T10:30:00"


@pytest.mark.parametrize("name", REQUIRED)
@pytest.mark.parametrize("value", [..., None, {"a": 1}])
def test_a_movie_without_a_required_field_does_not_affect_the_rest(name, value):
    bad, good = read(edge(**{name: value}), edge(id="other")).edges
    assert isinstance(bad, Rejected)
    assert name in bad.reason
    assert json.loads(bad.raw) == edge(**{name: value})
    assert good.node.movie.id == "other"


@pytest.mark.parametrize("name", OPTIONAL)
def test_an_optional_field_that_is_missing_does_not_affect_the_rest(name):
    (found,) = read(edge(**{name: ...})).edges
    values = {other: getattr(found.node.movie, other) for other in OPTIONAL}
    assert values.pop(name) is UNSET
    assert UNSET not in values.values()
    assert len(found.node.showtimes) == 1


@pytest.mark.parametrize("name", OPTIONAL)
def test_null_is_not_the_same_as_missing(name):
    (found,) = read(edge(**{name: None})).edges
    assert getattr(found.node.movie, name) is None


@pytest.mark.parametrize("name", OPTIONAL)
@pytest.mark.parametrize("value", [7, {"url": 3}, [{"name": []}, 3]])
def test_an_optional_field_that_is_malformed_does_not_affect_the_rest(name, value):
    found = read(edge(**{name: value})).edges
    assert len(found) == 1
    values = {other: getattr(found[0].node.movie, other) for other in OPTIONAL}
    values.pop(name)
    assert UNSET not in values.values()


@pytest.mark.parametrize(
    ("showtime", "message"),
    [
        (SHOWTIME | {"startsAt": "tomorrow"}, "startsAt"),
        (SHOWTIME | {"startsAt": "2026-11-21T10:30:00Z"}, "startsAt"),
        (SHOWTIME | {"diffusionVersion": "SIGNED"}, "diffusionVersion"),
        ({"startsAt": "2026-11-21T10:30:00"}, "diffusionVersion"),
        (None, "Expected `object`"),
        ("10:30", "Expected `object`"),
    ],
)
def test_a_showtime_that_cannot_be_read_does_not_affect_the_rest(showtime, message):
    bad, good = read(edge([SHOWTIME, showtime, SHOWTIME | {"startsAt": "2026-11-22T20:00:00"}])).edges
    assert [one.starts_at.day for one in good.node.showtimes] == [21, 22]
    assert isinstance(bad, Rejected)
    assert bad.reason.startswith("showtimes[1]")
    assert message in bad.reason
    assert json.loads(bad.raw)["node"]["showtimes"] == [showtime]
    assert movie_id(bad.raw) == REQUIRED["id"]


@pytest.mark.parametrize("showtimes", [None, 3, {"edges": []}])
def test_showtimes_that_are_no_list_are_not_an_empty_list(showtimes):
    whole = edge()
    whole["node"]["showtimes"] = showtimes
    bad, good = read(whole).edges
    assert good.node.showtimes == []
    assert bad.reason == "showtimes: a list is needed"
    assert movie_id(bad.raw) == REQUIRED["id"]


@pytest.mark.parametrize("what", [None, [], "movie", {"node": None}, {"node": {"movie": None, "showtimes": []}}])
def test_what_is_no_edge_does_not_affect_the_rest(what):
    bad, good = read(what, edge()).edges
    assert isinstance(bad, Rejected)
    assert movie_id(bad.raw) is None
    assert isinstance(good, Edge)


def test_text_that_cannot_be_read_costs_only_its_movie():
    body = json.dumps({"movieShowtimeList": {"totalCount": 2, "edges": [edge(), edge(title="T?", id="b")]}})
    for flaw in (b"\xff", b"\\ud800", b"\x01", b"\\q"):
        found = decode_listing(body.encode().replace(b"T?", b"T" + flaw)).edges
        assert [type(one) for one in found] == [Edge, Rejected]


def test_a_movie_in_two_edges_is_one_record_with_all_its_showtimes():
    later = SHOWTIME | {"startsAt": "2026-11-22T20:00:00"}
    listing = read(edge([SHOWTIME]), edge(id="other"), edge([later, SHOWTIME]))
    first, other = listing.edges
    assert [one.starts_at.day for one in first.node.showtimes] == [21, 22, 21]
    assert other.node.movie.id == "other"
    assert listing.received == 3


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b"<html>", b'{"movieShowtimeList": null}', b'{"movieShowtimeList": {}}']
)
def test_what_is_no_listing_is_an_error(body):
    with pytest.raises(msgspec.DecodeError):
        decode_listing(body)


@pytest.mark.parametrize(
    ("projection", "experience", "is_plain"),
    [
        (["DIGITAL"], None, True),
        (["DIGITAL", "F_4DX"], None, True),
        (["IMAX"], None, False),
        (["DIGITAL"], "ECLAIR_COLOR", False),
        ([], None, False),
        (None, None, False),
    ],
)
def test_only_ordinary_projections_are_for_us(projection, experience, is_plain):
    (found,) = read(edge([SHOWTIME | {"projection": projection, "experience": experience}])).edges
    assert found.node.showtimes[0].is_plain is is_plain


@pytest.mark.parametrize(
    ("runtime", "wanted"),
    [("PT1H46M0S", 106), ("PT0H46M", 46), ("PT2H", 120), ("PT95M", 95), ("PT0H0M", None), ("1h46", None), ("", None)],
)
def test_a_runtime_is_minutes(runtime, wanted):
    assert minutes(runtime) == wanted


def test_a_record_can_be_decoded_again_from_what_is_kept_of_it():
    (found,) = read(edge(cast=..., runtime=None)).edges
    again = msgspec.convert(json.loads(msgspec.json.encode(found)), Edge)
    assert again == found
