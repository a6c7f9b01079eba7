"""Incidents of the mailing list's DAG: reported once, over when something was sent, nothing left behind."""

import json
import logging

import psycopg
import pytest
import requests

from include.targets.mailing_list import MailingList
from local import demo, outbound
from sandbox.testing import serving
from sandbox.world import Settings, World
from tests.operators.conftest import Run

DAG_ID = "outbound_mailing_list"
KEY = "5ecret-key-of-ours"


@pytest.fixture
def sandbox():
    with serving(World(Settings(books=10, brevo_key=KEY))) as url:
        yield url


@pytest.fixture
def connect(monkeypatch, sandbox):
    """A function that sets the connections, with a key for the mailing service."""

    def connect(key=KEY):
        extra = {"api-key": key, "requests_per_second": 1000, "attempts": 1}
        brevo = {"conn_type": "http", "host": f"{sandbox}/brevo/v3", "extra": extra}
        hook = f"{sandbox}/workflows/abc/triggers/manual/paths/invoke?api-version=2016-06-01&sig=sandbox-signature"
        monkeypatch.setenv("AIRFLOW_CONN_BREVO_API", json.dumps(brevo))
        monkeypatch.setenv("AIRFLOW_CONN_TEAMS", json.dumps({"conn_type": "generic", "password": hook}))

    return connect


@pytest.fixture
def shop(database, set_database, connect):
    """The demo's orders, of which the target hears; all connections set. Gives a connection to the database."""
    set_database(database)
    connect()
    outbound.subscribe(database, [MailingList])
    demo.load(database)
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def run(airflow, load_dag, caplog):
    caplog.set_level(logging.INFO)
    session = airflow.Session()
    yield lambda **conf: Run(load_dag(DAG_ID), session).create(conf, "manual", None).drive()
    session.rollback()
    session.close()


@pytest.fixture
def cards(sandbox):
    return lambda: requests.get(f"{sandbox}/sandbox/teams", timeout=10).json()


@pytest.fixture
def titles(cards):
    return lambda: [card["title"] for card in cards()]


def touch(connection, count):
    connection.execute(
        "UPDATE customer_order SET email = 'new.' || email WHERE id IN"
        " (SELECT id FROM customer_order WHERE status = 'p' AND email LIKE '%%@%%' ORDER BY id LIMIT %s)",
        (count,),
    )


def test_a_wrong_key_is_reported_once_and_what_was_refused_is_retried_automatically(shop, run, connect, titles):
    run()
    touch(shop, 2)
    connect("wrong")
    for _ in range(2):
        refused = run()
        assert (refused.state, refused.tasks["sum_up"], refused.tries["sum_up"]) == ("failed", ["failed"], 1)
    connect()
    again = run()
    assert again.state == "success"
    assert again.result("sum_up")[0]["orders"]["sent"] == 2
    assert titles() == [f"{DAG_ID}: failing", f"{DAG_ID}: works again"]
    assert shop.execute("SELECT count(*) FROM outbound_queue").fetchone() == (0,)


def test_whether_it_works_again_is_not_known_before_something_is_sent(shop, run, connect, titles):
    run()
    touch(shop, 1)
    connect("wrong")
    run()
    shop.execute("DELETE FROM outbound_queue")
    quiet = run()
    assert (quiet.state, quiet.tasks["sum_up"]) == ("success", ["skipped"])
    assert titles() == [f"{DAG_ID}: failing"]


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_code_that_is_none_fails_the_run_and_the_next_one_is_good(shop, run, output, cards, titles, dry_run):
    failed = run(orders=["NOPE"], dry_run=dry_run)
    task = "send" if dry_run else "fill_queue"
    assert failed.state == "failed"
    assert failed.tasks["sum_up"] == failed.tasks[task] == ["failed"]
    text = output()
    assert "There is no order with the code NOPE" in text
    assert f"see the log of {task}, then" in text
    (card,) = cards()
    assert "There is no order with the code NOPE" in card["text"]
    assert run().state == "success"
    assert titles() == [f"{DAG_ID}: failing", f"{DAG_ID}: works again"]
