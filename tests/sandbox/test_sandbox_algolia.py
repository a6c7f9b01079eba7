"""The stand-in for Algolia behaves like the service towards the official client."""

import gzip
import json
import time
from datetime import UTC, datetime, timedelta

import pytest
import requests
from algoliasearch.http.exceptions import AlgoliaUnreachableHostException, RequestException

from sandbox.algolia.logs import Logs
from sandbox.algolia.store import Store, Write
from sandbox.indexer import connect
from sandbox.offers import offers
from sandbox.testing import serving
from sandbox.world import Settings, World

SERVICE = "algolia"
HEADERS = {"x-algolia-application-id": "SANDBOX", "x-algolia-api-key": "sandbox-admin"}


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
def call(url):
    def call(method, path, json=None, headers=HEADERS, **options):
        return requests.request(method, f"{url}{path}", json=json, headers=headers, timeout=10, **options)

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


def urls(client, **params):
    return [entry["url"].removeprefix("/1/indexes/") for entry in logs(client, **params)]


def refusal(call, *arguments, **named):
    with pytest.raises(RequestException) as caught:
        call(*arguments, **named)
    return caught.value.status_code, str(caught.value)


def names(client):
    return [item.name for item in client.list_indices().items]


def operate(client, operation, source, destination, **more):
    return client.operation_index(source, {"operation": operation, "destination": destination, **more}).task_id


# Browsing


def test_a_browse_pages_through_all_records_with_the_first_requests_parameters(filled):
    for attributes in ({}, {"attributesToRetrieve": ["*"]}, {"attributesToRetrieve": ["*", "n"]}):
        assert browse(filled, **attributes)["hits"][3] == {"objectID": "3", "n": 3, "brand": "B3"}
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


def test_a_page_has_a_thousand_records_unless_fewer_are_requested(filled, call):
    assert "cursor" not in browse(filled, hitsPerPage=10)  # a full last page
    assert "cursor" not in browse(filled, cursor=browse(filled, hitsPerPage=5)["cursor"])
    filled.save_objects("cars", [{"objectID": str(n)} for n in range(1001)])
    assert len(browse(filled)["hits"]) == 1000
    for size in (0, 1001, "5"):
        assert call("POST", "/1/indexes/cars/browse", {"hitsPerPage": size}).status_code == 400
    pages = []
    filled.browse_objects("cars", pages.append, {"hitsPerPage": 300})
    assert [hit.object_id for page in pages for hit in page.hits] == [str(n) for n in range(1001)]


def test_a_cursor_contains_all_parameters(filled, url):
    cursor = browse(filled, hitsPerPage=4, attributesToRetrieve=["brand"])["cursor"]
    requests.post(f"{url}/sandbox/reset", timeout=10)
    filled.save_objects("cars", [{"objectID": f"new {n}", "n": n, "brand": "B"} for n in range(10)])
    assert browse(filled, cursor=cursor)["hits"] == [{"objectID": f"new {n}", "brand": "B"} for n in range(4, 8)]


def test_invalid_cursors_and_unsupported_parameters_are_refused(filled, call):
    for cursor in ("", "here", "e30=", "é", "AAAA"):
        assert refusal(browse, filled, cursor=cursor) == (400, "Invalid cursor")
    for name, value in (("filters", "n=1"), ("query", "B1"), *(("attributesToRetrieve", [x]) for x in ("-n", "a.b"))):
        assert refusal(browse, filled, **{name: value})[0] == 400
        assert logs(filled, type="error")[0]["answer_code"] == "400"
    response = call("GET", "/1/synonyms")
    assert (response.status_code, response.json()) == (404, {"message": "Path not found", "status": 404})


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


def test_a_browse_continues_in_the_index_that_was_moved_over(filled):
    first = browse(filled, hitsPerPage=4)
    filled.save_objects("cars_tmp", [{"objectID": f"new {n}"} for n in range(6)])
    operate(filled, "move", "cars_tmp", "cars")
    second = browse(filled, cursor=first["cursor"])
    assert (ids(second), "cursor" in second) == (["new 4", "new 5"], False)


