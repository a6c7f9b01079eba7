"""The connector to an Algolia index: the official client's requests, carried by ours."""

import json
import logging
import time

import pytest
import requests

from include.connectors import algolia
from include.connectors.algolia import AlgoliaIndex, Browsed
from include.errors import (
    AccessRefused,
    ConfigurationError,
    ProviderSyncError,
    RequestRefused,
    ServiceUnavailable,
    UndecodableBody,
)
from sandbox.testing import serving
from sandbox.world import Settings, World

KEY = "5ecret-api-key-of-ours"
PATCH = "/1/indexes/offers/batch"


@pytest.fixture(scope="module")
def served():
    keys = f"{KEY}=*,reader=browse"
    with serving(World(Settings(books=10, offers=20, algolia_keys=keys))) as url:
        yield url


@pytest.fixture
def connect(naps):
    """Make indices that do not really sleep."""
    made = []

    def make(*hosts, key=KEY, name="offers", **options):
        usual = {"sleep": naps, "jitter": lambda: 1.0, "attempts": 3}
        made.append(AlgoliaIndex("SANDBOX", key, name, hosts=hosts, **{**usual, **options}))
        return made[-1]

    yield make
    for index in made:
        index.close()


@pytest.fixture
def index(served, connect):
    assert requests.post(f"{served}/sandbox/reset", timeout=10).ok
    return connect(served)


@pytest.fixture
def scripted(service, connect):
    """An index at the service that each test tells how to answer."""
    return connect(service.url.removesuffix("/api"), read_timeout=0.3)


# What is asked


def test_a_browse_asks_for_the_attributes_and_goes_on_from_the_cursor(service, scripted):
    service.answers(b'{"hits": [{"objectID": "1"}], "cursor": "c/=1", "nbHits": 3}').answers(b'{"hits": []}')
    first = scripted.browse(["a", "b"])
    assert first == Browsed([{"objectID": "1"}], "c/=1", 3)
    assert scripted.browse(["a", "b"], first.cursor) == Browsed([], None, None)
    asked = [json.loads(each.body) for each in service.asked]
    assert asked[0] == {"attributesToRetrieve": ["a", "b"], "hitsPerPage": 1000}
    assert asked[1]["cursor"] == "c/=1"
    assert {(each.method, each.path) for each in service.asked} == {("POST", "/1/indexes/offers/browse")}


def test_a_patch_creates_nothing_and_keeps_null(service, scripted):
    service.answers(b'{"taskID": 7, "objectIDs": ["1", "2"]}')
    assert scripted.patch([{"objectID": "1", "x": None}, {"objectID": "é", "x": {"y": [1, None, True]}}]) == 7
    (asked,) = service.asked
    assert (asked.method, asked.path) == ("POST", PATCH)
    assert json.loads(asked.body) == {
        "requests": [
            {"action": "partialUpdateObjectNoCreate", "body": {"objectID": "1", "x": None}},
            {"action": "partialUpdateObjectNoCreate", "body": {"objectID": "é", "x": {"y": [1, None, True]}}},
        ]
    }


def test_credentials_go_in_the_headers(service, scripted):
    service.answers(b'{"logs": [{}, null, "odd"]}')
    assert scripted.logs(5, 100) == [{}, None, "odd"]
    (asked,) = service.asked
    headers = {name.lower(): value for name, value in asked.headers.items()}
    assert (headers["x-algolia-application-id"], headers["x-algolia-api-key"]) == ("SANDBOX", KEY)
    assert (asked.method, asked.path) == ("GET", "/1/logs")
    assert asked.query == {"offset": "5", "length": "100", "type": "build"}


@pytest.mark.parametrize("name", ["a b", "a/b", "é", "100%", "a+b", "a?b#c"])
def test_names_of_any_letters(served, index, connect, name):
    other = connect(served, name=name)
    task = other._client.save_objects(name, [{"objectID": "1", "a": 1}])[0].task_id
    other.wait_until_published(task)
    assert other.browse(["a"]).records == [{"objectID": "1", "a": 1}]
    other.wait_until_published(other.patch([{"objectID": "1", "a": 2}, {"objectID": "2", "a": 2}]))
    assert other.browse(["a"]).records == [{"objectID": "1", "a": 2}]


def test_the_official_client_works_through_it(index):
    """Its own calls get what they expect, models and all."""
    client = index._client
    (listed,) = client.list_indices().items
    assert (listed.name, listed.entries) == ("offers", 20)
    assert client.get_settings("offers").to_dict() == {}
    assert len(client.browse("offers", {"hitsPerPage": 5}).hits) == 5
    task = client.partial_update_object("offers", "1", {"x": 1}).task_id
    assert client.wait_for_task("offers", task).status == "published"
    assert client.get_object("offers", "1") == {"objectID": "1", "x": 1}
    assert client.get_logs(type="build").logs[0].method == "POST"
    assert client.index_exists("offers")


