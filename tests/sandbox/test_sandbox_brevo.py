"""The stand-in for Brevo's contacts accepts and refuses what the real service does, and counts."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from sandbox.testing import serving
from sandbox.world import Settings, World

SETTINGS = Settings(books=10, offers=0, brevo_longest_text=100)


@pytest.fixture
def call(url):
    def call(method, path, body=None, **query):
        sent = {"data": body} if isinstance(body, bytes) else {"json": body}
        address, headers = f"{url}/brevo/v3/{path}", {"api-key": "sandbox-brevo"}
        return requests.request(method, address, params=query, headers=headers, timeout=10, **sent)

    return call


@pytest.fixture
def post(call):
    return lambda _updates=False, **body: call("POST", "contacts", body | ({"updateEnabled": True} if _updates else {}))


@pytest.fixture
def shown(admin):
    """A function that returns the overview of the contacts."""
    return lambda: admin("brevo")


def refused(response, status=400, code="invalid_parameter"):
    assert (response.status_code, response.json()["code"]) == (status, code)
    return response.json()["message"]


def test_a_contact_is_created_updated_read_and_deleted(post, call, shown):
    created = post(email="Ada@Example.org", ext_id="E-1", attributes={"FIRSTNAME": "Ada 🎈"}, listIds=[1])
    assert (created.status_code, created.json()) == (201, {"id": 1})
    updated = post(True, email="ada@example.org", ext_id="E-1", attributes={"LASTNAME": "Lovelace"}, listIds=[2])
    assert (updated.status_code, updated.content) == (204, b"")
    assert call("PUT", "contacts/1", {"unlinkListIds": [1], "emailBlacklisted": True}).status_code == 204
    for path, query in [
        ("1", {}),
        ("ada%40example.org", {}),
        ("E-1", {"identifierType": "ext_id"}),
        ("ada@example.org", {"identifierType": "email_id"}),
        ("1", {"identifierType": "contact_id"}),
    ]:
        found = call("GET", f"contacts/{path}", **query).json()
        assert (found["id"], found["email"], found["listIds"]) == (1, "ada@example.org", [2])
        assert found["attributes"] == {"FIRSTNAME": "Ada 🎈", "LASTNAME": "Lovelace", "EXT_ID": "E-1"}
        assert found["emailBlacklisted"] is True
    state = shown()
    assert (state["count"], state["created"], state["updated"], state["deleted"]) == (1, 1, 2, 0)
    assert [(each["created"], each["updated"]) for each in state["contacts"]] == [(1, 2)]
    assert call("DELETE", "contacts/E-1", identifierType="ext_id").status_code == 204
    assert refused(call("GET", "contacts/1"), 404, "document_not_found") == "Contact does not exist"
    assert shown()["deleted"] == 1


def test_every_creation_of_a_contact_counts_until_the_account_is_emptied(post, call, shown, admin):
    for _ in range(2):
        post(email="a@example.org", ext_id="E-1")
        call("DELETE", "contacts/a@example.org")
    post(email="a@example.org", ext_id="E-1")
    assert [each["created"] for each in shown()["contacts"]] == [3]
    empty = {"count": 0, "created": 0, "updated": 0, "deleted": 0, "contacts": []}
    assert admin("brevo", "DELETE") == shown() == empty


@pytest.mark.parametrize(
    ("new", "free"),
    [
        ({"email": "b@example.org", "ext_id": "E-1"}, {"email": "a@example.org"}),
        ({"email": "a@example.org", "ext_id": "E-2"}, {"email": "b@example.org", "ext_id": "E-1"}),
    ],
)
def test_either_identifier_finds_the_contact_whose_other_one_changes(post, shown, new, free):
    post(email="a@example.org", ext_id="E-1")
    assert post(True, **new).status_code == 204
    assert [{"email": each["email"], "ext_id": each["ext_id"]} for each in shown()["contacts"]] == [new]
    assert post(**free).status_code == 201


def test_an_identifier_that_another_contact_has(post, call, shown):
    post(email="a@example.org", ext_id="E-1")
    post(email="b@example.org", ext_id="E-2")
    before = shown()["contacts"]
    for response, taken in [
        (post(email="a@example.org"), ["email"]),
        (post(email="c@example.org", ext_id="E-1"), ["ext_id"]),
        (post(email="a@example.org", ext_id="E-1"), ["email", "ext_id"]),
        (post(True, email="b@example.org", ext_id="E-1"), ["email"]),
        (call("PUT", "contacts/1", {"attributes": {"EMAIL": "b@example.org"}}), ["email"]),
        (call("PUT", "contacts/1", {"ext_id": "E-2"}), ["ext_id"]),
    ]:
        assert "already associated with another Contact" in refused(response, code="duplicate_parameter")
        assert response.json()["metadata"] == {"duplicate_identifiers": taken}
    assert shown()["contacts"] == before


@pytest.mark.parametrize(
    "email",
    ["a@b@c.org", "a", "@example.org", "a@", "a b@example.org", "a@example", "é@example.org", "a@exa_mple.org",
     "a..b@example.org", ".a@example.org", "x" * 65 + "@example.org", "a@" + "x." * 130 + "org"],
)  # fmt: skip
def test_an_invalid_address_is_refused(post, call, email):
    assert refused(post(email=email)) == "Invalid email address"
    post(email="a@example.org")
    assert refused(call("PUT", "contacts/1", {"attributes": {"EMAIL": email}})) == "Invalid email address"


@pytest.mark.parametrize(
    "email",
    ["o'brien+tickets@mail.example.org", "a@xn--bcher-kva.example", "x" * 64 + "@example.org", " A@example.org "],
)
def test_unusual_addresses_are_valid(post, email):
    assert post(email=email).status_code == 201


def test_a_contact_needs_one_identifier_of_any_kind(post, call):
    refused(post(attributes={"FIRSTNAME": "Ada"}), code="missing_parameter")
    assert post(ext_id="demo/1AAA-1").status_code == 201
    assert call("GET", "contacts/demo%2F1AAA-1", identifierType="ext_id").json()["id"] == 1


@pytest.mark.parametrize(
    ("name", "value", "stored"),
    [
        ("FIRSTNAME", "Ada", "Ada"),
        ("FIRSTNAME", 3, "3"),
        ("FIRSTNAME", ["Ada"], None),
        ("FIRSTNAME", "x" * 100, "x" * 100),
        ("ORDER_TOTAL", "23.00", 23.0),
        ("ORDER_TOTAL", 5, 5.0),
        ("ORDER_TOTAL", "many", None),
        ("BIRTHDAY", "1815-12-10", "1815-12-10"),
        ("BIRTHDAY", "10.12.1815", None),
        ("BIRTHDAY", 7, None),
        ("IS_MEMBER", True, True),
        ("IS_MEMBER", "false", False),
        ("IS_MEMBER", "perhaps", None),
        ("INTERESTS", ["a", "b"], ["a", "b"]),
        ("INTERESTS", "a", None),
        ("SHOESIZE", "38", None),
        ("firstname", "Ada", None),
    ],
)
def test_valid_attributes_are_stored_and_others_ignored(post, call, name, value, stored):
    assert post(email="a@example.org", attributes={name: value}).status_code == 201
    assert call("GET", "contacts/1").json()["attributes"].get(name) == stored


def test_an_empty_value_clears_an_attribute(post, call):
    post(email="a@example.org", attributes={"FIRSTNAME": "Ada", "ORDER_TOTAL": 3})
    post(True, email="a@example.org", attributes={"FIRSTNAME": "", "ORDER_TOTAL": ""})
    assert call("GET", "contacts/1").json()["attributes"] == {}


def test_other_requests_are_refused(post, call, shown):
    assert "99" in refused(post(email="a@example.org", listIds=[1, 99]))
    assert "FIRSTNAME" in refused(post(email="a@example.org", attributes={"FIRSTNAME": "x" * 101}))
    for body in (b"", b"hello", b"[]", b"[" * 20_000, b'"\xff"', b'{"email": 3}', b'{"attributes": {"A": null}}'):
        assert "JSON" in refused(call("POST", "contacts", body))
    assert "forceMerge" in refused(post(email="a@example.org", forceMerge=True))
    refused(call("GET", "contacts/1", identifierType="phone_id"))
    refused(call("GET", "contacts", limit="many"))
    refused(call("GET", "contacts", limit=1001), code="out_of_range")
    refused(call("PATCH", "contacts/1"), 405, "method_not_allowed")
    refused(call("DELETE", "contacts"), 405, "method_not_allowed")
    refused(call("GET", "companies"), 404, "document_not_found")
    assert shown()["count"] == 0


def test_contacts_are_listed_the_newest_first(post, call):
    for letter in "abcd":
        post(email=f"{letter}@example.org")
    page = call("GET", "contacts", limit=2, offset=1).json()
    assert ([each["email"][0] for each in page["contacts"]], page["count"]) == (["c", "b"], 4)
    oldest = call("GET", "contacts", sort="asc", limit=1).json()["contacts"]
    assert [each["id"] for each in oldest] == [1]


def test_the_rate_limit():
    with serving(World(Settings(books=10, offers=0, brevo_key="", brevo_rate=5))) as url:
        time.sleep(1 - time.monotonic() % 1)
        responses = [requests.get(f"{url}/brevo/v3/contacts", timeout=10) for _ in range(6)]
        assert [response.status_code for response in responses] == [200] * 5 + [429]
        remaining = [int(response.headers["x-sib-ratelimit-remaining"]) for response in responses]
        assert remaining == [4, 3, 2, 1, 0, 0]
        assert {response.headers["x-sib-ratelimit-limit"] for response in responses} == {"5"}
        assert refused(responses[-1], 429, "too_many_requests")
        time.sleep(int(responses[-1].headers["x-sib-ratelimit-reset"]))
        assert requests.get(f"{url}/brevo/v3/contacts", timeout=10).status_code == 200


def test_many_at_once_create_a_contact_once(post, shown):
    with ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(lambda _: post(True, email="a@example.org", ext_id="E-1").status_code, range(40)))
    assert sorted(responses) == [201] + [204] * 39
    assert shown()["created"] == 1
