"""The stand-ins of the benchmarks: what they serve, and that they notice every wrong result."""

import pytest
import requests

from bench.inbound.listing import Listing
from bench.measuring import WrongResult
from bench.outbound import data
from bench.outbound import server as target_server
from bench.outbound.benchmark import check_queue
from bench.raw_http import serving
from bench.search import server as search_server


@pytest.fixture(scope="module")
def index():
    with search_server.running(2000) as service:
        yield service


@pytest.fixture(scope="module")
def running_target():
    with target_server.running() as service:
        yield service


@pytest.fixture
def target(running_target):
    running_target.reset()
    running_target.request("POST", "/up")
    return running_target


def test_the_listing_is_served():
    listing = Listing(2000)
    with serving("bench.inbound.server") as url:
        assert requests.get(f"{url}{listing.path}?limit=1000", timeout=10).content == listing.page_after("")
        last = requests.get(f"{url}/wait/20{listing.path}?limit=1000&after=9780000019999", timeout=10)
        assert (last.elapsed.total_seconds() >= 0.02, last.json()) == (True, {"total": 2000, "stocks": []})
        assert requests.get(f"{url}/nothing", timeout=10).status_code == 404


def test_a_server_that_does_not_start_is_named():
    with pytest.raises(RuntimeError, match="server did not start"), serving("soak.airflow.server", "x"):
        pass


SILENT, SPEAKING = (
    next(each["objectID"] for each in search_server.expected(2000, 1) if ("customerDispo" in each) is speaks)
    for speaks in (False, True)
)


@pytest.mark.parametrize(
    ("method", "record", "body", "words"),
    [
        ("PUT", "1000000007", {"customerDispo": "disponible"}, "1000000007"),
        ("PUT", "new", {"customerDispo": "disponible"}, "'new'"),
        ("DELETE", "1000001999", None, "1999 records instead of 2000"),
    ],
)
def test_a_wrong_new_or_missing_record_is_noticed(index, method, record, body, words):
    index.rebuild(2000, search_server.NONE)
    index.check(2000)
    index.request(method, f"/1/indexes/offers/{record}", body)
    with pytest.raises(WrongResult, match=words):
        index.check(2000)


def test_a_value_that_a_move_overtook_is_allowed_where_the_patch_sets_none(index):
    index.rebuild(2000, search_server.NONE)
    index.write("offers", [{"objectID": SILENT, "customerDispo": "en stock"}])
    assert index.check(2000, was_overtaken=True) == 1
    with pytest.raises(WrongResult):
        index.check(2000)
    for wrong in ({"objectID": SPEAKING, "customerDispo": "?"}, {"objectID": SILENT, "price": 1}):
        index.rebuild(2000, search_server.NONE)
        index.write("offers", [wrong])
        with pytest.raises(WrongResult):
            index.check(2000, was_overtaken=True)


def send(service, orders, *, without=()):
    for path, fields in data.objects(orders):
        if path not in without:
            requests.post(f"{service.url}{path}", json=fields, timeout=10).raise_for_status()


def test_the_target_counts_what_it_receives(target):
    send(target, 2)
    assert target.check(2).calls == 6
    send(target, 1)
    with pytest.raises(WrongResult, match="again"):
        target.check(2)
    assert target.check(2, max_again=3).again == 3
    with pytest.raises(WrongResult, match="calls=9"):
        target.check(0)
    target.reset()
    target.check(0)


def test_a_missing_or_wrong_object_is_noticed(target):
    send(target, 2, without={"/attendee/A2-1"})
    with pytest.raises(WrongResult):
        target.check(2)
    requests.post(f"{target.url}/attendee/A2-1", json={"NAME": "?"}, timeout=10)
    with pytest.raises(WrongResult):
        target.check(2)
    send(target, 2)  # now all of them are right, but one had other values before
    with pytest.raises(WrongResult, match="changed=1"):
        target.check(2, max_again=10)


def test_a_target_that_is_down_stores_nothing(target):
    target.request("POST", "/down")
    assert requests.post(f"{target.url}/buyer/A1", json={}, timeout=10).status_code == 503
    assert (target.state().refused, target.state().calls) == (1, 0)
    target.request("POST", "/up")
    assert requests.post(f"{target.url}/wait/1/buyer/A1", json={}, timeout=10).ok
    assert requests.get(f"{target.url}/buyer", timeout=10).status_code == 404


def test_orders_that_are_left_in_the_queue_are_noticed(running):
    data.fill(running.connection, 3)
    check_queue(running)
    data.queue(running.connection, limit=2)
    with pytest.raises(WrongResult, match="2"):
        check_queue(running)