def test_an_index_that_does_not_exist(client):
    for call, *arguments in ((client.get_settings, "cars"), (client.get_object, "cars", "1"), (browse, client)):
        assert refusal(call, *arguments) == (404, "Index cars does not exist")
    assert client.index_exists("cars") is False


# Writing


def test_a_batch_carries_out_every_action_in_order(filled):
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
    response = filled.batch("cars", {"requests": [{"action": action, "body": body} for action, body in actions]})
    assert response.object_ids == [body["objectID"] for _, body in actions]
    found = {hit.pop("objectID"): hit for hit in everything(filled)}
    assert [found[name] for name in "a0b"] == [{"n": 3, "x": 1}, {"m": 2}, {"n": 4}]
    assert [found[name] for name in "12"] == [{"n": 5, "brand": "B1"}, {"n": 7, "m": 8}]
    assert set(found) == {*map(str, range(10)), "a", "b"}
    add = {"action": "addObject", "body": {"objectID": "new"}}
    filled.set_settings("cars", {"customRanking": ["asc(n)"]})
    filled.batch("cars", {"requests": [{"action": "clear", "body": {}}, add]})
    assert everything(filled) == [{"objectID": "new"}]
    assert filled.get_settings("cars").custom_ranking == ["asc(n)"]
    filled.batch("cars", {"requests": [{"action": "delete", "body": {}}]})
    assert not filled.index_exists("cars")


def test_an_attribute_is_replaced_whole_and_null_is_stored(client):
    client.save_objects("cars", [{"objectID": "1", "where": {"city": "X", "zip": "1"}, "n": 1, "f": 5.0}])
    client.partial_update_objects("cars", [{"objectID": "1", "where": {"city": "Y"}, "n": None}])
    text = client.browse_with_http_info("cars", {}).raw_data
    assert json.loads(text)["hits"] == [{"objectID": "1", "where": {"city": "Y"}, "n": None, "f": 5.0}]
    assert '"f":5.0' in text


@pytest.mark.parametrize(
    ("action", "body"),
    [
        ("explode", {"objectID": "x"}),
        ("updateObject", {"n": 1}),
        ("updateObject", {"objectID": None}),
        ("updateObject", {"objectID": ""}),
        ("addObject", [1]),
        ("partialUpdateObject", {"objectID": "x", "n": {"_operation": "Increment", "value": 1}}),
    ],
)
def test_a_batch_with_a_mistake_is_refused_as_a_whole(filled, call, action, body):
    good = {"action": "addObject", "body": {"objectID": "good"}}
    response = call("POST", "/1/indexes/cars/batch", {"requests": [good, {"action": action, "body": body}]})
    assert (response.status_code, response.json()["status"]) == (400, 400)
    assert ids(browse(filled)) == [str(n) for n in range(10)]


def test_a_body_that_is_not_a_batch_is_refused(call):
    for body in (b'{"requests": [', b"\xff", b'{"requests": ' + b"[" * 100_000, b"[]", b"{}"):
        response = call("POST", "/1/indexes/cars/batch", data=body)
        assert (response.status_code, set(response.json())) == (400, {"message", "status"})


def test_single_records(client):
    client.partial_update_object("cars", "1", {"n": 1}, create_if_not_exists=False)
    assert everything(client) == []  # the index exists, the record does not
    client.partial_update_object("cars", "1", {"n": 1})
    assert client.get_object("cars", "1") == {"objectID": "1", "n": 1}
    client.add_or_update_object("cars", "a/b c", {"n": 2, "m": 3})
    assert client.get_object("cars", "a/b c", attributes_to_retrieve=["m"]) == {"objectID": "a/b c", "m": 3}
    client.delete_object("cars", "a/b c")
    assert refusal(client.get_object, "cars", "a/b c") == (404, "ObjectID does not exist")


