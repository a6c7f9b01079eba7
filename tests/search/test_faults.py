"""Algolia misbehaves while an index is patched: in the end every record is right, none is new, none comes back."""

import msgspec
import pytest

from include.connectors.algolia import AlgoliaIndex
from include.errors import AccessRefused, FatalError, PaginationError, RateLimited, ServiceUnavailable
from include.patches.base import Patch
from include.search import run_pass

PASSING = {
    "429 with a wait": {"fault": "status", "status": 429, "retry_after": 2},
    "429 until a date": {"fault": "status", "status": 429, "retry_after": 2, "as_date": True},
    "429 without": {"fault": "status", "status": 429},
    "500": {"fault": "status", "status": 500},
    "503": {"fault": "status", "status": 503},
    "408": {"fault": "status", "status": 408},
    "cut": {"fault": "cut"},
    "html": {"fault": "html"},
    "truncated": {"fault": "truncated_json"},
    "empty": {"fault": "empty_body"},
    "slow": {"fault": "delay", "seconds": 0.5},
}
FOR_GOOD = {
    "429 with a long wait": ({"fault": "status", "status": 429, "retry_after": 3600}, RateLimited),
    "503": ({"fault": "status", "status": 503}, ServiceUnavailable),
    "503 with a long wait": ({"fault": "status", "status": 503, "retry_after": 3600}, RateLimited),
    "cut": ({"fault": "cut"}, ServiceUnavailable),
    "403": ({"fault": "status", "status": 403}, AccessRefused),
}


def gone(site):
    return [object_id for place, object_id in enumerate(site.expected()) if place % 60 == 3]


def is_quiet(look, site):
    """Whether there is nothing left to do; after fewer records than were announced, the next run looks once more."""
    again = look(site)
    if again.report is None:
        return True
    return (again.reason, again.report.changed, look(site).report) == ("comparison", 0, None)


@pytest.mark.parametrize("call", ["logs", "browse", "batch", "task"])
@pytest.mark.parametrize("fault", PASSING)
def test_what_passes(eager, site, look, fault, call):
    site.fault(**PASSING[fault], call=call, request=2 if call in ("browse", "batch") else 1, times=2)
    deleted = gone(site)
    index = site.index(read_timeout=0.25)
    index.on_page = {5: lambda: site.delete(*deleted)}
    done = look(site, index=index)
    assert site.heal() == 2
    assert (done.reason, done.is_finished) == ("first run", True)
    assert site.is_right(without=deleted)
    if "retry_after" in PASSING[fault]:
        assert max(site.waits) >= 2
    assert is_quiet(look, site)


@pytest.mark.parametrize("call", ["browse", "batch", "task"])
@pytest.mark.parametrize("fault", FOR_GOOD)
def test_what_does_not_pass_leaves_the_rest_to_the_next_run(eager, site, look, passes, fault, call):
    rule, error = FOR_GOOD[fault]
    site.fault(**rule, call=call, request=6)
    deleted = gone(site)
    index = site.index()
    index.on_page = {4: lambda: site.delete(*deleted)}
    with pytest.raises(error) as raised:
        look(site, index=index)
    assert site.heal() > 0
    if "retry_after" in rule:
        assert 3500 < raised.value.retry_after <= 3601
    ((_, state, error_text),) = passes()
    assert (state, error_text) == ("open", str(raised.value))
    done = look(site)
    assert (done.reason, done.is_finished) == ("first run", True)
    assert site.is_right(without=deleted)
    assert is_quiet(look, site)


@pytest.mark.parametrize("fault", ["503", "cut", "403", "429 with a long wait"])
def test_a_log_that_cannot_be_read_is_read_by_the_next_run(site, look, passes, fault):
    look(site)
    site.rebuild()
    rule, error = FOR_GOOD[fault]
    site.fault(**rule, call="logs")
    with pytest.raises(error):
        look(site)
    site.heal()
    assert passes() == [("first run", "done", None)]
    assert look(site).reason == "move"
    assert site.is_right()


def test_some_of_all_calls_fail(eager, site, look):
    """A fixed draw: one request in five has one fault or another."""
    for fault in ("500", "503", "cut", "html", "truncated", "empty", "429 without"):
        site.fault(**PASSING[fault], probability=0.03)
    deleted = gone(site)
    index = site.index(attempts=12)
    index.on_page = {5: lambda: site.delete(*deleted)}
    look(site, index=index)
    assert site.heal() > 3
    assert site.is_right(without=deleted)


def test_one_503_of_a_sole_host_and_then_all_is_well(site, look):
    """The official client would consider its only host down for five minutes."""
    index = site.index()
    site.fault("status", status=503, times=1)
    assert look(site, index=index).is_finished
    site.fault("status", status=503, times=1)
    assert look(site, index=index).report is None
    assert site.is_right()


