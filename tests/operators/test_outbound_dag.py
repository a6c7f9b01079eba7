"""The DAG of the mailing list through Airflow's machinery, against real PostgreSQL and the stand-in over sockets."""

import json
import logging
from datetime import UTC, datetime

import psycopg
import pytest
import requests

from include.outbound import actions
from sandbox.testing import serving
from sandbox.world import Settings, World
from tests.operators.conftest import Run
from tests.outbound.conftest import Shop

DAG_ID = "outbound_mailing_list"
KEY, SIGNATURE = "5ecret-key-of-ours", "5ecret-signature"


class Service:
    """The stand-ins for Brevo and Teams."""

    def __init__(self, url):
        self.url = url

    def contacts(self):
        found = requests.get(f"{self.url}/sandbox/brevo", timeout=10).json()["contacts"]
        assert all([each["created"] == 1 for each in found])
        return sorted(each["email"] for each in found)

    def cards(self):
        cards = requests.get(f"{self.url}/sandbox/teams", timeout=10).json()
        requests.delete(f"{self.url}/sandbox/teams", timeout=10)
        return cards

    def titles(self):
        return [card["title"] for card in self.cards()]


@pytest.fixture(scope="module")
def served():
    with serving(World(Settings(books=10, offers=0, brevo_key=KEY, teams_signature=SIGNATURE))) as url:
        yield url


@pytest.fixture
def service(served):
    assert requests.post(f"{served}/sandbox/reset", timeout=10).ok
    return Service(served)


@pytest.fixture
def set_key(monkeypatch, service):
    """A function that sets the connection of the mailing service."""

    def set_key(key):
        extra = {"api-key": key, "attempts": 1, "read_timeout": 5, "requests_per_second": 1000}
        brevo = {"conn_type": "http", "host": f"{service.url}/brevo/v3", "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_BREVO_API", json.dumps(brevo))

    return set_key


@pytest.fixture
def shop(service, database, set_database, set_key, monkeypatch):
    """All three connections, and the orders."""
    set_database(database)
    set_key(KEY)
    query = f"api-version=2016-06-01&sp=x&sv=1.0&sig={SIGNATURE}"
    hook = f"{service.url}/workflows/abc/triggers/manual/paths/invoke?{query}"
    monkeypatch.setenv("AIRFLOW_CONN_TEAMS", json.dumps({"conn_type": "generic", "password": hook}))
    with psycopg.connect(database, autocommit=True) as connection:
        yield Shop(connection)


def place(shop, *numbers, **more):
    return [shop.order(f"A{number}", email=f"b{number}@example.org", **more) for number in numbers]


def address(*numbers):
    return [f"b{number}@example.org" for number in numbers]


@pytest.fixture
def run(airflow, load_dag, caplog, monkeypatch):
    """A function that runs the DAG, as the schedule does or by hand."""
    monkeypatch.setattr("include.connectors.http.random.random", lambda: 0.0)
    caplog.set_level(logging.INFO)
    session = airflow.Session()

    def start(*, run_type="scheduled", interval=None, **conf):
        dag = load_dag(DAG_ID)
        run_type = "manual" if conf else run_type
        return Run(dag, session).create(conf, run_type, interval).drive()

    yield start
    session.rollback()
    session.close()


@pytest.fixture
def problems(shop):
    return lambda: shop.connection.execute("SELECT code, reason FROM outbound_problems ORDER BY 1").fetchall()


def counts(done):
    (found,) = done.result("sum_up")
    return {name: number for name, number in found["orders"].items() if number}


def test_what_changed_is_sent(service, shop, run, output):
    """The first run begins to listen; what was before is for a backfill."""
    place(shop, 1)
    assert (run().state, service.contacts()) == ("success", [])
    orders = place(shop, 2, 3)
    done = run()
    assert (done.state, counts(done), service.contacts()) == ("success", {"sent": 2}, address(2, 3))
    assert set(done.tasks) == {"fill_queue", "send", "sum_up"}
    text = output()
    assert KEY not in text
    assert "b2@" not in text
    shop.change(orders[0], "new@example.org")
    assert counts(run()) == {"sent": 1}
    assert service.contacts() == [*address(3), "new@example.org"]
    assert counts(run()) == {}
    assert service.titles() == []


def test_green_with_parked_orders(service, shop, run, problems, output):
    run()
    place(shop, 1, 2)
    shop.order("B1", email="not an address")
    done = run()
    assert (done.state, counts(done)) == ("success", {"sent": 2, "parked": 1})
    assert problems() == [("B1", "permanent")]
    assert "B1: " in output()
    shop.connection.execute("UPDATE customer_order SET email = 'b3@example.org' WHERE code = 'B1'")
    assert counts(run(retry="permanent")) == {"sent": 1}
    assert service.contacts() == address(1, 2, 3)


def test_a_wrong_key_is_reported_once_and_what_was_refused_is_retried_automatically(
    service, shop, run, set_key, output
):
    run()
    place(shop, 1, 2)
    set_key("5ecret-wrong")
    for _ in range(2):
        refused = run()
        assert (refused.state, refused.tasks["sum_up"], refused.tries["sum_up"]) == ("failed", ["failed"], 1)
    text = output()
    assert "401" in text
    assert "5ecret" not in text
    set_key(KEY)
    again = run()
    assert (again.state, counts(again), service.contacts()) == ("success", {"sent": 2}, address(1, 2))
    assert service.titles() == [f"{DAG_ID}: failing", f"{DAG_ID}: works again"]


def test_whether_it_works_again_is_not_known_before_something_is_sent(service, shop, run, set_key):
    run()
    place(shop, 1)
    set_key("5ecret-wrong")
    run()
    shop.connection.execute("DELETE FROM outbound_queue")
    quiet = run()
    assert (quiet.state, quiet.tasks["sum_up"]) == ("success", ["skipped"])
    assert service.titles() == [f"{DAG_ID}: failing"]


