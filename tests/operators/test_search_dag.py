"""The DAG of the site's index through Airflow's machinery, against real PostgreSQL and the sandbox over sockets."""

from functools import partial
from typing import ClassVar

import psycopg
import pytest
import requests

from include.operators import search as operators
from include.store.locks import index_lock
from sandbox import indexer
from sandbox.offers import offers
from sandbox.testing import serving
from sandbox.world import Settings, World
from tests.operators.conftest import SIGNATURE, StandIn
from tests.search.conftest import rule

DAG_ID, TASK = "algolia_customer_dispo", "patch_index"
KEY = "5ecret-key-of-ours"
OFFERS = 60


class Site(StandIn):
    """The stand-ins for Algolia and Teams."""

    rule: ClassVar = {"service": "algolia"}
    generation = 0

    def rebuild(self):
        self.generation += 1
        indexer.rebuild(self.url, api_key="admin", records=OFFERS, generation=self.generation)

    def records(self):
        headers = {"x-algolia-application-id": "SANDBOX", "x-algolia-api-key": "admin"}
        answer = requests.post(f"{self.url}/1/indexes/offers/browse", json={}, headers=headers, timeout=10)
        return {record["objectID"]: record for record in answer.json()["hits"]}

    def offers(self):
        return {offer["objectID"]: offer for offer in offers(Settings(offers=OFFERS), self.generation)}

    def is_right(self):
        assert self.records() == {name: rule(offer) for name, offer in self.offers().items()}
        return True

    def is_untouched(self):
        assert self.records() == self.offers()
        return True


@pytest.fixture(scope="module")
def served():
    keys = f"admin=*,{KEY}=logs+browse+addObject,reader=logs+browse"
    world = World(Settings(books=10, offers=OFFERS, algolia_keys=keys, teams_signature=SIGNATURE))
    with serving(world) as url:
        yield url


@pytest.fixture
def site(served):
    assert requests.post(f"{served}/sandbox/reset", timeout=10).ok
    return Site(served)


@pytest.fixture
def connected(site, database, set_database, set_connection):
    """All three connections; gives one to the database."""
    set_database(database)
    extra = {"index": "offers", "attempts": 1, "read_timeout": 5}
    set_connection("algolia", login="SANDBOX", password=KEY, host=site.url, extra=extra)
    set_connection("teams", password=site.teams_url)
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def set_variable(monkeypatch):
    return lambda name, value: monkeypatch.setenv(f"AIRFLOW_VAR_{DAG_ID}_{name}".upper(), value)


@pytest.fixture
def run(run_dag):
    """A function that runs the DAG, scheduled or manually."""
    return partial(run_dag, DAG_ID, run_type="scheduled")


def manual(run, **conf):
    return run(conf, run_type="manual")


# What a run does


def test_first_quiet_and_moved_runs(site, connected, run, output):
    first = run()
    assert first.state == "success"
    (result,) = first.result(TASK)
    assert (result["reason"], result["moves"], result["read"], result["refused_count"]) == ("first run", 0, OFFERS, 0)
    assert result["changed"] > OFFERS / 2
    assert result["dry_run"] is False
    assert site.is_right()
    assert site.titles() == ["offers: patched"]
    text = output()
    assert f"::group::customer_dispo: {result['changed']} records changed" in text
    assert KEY not in text
    assert SIGNATURE not in text

    quiet = run()
    assert (quiet.state, quiet.result(TASK), site.titles()) == ("success", [], [])
    assert "Nothing to do: no move onto offers" in output()

    site.rebuild()
    moved = run()
    (result,) = moved.result(TASK)
    assert (result["reason"], result["moves"]) == ("move", 1)
    assert site.is_right()
    (card,) = site.cards()
    assert card["title"] == "offers: patched"
    assert "Moved: offers_tmp onto offers at 20" in card["text"]
    assert f"Records read: {OFFERS}" in card["text"]
    assert f"Differed: {result['changed']}" in card["text"]
    run_ids = connected.execute("SELECT run_id FROM search_pass ORDER BY id").fetchall()
    assert run_ids == [(f"{DAG_ID}/{each.dag_run.run_id}",) for each in (first, moved)]


def test_force(site, connected, run):
    run()
    site.cards()
    forced = manual(run, force=True)
    (result,) = forced.result(TASK)
    assert (result["reason"], result["read"], result["changed"]) == ("forced", OFFERS, 0)
    assert site.titles() == ["offers: patched"]
    assert run().result(TASK) == []


