"""Faults affect the requests that their rules select, in every service, and no others."""

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial

import pytest
import requests

from sandbox.movies import internal_id
from sandbox.suppliers.stock_api import rows
from sandbox.world import START, Settings, siret

SETTINGS = Settings(venues=2, books=50, offers=10)
ALGOLIA = {"x-algolia-application-id": "SANDBOX", "x-algolia-api-key": "sandbox-admin"}
BREVO = {"api-key": "sandbox-brevo"}
CUT = (requests.ConnectionError, requests.exceptions.ChunkedEncodingError)
CARD = {"type": "AdaptiveCard", "version": "1.4", "body": [{"type": "TextBlock", "text": "a"}]}
MESSAGE = {
    "type": "message",
    "attachments": [{"contentType": "application/vnd.microsoft.card.adaptive", "content": CARD}],
}


# Every service and every fault of HTTP responses


@dataclass(frozen=True)
class Call:
    """A call of a service. `{shop}` and `{movie}` in its path stand for ids of the world."""

    service: str
    path: str
    name: str | None = None
    """In fault rules; None if the service has one call only."""
    method: str = "GET"
    options: dict = field(default_factory=dict)
    status: int = 200
    is_error: Callable = lambda body, status: body == {"status": status, "detail": "on request"}
    """Checks the body of an error response, which is in the service's own format."""
    count: Callable | None = None
    """Returns how often the service at a URL carried out the call, if the call writes."""
    is_repeated: bool = False
    """Whether the call was sent before."""

    def send(self, url, world, timeout=10):
        shop = siret(world.shops[self.service][0]) if self.service in world.shops else None
        path = self.path.format(shop=shop, movie=internal_id(world.settings, 0))
        return requests.request(self.method, f"{url}/{path}", timeout=timeout, **self.options)


def algolia_writes(url):
    page = requests.post(f"{url}/1/indexes/new/browse", json={}, headers=ALGOLIA, timeout=10)
    return page.json().get("nbHits", 0)


def brevo_writes(url):
    state = requests.get(f"{url}/sandbox/brevo", timeout=10).json()
    return state["created"] + state["updated"]


def is_brevo_error(body, status):
    codes = {401: "unauthorized", 404: "document_not_found", 429: "too_many_requests"}
    return body == {"code": codes.get(status, "bad_request"), "message": "on request"}


algolia = partial(Call, "algolia", is_error=lambda body, status: body == {"message": "on request", "status": status})
algolia_batch = {"headers": ALGOLIA, "json": {"requests": [{"action": "addObject", "body": {}}]}}
brevo = partial(Call, "brevo", "brevo/v3/contacts", is_error=is_brevo_error)
brevo_create = {"headers": BREVO, "json": {"email": "a@example.org", "updateEnabled": True}}
showtimes = "allocine/api/query/movieShowtimeList?theater=P0101&token=sandbox-allocine"
CALLS = {
    "titelive": Call("titelive", "titelive/stocks/{shop}"),
    "fnac": Call("fnac", "fnac/api/v1/pass-culture/stocks/{shop}", options={"auth": ("sandbox", "fnac-token")}),
    "libraires": Call("libraires", "libraires/stocks/{shop}"),
    "praxiel": Call("praxiel", "praxiel/3027011420000/stocks/{shop}"),
    "allocine": Call("allocine", showtimes, "showtimes"),
    "poster": Call("allocine", "allocine/posters/{movie}-1.jpg", "poster"),
    "algolia browse": algolia("1/indexes/offers/browse", "browse", "POST", {"headers": ALGOLIA, "json": {}}),
    "algolia batch": algolia("1/indexes/new/batch", "batch", "POST", algolia_batch, count=algolia_writes),
    "brevo list": brevo("list", options={"headers": BREVO}),
    "brevo create": brevo("create", "POST", brevo_create, 201, count=brevo_writes),
    "brevo update": brevo("create", "POST", brevo_create, 204, count=brevo_writes, is_repeated=True),
    "teams": Call(
        "teams",
        "workflows/abc/triggers/manual/paths/invoke?api-version=2016-06-01&sig=sandbox-signature",
        method="POST",
        options={"json": MESSAGE},
        status=202,
        is_error=lambda body, _: body["error"]["message"] == "on request",
        count=lambda url: len(requests.get(f"{url}/sandbox/teams", timeout=10).json()),
    ),
}


