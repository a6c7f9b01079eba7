"""Suppliers are found, and the siblings of TiteLive differ from it as they say."""

import sys
import textwrap
import types
from datetime import timedelta
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

PATHS = {
    "titelive": "titelive/stocks",
    "fnac": "fnac/api/v1/pass-culture/stocks",
    "libraires": "libraires/stocks",
    "praxiel": "praxiel/3027011420000/stocks",
}
SIBLINGS = ("fnac", "libraires", "praxiel")


@pytest.fixture(scope="module")
def world():
    return World(Settings(venues=3, books=1000))


@pytest.fixture(scope="module")
def served(world):
    with serving(world) as url:
        yield url


@pytest.fixture
def ask(served, world):
    """Call the listing of a shop of a service; the world is new for each test."""
    requests.post(f"{served}/sandbox/reset", timeout=10).raise_for_status()

    def ask(service, shop=None, auth=("sandbox", "fnac-token"), **query):
        shop = shop or siret(world.shops[service][0])
        return requests.get(f"{served}/{PATHS[service]}/{shop}", params=query, auth=auth, timeout=10)

    return ask


def read_all(ask, service, **query):
    found, pages = [], 0
    while page := ask(service, **query).json(parse_float=Decimal)["stocks"]:
        found += page
        pages += 1
        query["after"] = page[-1]["ref"]
    return found, pages


def truth(world, service, since=None):
    return list(rows(world, siret(world.shops[service][0]), since))


def test_every_supplier_says_whom_it_serves(world):
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
    assert all(link.id_at_provider == link.venue["siret"] for name in PATHS for link in suppliers[name].links)
    assert all(link.internal_id is None and not link.settings for name in PATHS for link in suppliers[name].links)


