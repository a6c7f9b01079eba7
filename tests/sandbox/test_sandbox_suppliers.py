"""Suppliers are discovered; the four stock APIs list what the world contains, each in its own way."""

import sys
import textwrap
import types
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import requests

import sandbox.suppliers
from sandbox.demo import products
from sandbox.faults import Faults
from sandbox.suppliers import Link, find_suppliers
from sandbox.suppliers.stock_api import rows
from sandbox.testing import serving
from sandbox.world import START, Settings, World, format_time, siret

SETTINGS = Settings(venues=3, books=1250, valid_until=True, offers=0)
PATHS = {
    "titelive": "titelive/stocks",
    "fnac": "fnac/api/v1/pass-culture/stocks",
    "libraires": "libraires/stocks",
    "praxiel": "praxiel/3027011420000/stocks",
}
SIBLINGS = ("fnac", "libraires", "praxiel")
BOOKS = SETTINGS.books


@pytest.fixture
def get(url, world):
    """A function that calls the listing of a shop of a service."""

    def get(service="titelive", shop=None, **query):
        shop = shop or siret(world.shops[service][0])
        auth = ("sandbox", "fnac-token")
        return requests.get(f"{url}/{PATHS[service]}/{shop}", params=query, auth=auth, timeout=10)

    return get


@pytest.fixture
def stocks(get):
    """A function that returns the decoded first page."""
    return lambda service="titelive", **query: get(service, **query).json(parse_float=Decimal)


@pytest.fixture
def read_all(stocks):
    """A function that returns the stocks of all pages, and the number of pages."""

    def read_all(service="titelive", **query):
        found, pages = [], 0
        while page := stocks(service, **query)["stocks"]:
            found += page
            pages += 1
            assert pages < 2000
            query["after"] = page[-1]["ref"]
        return found, pages

    return read_all


def expected(world, service="titelive", since=None):
    return list(rows(world, siret(world.shops[service][0]), since))


def as_tuples(listed):
    return [(stock["ref"], stock["available"], stock.get("price"), stock.get("validUntil")) for stock in listed]


def is_ean(ref):
    return len(ref) == 13 and sum(int(digit) * (3 if place % 2 else 1) for place, digit in enumerate(ref)) % 10 == 0


# Discovery


def test_every_supplier_serves_its_shops(world):
    suppliers = {supplier.service: supplier for supplier in find_suppliers(world)}
    assert {name: (each.provider, len(each.links)) for name, each in suppliers.items()}.items() >= {
        "allocine": ("AllocineStocks", 3),
        "titelive": ("TiteLiveStocks", 3),
        "fnac": ("FnacStocks", 2),
        "libraires": ("LibrairesStocks", 2),
        "praxiel": ("PraxielStocks", 1),
    }.items()
    links = [link for supplier in suppliers.values() for link in supplier.links]
    for key in ("siret", "name", "booking_email"):
        assert len({link.venue[key] for link in links}) == len(links)
    assert [link.venue["siret"] for link in suppliers["titelive"].links] == world.sirets
    of_shops = [link for name in PATHS for link in suppliers[name].links]
    assert all(link.id_at_provider == link.venue["siret"] for link in of_shops)
    assert all(link.internal_id is None and not link.settings for link in of_shops)


