"""Credentials are required and shown nowhere; the seed determines all data; impossible settings are refused."""

import pytest
import requests

from sandbox.demo import products
from sandbox.movies import movies
from sandbox.offers import offers
from sandbox.orders import events
from sandbox.suppliers.stock_api import rows
from sandbox.world import START, Settings, World

SECRET = "let-me=in"
SETTINGS = Settings(
    books=10,
    offers=0,
    auth=f"titelive=shop:{SECRET}",
    allocine_key=SECRET,
    algolia_keys="let-me-in=*",
    teams_signature=SECRET,
    brevo_key=SECRET,
)
WORKFLOW = "workflows/abc/triggers/manual/paths/invoke"
VERSION = {"api-version": "2016-06-01"}
ALGOLIA = {"x-algolia-application-id": "SANDBOX", "x-algolia-api-key": "let-me-in"}
SHOWTIMES = "allocine/api/query/movieShowtimeList?theater=P0101"


@pytest.fixture
def call(url, world):
    def call(path, method="GET", **options):
        return requests.request(method, f"{url}/{path.format(shop=world.sirets[0])}", timeout=10, **options)

    return call


@pytest.mark.parametrize(
    ("path", "options"),
    [
        ("titelive/stocks/{shop}", {"auth": ("shop", SECRET)}),
        (SHOWTIMES, {"headers": {"Authorization": f"Bearer {SECRET}"}}),
        (SHOWTIMES, {"params": {"token": SECRET}}),
        ("1/indexes", {"headers": ALGOLIA}),
        ("1/indexes", {"params": ALGOLIA}),
        ("brevo/v3/contacts", {"headers": {"api-key": SECRET}}),
        ("brevo/v3/contacts", {"headers": {"api-key": SECRET}, "params": {"api-key": SECRET}}),
        (WORKFLOW, {"method": "POST", "params": VERSION | {"sig": SECRET}}),
    ],
)
def test_credentials_are_accepted_and_shown_nowhere(call, url, path, options):
    assert call(path, **options).status_code == (400 if path == WORKFLOW else 200)  # without a message
    shown = [requests.get(f"{url}/sandbox/{what}", timeout=10).text for what in ("requests", "state")]
    shown.append(call("1/logs", headers=ALGOLIA).text)
    assert "let-me" not in "".join(shown)
    assert "***" in shown[0] or "params" not in options


@pytest.mark.parametrize(
    ("path", "options", "status", "message"),
    [
        ("titelive/stocks/{shop}", {}, 401, "credentials needed"),
        ("titelive/stocks/{shop}", {"auth": ("shop", "wrong")}, 401, "credentials needed"),
        (SHOWTIMES, {}, 401, "a valid key is needed"),
        (SHOWTIMES, {"headers": {"Authorization": "Bearer x"}}, 401, "a valid key is needed"),
        (SHOWTIMES, {"params": {"token": "x"}}, 401, "a valid key is needed"),
        ("1/logs", {}, 403, "Invalid Application-ID or API key"),
        ("1/logs", {"headers": ALGOLIA | {"x-algolia-api-key": "x"}}, 403, "Invalid Application-ID or API key"),
        ("1/logs", {"headers": ALGOLIA | {"x-algolia-application-id": "X"}}, 403, "Invalid Application-ID or API key"),
        ("1/logs", {"headers": ALGOLIA | {"x-algolia-application-id": "sandbox"}}, 403, "Invalid Application-ID"),
        ("brevo/v3/contacts", {}, 401, "authentication not found in headers"),
        ("brevo/v3/contacts", {"headers": {"api-key": "x"}}, 401, "Key not found"),
        (WORKFLOW, {"method": "POST", "params": VERSION}, 401, "The signature (sig) is wrong."),
        (WORKFLOW, {"method": "POST", "params": VERSION | {"sig": ""}}, 401, "The signature (sig) is wrong."),
        (WORKFLOW, {"method": "POST", "params": VERSION | {"sig": "x"}}, 401, "The signature (sig) is wrong."),
        (WORKFLOW, {"method": "POST", "params": {"sig": SECRET}}, 400, "The query parameter api-version is missing."),
    ],
)
def test_wrong_credentials_are_refused_in_the_services_format(call, path, options, status, message):
    response = call(path, **options)
    assert (response.status_code, response.headers["content-type"]) == (status, "application/json")
    assert message in str(response.json())
    scheme = {"titelive": "Basic", "allocine": "Bearer"}.get(path.partition("/")[0])
    assert response.headers.get("www-authenticate", "").partition(" ")[0] == (scheme or "")
    if path == "brevo/v3/contacts":
        assert response.json()["code"] == "unauthorized"


@pytest.mark.parametrize(
    "data",
    [
        lambda seed: list(rows(World(Settings(seed=seed, books=100)), World(Settings(seed=seed)).sirets[0])),
        lambda seed: list(movies(World(Settings(seed=seed)), "P0101", START)),
        lambda seed: list(events(Settings(seed=seed))),
        lambda seed: list(products(Settings(seed=seed, books=100))),
        lambda seed: list(offers(Settings(seed=seed, offers=200), 3)),
    ],
    ids=["stocks", "movies", "orders", "products", "offers"],
)
def test_the_seed_determines_the_data(data):
    assert data(1) == data(1) != data(2)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"venues": 0}, "at least 1"),
        ({"books": 0}, "at least 1"),
        ({"books": 10**8, "venues": 5}, "too many"),
        ({"venues": 90_001, "books": 1}, "at most 90000"),
        ({"auth": "titelive"}, "service=user:password"),
        ({"fnac_shops": -1}, "fnac_shops"),
        ({"theatres": 1000}, "theatres"),
        ({"movies": 3}, "movies_per_theatre"),
        ({"showtimes_per_day": 5}, "showtimes_per_day"),
        ({"days_ahead": 0}, "days_ahead"),
        ({"algolia_keys": "admin"}, "algolia_keys"),
        ({"algolia_keys": "=*"}, "algolia_keys"),
        ({"algolia_keys": "admin="}, "algolia_keys"),
        ({"offers": -1}, "at least"),
        ({"algolia_task_ms": -1}, "at least"),
        ({"algolia_log_entries": 0}, "at least"),
        ({"brevo_rate": -1}, "brevo_rate"),
        ({"brevo_longest_text": 0}, "brevo_longest_text"),
        ({"brevo_lists": "a"}, "brevo_lists"),
        ({"brevo_attributes": "NAME"}, "brevo_attributes"),
        ({"brevo_attributes": "NAME=colour"}, "brevo_attributes"),
    ],
)
def test_impossible_settings_are_refused(settings, reason):
    with pytest.raises(ValueError, match=reason):
        World(Settings(**settings))
