"""The stand-in for Algolia keeps what it promises to the official client."""

import asyncio
import gzip
import json
import time
from datetime import UTC, datetime, timedelta

import pytest
import requests
from algoliasearch.http.exceptions import AlgoliaUnreachableHostException, RequestException
from algoliasearch.http.hosts import Host, HostsCollection
from algoliasearch.search.client import SearchClient
from algoliasearch.search.config import SearchConfig

from sandbox.algolia.logs import Logs
from sandbox.algolia.records import merge
from sandbox.algolia.store import Store, Write
from sandbox.indexer import connect
from sandbox.offers import offers
from sandbox.testing import serving
from sandbox.world import Settings, World

HEADERS = {"x-algolia-application-id": "SANDBOX", "x-algolia-api-key": "sandbox-admin"}
KEYS = "admin=*,search=search+browse,patch=logs+browse+addObject,logs=logs,delete=addObject+deleteObject"


@pytest.fixture(scope="module")
def served():
    with serving(World(Settings(books=10, offers=0))) as url:
        yield url


@pytest.fixture
def url(served):
    assert requests.post(f"{served}/sandbox/reset", timeout=10).status_code == 200
    return served


@pytest.fixture
def client(url):
    with connect(url, "SANDBOX", "sandbox-admin") as client:
        client._config.max_rate_limit_retries = 0
        yield client


@pytest.fixture
def filled(client):
    """Ten records, from `0` to `9`."""
    client.save_objects("cars", [{"objectID": str(n), "n": n, "brand": f"B{n}"} for n in range(10)])
    return client


@pytest.fixture
def fault(url):
    def add(**rule):
        answer = requests.post(f"{url}/sandbox/faults", json=[{"service": "algolia", **rule}], timeout=10)
        assert answer.status_code == 200, answer.text

    return add


@pytest.fixture
def call(url):
    def call(method, path, json=None, **options):
        return requests.request(method, f"{url}{path}", json=json, headers=HEADERS, timeout=10, **options)

    return call


def browse(client, index="cars", **params):
    return json.loads(client.browse_with_http_info(index, params).raw_data)


def ids(page):
    return [hit["objectID"] for hit in page["hits"]]


def everything(client, index="cars", **params):
    page = browse(client, index, **params)
    hits = page["hits"]
    while "cursor" in page:
        page = browse(client, index, cursor=page["cursor"])
        hits += page["hits"]
    return hits


def logs(client, **params):
    return json.loads(client.get_logs_with_http_info(**params).raw_data)["logs"]


def refusal(call, *given, **named):
    with pytest.raises(RequestException) as caught:
        call(*given, **named)
    return caught.value.status_code, str(caught.value)


# Browsing


def test_a_browse_goes_through_all_records_with_what_was_asked_for_at_first(filled):
    first = browse(filled, hitsPerPage=4, attributesToRetrieve=["n", "colour"])
    second = browse(filled, cursor=first["cursor"])
    third = browse(filled, cursor=second["cursor"])
    assert first["hits"] == [{"objectID": str(n), "n": n} for n in range(4)]
    assert second["hits"] == [{"objectID": str(n), "n": n} for n in range(4, 8)]
    assert third["hits"] == [{"objectID": str(n), "n": n} for n in (8, 9)]
    assert "cursor" not in third
    assert [page["page"] for page in (first, second, third)] == [0, 1, 2]
    assert {(page["nbHits"], page["nbPages"], page["hitsPerPage"]) for page in (first, second, third)} == {(10, 3, 4)}
    assert (first["query"], type(first["processingTimeMS"]), type(first["params"])) == ("", int, str)


@pytest.mark.parametrize("attributes", [{}, {"attributesToRetrieve": ["*"]}, {"attributesToRetrieve": ["*", "n"]}])
def test_all_attributes_are_shown_unless_some_are_asked_for(filled, attributes):
    assert browse(filled, **attributes)["hits"][3] == {"objectID": "3", "n": 3, "brand": "B3"}


def test_a_full_last_page_has_no_cursor(filled):
    assert "cursor" not in browse(filled, hitsPerPage=10)
    assert "cursor" not in browse(filled, cursor=browse(filled, hitsPerPage=5)["cursor"])


def test_a_page_has_a_thousand_records_unless_fewer_are_asked_for(client, call):
    client.save_objects("cars", [{"objectID": str(n)} for n in range(1001)])
    assert len(browse(client)["hits"]) == 1000
    for size in (0, 1001, "5"):
        assert call("POST", "/1/indexes/cars/browse", {"hitsPerPage": size}).status_code == 400


def test_browse_objects_of_the_client(filled):
    pages = []
    filled.browse_objects("cars", pages.append, {"hitsPerPage": 3})
    assert [hit.object_id for page in pages for hit in page.hits] == [str(n) for n in range(10)]