@pytest.fixture(params=CALLS)
def call(request):
    return CALLS[request.param]


@pytest.fixture
def send(call, url, world):
    send = partial(call.send, url, world)
    if call.is_repeated:
        send().raise_for_status()
    return send


@pytest.fixture
def check_writes(call, url):
    """A function that waits until a call that writes was carried out this often."""

    def check(times):
        deadline = time.monotonic() + 10
        while call.count and call.count(url) != times + call.is_repeated:
            assert time.monotonic() < deadline
            time.sleep(0.05)

    return check


@pytest.fixture
def inject(call, fault):
    """A function that adds a rule for the next request of the call."""
    criteria = {"service": call.service, "times": 1} | ({"call": call.name} if call.name else {})
    return lambda name, **rule: fault(name, **criteria | rule)


@pytest.mark.parametrize(("status", "retry_after"), [(401, None), (404, 2), (429, 7), (500, None), (502, 2), (503, 0)])
def test_a_status_comes_as_often_as_requested_and_nothing_is_done(
    call, send, inject, check_writes, status, retry_after
):
    inject("status", status=status, times=2, retry_after=retry_after)
    for response in (send(), send()):
        assert response.status_code == status
        assert response.headers.get("retry-after") == (None if retry_after is None else str(retry_after))
        assert call.is_error(response.json(), status)
    check_writes(0)
    assert send().status_code == call.status


@pytest.mark.parametrize("kind", ["cut", "truncated_json", "html", "empty_body", "empty_object"])
def test_a_damaged_response_comes_after_the_request_was_carried_out(call, send, inject, check_writes, kind):
    inject(kind)
    if kind == "cut":
        with pytest.raises(CUT) if call.service != "teams" else nullcontext():  # which sends no body
            send()
    else:
        response = send()
        assert len(response.content) == int(response.headers.get("content-length", 0))  # 204 has none
        if kind == "html":
            assert response.headers["content-type"].startswith("text/html")
            assert response.text.startswith("<!DOCTYPE")
        if kind == "empty_object":
            assert response.json() == {}
        else:
            with pytest.raises(requests.JSONDecodeError):
                response.json()
        assert response.content or kind == "empty_body" or call.service == "teams"
        assert response.ok
    check_writes(1)


def test_a_delay_follows_the_write_and_may_exceed_the_clients_timeout(call, send, inject, check_writes):
    inject("delay", seconds=0.1)
    response = send()
    assert response.status_code == call.status
    assert response.elapsed.total_seconds() >= 0.1
    check_writes(1)
    inject("delay", seconds=30)
    with pytest.raises(requests.ReadTimeout):
        send(timeout=0.2)
    check_writes(2)


# How rules select requests


@pytest.fixture
def get(url, world):
    def get(after=None, venue=0, limit=10, **query):
        query |= {"limit": limit} | ({"after": after} if after else {})
        return requests.get(f"{url}/titelive/stocks/{world.sirets[venue]}", params=query, timeout=10)

    return get


@pytest.fixture
def refs(url, world):
    return [row.ref for row in rows(world, world.sirets[0])]


def refs_of(response):
    return [stock["ref"] for stock in response.json()["stocks"]]


def test_a_rule_affects_one_service_only(call, send, fault):
    fault("status", status=500, service="brevo" if call.service == "teams" else "teams")
    assert send().status_code == call.status


