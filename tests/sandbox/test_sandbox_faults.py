"""Faults happen where and as often as they were asked for, and nowhere else."""

import json
import time
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import pytest
import requests

from sandbox.suppliers.corrupt_stocks import BAD_RECORDS, bad_kind
from sandbox.suppliers.stock_api import rows
from sandbox.testing import serving
from sandbox.world import START, Settings, World


@pytest.fixture(scope="module")
def world():
    return World(Settings(venues=2, books=50))


@pytest.fixture(scope="module")
def served(world):
    with serving(world) as url:
        yield url


@pytest.fixture
def url(served):
    assert requests.post(f"{served}/sandbox/reset", timeout=10).status_code == 200
    return served


@pytest.fixture
def fault(url):
    def add(*rules):
        answer = requests.post(f"{url}/sandbox/faults", json=list(rules), timeout=10)
        assert answer.status_code == 200, answer.text

    return add


@pytest.fixture
def get(url, world):
    def get(after=None, venue=0, limit=10, **query):
        query |= {"limit": limit} | ({"after": after} if after else {})
        return requests.get(f"{url}/titelive/stocks/{world.sirets[venue]}", params=query, timeout=10)

    return get


@pytest.fixture
def log(url):
    return lambda: requests.get(f"{url}/sandbox/requests", timeout=10).json()


def refs_of(answer):
    return [stock["ref"] for stock in answer.json()["stocks"]]


@pytest.fixture
def refs(url, world):
    return [row.ref for row in rows(world, world.sirets[0])]


@pytest.mark.parametrize("status", [401, 404, 429, 500, 502, 503])
def test_a_status_comes_so_many_times(fault, get, status):
    fault({"service": "titelive", "fault": "status", "status": status, "times": 2})
    answers = [get() for _ in range(3)]
    assert [answer.status_code for answer in answers] == [status, status, 200]
    assert answers[0].json()["status"] == status
    assert "retry-after" not in answers[0].headers


def test_retry_after_in_seconds_and_as_a_date(fault, get):
    fault({"fault": "status", "status": 429, "retry_after": 7, "times": 1})
    assert get().headers["retry-after"] == "7"
    fault({"fault": "status", "status": 429, "retry_after": 7, "as_date": True, "times": 1})
    at = parsedate_to_datetime(get().headers["retry-after"])
    assert timedelta(seconds=6) < at - datetime.now(UTC) <= timedelta(seconds=8)


def test_a_page_of_one_venue(fault, get, world, refs):
    fault({"fault": "status", "status": 503, "venue": world.sirets[0], "page": 3, "times": 2})
    assert get(refs[9]).status_code == get(refs[29]).status_code == 200
    assert get(refs[19], venue=1).status_code == 200
    assert [get(refs[19]).status_code for _ in range(3)] == [503, 503, 200]


def test_a_page_is_known_by_its_place_also_when_its_predecessor_ended_in_bad_records(fault, get, refs):
    fault({"fault": "status", "status": 503, "page": 2})
    assert get(refs[7]).status_code == 503
    assert get().status_code == 200


def test_a_page_of_the_changed_rows(fault, get, world):
    world.advance(40, START + timedelta(days=1))  # 20 of 50 rows
    since = "2024-01-02T00:00:00Z"
    changed = [row.ref for row in rows(world, world.sirets[0], START + timedelta(days=1))]
    fault({"fault": "status", "status": 503, "page": 2})
    assert get(modifiedSince=since).status_code == 200
    assert get(changed[9], modifiedSince=since).status_code == 503
    assert get(changed[19], modifiedSince=since).status_code == 200


def test_from_the_nth_request_on(fault, get):
    fault({"fault": "status", "status": 500, "request": 3, "times": 1})
    assert [get().status_code for _ in range(4)] == [200, 200, 500, 200]


def test_a_probability_strikes_the_same_requests_again(fault, get, url):
    def strikes():
        requests.delete(f"{url}/sandbox/faults", timeout=10)
        fault({"fault": "status", "status": 500, "probability": 0.4})
        return [get(limit=1).status_code for _ in range(40)]

    first = strikes()
    assert 5 < first.count(500) < 28
    assert strikes() == first


