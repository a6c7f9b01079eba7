"""The stand-in keeps to the rules by which a stock provider's interface is accepted."""

from datetime import UTC, datetime, timedelta

import pytest
import requests

from sandbox.suppliers.stock_api import rows
from sandbox.testing import serving
from sandbox.world import START, Settings, World, format_time


@pytest.fixture(scope="module")
def world():
    return World(Settings(venues=3, books=2500, valid_until=True))


@pytest.fixture(scope="module")
def served(world):
    with serving(world) as url:
        yield url


@pytest.fixture
def stocks(world, served):
    """Call the listing of the first venue; the world is new for each test."""
    world.reset()

    def get(venue=world.sirets[0], **query):
        return requests.get(f"{served}/titelive/stocks/{venue}", params=query, timeout=10)

    return get


def read_all(get, **query):
    found, pages = [], 0
    while True:
        page = get(**query).json()["stocks"]
        if not page:
            return found, pages
        found += page
        pages += 1
        assert pages < 1000
        query["after"] = page[-1]["ref"]


def as_listed(row):
    listed = {"ref": row.ref, "available": row.available, "price": row.price}
    return listed | ({"validUntil": row.valid_until} if row.valid_until else {})


def is_ean(ref):
    return len(ref) == 13 and sum(int(digit) * (3 if place % 2 else 1) for place, digit in enumerate(ref)) % 10 == 0


def test_a_first_call_without_parameters_answers(stocks):
    answer = stocks()
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    page = answer.json()
    assert (page["total"], page["limit"], page["offset"]) == (2500, 1000, 0)
    assert len(page["stocks"]) == 1000


def test_each_stock_has_a_valid_ean_a_quantity_and_cents(stocks):
    found, _ = read_all(stocks)
    assert all(is_ean(stock["ref"]) and stock["ref"].startswith("978") for stock in found)
    assert {stock["available"] for stock in found} == set(range(21))
    assert all(type(stock["price"]) is int and stock["price"] >= 0 for stock in found)
    free = sum(stock["price"] == 0 for stock in found)
    assert 10 < free < 120
    assert 10 < sum("validUntil" in stock for stock in found) < 400


@pytest.mark.parametrize("limit", [1, 2, 999])
def test_the_limit_is_kept(stocks, limit):
    page = stocks(limit=limit).json()
    assert len(page["stocks"]) == page["limit"] == limit


def test_a_limit_above_the_maximum_gets_the_maximum(stocks):
    page = stocks(limit=5000).json()
    assert len(page["stocks"]) == page["limit"] == 1000


def test_after_goes_on_behind_a_key_and_leaves_the_total(stocks):
    start = stocks(limit=3).json()
    shifted = stocks(limit=2, after=start["stocks"][0]["ref"]).json()
    assert shifted["stocks"] == start["stocks"][1:]
    assert shifted["total"] == start["total"]


def test_after_need_not_be_a_listed_ref(stocks):
    first, second = stocks(limit=2).json()["stocks"]
    between = str(int(second["ref"]) - 1)
    assert first["ref"] < between
    assert stocks(limit=1, after=between).json()["stocks"] == [second]
    assert stocks(limit=1, after="0").json()["stocks"] == [first]
    assert stocks(after="9789").json()["stocks"] == []
    assert stocks(after="zzz").json() == {"total": 2500, "limit": 1000, "offset": 0, "stocks": []}