def test_a_rule_for_all_services_skips_those_that_do_not_support_its_fault(url, world, fault, admin):
    fault("duplicates", within=1)
    fault("delay", seconds=0)
    CALLS["algolia browse"].send(url, world)
    assert [rule["seen"] for rule in admin("faults")] == [0, 1]
    assert admin("requests")[-1]["faults"] == ["delay"]


def test_retry_after_as_a_date(fault, get):
    fault("status", status=429, retry_after=7, as_date=True)
    at = parsedate_to_datetime(get().headers["retry-after"])
    assert timedelta(seconds=6) < at - datetime.now(UTC) <= timedelta(seconds=8)


@pytest.mark.parametrize(
    ("rule", "calls", "statuses"),
    [
        (
            {"page": 3, "times": 2, "venue": 0},
            [(9, 0), (29, 0), (19, 1), (19, 0), (19, 0), (19, 0)],
            "OK OK OK 503 503 OK",
        ),
        ({"page": 2}, [(7, 0), (None, 0)], "503 OK"),  # by its place, even if the previous one ended in bad records
        ({"request": 3, "times": 1}, [(None, 0)] * 4, "OK OK 503 OK"),
    ],
)
def test_a_rule_selects_venue_page_and_nth_request(fault, get, world, refs, rule, calls, statuses):
    """Calls are (number of the row that `after` names, venue)."""
    fault("status", status=503, **rule | ({"venue": world.sirets[rule["venue"]]} if "venue" in rule else {}))
    found = [get(None if row is None else refs[row], venue=venue).status_code for row, venue in calls]
    assert found == [200 if status == "OK" else 503 for status in statuses.split()]


def test_a_page_of_the_changed_rows(fault, get, world):
    world.advance(40, START + timedelta(days=1))  # 20 of 50 rows
    since = "2024-01-02T00:00:00Z"
    changed = [row.ref for row in rows(world, world.sirets[0], START + timedelta(days=1))]
    fault("status", status=503, page=2)
    assert get(modifiedSince=since).status_code == 200
    assert get(changed[9], modifiedSince=since).status_code == 503
    assert get(changed[19], modifiedSince=since).status_code == 200


def test_a_probability_selects_the_same_requests_again(fault, get, admin):
    def statuses():
        admin("faults", "DELETE")
        fault("status", status=500, probability=0.4)
        return [get(limit=1).status_code for _ in range(40)]

    first = statuses()
    assert 5 < first.count(500) < 28
    assert statuses() == first


def test_a_delay_holds_up_nobody_else_and_combines_with_a_status(fault, url, get, world):
    fault("delay", seconds=1.0, venue=world.sirets[0])
    fault("status", status=502)
    with pytest.raises(requests.ReadTimeout):
        requests.get(f"{url}/titelive/stocks/{world.sirets[0]}", timeout=0.1)
    assert get(venue=1).elapsed.total_seconds() < 0.5
    response = get()
    assert (response.status_code, response.elapsed.total_seconds() >= 1) == (502, True)