def test_gzip_and_a_name_with_special_characters(url, client, call):
    with connect(url, "SANDBOX", "sandbox-admin") as packing:
        packing._config.compression_type = "gzip"
        packing.save_objects("my idx/é", [{"objectID": str(n), "text": "x" * 100} for n in range(20)])
    assert len(everything(client, "my idx/é")) == 20
    assert names(client) == ["my idx/é"]
    assert urls(client, index_name="my idx/é", type="build")[0] == "my%20idx%2F%C3%A9/batch"
    for body in (b"plain", gzip.compress(b"{}" * 100)[:-20]):
        response = call("POST", "/1/indexes/x/browse", data=body, headers=HEADERS | {"content-encoding": "gzip"})
        assert (response.status_code, response.json()["message"]) == (400, "The body is not gzip")


# Indices


def test_a_move_replaces_the_destination(filled):
    filled.set_settings("cars", {"customRanking": ["asc(n)"]})
    operate(filled, "copy", "cars", "tmp", scope=["settings", "rules"])
    assert everything(filled, "tmp") == []
    filled.save_objects("tmp", [{"objectID": "new"}])
    operate(filled, "move", "tmp", "cars")
    assert everything(filled) == [{"objectID": "new"}]
    assert filled.get_settings("cars").custom_ranking == ["asc(n)"]
    assert names(filled) == ["cars"]
    filled.wait_for_task("nowhere", operate(filled, "move", "nowhere", "cars"))  # accepted, without effect
    assert everything(filled) == [{"objectID": "new"}]
    assert names(filled) == ["cars"]


def test_a_copy_is_independent_and_a_copy_of_settings_keeps_the_records(filled):
    operate(filled, "copy", "cars", "other")
    filled.partial_update_objects("other", [{"objectID": "1", "n": 100}])
    filled.delete_objects("cars", ["2"])
    assert (everything(filled, "other")[1]["n"], everything(filled)[1]["n"]) == (100, 1)
    assert (len(everything(filled, "other")), len(everything(filled))) == (10, 9)
    filled.set_settings("other", {"hitsPerPage": 7})
    operate(filled, "copy", "cars", "other", scope=["rules"])
    assert filled.get_settings("other").hits_per_page == 7
    operate(filled, "copy", "cars", "other", scope=["settings"])
    assert (len(everything(filled, "other")), filled.get_settings("other").hits_per_page) == (10, None)


def test_operations_that_make_no_sense(filled, call):
    for operation in (
        {"operation": "swap", "destination": "b"},
        {"operation": "move"},
        {"operation": "move", "destination": "cars"},
        {"operation": "move", "destination": "b", "scope": ["settings"]},
    ):
        assert call("POST", "/1/indexes/cars/operation", operation).status_code == 400
    assert len(everything(filled)) == 10


def test_replacing_clearing_and_deleting(filled):
    filled.set_settings("cars", {"hitsPerPage": 7})
    filled.replace_all_objects("cars", [{"objectID": f"new {n}"} for n in range(25)], batch_size=10)
    assert (len(everything(filled)), filled.get_settings("cars").hits_per_page) == (25, 7)
    assert names(filled) == ["cars"]
    filled.clear_objects("cars")
    assert (everything(filled), filled.get_settings("cars").hits_per_page) == ([], 7)
    filled.delete_index("cars")
    filled.delete_index("cars")
    assert names(filled) == []


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


def test_the_index_of_offers_exists_at_first_and_after_a_reset():
    settings = Settings(books=10, offers=30)
    with serving(World(settings)) as url, connect(url, "SANDBOX", "sandbox-admin") as client:
        assert everything(client, "offers") == list(offers(settings))
        client.clear_objects("offers")
        client.save_objects("other", [{"objectID": "1"}])
        requests.post(f"{url}/sandbox/reset", timeout=10)
        assert names(client) == ["offers"]
        assert everything(client, "offers") == list(offers(settings))
        assert urls(client) == ["offers/browse", "/1/indexes"]