def test_stats_are_those_of_reads_and_writes(index):
    index.browse(["a"])
    index.patch([{"objectID": "1", "a": 1}])
    index.logs(0, 10)
    assert index.stats.requests == 3
    assert index.stats.bytes > 0


# Hosts


@pytest.mark.parametrize("application", ["", "a.b", "app/../x", "app@evil.test", "a b", "app\n"])
def test_an_application_id_that_is_none(application):
    with pytest.raises(ConfigurationError, match="is not an application id of Algolia"):
        AlgoliaIndex(application, KEY, "offers")


def test_hosts_of_algolia_reads_and_writes_apart():
    reading, writing = algolia._hosts("APP", ())
    assert (reading[0], writing[0]) == ("https://APP-dsn.algolia.net", "https://APP.algolia.net")
    others = {f"https://APP-{number}.algolianet.com" for number in (1, 2, 3)}
    assert set(reading[1:]) == set(writing[1:]) == others


def test_the_next_host_is_asked_without_waiting(service, mirror, connect, naps):
    service.answers(status=503)
    mirror.answers(b'{"hits": []}').answers(b'{"taskID": 3}')
    index = connect(service.url.removesuffix("/api"), mirror.url.removesuffix("/api"))
    assert index.browse(["a"]).records == []
    assert index.patch([{"objectID": "1"}]) == 3
    assert naps == []
    assert [(each.method, each.body) for each in service.asked] == [(each.method, each.body) for each in mirror.asked]


# Tasks


def test_it_waits_until_a_task_is_published(service, scripted):
    service.answers(b'{"status": "notPublished"}', times=3).answers(b'{"status": "published"}')
    scripted.wait_until_published(12, index="a b")
    assert [each.path for each in service.asked] == ["/1/indexes/a%20b/task/12"] * 4


def test_a_task_that_is_never_published(service, scripted):
    service.answers(b'{"status": "notPublished"}')
    began = time.monotonic()
    with pytest.raises(ServiceUnavailable, match="has not published task 12 of index offers after 0 s"):
        scripted.wait_until_published(12, longest=0.2)
    assert time.monotonic() - began < 2


# Errors


@pytest.mark.parametrize("call", ["browse", "patch", "logs"])
@pytest.mark.parametrize("body", [b"[]", b"null", b"7", b'"text"', b"{}", b'{"hits": {}, "logs": {}, "taskID": "7"}'])
def test_an_answer_that_is_not_what_it_should_be(service, scripted, call, body):
    service.answers(body)
    calls = {
        "browse": lambda: scripted.browse(["a"]),
        "patch": lambda: scripted.patch([{"objectID": "1"}]),
        "logs": lambda: scripted.logs(0, 10),
    }
    with pytest.raises(UndecodableBody):
        calls[call]()


def test_log_entries_that_were_cut_in_mid_letter(service, scripted):
    """The log keeps the beginning of each body; where that ends in a letter of two bytes, half of it is left."""
    service.answers(b'{"logs": [{"query_body": "{\\"title\\": \\"\xc3", "url": "/1"}]}')
    (entry,) = scripted.logs(0, 10)
    assert entry["url"] == "/1"
    assert entry["query_body"].startswith('{"title": "')


def test_a_right_that_is_missing_is_named(served, connect):
    reader = connect(served, key="reader")
    assert len(reader.browse(["nature"]).records) == 20
    for call, right in (
        (lambda: reader.logs(0, 10), "logs"),
        (lambda: reader.patch([{"objectID": "1"}]), "addObject"),
        (lambda: reader.is_published(1), "addObject"),
    ):
        with pytest.raises(AccessRefused, match=rf"lacks the right \(ACL\) '{right}' on index offers"):
            call()


def test_an_index_that_there_is_not(served, connect):
    with pytest.raises(ConfigurationError, match=r"has no index 'cars' in application SANDBOX \(404\): correct"):
        connect(served, name="cars").browse(["a"])


def test_what_is_refused_keeps_its_status(index):
    with pytest.raises(RequestRefused) as refused:
        index.browse(["a"], "no cursor of yours")
    assert refused.value.status == 400


@pytest.mark.parametrize(
    "fault",
    [
        lambda s: s.answers(f'{{"message": "no {KEY}"}}'.encode(), status=403),
        lambda s: s.answers(f'{{"message": "no {KEY}"}}'.encode(), status=400),
        lambda s: s.answers(KEY.encode(), status=503),
    ],
    ids=["403", "400", "503"],
)
def test_the_key_is_in_no_error_and_no_log_line(service, scripted, caplog, fault):
    caplog.set_level(logging.DEBUG)
    fault(service)
    with pytest.raises(ProviderSyncError) as raised:
        scripted.browse(["a"])
    assert KEY not in f"{raised.value!r} {raised.value.__context__!r} {raised.value.__cause__!r} {caplog.text}"