@pytest.mark.parametrize("limit", [1, 10])
def test_a_cut_body_is_shorter_than_announced(fault, url, world, limit):
    fault("cut", times=2)
    address = f"{url}/titelive/stocks/{world.sirets[0]}?limit={limit}"
    with requests.Session() as session:
        with pytest.raises(CUT):
            session.get(address, timeout=10)
        with session.get(address, timeout=10, stream=True) as response:
            announced = int(response.headers["content-length"])
            pieces = response.iter_content(1)
            received = b"".join(next(pieces) for _ in range(announced // 2))
            with pytest.raises(requests.exceptions.ChunkedEncodingError):
                next(pieces)
        whole = session.get(address, timeout=10)
        assert len(whole.content) == announced
        assert whole.content.startswith(received)


# Faults of stock listings; those of showtimes and of Algolia are tested with these services


def test_an_empty_page_before_the_total(fault, get, refs):
    fault("empty_page", page=2)
    page = get(refs[9]).json()
    assert (page["total"], page["stocks"]) == (50, [])
    assert refs_of(get(refs[19])) == refs[20:30]


def test_a_repeated_page(fault, get, refs):
    fault("repeat_page")
    assert refs_of(get()) == refs_of(get(refs[9])) == refs_of(get(refs[39])) == refs[:10]


def test_duplicates_within_a_page(fault, get, refs):
    fault("duplicates", within=2)
    page = get().json()["stocks"]
    assert [stock["ref"] for stock in page] == [refs[0], refs[0], refs[1], refs[1], *refs[2:8]]
    assert page[1]["available"] == page[0]["available"] + 1
    assert refs_of(get(refs[7]))[0] == refs[8]  # the rows that the copies displaced come next


def test_duplicates_across_pages(fault, get, refs, world):
    fault("duplicates", across=3)
    assert refs_of(get()) == refs[:10]
    assert refs_of(get(refs[9])) == refs[7:17]
    world.advance(40, START + timedelta(days=1))
    changed = [row.ref for row in rows(world, world.sirets[0], START + timedelta(days=1))]
    assert refs_of(get(changed[9], modifiedSince="2024-01-02T00:00:00Z")) == changed[7:17]


# Admin endpoints


def test_the_log_shows_each_request_and_its_faults(fault, get, admin, url, refs, world):
    fault("status", status=429, times=1)
    before = time.time()
    get(refs[9], token="secret")
    get(refs[9])
    requests.get(f"{url}/titelive/stocks/unknown", timeout=10)
    log = first, second, _ = admin("requests")
    assert first["query"] == {"limit": "10", "after": refs[9], "token": "***"}
    assert [entry["status"] for entry in log] == [422, 429, 404]
    assert [entry["faults"] for entry in log] == [[], ["status"], []]
    assert (first["method"], first["path"]) == ("GET", f"/titelive/stocks/{world.sirets[0]}")
    assert before <= first["at"] <= second["at"] <= time.time()
    assert admin("requests", "DELETE") == admin("requests") == []


def test_the_rules_in_force_and_how_often_they_applied(fault, get, admin):
    fault("status", status=500, times=1)
    get()
    get()
    rule = {"fault": "status", "status": 500, "times": 1}
    assert admin("faults") == [{"rule": rule, "seen": 2, "fired": 1}]
    assert admin("faults", "DELETE") == []


@pytest.mark.parametrize(
    "rule",
    [
        {"fault": "fire"},
        {"fault": "status"},
        {"fault": "status", "status": 200},
        {"fault": "status", "status": 500, "seconds": 1},
        {"fault": "status", "status": 500, "pages": 1},
        {"fault": "delay"},
        {"fault": "cut", "page": 0},
        {"fault": "cut", "service": "nobody"},
        {"fault": "cut", "probability": 2},
        {"fault": "bad_records"},
        {"fault": "bad_records", "kinds": []},
        {"fault": "bad_records", "kinds": ["rotten"]},
        {"fault": "duplicates"},
        # What the named service does not support:
        {"fault": "cut", "service": "algolia", "call": "explode"},
        {"fault": "cut", "service": "titelive", "call": "browse"},
        {"fault": "duplicates", "service": "algolia", "within": 1},
        {"fault": "bad_records", "service": "algolia", "kinds": ["null_ref"]},
        {"fault": "repeat_page", "service": "teams"},
        {"fault": "repeat_page", "service": "allocine"},
        {"fault": "shrunk_listing", "service": "fnac"},
        {"fault": "image_bomb", "service": "fnac"},
        {"fault": "truncated_image", "service": "fnac"},
        {"fault": "truncated_image", "service": "titelive"},
    ],
)
def test_an_invalid_rule_is_refused_with_all_rules_of_its_request(admin, rule):
    assert admin("faults", "POST", 422, json=[{"fault": "cut"}, rule])["detail"]
    assert admin("faults") == []