def test_a_comparison_that_finds_nothing_sends_no_alert(site, connected, run, set_variable):
    run()
    site.cards()
    set_variable("compare_every", "1")
    (result,) = run().result(TASK)
    assert (result["reason"], result["changed"]) == ("comparison", 0)
    assert site.titles() == []


def test_a_dag_test_runs_it_too(site, connected, load_dag, airflow):
    assert load_dag(DAG_ID).test().state == "success"
    assert site.is_right()


# Settings


def test_a_variable_that_makes_no_sense(site, connected, run, set_variable, output):
    set_variable("dry_run", "maybe")
    done = run()
    assert (done.state, done.tries) == ("failed", {TASK: 1})
    assert f"The Airflow variable {DAG_ID}_dry_run has 'maybe': expected true or false" in output()
    assert site.is_untouched()


def test_parameters_go_before_variables(site, connected, run, set_variable):
    for name, value in {"dry_run": "true", "compare_every": "x", "time_limit_minutes": "x"}.items():
        set_variable(name, value)
    done = manual(run, dry_run=False, compare_every=5, time_limit_minutes=5)
    assert done.state == "success"
    assert done.result(TASK)[0]["dry_run"] is False
    assert site.is_right()


def test_empty_parameters_leave_it_to_the_variables(site, connected, run, set_variable):
    set_variable("dry_run", "true")
    done = manual(run, dry_run=None, dry_run_notify=None, compare_every=None, time_limit_minutes=None)
    assert done.result(TASK)[0]["dry_run"] is True
    assert site.is_untouched()


# Dry runs and their messages


def test_a_dry_run_shows_what_it_would_do(site, connected, run, output):
    done = manual(run, dry_run=True)
    text = output()
    (result,) = done.result(TASK)
    assert f"::group::customer_dispo: {result['changed']} records would change" in text
    assert "::group::First 20 records that would change" in text
    assert "customerDispo (none) → 'disponible'" in text
    assert "nothing was written" in text
    assert site.is_untouched()
    assert site.titles() == []
    assert connected.execute("SELECT checkpoint_at FROM search_index").fetchone() == (None,)


def test_each_manual_dry_run_sends_one_message_when_asked_to(site, connected, run):
    for _ in range(2):
        manual(run, dry_run=True, dry_run_notify=True)
        (card,) = site.cards()
        assert card["title"] == "offers: test message of a dry run"
        assert "Dry run (first run): 60 records read" in card["text"]
    manual(run, dry_run=True, dry_run_notify=False)
    manual(run, dry_run=True)
    assert site.titles() == []
    manual(run, dry_run_notify=True)
    assert site.titles() == ["offers: patched"]
    manual(run, dry_run=True, dry_run_notify=True)
    assert site.titles() == ["offers: test message of a dry run"]


def test_scheduled_dry_runs_send_one_message_per_change_of_setting(site, connected, run, set_variable):
    test = ["offers: test message of a dry run"]
    set_variable("dry_run", "true")
    assert [run() and site.titles() for _ in range(2)] == [[], []]
    set_variable("dry_run_notify", "true")
    assert [run() and site.titles() for _ in range(3)] == [test, [], []]
    manual(run, dry_run=True, dry_run_notify=True)
    assert site.titles() == test
    assert run()
    assert site.titles() == []
    set_variable("dry_run_notify", "false")
    assert run()
    assert site.titles() == []
    set_variable("dry_run_notify", "true")
    assert [run() and site.titles() for _ in range(2)] == [test, []]


def test_a_test_message_that_did_not_arrive_is_sent_by_the_next_run(site, connected, run, set_variable):
    set_variable("dry_run", "true")
    set_variable("dry_run_notify", "true")
    site.fault("status", service="teams", status=400)
    assert run().state == "success"
    site.heal()
    assert [run() and site.titles() for _ in range(2)] == [["offers: test message of a dry run"], []]


# What goes wrong


def test_a_passing_fault_is_retried(site, connected, run):
    site.fault("status", call="browse", status=503, times=1)
    done = run()
    assert (done.state, done.tries) == ("success", {TASK: 2})
    assert site.is_right()
    assert site.titles() == ["offers: patched"]


def test_a_long_wait_gives_the_slot_back(site, connected, run):
    site.fault("status", call="browse", status=429, retry_after=1800)
    done = run(before_retry=site.heal)
    assert (done.state, done.waits) == ("success", {TASK: 1800})