def test_a_module_as_the_package_describes_it_is_served(monkeypatch):
    example = sandbox.suppliers.__doc__.split("::\n", 1)[1].split("\nA rule such as", 1)[0]
    module = types.ModuleType("sandbox.suppliers.billets")
    exec(textwrap.dedent(example), module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    (found,) = module.suppliers(World())
    assert found.links == [Link(found.links[0].venue, "hall-1")]
    assert found.links[0].venue["departement_code"] == "35"
    assert found.router(Faults(1, {found.service: found.faults}))
    names = [types.SimpleNamespace(name=name) for name in ("billets", "stock_api", "corrupt_nothing")]
    monkeypatch.setattr(sandbox.suppliers.pkgutil, "iter_modules", lambda _path: names)
    with serving(World()) as url:

        def get(**query):
            return requests.get(f"{url}/billets/events", params={"venue": "hall-1", **query}, timeout=10)

        def fault(fault, **rule):
            rules = [{"fault": fault, "service": "billets", "times": 1, **rule}]
            requests.post(f"{url}/sandbox/faults", json=rules, timeout=10).raise_for_status()

        first = get().json()["events"]
        assert [event["id"] for event in first] == [f"E{number:04d}" for number in range(20)]
        assert len(get(after="E0039").json()["events"]) == 10
        fault("status", status=503)
        assert get().status_code == 503
        fault("empty_page")
        assert get().json() == {"events": []}
        fault("bad_records", kinds=["missing_title"], share=0.5)
        bad = [event for event in get().json()["events"] if "title" not in event]
        assert 0 < len(bad) < 20
        fault("bad_records", kinds=["not_an_object"])
        assert get().json()["events"] == ["nothing"] * 20
        requests.post(f"{url}/sandbox/advance", json={}, timeout=10)
        assert get().json()["events"] != first


# The four stock APIs


@pytest.mark.parametrize("service", PATHS)
def test_the_pages_are_the_listing_in_order(get, stocks, read_all, world, service):
    response = get(service)
    assert response.headers["content-type"] == "application/json"
    page = response.json()
    most = 400 if service == "praxiel" else 1000
    assert (page["total"], page["limit"], page["offset"], len(page["stocks"])) == (BOOKS, most, 0, most)
    truth = [row[:4] for row in expected(world, service)]
    for limit in (77, 399, 5000):
        found, pages = read_all(service, limit=limit)
        assert pages == -(-BOOKS // min(limit, most))
        assert as_tuples(found) == truth
    assert [row[0] for row in truth] == sorted({row[0] for row in truth})
    assert all(is_ean(ref) and ref.startswith("978") for ref, *_ in truth)
    for limit in (1, 2, 399):
        page = stocks(service, limit=limit)
        assert len(page["stocks"]) == page["limit"] == limit


def test_after_continues_behind_any_key_and_keeps_the_total(stocks):
    start = stocks(limit=3)
    first, second, _ = start["stocks"]
    shifted = stocks(limit=2, after=first["ref"])
    assert (shifted["stocks"], shifted["total"]) == (start["stocks"][1:], start["total"])
    between = str(int(second["ref"]) - 1)
    assert first["ref"] < between
    assert stocks(limit=1, after=between)["stocks"] == [second]
    assert stocks(limit=1, after="0")["stocks"] == [first]
    assert stocks(after="9789")["stocks"] == []
    assert stocks(after="zzz") == {"total": BOOKS, "limit": 1000, "offset": 0, "stocks": []}


def test_modified_since_selects_the_rows_changed_then_or_later(stocks, read_all, world):
    before = {row.ref: row for row in expected(world)}
    times = [START + timedelta(days=day) for day in (1, 2, 3)]
    snapshots = [before]
    for at, percent in zip(times, (10, 1, 4), strict=True):
        world.advance(percent, at)
        snapshots.append({row.ref: row for row in expected(world)})
    for number, at in enumerate(times):
        differing = [ref for ref in before if any(s[ref][:3] != snapshots[number][ref][:3] for s in snapshots[number:])]
        for since in (at, at - timedelta(seconds=1)):
            found, _ = read_all(limit=50, modifiedSince=format_time(since))
            assert stocks(modifiedSince=format_time(since))["total"] == len(differing)
            assert as_tuples(found) == [row[:4] for row in expected(world, since=since)]
            assert as_tuples(found) == [snapshots[-1][ref][:4] for ref in differing]
        assert stocks(modifiedSince=format_time(at + timedelta(seconds=1)))["total"] < len(differing)
    assert stocks(modifiedSince=format_time(times[-1]))["total"] == 50  # 4 % of 1250
    assert stocks(modifiedSince=format_time(START))["total"] == BOOKS
    now = stocks(modifiedSince=format_time(datetime.now(UTC)))
    assert (now["total"], now["stocks"]) == (0, [])


@pytest.mark.parametrize("service", SIBLINGS)
def test_advance_changes_the_siblings_too(stocks, read_all, world, service):
    before = expected(world, service)
    generation = world.advance(10, START + timedelta(days=1))
    changed = [new.ref for old, new in zip(before, expected(world, service), strict=True) if old != new]
    assert len(changed) == BOOKS / 10
    found, _ = read_all(service, modifiedSince=format_time(generation.at))
    if service == "praxiel":  # ignores modifiedSince
        page = stocks(service, limit=1000, modifiedSince=format_time(generation.at))
        assert (page["total"], page["limit"], len(page["stocks"])) == (BOOKS, 400, 400)
        assert len(found) == len(expected(world, service, generation.at)) == BOOKS
    else:
        assert [stock["ref"] for stock in found] == changed


def test_every_generation_changes_time_and_content_of_a_row(world):
    world.reset()
    before = expected(world)
    for _ in range(60):
        generation = world.advance(100)
        after = expected(world)
        assert all(old[1:3] != new[1:3] and old.ref == new.ref for old, new in zip(before, after, strict=True))
        assert {row.modified for row in after} == {generation.at}
        before = after
    world.reset()


def test_venues_list_the_same_books_in_other_quantities(world):
    listings = [{row.ref: row for row in rows(world, shop)} for shop in world.sirets]
    common = listings[0].keys() & listings[1].keys()
    assert len(common) == BOOKS * 0.9
    assert sum(listings[0][ref].available != listings[1][ref].available for ref in common) > BOOKS * 0.6
    ours = {ref: row for listing in listings for ref, row in listing.items()}
    for service in SIBLINGS:
        theirs = {row.ref: row for row in expected(world, service)}
        assert theirs.keys() <= ours.keys()
        assert sum(theirs[ref].available != ours[ref].available for ref in theirs) > BOOKS * 0.8


def test_titelive_lists_cents(world):
    found = expected(world)
    assert {row.available for row in found} == set(range(21))
    assert all(type(row.price) is int and row.price >= 0 for row in found)
    assert 5 < sum(row.price == 0 for row in found) < 60
    assert 5 < sum(row.valid_until is not None for row in found) < 200


def test_fnac_has_three_decimals_and_gaps(read_all):
    found, _ = read_all("fnac")
    prices = [stock["price"] for stock in found if stock.get("price") is not None]
    assert all(-3 <= price.as_tuple().exponent <= -1 for price in prices if price)
    assert any(price.as_tuple().exponent == -3 for price in prices)
    assert max(prices) < 100
    missing = sum("price" not in stock for stock in found)
    null = sum("price" in stock and stock["price"] is None for stock in found)
    assert min(missing, null) >= 5
    assert missing + null < BOOKS / 10


def test_libraires_has_euros_and_free_books(get, read_all):
    text = get("libraires").text
    assert '"price":0' in text
    assert ".0}" in text
    found, _ = read_all("libraires")
    assert all(0 <= stock["price"] < 100 for stock in found)


@pytest.mark.parametrize("service", PATHS)
def test_a_shop_of_another_service_is_not_found(get, world, service):
    others = {other: siret(world.shops[other][0]) for other in PATHS if other != service}
    for shop in (*others.values(), "12345678901234"):
        response = get(service, shop=shop)
        assert response.status_code == 404
        assert shop in response.json()["detail"]


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
def test_a_bad_query_is_refused_in_json(get, query):
    response = get(**query)
    assert response.status_code == 422
    assert response.json()["detail"]


def test_the_catalogue_is_the_same_with_and_without_siblings():
    alone = Settings(venues=1, books=500, fnac_shops=0, libraires_shops=0, praxiel_shops=0, theatres=0)
    assert list(products(alone)) == list(products(Settings(venues=1, books=500)))
    with serving(World(alone)) as url:
        assert requests.get(f"{url}/sandbox/state", timeout=10).json()["venues"] == World(alone).sirets


def test_ten_million_rows_are_served_without_listing_them():
    world = World(Settings(books=10_000_000))
    world.advance(0.01, START + timedelta(days=1))
    with serving(world) as url:
        address = f"{url}/titelive/stocks/{world.sirets[4]}"
        first = requests.get(address, timeout=10)
        middle = requests.get(address, params={"after": "9782550000000"}, timeout=10)
        changed = requests.get(address, params={"modifiedSince": "2024-01-02T00:00:00Z"}, timeout=10)
    assert max(response.elapsed.total_seconds() for response in (first, middle, changed)) < 0.5
    assert first.json()["total"] == middle.json()["total"] == 10_000_000
    assert "9782550000000" < middle.json()["stocks"][0]["ref"] < "9782550000300"
    assert changed.json()["total"] == len(changed.json()["stocks"]) == 1000