# Tasks


def test_a_write_is_accepted_at_once_and_takes_effect_later():
    world = World(Settings(books=10, offers=0, algolia_task_ms=150))
    with serving(world) as url, connect(url, "SANDBOX", "sandbox-admin") as slow:
        start = time.monotonic()
        task = slow.save_objects("cars", [{"objectID": "1"}])[0].task_id
        assert time.monotonic() - start < 0.15
        assert not slow.index_exists("cars")
        assert slow.get_task("cars", task).status == "notPublished"
        slow.wait_for_task("cars", task)
        assert time.monotonic() - start >= 0.15
        assert slow.get_task("cars", task).status == "published"
        assert everything(slow) == [{"objectID": "1"}]
        slow.save_objects("cars", [{"objectID": "2"}])
        operate(slow, "move", "cars", "moved")
        (item,) = slow.list_indices().items
        assert (item.name, item.number_of_pending_tasks, item.pending_task, item.entries) == ("cars", 2, True, 1)
        assert refusal(slow.get_task, "cars", 10**9)[0] == 404


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def stored(store, name):
    return sorted(json.loads(record)["objectID"] for record in store.indices[name].records)


def add(name):
    return Write("addObject", name, {"objectID": name})


def test_tasks_are_applied_in_order_across_indices():
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
    assert (stored(store, "cars"), stored(store, "tmp")) == (["old"], ["new"])
    clock.now = 1.5
    assert store.is_published(move)
    assert not store.is_published(last)
    assert stored(store, "cars") == ["new"]
    assert "tmp" not in store.indices
    clock.now = 1.6
    assert store.is_published(other)
    assert (stored(store, "cars"), stored(store, "tmp")) == (["later", "new"], ["again"])


def test_a_write_before_the_move_is_lost_with_the_replaced_index():
    store = Store(0)
    for index, name in (("cars", "old"), ("tmp", "new"), ("cars", "lost")):
        store.write(index, [add(name)])
    store.move("tmp", "cars")
    assert stored(store, "cars") == ["new"]


# The log


def test_an_entry_has_the_format_of_the_service(filled):
    before = datetime.now(UTC).replace(microsecond=0)
    operate(filled, "move", "cars", "moved")
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


def test_long_texts_of_an_entry_are_truncated(client):
    client.save_objects("cars", [{"objectID": f"{n:04d}", "text": "é"} for n in range(1000)])
    (entry,) = logs(client, type="build")
    assert len(entry["query_body"]) == len(entry["answer"]) == 1000
    assert entry["query_body"].startswith('{"requests": [{"action": "addObject", "body": {"objectID": "0000"')
    assert entry["nb_api_calls"] == "1000"


def test_every_call_is_logged_except_reading_the_log(filled):
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

    def shown(**params):
        return [(entry["method"], entry["url"], entry["answer_code"]) for entry in logs(filled, **params)]

    assert shown() == newest
    assert shown() == newest
    assert shown(type="build") == [newest[2], newest[4]]
    assert shown(type="query") == [newest[0], newest[1], newest[3]]
    assert shown(type="error") == [newest[0]]
    assert shown(offset=1, length=2) == newest[1:3]
    assert shown(index_name="none") == [newest[0]]
    assert len({entry["sha1"] for entry in logs(filled)}) == 5
    operate(filled, "move", "cars", "moved")  # belongs to its source
    assert urls(filled, index_name="cars", length=1) == ["cars/operation"]
    assert urls(filled, index_name="moved") == []