@pytest.mark.parametrize("limit", [1000, 1250, 77])
def test_the_pages_make_up_the_listing_in_order(stocks, world, limit):
    found, pages = read_all(stocks, limit=min(limit, 1000))
    assert pages == -(-2500 // min(limit, 1000))
    assert [stock["ref"] for stock in found] == sorted({stock["ref"] for stock in found})
    assert found == [as_listed(row) for row in rows(world, world.sirets[0])]


def test_modified_since_now_is_smaller_than_everything(stocks):
    page = stocks(modifiedSince=format_time(datetime.now(UTC))).json()
    assert (page["total"], page["stocks"]) == (0, [])


def test_modified_since_gives_exactly_the_rows_changed_then_or_later(stocks, world):
    before = {row.ref: row for row in rows(world, world.sirets[0])}
    times = [START + timedelta(days=day) for day in (1, 2, 3)]
    snapshots = [before]
    for at, percent in zip(times, (10, 1, 4), strict=True):
        world.advance(percent, at)
        snapshots.append({row.ref: row for row in rows(world, world.sirets[0])})
    for number, at in enumerate(times):
        differing = [ref for ref in before if any(s[ref][:3] != snapshots[number][ref][:3] for s in snapshots[number:])]
        for since, expected in ((at, differing), (at - timedelta(seconds=1), differing)):
            found, _ = read_all(stocks, limit=50, modifiedSince=format_time(since))
            assert [stock["ref"] for stock in found] == expected
            assert stocks(modifiedSince=format_time(since)).json()["total"] == len(expected)
            assert found == [as_listed(row) for row in rows(world, world.sirets[0], since)]
            assert found == [as_listed(snapshots[-1][ref]) for ref in expected]
        late = stocks(modifiedSince=format_time(at + timedelta(seconds=1))).json()["total"]
        assert late < len(differing)
    assert stocks(modifiedSince=format_time(times[-1])).json()["total"] == 100  # 4 % of 2500
    assert stocks(modifiedSince=format_time(START)).json()["total"] == 2500


def test_a_changed_row_is_told_by_its_time_and_its_content(stocks, world):
    before = list(rows(world, world.sirets[1]))
    for _ in range(60):
        generation = world.advance(100)
        after = list(rows(world, world.sirets[1]))
        assert all(old[1:3] != new[1:3] and old.ref == new.ref for old, new in zip(before, after, strict=True))
        assert {row.modified for row in after} == {generation.at}
        before = after


def test_venues_list_different_rows_of_the_same_books(stocks, world):
    listings = [{row.ref: row for row in rows(world, siret)} for siret in world.sirets]
    common = listings[0].keys() & listings[1].keys()
    assert len(common) == 2250
    assert sum(listings[0][ref].available != listings[1][ref].available for ref in common) > 1500


def test_an_unknown_siret_is_not_found(stocks):
    answer = stocks(venue="12345678901234")
    assert answer.status_code == 404
    assert "12345678901234" in answer.json()["detail"]


@pytest.mark.parametrize(
    "query",
    [
        {"limit": 0},
        {"limit": -1},
        {"limit": "many"},
        {"modifiedSince": "yesterday"},
        {"modifiedSince": "2024-02-30T00:00:00Z"},
        {"modifiedSince": "2024-01-01T00:00:00"},
        {"modifiedSince": "2024-01-01T00:00:00+00:00"},
        {"modified_since": "2024-01-01T00:00:00Z"},
        {"page": 2},
    ],
)
def test_a_bad_query_is_refused_in_json(stocks, query):
    answer = stocks(**query)
    assert answer.status_code == 422
    assert answer.json()["detail"]


def test_basic_authentication_is_asked_for_when_set():
    world = World(Settings(auth="titelive=shop:secret=1", books=10))
    with serving(world) as url:
        address = f"{url}/titelive/stocks/{world.sirets[0]}"
        refused = requests.get(address, timeout=10)
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"].startswith("Basic")
        assert refused.json()
        assert requests.get(address, auth=("shop", "wrong"), timeout=10).status_code == 401
        assert requests.get(address, auth=("shop", "secret=1"), timeout=10).json()["total"] == 10
        assert "secret" not in requests.get(f"{url}/sandbox/state", timeout=10).text


def test_the_data_follow_from_the_seed():
    def refs(seed):
        world = World(Settings(seed=seed, books=100))
        return list(rows(world, world.sirets[0]))

    assert refs(1) == refs(1)
    assert refs(1) != refs(2)


def test_ten_million_rows_are_served_without_listing_them():
    world = World(Settings(books=10_000_000))
    world.advance(0.01, START + timedelta(days=1))
    with serving(world) as url:
        address = f"{url}/titelive/stocks/{world.sirets[4]}"
        first = requests.get(address, timeout=10)
        middle = requests.get(address, params={"after": "9782550000000"}, timeout=10)
        changed = requests.get(address, params={"modifiedSince": "2024-01-02T00:00:00Z"}, timeout=10)
    assert max(answer.elapsed.total_seconds() for answer in (first, middle, changed)) < 0.5
    assert first.json()["total"] == middle.json()["total"] == 10_000_000
    assert "9782550000000" < middle.json()["stocks"][0]["ref"] < "9782550000300"
    assert changed.json()["total"] == len(changed.json()["stocks"]) == 1000