def test_a_cursor_holds_all_it_needs(filled, url):
    cursor = browse(filled, hitsPerPage=4, attributesToRetrieve=["brand"])["cursor"]
    requests.post(f"{url}/sandbox/reset", timeout=10)
    filled.save_objects("cars", [{"objectID": f"new {n}", "n": n, "brand": "B"} for n in range(10)])
    assert browse(filled, cursor=cursor)["hits"] == [{"objectID": f"new {n}", "brand": "B"} for n in range(4, 8)]


@pytest.mark.parametrize("cursor", ["", "here", "e30=", "é", "AAAA"])
def test_a_wrong_cursor_is_refused(filled, cursor):
    assert refusal(browse, filled, cursor=cursor) == (400, "Invalid cursor")


@pytest.mark.parametrize(
    "asked", [{"filters": "n=1"}, {"query": "B1"}, {"attributesToRetrieve": ["-n"]}, {"attributesToRetrieve": ["a.b"]}]
)
def test_what_the_stand_in_does_not_know_it_refuses(filled, asked):
    assert refusal(browse, filled, **asked)[0] == 400
    assert logs(filled, type="error")[0]["answer_code"] == "400"


def test_a_browse_misses_and_repeats_nothing_while_records_change(filled):
    first = browse(filled, hitsPerPage=4)
    filled.partial_update_objects("cars", [{"objectID": "1", "n": 100}, {"objectID": "7", "n": 700}])
    filled.save_objects("cars", [{"objectID": "2", "n": 200}])
    filled.delete_objects("cars", ["0", "3", "4", "5"])
    filled.save_objects("cars", [{"objectID": "later"}])
    second = browse(filled, cursor=first["cursor"])
    assert ids(second) == ["6", "7", "8", "9"]
    assert second["hits"][1]["n"] == 700
    assert ids(browse(filled, cursor=second["cursor"])) == ["later"]
    assert ids(browse(filled)) == ["1", "2", "6", "7", "8", "9", "later"]


def test_a_browse_goes_on_in_the_index_that_was_moved_over(filled):
    first = browse(filled, hitsPerPage=4)
    filled.save_objects("cars_tmp", [{"objectID": f"new {n}"} for n in range(6)])
    filled.operation_index("cars_tmp", {"operation": "move", "destination": "cars"})
    second = browse(filled, cursor=first["cursor"])
    assert ids(second) == ["new 4", "new 5"]
    assert "cursor" not in second


def test_an_index_that_does_not_exist(client):
    expected = (404, "Index cars does not exist")
    assert refusal(browse, client) == expected
    assert refusal(client.search_single_index, "cars", {}) == expected
    assert refusal(client.get_settings, "cars") == expected
    assert refusal(client.get_object, "cars", "1") == expected
    assert client.index_exists("cars") is False


# Writing


def test_a_batch_does_every_action_in_its_order(filled):
    actions = [
        ("addObject", {"objectID": "a", "n": 1, "x": 1}),
        ("updateObject", {"objectID": "0", "m": 2}),
        ("partialUpdateObject", {"objectID": "a", "n": 3}),
        ("partialUpdateObject", {"objectID": "b", "n": 4}),
        ("partialUpdateObjectNoCreate", {"objectID": "1", "n": 5}),
        ("partialUpdateObjectNoCreate", {"objectID": "c", "n": 6}),
        ("deleteObject", {"objectID": "2"}),
        ("deleteObject", {"objectID": "unknown"}),
        ("addObject", {"objectID": "2", "n": 7}),
        ("partialUpdateObjectNoCreate", {"objectID": "2", "m": 8}),
    ]
    requested = {"requests": [{"action": action, "body": body} for action, body in actions]}
    answer = filled.batch("cars", requested)
    assert answer.object_ids == [body["objectID"] for _, body in actions]
    found = {hit["objectID"]: hit for hit in everything(filled)}
    assert found["a"] == {"objectID": "a", "n": 3, "x": 1}
    assert found["0"] == {"objectID": "0", "m": 2}
    assert found["b"] == {"objectID": "b", "n": 4}
    assert found["1"] == {"objectID": "1", "n": 5, "brand": "B1"}
    assert found["2"] == {"objectID": "2", "n": 7, "m": 8}
    assert set(found) == {*map(str, range(10)), "a", "b"}


def test_clear_and_delete_within_a_batch(filled):
    add = {"action": "addObject", "body": {"objectID": "new"}}
    filled.set_settings("cars", {"customRanking": ["asc(n)"]})
    filled.batch("cars", {"requests": [{"action": "clear", "body": {}}, add]})
    assert everything(filled) == [{"objectID": "new"}]
    assert filled.get_settings("cars").custom_ranking == ["asc(n)"]
    filled.batch("cars", {"requests": [{"action": "delete", "body": {}}]})
    assert not filled.index_exists("cars")