def test_a_page_that_comes_again_and_again(site, look):
    site.fault("repeat_page", call="browse")
    with pytest.raises(PaginationError, match="the same cursor twice"):
        look(site)
    site.heal()
    assert look(site).is_finished
    assert site.is_right()


@pytest.mark.parametrize("key", ["no-logs", "no-browse", "no-addObject"])
def test_each_right_that_is_missing_is_named(site, look, key):
    right = key.removeprefix("no-")
    before = site.records()
    with pytest.raises(
        AccessRefused, match=rf"application SANDBOX lacks the right \(ACL\) '{right}' on index offers"
    ) as no:
        look(site, index=site.index(key))
    assert key not in str(no.value)
    assert site.records() == before
    assert look(site).is_finished
    assert site.is_right()


@pytest.mark.parametrize(("application", "key"), [("SANDBOX", "wrong"), ("OTHER", "patch")])
def test_a_wrong_key_or_application(site, look, application, key):
    message = f"does not know this API key for the application {application}: check"
    with (
        AlgoliaIndex(application, key, "offers", hosts=[site.url]) as index,
        pytest.raises(AccessRefused, match=message),
    ):
        look(site, index=index)


def test_a_record_that_is_refused_is_named_and_all_others_are_patched(site, look, passes, caplog):
    """The stand-in refuses a whole batch for one action that it does not know, as the service does for a big record."""
    odd = [{"objectID": f"odd {n}", "disponibiliteForFO": {"_operation": "Shout"}} for n in range(3)]
    site.write(odd)
    with pytest.raises(FatalError, match=r"3 records could not be patched, all others were: odd 0: .*Shout") as refused:
        look(site)
    assert "odd 2: " in str(refused.value)
    assert "odd 1 could not be patched" in caplog.text
    found = site.records()
    assert all("customerDispo" not in found.pop(each["objectID"]) for each in odd)
    assert found == site.expected()
    assert passes() == [("first run", "done", None)]
    assert look(site).report is None


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_batch_that_is_refused_once_is_sent_in_halves(site, look, status):
    site.fault("status", status=status, call="batch", times=1)
    index = site.index()
    done = look(site, index=index)
    assert done.report.refused_count == 0
    assert len(index.batches) == done.report.batches + 2 == 5
    assert site.is_right()


def test_a_record_on_which_the_patch_raises_is_left_out(site, look):
    def values(record):
        return {"half": record["n"] // record["d"]}

    site.write([{"objectID": str(n), "n": n, "d": n % 7} for n in range(50)], "cars")
    halves = Patch("halves", ("n", "d"), ("half",), values)
    with pytest.raises(
        FatalError, match="8 records could not be patched, all others were: 0: halves raised ZeroDivision"
    ):
        look(site, index=site.index(name="cars"), patches=[halves])
    found = site.records("cars")
    assert all(("half" in each) is bool(each["d"]) for each in found.values())


@pytest.mark.parametrize("most", [3_000, 20_000])
def test_batches_are_no_larger_than_the_limit_unless_one_record_is(site, look, monkeypatch, most):
    monkeypatch.setattr(run_pass, "MAX_BYTES", most)
    big = {"objectID": "big", "disponibiliteForFO": "x" * 3 * most}
    more = [big, *({"objectID": f"long {n}", "disponibiliteForFO": "é" * n * 20} for n in range(60))]
    site.write(more)
    index = site.index()
    look(site, index=index)
    assert site.is_right(more=more)
    sizes = []
    for batch in index.batches:
        requests = [{"action": "partialUpdateObjectNoCreate", "body": record} for record in batch]
        if "big" in [record["objectID"] for record in batch]:
            assert len(batch) == 1
        else:
            sizes.append(len(msgspec.json.encode({"requests": requests})))
    assert most * 0.9 < max(sizes) <= most + 20


def test_not_too_many_tasks_wait_at_once(serve, look, monkeypatch):
    monkeypatch.setattr(run_pass, "MAX_RECORDS", 6)
    monkeypatch.setattr(run_pass, "MAX_UNPUBLISHED", 5)
    site = serve(algolia_task_ms=120)
    index = site.index()
    waiting = []
    sent = index.patch

    def patch(records):
        task = sent(records)
        waiting.append(site.call("GET", "/1/indexes")["items"][0]["numberOfPendingTasks"])
        return task

    index.patch = patch
    look(site, index=index)
    assert len(waiting) == len(index.batches) > 100
    assert max(waiting) <= 5 + 4
    assert site.is_right()