def test_a_failing_dag_is_reported_once_and_its_recovery_too(site, connected, run):
    site.fault("status", call="browse", status=403)
    assert [run().state for _ in range(3)] == ["failed"] * 3
    (card,) = site.cards()
    assert card["title"] == f"{DAG_ID}: failing"
    assert "lacks the right (ACL) 'browse' on index offers" in card["text"]
    assert connected.execute("SELECT failures FROM failure_episode").fetchone() == (3,)
    site.heal()
    assert [run().state for _ in range(2)] == ["success"] * 2
    patched, recovered = site.cards()
    assert [patched["title"], recovered["title"]] == ["offers: patched", f"{DAG_ID}: works again"]
    assert "Failed runs: 3" in recovered["text"]
    assert connected.execute("SELECT * FROM failure_episode").fetchall() == []
    site.fault("status", call="logs", status=403)
    run()
    assert site.titles() == [f"{DAG_ID}: failing"]


def test_the_time_limit_ends_a_stuck_run_and_the_next_one_continues(
    site, connected, run, set_variable, monkeypatch, output
):
    """The next run continues. A minute lasts half a second here."""
    real = operators.timeout
    monkeypatch.setattr(operators, "timeout", lambda seconds: real(seconds / 120))
    run()
    site.rebuild()
    set_variable("time_limit_minutes", "2")
    site.fault("delay", call="browse", seconds=3)
    done = run()
    assert (done.state, done.tries) == ("failed", {TASK: 1})
    assert "Stopped after the time limit of 2 minutes" in output()
    site.heal()
    monkeypatch.setattr(operators, "timeout", real)
    assert connected.execute("SELECT reason FROM search_pass WHERE state = 'open'").fetchall() == [("move",)]
    after = run()
    assert after.state == "success"
    assert site.is_right()
    assert site.titles() == ["offers: patched", f"{DAG_ID}: failing", "offers: patched", f"{DAG_ID}: works again"]


def test_a_run_during_another_is_skipped(site, connected, run, output, monkeypatch):
    monkeypatch.setattr("include.search.watch.index_lock", partial(index_lock, wait_seconds=0.1))
    with index_lock(connected, "SANDBOX", "offers"):
        done = run()
    assert done.tasks == {TASK: ["skipped"]}
    assert "Another run is at work on the index offers: it does the work of this run too" in output()
    assert site.is_untouched()
    assert site.titles() == []


def test_teams_that_does_not_answer_fails_no_run(site, connected, run, output):
    site.fault("status", service="teams", status=500)
    assert run().state == "success"
    assert "Could not deliver the alert to Teams" in output()
    assert site.is_right()


# Connections


@pytest.mark.parametrize("name", ["algolia", "sync_db"])
def test_a_connection_that_is_missing(site, connected, run, monkeypatch, output, name):
    monkeypatch.delenv(f"AIRFLOW_CONN_{name.upper()}")
    done = run()
    assert (done.state, done.tries) == ("failed", {TASK: 1})
    assert f"There is no Airflow connection '{name}'" in output()


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({}, "lacks login (application id), password (API key), `index` in its extra"),
        ({"login": "SANDBOX", "extra": {"index": "offers"}}, "lacks password (API key)"),
        ({"login": "SANDBOX", "password": KEY}, "lacks `index` in its extra"),
        ({"login": "a.b", "password": KEY, "extra": {"index": "offers"}}, "is not an application id of Algolia"),
        ({"login": "SANDBOX", "password": KEY, "extra": {"index": "offers", "attempts": "x"}}, "expected a number"),
        ({"login": "SANDBOX", "password": "wrong", "extra": {"index": "offers"}}, "does not know this API key"),
        ({"login": "SANDBOX", "password": "reader", "extra": {"index": "offers"}}, "lacks the right (ACL) 'addObject'"),
        ({"login": "SANDBOX", "password": KEY, "extra": {"index": "cars"}}, "Algolia has no index 'cars'"),
    ],
)
def test_a_connection_that_is_not_right(site, connected, run, set_connection, output, fields, complaint):
    set_connection("algolia", host=site.url, **fields)
    done = run()
    assert (done.state, done.tries) == ("failed", {TASK: 1})
    text = output()
    assert complaint in text
    assert KEY not in text
    assert site.is_untouched()


def test_several_hosts(site, connected, run, set_connection):
    extra = {"index": "offers"}
    set_connection("algolia", login="SANDBOX", password=KEY, host=f"http://127.0.0.1:1, {site.url}", extra=extra)
    assert run().state == "success"
    assert site.is_right()