def test_no_create_makes_no_record_but_the_index(client):
    client.partial_update_objects("cars", [{"objectID": "1", "n": 1}], create_if_not_exists=False)
    assert everything(client) == []
    client.partial_update_object("cars", "1", {"n": 1}, create_if_not_exists=False)
    assert everything(client) == []
    client.partial_update_object("cars", "1", {"n": 1})
    client.partial_update_objects("cars", [{"objectID": "2", "n": 2}], create_if_not_exists=True)
    assert everything(client) == [{"objectID": "1", "n": 1}, {"objectID": "2", "n": 2}]


def test_an_attribute_is_replaced_whole_and_null_is_kept(client):
    client.save_objects("cars", [{"objectID": "1", "where": {"city": "X", "zip": "1"}, "n": 1, "f": 5.0}])
    client.partial_update_objects("cars", [{"objectID": "1", "where": {"city": "Y"}, "n": None}])
    text = client.browse_with_http_info("cars", {}).raw_data
    assert json.loads(text)["hits"] == [{"objectID": "1", "where": {"city": "Y"}, "n": None, "f": 5.0}]
    assert '"f":5.0' in text


@pytest.mark.parametrize(
    ("record", "operation", "value", "expected"),
    [
        ({"a": 2}, "Increment", 3, {"a": 5}),
        ({"a": 2}, "Decrement", 3, {"a": -1}),
        (None, "Increment", 3, {"a": 3}),
        ({"a": 2}, "IncrementFrom", 2, {"a": 3}),
        ({"a": 2}, "IncrementFrom", 1, None),
        (None, "IncrementFrom", 0, {"a": 1}),
        (None, "IncrementFrom", 1, None),
        ({"a": 2}, "IncrementSet", 5, {"a": 5}),
        ({"a": 2}, "IncrementSet", 2, None),
        ({"a": [1]}, "Add", 1, {"a": [1, 1]}),
        ({"a": [1, 2, 1]}, "Remove", 1, {"a": [2]}),
        ({"a": [1]}, "AddUnique", 1, {"a": [1]}),
        ({}, "AddUnique", 1, {"a": [1]}),
    ],
)
def test_built_in_operations(record, operation, value, expected):
    assert merge(record, {"a": {"_operation": operation, "value": value}}) == expected


def test_an_older_version_leaves_the_record_alone(client):
    client.save_objects("cars", [{"objectID": "1", "version": 5, "n": 1}])
    for version, n in ((4, 2), (6, 3)):
        update = {"objectID": "1", "version": {"_operation": "IncrementSet", "value": version}, "n": n}
        client.partial_update_objects("cars", [update])
    assert everything(client) == [{"objectID": "1", "version": 6, "n": 3}]


@pytest.mark.parametrize(
    "request_",
    [
        {"action": "explode", "body": {"objectID": "x"}},
        {"action": "updateObject", "body": {"n": 1}},
        {"action": "updateObject", "body": {"objectID": None}},
        {"action": "updateObject", "body": {"objectID": ""}},
        {"action": "addObject", "body": [1]},
        {"action": "partialUpdateObject", "body": {"objectID": "x", "n": {"_operation": "Explode", "value": 1}}},
        {"action": "partialUpdateObject", "body": {"objectID": "x", "n": {"_operation": "Increment", "value": "1"}}},
        {"action": "partialUpdateObject", "body": {"objectID": "x", "n": {"_operation": ["Add"], "value": 1}}},
        {"action": "partialUpdateObject", "body": {"objectID": "x", "n": {"_operation": "Add"}}},
    ],
)
def test_a_batch_with_a_mistake_is_refused_whole(filled, call, request_):
    good = {"action": "addObject", "body": {"objectID": "good"}}
    answer = call("POST", "/1/indexes/cars/batch", {"requests": [good, request_]})
    assert (answer.status_code, answer.json()["status"]) == (400, 400)
    assert ids(browse(filled)) == [str(n) for n in range(10)]


@pytest.mark.parametrize("body", [b'{"requests": [', b"\xff", b'{"requests": ' + b"[" * 100_000, b"[]", b"{}"])
def test_a_body_that_is_no_batch_is_refused(call, body):
    answer = call("POST", "/1/indexes/cars/batch", data=body)
    assert answer.status_code == 400
    assert set(answer.json()) == {"message", "status"}