def test_a_dry_run(service, shop, run, output):
    run()
    place(shop, 1, 2)
    output()
    done = run(dry_run=True, orders=["A1"])
    text = output()
    assert (done.state, done.result("sum_up"), service.contacts()) == ("success", [{"dry_run": True}], [])
    assert "A1, mapping 1" in text
    assert "* EMAIL = '***'" in text
    assert "A2" not in text
    assert counts(run()) == {"sent": 2}


def test_workers_share_calls_and_limit(service, shop, run, monkeypatch):
    monkeypatch.setattr(actions, "ORDERS_PER_WORKER", 3)
    run()
    place(shop, *range(10))
    done = run(limit=5)
    assert done.tasks["send"] == ["success"] * 4
    assert counts(done) == {"sent": 5}
    assert shop.connection.execute(
        "SELECT claimers, orders_sent FROM outbound_report WHERE claimers > 1"
    ).fetchall() == [(4, 5)]
    done = run()
    assert (done.tasks["send"], counts(done)) == (["success"] * 2, {"sent": 5})
    assert len(service.contacts()) == 10


def test_a_backfill_queues_what_was_placed_in_its_interval(service, shop, run):
    run()
    for day in range(1, 5):
        place(shop, day, placed_at=f"2026-03-0{day}T00:00Z")
    shop.connection.execute("TRUNCATE change_feed")
    interval = (datetime(2026, 3, 2, tzinfo=UTC), datetime(2026, 3, 4, tzinfo=UTC))
    done = run(run_type="backfill", interval=interval)
    assert (done.state, counts(done), service.contacts()) == ("success", {"sent": 2}, address(2, 3))


def test_the_position_of_a_removed_target_is_forgotten(service, shop, run, output):
    run()
    shop.connection.execute("INSERT INTO change_feed_consumer (consumer, source) VALUES ('outbound/removed', 'order')")
    place(shop, 1, 2)
    assert counts(run()) == {"sent": 2}
    assert "Target removed no longer exists" in output()
    assert shop.connection.execute("SELECT consumer FROM change_feed_consumer").fetchall() == [
        ("outbound/mailing_list",)
    ]
    assert shop.connection.execute("SELECT count(*) FROM change_feed").fetchone() == (0,)


def test_after_an_event_was_copied_the_mappings_use_the_lists_of_the_copy(service, shop, run, output):
    for slug in ("show", "next"):
        event, _ = shop.event(slug)
        shop.connection.execute("INSERT INTO checkin_list (event_id, name) VALUES (%s, 'Door')", (event,))
    mapping = {
        "id": 1, "source_model": "OrderPosition", "external_object_type": "contact", "source_id_field": "ticket_id",
        "external_id_field": "ext_id", "property_mappings": [
            {"source_field": "attendee_email", "external_field": "EMAIL"},
            {"source_field": "checkin_date_1", "external_field": "ARRIVED"},
        ],
    }  # fmt: skip
    assert run(mappings=[mapping]).state == "success"
    assert run(copy_event_from="show", copy_event_to="next").state == "success"
    assert "The mappings of mailing_list use the check-in lists of 'next': version 2" in output()
    (stored,) = shop.connection.execute("SELECT mappings::text FROM outbound_mapping WHERE is_current").fetchone()
    assert "checkin_date_2" in stored
    assert run(copy_event_from="show").state == "failed"


def test_orders_and_cancel_by_code(service, shop, run):
    run()
    place(shop, 1, 2, 3)
    shop.connection.execute("TRUNCATE change_feed")
    assert counts(run(orders=["A1", "A3"])) == {"sent": 2}
    assert counts(run(orders=["A1"])) == {"sent": 1}
    assert counts(run(orders=["A2"], cancel=["A2"])) == {}
    assert service.contacts() == address(1, 3)
    found = shop.connection.execute("SELECT source_id FROM outbound_log WHERE outcome = 'canceled'").fetchall()
    assert found == shop.connection.execute("SELECT id FROM customer_order WHERE code = 'A2'").fetchall()


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_code_that_is_none_fails_the_run_and_the_next_one_is_good(service, shop, run, output, dry_run):
    failed = run(orders=["NOPE"], dry_run=dry_run)
    task = "send" if dry_run else "fill_queue"
    assert failed.state == "failed"
    assert failed.tasks["sum_up"] == failed.tasks[task] == ["failed"]
    text = output()
    assert "There is no order with the code NOPE" in text
    assert f"see the log of {task}, then" in text
    (card,) = service.cards()
    assert (card["title"], "There is no order with the code NOPE" in card["text"]) == (f"{DAG_ID}: failing", True)
    assert run().state == "success"
    assert service.titles() == [f"{DAG_ID}: works again"]


def test_red_when_a_worker_crashes(service, shop, run, monkeypatch, output):
    """Also when another one succeeded: the task that sums up always runs, and must not make the run green."""
    monkeypatch.setattr(actions, "ORDERS_PER_WORKER", 3)
    run()
    place(shop, *range(6))
    shop.connection.execute("ALTER VIEW source_position RENAME TO gone")
    done = run()
    assert done.state == "failed"
    shop.connection.execute("ALTER VIEW gone RENAME TO source_position")
    assert counts(run()) == {"sent": 6}


@pytest.mark.parametrize("name", ["brevo_api", "sync_db"])
def test_a_connection_that_is_missing(service, shop, run, monkeypatch, output, name):
    monkeypatch.delenv(f"AIRFLOW_CONN_{name.upper()}")
    assert run().state == "failed"
    assert f"There is no Airflow connection '{name}'" in output()