def test_the_log_is_limited_in_number_and_age():
    world = World(Settings(books=10, offers=0, algolia_log_entries=13))
    with serving(world) as url, connect(url, "SANDBOX", "sandbox-admin") as client:
        client.save_objects("cars", [{"objectID": "1"}])
        for _ in range(12):
            browse(client)
        assert (len(logs(client)), len(logs(client, length=1000)), len(logs(client, type="build"))) == (10, 13, 1)
        browse(client)
        assert (len(logs(client, length=1000)), logs(client, type="build")) == (13, [])
        for query in ("length=1001", "length=0", "offset=-1", "offset=x", "type=writes"):
            assert requests.get(f"{url}/1/logs?{query}", headers=HEADERS, timeout=10).status_code == 400
    clock = Clock()
    log = Logs(1000, clock)
    log.add("build", 200, b"", b"", index="cars")
    clock.now = timedelta(days=7).total_seconds()
    assert len(log.read(0, 10, "all", None)) == 1
    clock.now += 1
    assert log.read(0, 10, "all", None) == []


# Keys


@pytest.fixture(scope="module")
def guarded():
    keys = "admin=*,search=search+browse,patch=logs+browse+addObject,logs=logs,delete=addObject+deleteObject"
    with serving(World(Settings(books=10, offers=5, algolia_keys=keys, algolia_application="SHOP"))) as url:
        yield url


def batch_of(action):
    return lambda client: client.batch("rights", {"requests": [{"action": action, "body": {"objectID": "1"}}]})


@pytest.mark.parametrize(
    ("keys", "request_"),
    [
        ({"patch", "logs"}, lambda client: client.get_logs()),
        ({"search", "patch"}, lambda client: client.browse("offers", {})),
        ({"search"}, lambda client: client.get_object("offers", "1000000000")),
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
def test_a_key_needs_the_right_for_a_call(guarded, keys, request_):
    for key in ("search", "patch", "logs", "delete", "admin"):
        with connect(guarded, "SHOP", key) as client:
            if key in keys | {"admin"}:
                request_(client)
            else:
                assert refusal(request_, client) == (403, "Method not allowed with this API key")


# Faults


def test_the_log_shows_the_status_of_a_fault_but_the_real_one_of_a_damaged_response(fault, filled, call):
    batch = {"requests": [{"action": "addObject", "body": {"objectID": "x"}}]}
    fault("status", status=503, call="batch", times=1)
    call("POST", "/1/indexes/cars/batch", batch)
    assert logs(filled, type="error")[0]["answer_code"] == "503"
    fault("html", call="batch", times=1)
    call("POST", "/1/indexes/cars/batch", batch)
    assert logs(filled, type="build", length=1)[0]["answer_code"] == "200"


def test_the_client_takes_errors_as_those_of_the_service(fault, filled):
    fault("status", status=429, retry_after=1, call="batch", times=2)
    assert refusal(filled.save_objects, "cars", [{"objectID": "x"}])[0] == 429
    filled._config.max_rate_limit_retries = 1
    start = time.monotonic()
    filled.save_objects("cars", [{"objectID": "x"}])
    assert time.monotonic() - start >= 1
    fault("status", status=500, call="logs", times=1)
    with pytest.raises(AlgoliaUnreachableHostException):
        filled.get_logs()


def test_the_nth_call_of_a_name_and_an_index(fault, filled):
    filled.save_objects("bikes", [{"objectID": "1"}])
    fault("status", status=400, call="browse", index="cars", request=2, times=1)
    browse(filled)
    browse(filled, "bikes")
    filled.get_settings("cars")
    assert refusal(browse, filled)[0] == 400
    browse(filled)


def test_a_page_of_a_browse(fault, filled, admin):
    fault("status", status=400, page=2)
    first = browse(filled, hitsPerPage=4)
    assert refusal(browse, filled, cursor=first["cursor"])[0] == 400
    filled.get_settings("cars")
    browse(filled)
    admin("faults", "DELETE")
    fault("repeat_page", call="browse", request=1, times=2)
    second = browse(filled, cursor=first["cursor"])
    again = browse(filled, cursor=second["cursor"])
    assert second["cursor"] == first["cursor"] == again["cursor"]
    assert ids(second) == ids(again) == ids(browse(filled, cursor=again["cursor"])) == ["4", "5", "6", "7"]