def test_a_batch_over_indices(client):
    def request(index, action, **body):
        return {"indexName": index, "action": action, "body": body}

    answer = client.multiple_batch(
        {
            "requests": [
                request("a", "addObject", objectID="1"),
                request("b", "addObject", objectID="2"),
                request("a", "deleteObject", objectID="1"),
                request("a", "addObject", objectID="3"),
            ]
        }
    )
    assert set(answer.task_id) == {"a", "b"}
    assert answer.object_ids == ["1", "2", "1", "3"]
    for index, task in answer.task_id.items():
        client.wait_for_task(index, task)
    assert (everything(client, "a"), everything(client, "b")) == ([{"objectID": "3"}], [{"objectID": "2"}])


def test_single_records(client):
    made = client.save_object("cars", {"n": 1})
    assert json.loads(client.get_object_with_http_info("cars", made.object_id).raw_data) == {
        "n": 1,
        "objectID": made.object_id,
    }
    client.add_or_update_object("cars", "a/b c", {"n": 2, "m": 3})
    assert client.get_object("cars", "a/b c", attributes_to_retrieve=["m"]) == {"objectID": "a/b c", "m": 3}
    wanted = [{"indexName": "cars", "objectID": name} for name in ("a/b c", "unknown")]
    assert client.get_objects({"requests": wanted}).to_dict()["results"] == [
        {"n": 2, "m": 3, "objectID": "a/b c"},
        None,
    ]
    client.delete_object("cars", "a/b c")
    assert refusal(client.get_object, "cars", "a/b c") == (404, "ObjectID does not exist")


def test_gzip_and_an_odd_name(url, client):
    with connect(url, "SANDBOX", "sandbox-admin") as packing:
        packing._config.compression_type = "gzip"
        packing.save_objects("my idx/é", [{"objectID": str(n), "text": "x" * 100} for n in range(20)])
    assert len(everything(client, "my idx/é")) == 20
    assert client.list_indices().items[0].name == "my idx/é"
    assert logs(client, index_name="my idx/é", type="build")[0]["url"] == "/1/indexes/my%20idx%2F%C3%A9/batch"


def test_a_body_that_is_not_gzip_is_refused(url):
    for body in (b"plain", gzip.compress(b"{}" * 100)[:-20]):
        headers = HEADERS | {"content-encoding": "gzip"}
        answer = requests.post(f"{url}/1/indexes/cars/browse", data=body, headers=headers, timeout=10)
        assert (answer.status_code, answer.json()["message"]) == (400, "The body is not gzip")


# Indices


def test_a_move_takes_the_place_of_the_other(filled):
    filled.set_settings("cars", {"customRanking": ["asc(n)"]})
    filled.operation_index("cars", {"operation": "copy", "destination": "tmp", "scope": ["settings", "rules"]})
    assert everything(filled, "tmp") == []
    filled.save_objects("tmp", [{"objectID": "new"}])
    filled.operation_index("tmp", {"operation": "move", "destination": "cars"})
    assert everything(filled) == [{"objectID": "new"}]
    assert filled.get_settings("cars").custom_ranking == ["asc(n)"]
    assert [item.name for item in filled.list_indices().items] == ["cars"]


def test_a_copy_stands_on_its_own(filled):
    filled.operation_index("cars", {"operation": "copy", "destination": "copy"})
    filled.partial_update_objects("copy", [{"objectID": "1", "n": 100}])
    filled.delete_objects("cars", ["2"])
    assert everything(filled, "copy")[1]["n"] == 100
    assert everything(filled)[1]["n"] == 1
    assert (len(everything(filled, "copy")), len(everything(filled))) == (10, 9)


def test_a_copy_of_the_settings_leaves_the_records(filled):
    filled.save_objects("other", [{"objectID": "x"}])
    filled.set_settings("other", {"hitsPerPage": 7})
    filled.operation_index("cars", {"operation": "copy", "destination": "other", "scope": ["rules"]})
    assert filled.get_settings("other").hits_per_page == 7
    filled.operation_index("cars", {"operation": "copy", "destination": "other", "scope": ["settings"]})
    assert everything(filled, "other") == [{"objectID": "x"}]
    assert filled.get_settings("other").hits_per_page is None


def test_a_move_from_nowhere_is_accepted_and_does_nothing(filled):
    answer = filled.operation_index("nowhere", {"operation": "move", "destination": "cars"})
    filled.wait_for_task("nowhere", answer.task_id)
    assert len(everything(filled)) == 10
    assert not filled.index_exists("nowhere")


def test_operations_that_make_no_sense(filled, call):
    for wanted in (
        {"operation": "swap", "destination": "b"},
        {"operation": "move"},
        {"operation": "move", "destination": "cars"},
        {"operation": "move", "destination": "b", "scope": ["settings"]},
    ):
        assert call("POST", "/1/indexes/cars/operation", wanted).status_code == 400
    assert len(everything(filled)) == 10