def test_a_module_as_the_package_describes_it_is_served(world, monkeypatch):
    example = sandbox.suppliers.__doc__.split("::\n", 1)[1].split("\nA rule such as", 1)[0]
    module = types.ModuleType("sandbox.suppliers.billets")
    exec(textwrap.dedent(example), module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    (found,) = module.suppliers(world)
    assert found.links == [Link(found.links[0].venue, "hall-1")]
    assert found.links[0].venue["departement_code"] == "35"
    assert found.router(Faults(1, {found.service: found.faults}))
    names = [types.SimpleNamespace(name="billets"), types.SimpleNamespace(name="stock_api")]
    monkeypatch.setattr(sandbox.suppliers.pkgutil, "iter_modules", lambda _path: names)
    with serving(World()) as url:
        address = f"{url}/billets/events"

        def ask(**query):
            return requests.get(address, params={"venue": "hall-1", **query}, timeout=10)

        def fault(fault, **rule):
            rules = [{"fault": fault, "service": "billets", "times": 1, **rule}]
            requests.post(f"{url}/sandbox/faults", json=rules, timeout=10).raise_for_status()

        first = ask().json()["events"]
        assert [event["id"] for event in first] == [f"E{number:04d}" for number in range(20)]
        assert len(ask(after="E0039").json()["events"]) == 10
        fault("status", status=503)
        assert ask().status_code == 503
        fault("empty_page")
        assert ask().json() == {"events": []}
        fault("bad_records", kinds=["missing_title"], share=0.5)
        bad = [event for event in ask().json()["events"] if "title" not in event]
        assert 0 < len(bad) < 20
        fault("bad_records", kinds=["not_an_object"])
        assert ask().json()["events"] == ["nothing"] * 20
        requests.post(f"{url}/sandbox/advance", json={}, timeout=10)
        assert ask().json()["events"] != first


@pytest.mark.parametrize("service", SIBLINGS)
def test_the_pages_make_up_what_the_truth_says(ask, world, service):
    found, pages = read_all(ask, service, limit=1000)
    assert pages == (3 if service == "praxiel" else 1)
    expected = truth(world, service)
    assert [(stock["ref"], stock["available"]) for stock in found] == [(row.ref, row.available) for row in expected]
    assert [stock.get("price") for stock in found] == [row.price for row in expected]
    assert ask(service).json()["total"] == 1000
    assert ask(service, after=found[-1]["ref"]).json()["stocks"] == []
    assert ask(service, limit=3).json()["limit"] == 3


@pytest.mark.parametrize("service", SIBLINGS)
def test_the_books_are_those_of_titelives_shops_at_other_quantities(world, service):
    theirs = {row.ref: row for row in truth(world, service)}
    ours = {row.ref: row for shop in world.sirets for row in rows(world, shop)}
    assert theirs.keys() <= ours.keys()
    assert sum(theirs[ref].available != ours[ref].available for ref in theirs) > 800


def test_the_catalogue_is_the_same_with_and_without_siblings():
    alone = Settings(venues=1, books=500, fnac_shops=0, libraires_shops=0, praxiel_shops=0, theatres=0)
    assert [p["id_at_providers"] for p in products(alone)] == [
        p["id_at_providers"] for p in products(Settings(venues=1, books=500))
    ]
    with serving(World(alone)) as url:
        found = requests.get(f"{url}/sandbox/state", timeout=10).json()
    assert found["venues"] == World(alone).sirets
    assert found["settings"]["auth"] == found["settings"]["allocine_key"] == "***"


def test_fnac_has_three_decimals_and_gaps(ask):
    found, _ = read_all(ask, "fnac")
    prices = [stock["price"] for stock in found if stock.get("price") is not None]
    assert all(-3 <= price.as_tuple().exponent <= -1 for price in prices if price)
    assert any(price.as_tuple().exponent == -3 for price in prices)
    assert max(prices) < 100
    missing = sum("price" not in stock for stock in found)
    null = sum("price" in stock and stock["price"] is None for stock in found)
    assert min(missing, null) >= 5
    assert missing + null < 100


def test_fnac_asks_for_credentials(ask):
    for auth in (None, ("sandbox", "wrong")):
        answer = ask("fnac", auth=auth)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Basic")
        assert answer.json()
    for service in ("titelive", "libraires", "praxiel"):
        assert ask(service, auth=None).status_code == 200


def test_libraires_has_euros_and_free_books(ask):
    text = ask("libraires").text
    assert '"price":0}' in text
    assert ".0}" in text
    found, _ = read_all(ask, "libraires")
    assert all(0 <= stock["price"] < 100 for stock in found)


def test_praxiel_always_lists_everything_in_pages_of_its_own(ask, world):
    world.advance(5, START + timedelta(days=1))
    page = ask("praxiel", limit=1000, modifiedSince=format_time(START + timedelta(days=1))).json()
    assert (page["total"], page["limit"], len(page["stocks"])) == (1000, 400, 400)
    assert len(truth(world, "praxiel", START + timedelta(days=1))) == 1000
    assert ask("praxiel", limit=10).json()["limit"] == 10


@pytest.mark.parametrize("service", SIBLINGS)
def test_advance_changes_them_too(ask, world, service):
    before = truth(world, service)
    generation = world.advance(10, START + timedelta(days=1))
    changed = [new.ref for old, new in zip(before, truth(world, service), strict=True) if old != new]
    assert len(changed) == 100
    if service != "praxiel":
        found, _ = read_all(ask, service, modifiedSince=format_time(generation.at))
        assert [stock["ref"] for stock in found] == changed


@pytest.mark.parametrize("service", SIBLINGS)
def test_a_shop_of_another_service_is_not_found(ask, world, service):
    for shop in (world.sirets[0], "12345678901234"):
        answer = ask(service, shop=shop)
        assert answer.status_code == 404
        assert answer.json()["detail"]
    assert ask("titelive", shop=siret(world.shops[service][0])).status_code == 404


def test_faults_strike_one_of_the_services_only(ask, served):
    rules = [
        {"fault": "status", "status": 429, "retry_after": 3, "service": "fnac", "times": 1},
        {"fault": "bad_records", "kinds": ["negative_price", "text_price"], "service": "fnac"},
    ]
    requests.post(f"{served}/sandbox/faults", json=rules, timeout=10).raise_for_status()
    assert ask("praxiel").status_code == ask("titelive").status_code == 200
    assert ask("fnac").status_code == 429
    assert all(stock["price"] == "free" or stock["price"] < 0 for stock in ask("fnac").json()["stocks"])


@pytest.mark.parametrize("fault", ["shrunk_listing", "image_bomb", "truncated_image"])
def test_faults_of_other_services_are_refused(served, fault):
    rule = {"fault": fault, "service": "fnac"}
    assert requests.post(f"{served}/sandbox/faults", json=[rule], timeout=10).status_code == 422


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (Settings(fnac_shops=-1), "fnac_shops"),
        (Settings(theatres=1000), "theatres"),
        (Settings(venues=90_001, books=1), "at most 90000"),
        (Settings(movies=3), "movies_per_theatre"),
        (Settings(showtimes_per_day=5), "showtimes_per_day"),
        (Settings(days_ahead=0), "days_ahead"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, reason):
    with pytest.raises(ValueError, match=reason):
        World(settings)