def test_a_delay_runs_into_the_clients_time_out_and_holds_up_nobody_else(fault, url, get, world):
    fault({"fault": "delay", "seconds": 1.0, "venue": world.sirets[0]})
    with pytest.raises(requests.ReadTimeout):
        requests.get(f"{url}/titelive/stocks/{world.sirets[0]}", timeout=0.1)
    start = time.monotonic()
    assert get(venue=1).status_code == 200
    assert time.monotonic() - start < 0.5


def test_a_delay_and_a_status_together(fault, get):
    fault({"fault": "delay", "seconds": 0.1}, {"fault": "status", "status": 502})
    answer = get()
    assert answer.status_code == 502
    assert answer.elapsed.total_seconds() >= 0.1


@pytest.mark.parametrize("limit", [1, 10])
def test_a_cut_body_is_shorter_than_announced(fault, url, world, limit):
    fault({"fault": "cut", "times": 2})
    address = f"{url}/titelive/stocks/{world.sirets[0]}?limit={limit}"
    with requests.Session() as session:
        with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
            session.get(address, timeout=10)
        with session.get(address, timeout=10, stream=True) as answer:
            announced = int(answer.headers["content-length"])
            pieces = answer.iter_content(1)
            got = b"".join(next(pieces) for _ in range(announced // 2))
            with pytest.raises(requests.exceptions.ChunkedEncodingError):
                next(pieces)
        whole = session.get(address, timeout=10)
        assert len(whole.content) == announced
        assert whole.content.startswith(got)


def test_a_body_cut_into_bad_json(fault, get):
    fault({"fault": "truncated_json", "times": 1})
    answer = get()
    assert len(answer.content) == int(answer.headers["content-length"])
    with pytest.raises(requests.JSONDecodeError):
        answer.json()
    assert get().json()


def test_html_and_an_empty_body(fault, get):
    fault({"fault": "html", "times": 1}, {"fault": "empty_body", "request": 2, "times": 1})
    html = get()
    assert html.headers["content-type"].startswith("text/html")
    assert html.text.startswith("<!DOCTYPE")
    empty = get()
    assert (empty.status_code, empty.content) == (200, b"")


def test_an_empty_page_before_the_total(fault, get, refs):
    fault({"fault": "empty_page", "page": 2})
    page = get(refs[9]).json()
    assert (page["total"], page["stocks"]) == (50, [])
    assert refs_of(get(refs[19])) == refs[20:30]


def test_a_repeated_page(fault, get, refs):
    fault({"fault": "repeat_page"})
    assert refs_of(get()) == refs_of(get(refs[9])) == refs_of(get(refs[39])) == refs[:10]


def test_duplicates_within_a_page(fault, get, refs, world):
    fault({"fault": "duplicates", "within": 2})
    page = get().json()["stocks"]
    assert [stock["ref"] for stock in page] == [refs[0], refs[0], refs[1], refs[1], *refs[2:8]]
    assert page[1]["available"] == page[0]["available"] + 1
    assert refs_of(get(refs[7]))[0] == refs[8]  # what the copies pushed out comes next


def test_duplicates_across_pages(fault, get, refs):
    fault({"fault": "duplicates", "across": 3})
    assert refs_of(get()) == refs[:10]
    assert refs_of(get(refs[9])) == refs[7:17]


def test_duplicates_across_pages_of_changed_rows(fault, get, world):
    world.advance(40, START + timedelta(days=1))
    changed = [row.ref for row in rows(world, world.sirets[0], START + timedelta(days=1))]
    fault({"fault": "duplicates", "across": 1})
    assert refs_of(get(changed[9], modifiedSince="2024-01-02T00:00:00Z")) == changed[9:19]


SPOILT = {
    "missing_ref": lambda stock: "ref" not in stock,
    "missing_available": lambda stock: "available" not in stock and stock["ref"],
    "missing_price": lambda stock: "price" not in stock and stock["ref"],
    "null_ref": lambda stock: stock["ref"] is None,
    "null_available": lambda stock: stock["available"] is None,
    "null_price": lambda stock: stock["price"] is None,
    "number_ref": lambda stock: type(stock["ref"]) is int,
    "list_available": lambda stock: type(stock["available"]) is list,
    "text_available": lambda stock: type(stock["available"]) is str,
    "text_price": lambda stock: type(stock["price"]) is str,
    "negative_available": lambda stock: stock["available"] < 0,
    "negative_price": lambda stock: stock["price"] < 0,
    "huge_available": lambda stock: stock["available"] > 2**63,
    "huge_price": lambda stock: stock["price"] > 2**63,
    "nul_in_ref": lambda stock: stock["ref"].endswith("\0"),
    "lone_surrogate": lambda stock: stock["ref"].endswith("\ud800"),
    "invalid_utf8": lambda stock: stock["ref"].endswith("\udcff"),
    "huge_string": lambda stock: len(stock["ref"]) > 10_000_000,
    "not_an_object": lambda stock: type(stock) is int,
}


@pytest.mark.parametrize("kind", BAD_RECORDS)
def test_each_kind_of_bad_record(fault, get, kind):
    good = get(limit=3).json()["stocks"]
    fault({"fault": "bad_records", "kinds": [kind]})
    body = get(limit=3).content
    bad = json.loads(body.decode("utf-8", "surrogateescape"))["stocks"]
    assert len(bad) == len(good)
    spoilt = bad[:1] if kind == "huge_string" else bad
    assert all(SPOILT[kind](stock) for stock in spoilt)
    assert bad[len(spoilt) :] == good[len(spoilt) :]
    if kind == "invalid_utf8":
        with pytest.raises(UnicodeDecodeError):
            body.decode()
    else:
        body.decode()


def test_a_share_of_bad_records_hits_the_rows_that_the_truth_names(fault, get, refs, world):
    kinds = ["missing_available", "null_price"]
    fault({"fault": "bad_records", "kinds": kinds, "share": 0.3})
    page = get(limit=50).json()["stocks"]
    seen = {
        stock["ref"]: "missing_available" if "available" not in stock else "null_price"
        for stock in page
        if "available" not in stock or stock["price"] is None
    }
    expected = {ref: bad_kind(world.settings.seed, ref, kinds, 0.3) for ref in refs}
    assert seen == {ref: kind for ref, kind in expected.items() if kind}
    assert 5 < len(seen) < 28
    assert set(seen.values()) == set(kinds)


def test_the_log_tells_what_was_asked_and_what_befell_it(fault, get, log, url, refs, world):
    fault({"fault": "status", "status": 429, "times": 1})
    before = time.time()
    get(refs[9], token="secret")
    get(refs[9])
    requests.get(f"{url}/titelive/stocks/unknown", timeout=10)
    first, second, third = log()
    assert first["query"] == {"limit": "10", "after": refs[9], "token": "***"}
    assert (first["status"], second["status"], third["status"]) == (422, 429, 404)
    assert (first["faults"], second["faults"], third["faults"]) == ([], ["status"], [])
    assert first["path"] == f"/titelive/stocks/{world.sirets[0]}"
    assert first["method"] == "GET"
    assert before <= first["at"] <= second["at"] <= time.time()
    requests.delete(f"{url}/sandbox/requests", timeout=10)
    assert log() == []


def test_the_rules_in_force_and_how_often_they_struck(fault, get, url):
    rule = {"fault": "status", "status": 500, "times": 1}
    fault(rule)
    get()
    get()
    assert requests.get(f"{url}/sandbox/faults", timeout=10).json() == [{"rule": rule, "seen": 2, "fired": 1}]
    assert requests.delete(f"{url}/sandbox/faults", timeout=10).json() == []


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
    ],
)
def test_a_rule_that_makes_no_sense_is_refused_and_none_of_its_list_is_kept(url, rule):
    answer = requests.post(f"{url}/sandbox/faults", json=[{"fault": "cut"}, rule], timeout=10)
    assert answer.status_code == 422
    assert requests.get(f"{url}/sandbox/faults", timeout=10).json() == []