def test_clearing_and_deleting(filled):
    filled.set_settings("cars", {"hitsPerPage": 7})
    filled.clear_objects("cars")
    assert (everything(filled), filled.get_settings("cars").hits_per_page) == ([], 7)
    filled.delete_index("cars")
    filled.delete_index("cars")
    assert filled.list_indices().items == []


def test_the_list_of_indices(filled):
    filled.save_objects("bikes", [{"objectID": "é"}])
    bikes, cars = filled.list_indices().items
    assert (bikes.name, bikes.entries, cars.name, cars.entries) == ("bikes", 1, "cars", 10)
    assert bikes.data_size == len('{"objectID":"é"}'.encode())
    assert bikes.created_at <= bikes.updated_at
    assert datetime.fromisoformat(bikes.updated_at) <= datetime.now(UTC)
    filled.partial_update_objects("cars", [{"objectID": "1", "n": 3}])
    assert filled.list_indices().items[1].updated_at >= cars.updated_at
    assert [item.name for item in filled.list_indices(page=1, hits_per_page=1).items] == ["cars"]


def test_replace_all_objects_of_the_client(filled):
    filled.set_settings("cars", {"hitsPerPage": 7})
    filled.replace_all_objects("cars", [{"objectID": f"new {n}"} for n in range(25)], batch_size=10)
    assert len(everything(filled)) == 25
    assert filled.get_settings("cars").hits_per_page == 7
    assert [item.name for item in filled.list_indices().items] == ["cars"]


def test_a_search(filled):
    answer = filled.search_single_index("cars", {"hitsPerPage": 3, "page": 1, "attributesToRetrieve": ["n"]})
    assert (answer.nb_hits, answer.page, answer.hits_per_page, answer.nb_pages) == (10, 1, 3, 4)
    assert [hit.to_dict()["n"] for hit in answer.hits] == [3, 4, 5]
    found = filled.search_single_index("cars", {"query": "b7"})
    assert [hit.object_id for hit in found.hits] == ["7"]
    assert (found.query, found.nb_hits, found.hits_per_page) == ("b7", 1, 20)


def test_the_asynchronous_client(filled, url):
    async def use():
        config = SearchConfig("SANDBOX", "sandbox-admin")
        config.hosts = HostsCollection([Host("127.0.0.1", "http", int(url.rpartition(":")[2]))])
        async with SearchClient.create_with_config(config) as client:
            (written,) = await client.save_objects("cars", [{"objectID": "new"}])
            await client.wait_for_task("cars", written.task_id)
            moved = await client.operation_index("cars", {"operation": "move", "destination": "moved"})
            await client.wait_for_task("cars", moved.task_id)
            page = await client.browse("moved", {"hitsPerPage": 1000})
            return len(page.hits), page.cursor, (await client.get_logs(type="build")).logs[0].url

    assert asyncio.run(use()) == (11, None, "/1/indexes/cars/operation")


def test_the_index_of_the_offers_is_there_at_first_and_again_after_a_reset():
    settings = Settings(books=10, offers=30)
    with serving(World(settings)) as url, connect(url, "SANDBOX", "sandbox-admin") as client:
        assert everything(client, "offers") == list(offers(settings))
        client.clear_objects("offers")
        client.save_objects("other", [{"objectID": "1"}])
        requests.post(f"{url}/sandbox/reset", timeout=10)
        assert [item.name for item in client.list_indices().items] == ["offers"]
        assert everything(client, "offers") == list(offers(settings))
        assert [entry["url"] for entry in logs(client)] == ["/1/indexes/offers/browse", "/1/indexes"]


# Tasks


@pytest.fixture
def slow():
    world = World(Settings(books=10, offers=0, algolia_task_ms=150))
    with serving(world) as url, connect(url, "SANDBOX", "sandbox-admin") as client:
        yield client


def test_a_write_is_accepted_at_once_and_seen_later(slow):
    start = time.monotonic()
    task = slow.save_objects("cars", [{"objectID": "1"}])[0].task_id
    assert time.monotonic() - start < 0.15
    assert not slow.index_exists("cars")
    assert slow.get_task("cars", task).status == "notPublished"
    slow.wait_for_task("cars", task)
    assert time.monotonic() - start >= 0.15
    assert slow.get_task("cars", task).status == "published"
    assert everything(slow) == [{"objectID": "1"}]


def test_pending_tasks_are_counted(slow):
    slow.wait_for_task("cars", slow.save_objects("cars", [{"objectID": "1"}])[0].task_id)
    slow.save_objects("cars", [{"objectID": "2"}])
    slow.operation_index("cars", {"operation": "move", "destination": "moved"})
    (item,) = slow.list_indices().items
    assert (item.name, item.number_of_pending_tasks, item.pending_task, item.entries) == ("cars", 2, True, 1)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def held(store, name):
    return sorted(json.loads(record)["objectID"] for record in store.indices[name].records)


def add(name):
    return Write("addObject", name, {"objectID": name})


def test_tasks_are_done_in_their_order_also_those_of_two_indices():
    clock = Clock()
    store = Store(1.0, clock)
    first = store.write("tmp", [add("new")])
    store.write("cars", [add("old")])
    clock.now = 0.5
    move = store.move("tmp", "cars")
    clock.now = 0.6
    last = store.write("cars", [add("later")])
    other = store.write("tmp", [add("again")])
    assert first < move < last < other
    clock.now = 1.4
    assert store.is_published(first)
    assert not store.is_published(move)
    assert (held(store, "cars"), held(store, "tmp")) == (["old"], ["new"])
    clock.now = 1.5
    assert store.is_published(move)
    assert not store.is_published(last)
    assert held(store, "cars") == ["new"]
    assert "tmp" not in store.indices
    clock.now = 1.6
    assert store.is_published(other)
    assert (held(store, "cars"), held(store, "tmp")) == (["later", "new"], ["again"])


def test_a_write_before_the_move_goes_with_the_index_that_is_moved_over():
    store = Store(0)
    store.write("cars", [add("old")])
    store.write("tmp", [add("new")])
    store.write("cars", [add("lost")])
    store.move("tmp", "cars")
    assert held(store, "cars") == ["new"]


def test_a_task_that_there_is_not(filled):
    assert refusal(filled.get_task, "cars", 10**9)[0] == 404


# The log


def test_an_entry_is_as_the_service_writes_it(filled):
    before = datetime.now(UTC).replace(microsecond=0)
    filled.operation_index("cars", {"operation": "move", "destination": "moved"})
    (entry,) = logs(filled, length=1)
    parsed = filled.get_logs(length=1).logs[0]
    assert all(type(value) is str for value in entry.values())
    assert (entry["method"], entry["answer_code"]) == ("POST", "200")
    assert (entry["url"], entry["index"]) == ("/1/indexes/cars/operation", "cars")
    assert json.loads(entry["query_body"]) == {"operation": "move", "destination": "moved"}
    assert json.loads(entry["answer"])["taskID"] > 0
    at = datetime.strptime(entry["timestamp"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    assert before <= at <= datetime.now(UTC)
    assert len(entry["sha1"]) == 40
    assert entry["ip"] == "127.0.0.1"
    assert "sandbox-admin" not in json.dumps(entry)
    assert (entry["processing_time_ms"].isdecimal(), entry["nb_api_calls"]) == (True, "1")
    assert parsed.index == "cars"


def test_long_texts_of_an_entry_are_cut(client):
    client.save_objects("cars", [{"objectID": f"{n:04d}", "text": "é"} for n in range(1000)])
    (entry,) = logs(client, type="build")
    assert len(entry["query_body"]) == len(entry["answer"]) == 1000
    assert entry["query_body"].startswith('{"requests": [{"action": "addObject", "body": {"objectID": "0000"')
    assert entry["nb_api_calls"] == "1000"


def test_every_call_is_logged_but_that_of_the_log(filled):
    browse(filled)
    task = filled.set_settings("cars", {}).task_id
    filled.get_task("cars", task)
    assert refusal(filled.get_settings, "none")[0] == 404
    newest = [
        ("GET", "/1/indexes/none/settings", "404"),
        ("GET", f"/1/indexes/cars/task/{task}", "200"),
        ("PUT", "/1/indexes/cars/settings", "200"),
        ("POST", "/1/indexes/cars/browse", "200"),
        ("POST", "/1/indexes/cars/batch", "200"),
    ]

    def told(**params):
        return [(entry["method"], entry["url"], entry["answer_code"]) for entry in logs(filled, **params)]

    assert told() == newest
    assert told() == newest
    assert told(type="build") == [newest[2], newest[4]]
    assert told(type="query") == [newest[0], newest[1], newest[3]]
    assert told(type="error") == [newest[0]]
    assert told(offset=1, length=2) == newest[1:3]
    assert told(index_name="none") == [newest[0]]
    assert len({entry["sha1"] for entry in logs(filled)}) == 5


def test_an_entry_of_a_move_belongs_to_its_source(filled):
    filled.save_objects("tmp", [{"objectID": "1"}])
    filled.operation_index("tmp", {"operation": "move", "destination": "cars"})
    assert [entry["url"] for entry in logs(filled, index_name="cars")] == ["/1/indexes/cars/batch"]
    assert [entry["url"] for entry in logs(filled, index_name="tmp", length=1)] == ["/1/indexes/tmp/operation"]


def test_ten_entries_unless_asked_for_more_and_a_thousand_at_most(filled, call):
    for _ in range(12):
        browse(filled)
    assert len(logs(filled)) == 10
    assert len(logs(filled, length=1000)) == 13
    for query in ("length=1001", "length=0", "offset=-1", "offset=x", "type=writes"):
        assert call("GET", f"/1/logs?{query}").status_code == 400


def test_other_calls_push_an_entry_out_of_the_log():
    world = World(Settings(books=10, offers=0, algolia_log_entries=5))
    with serving(world) as url, connect(url, "SANDBOX", "sandbox-admin") as client:
        client.save_objects("cars", [{"objectID": "1"}])
        for _ in range(4):
            browse(client)
        assert len(logs(client, type="build")) == 1
        browse(client)
        assert logs(client, type="build") == []
        assert len(logs(client, length=1000)) == 5


def test_an_entry_is_kept_for_seven_days():
    clock = Clock()
    kept = Logs(1000, clock)
    kept.add("build", 200, b"", b"", index="cars")
    clock.now = timedelta(days=7).total_seconds()
    assert len(kept.read(0, 10, "all", None)) == 1
    clock.now += 1
    assert kept.read(0, 10, "all", None) == []


# Keys


@pytest.fixture(scope="module")
def guarded():
    with serving(World(Settings(books=10, offers=5, algolia_keys=KEYS, algolia_application="SHOP"))) as url:
        yield url


@pytest.mark.parametrize(
    ("application", "key"), [("SHOP", "none"), ("SANDBOX", "admin"), ("SHOP", "sandbox-admin"), ("shop", "admin")]
)
def test_a_wrong_key_or_application(guarded, application, key):
    with connect(guarded, application, key) as client:
        assert refusal(client.list_indices) == (403, "Invalid Application-ID or API key")


def test_no_key(guarded):
    answer = requests.get(f"{guarded}/1/logs", timeout=10)
    assert answer.json() == {"message": "Invalid Application-ID or API key", "status": 403}
    assert answer.status_code == 403


def batch_of(action):
    return lambda client: client.batch("rights", {"requests": [{"action": action, "body": {"objectID": "1"}}]})


@pytest.mark.parametrize(
    ("keys", "ask"),
    [
        ({"patch", "logs"}, lambda client: client.get_logs()),
        ({"search", "patch"}, lambda client: client.browse("offers", {})),
        ({"search"}, lambda client: client.search_single_index("offers", {})),
        ({"patch", "delete"}, batch_of("addObject")),
        ({"patch", "delete"}, batch_of("partialUpdateObjectNoCreate")),
        ({"delete"}, batch_of("deleteObject")),
        (set(), batch_of("clear")),
        (set(), batch_of("delete")),
        ({"delete"}, lambda client: client.delete_object("rights", "1")),
        (set(), lambda client: client.delete_index("rights")),
        (set(), lambda client: client.clear_objects("rights")),
        (set(), lambda client: client.set_settings("rights", {})),
        (set(), lambda client: client.get_settings("offers")),
        (set(), lambda client: client.list_indices()),
        ({"patch", "delete"}, lambda client: client.operation_index("a", {"operation": "move", "destination": "b"})),
        ({"patch", "delete"}, lambda client: client.get_task("a", batch_of("addObject")(client).task_id)),
    ],
)
def test_a_key_may_do_what_it_has_the_right_to(guarded, keys, ask):
    for key in ("search", "patch", "logs", "delete", "admin"):
        with connect(guarded, "SHOP", key) as client:
            if key in keys | {"admin"}:
                ask(client)
            else:
                assert refusal(ask, client) == (403, "Method not allowed with this API key")


@pytest.mark.parametrize("keys", ["admin", "=*", "admin="])
def test_keys_that_cannot_be(keys):
    with pytest.raises(ValueError, match="algolia_keys"):
        World(Settings(algolia_keys=keys))


@pytest.mark.parametrize("wrong", [{"offers": -1}, {"algolia_task_ms": -1}, {"algolia_log_entries": 0}])
def test_numbers_that_cannot_be(wrong):
    with pytest.raises(ValueError, match="at least"):
        World(Settings(**wrong))


def test_keys_are_shown_nowhere(url, client):
    key = HEADERS["x-algolia-api-key"]
    by_query = "&".join(f"{name}={value}" for name, value in HEADERS.items())
    assert requests.get(f"{url}/1/indexes?{by_query}", timeout=10).status_code == 200
    client.list_indices()
    shown = [requests.get(f"{url}/sandbox/{what}", timeout=10).text for what in ("requests", "state")]
    assert key not in "".join(shown) + json.dumps(logs(client))


# Faults


def test_a_status_in_the_services_words_and_nothing_is_done(fault, filled, call):
    fault(fault="status", status=503, call="batch", times=1)
    answer = call("POST", "/1/indexes/cars/batch", {"requests": [{"action": "addObject", "body": {"objectID": "x"}}]})
    assert (answer.status_code, answer.json()) == (503, {"message": "on request", "status": 503})
    assert len(everything(filled)) == 10
    assert logs(filled, type="error")[0]["answer_code"] == "503"


def test_too_many_requests(fault, filled):
    fault(fault="status", status=429, retry_after=1, call="batch", times=1)
    with pytest.raises(RequestException) as caught:
        filled.save_objects("cars", [{"objectID": "x"}])
    assert caught.value.status_code == 429
    fault(fault="status", status=429, retry_after=1, call="batch", times=1)
    filled._config.max_rate_limit_retries = 1
    start = time.monotonic()
    filled.save_objects("cars", [{"objectID": "x"}])
    assert time.monotonic() - start >= 1


def test_the_nth_call_of_a_kind_and_an_index(fault, filled):
    filled.save_objects("bikes", [{"objectID": "1"}])
    fault(fault="status", status=400, call="browse", index="cars", request=2, times=1)
    browse(filled)
    browse(filled, "bikes")
    filled.get_settings("cars")
    assert refusal(browse, filled)[0] == 400
    browse(filled)


def test_a_page_of_a_browse(fault, filled):
    fault(fault="status", status=400, page=2)
    first = browse(filled, hitsPerPage=4)
    assert refusal(browse, filled, cursor=first["cursor"])[0] == 400
    filled.get_settings("cars")
    browse(filled)


def test_a_server_error_is_one_to_the_client(fault, filled):
    fault(fault="status", status=500, call="logs", times=1)
    with pytest.raises(AlgoliaUnreachableHostException):
        filled.get_logs()


def test_a_repeated_page(fault, filled):
    fault(fault="repeat_page", call="browse", request=2, times=2)
    first = browse(filled, hitsPerPage=4)
    second = browse(filled, cursor=first["cursor"])
    again = browse(filled, cursor=second["cursor"])
    assert second["cursor"] == first["cursor"] == again["cursor"]
    assert ids(second) == ids(again) == ["4", "5", "6", "7"]
    assert ids(browse(filled, cursor=again["cursor"])) == ["4", "5", "6", "7"]


@pytest.mark.parametrize("kind", ["cut", "html", "truncated_json", "empty_body"])
def test_a_spoilt_answer_after_the_batch_was_accepted(fault, filled, call, kind):
    fault(fault=kind, call="batch", times=1)
    wanted = {"requests": [{"action": "addObject", "body": {"objectID": "x"}}]}
    if kind == "cut":
        with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
            call("POST", "/1/indexes/cars/batch", wanted)
    else:
        with pytest.raises(requests.JSONDecodeError):
            call("POST", "/1/indexes/cars/batch", wanted).json()
    assert ids(browse(filled))[-1] == "x"
    assert logs(filled, type="build", length=1)[0]["answer_code"] == "200"


def test_a_delay_after_the_batch_was_accepted(fault, filled, call):
    fault(fault="delay", seconds=30, call="batch", times=1)
    with pytest.raises(requests.ReadTimeout):
        requests.post(
            call("GET", "/1/indexes").url + "/cars/batch",
            json={"requests": [{"action": "addObject", "body": {"objectID": "x"}}]},
            headers=HEADERS,
            timeout=0.2,
        )
    assert ids(browse(filled))[-1] == "x"


@pytest.mark.parametrize(
    "rule",
    [
        {"service": "algolia", "fault": "cut", "call": "explode"},
        {"service": "titelive", "fault": "cut", "call": "browse"},
        {"service": "algolia", "fault": "duplicates", "within": 1},
        {"service": "algolia", "fault": "bad_records", "kinds": ["null_ref"]},
        {"service": "teams", "fault": "repeat_page"},
    ],
)
def test_a_rule_that_the_service_does_not_know_is_refused(url, rule):
    assert requests.post(f"{url}/sandbox/faults", json=[rule], timeout=10).status_code == 422


def test_a_path_that_there_is_not(call):
    answer = call("GET", "/1/synonyms")
    assert (answer.status_code, answer.json()) == (404, {"message": "Path not found", "status": 404})


def test_a_rule_for_all_services_passes_by_those_that_do_not_know_its_fault(url, filled):
    rules = [{"fault": "duplicates", "within": 1}, {"fault": "delay", "seconds": 0}]
    requests.post(f"{url}/sandbox/faults", json=rules, timeout=10)
    browse(filled)
    assert [rule["seen"] for rule in requests.get(f"{url}/sandbox/faults", timeout=10).json()] == [0, 1]
    assert requests.get(f"{url}/sandbox/requests", timeout=10).json()[-1]["faults"] == ["delay"]
