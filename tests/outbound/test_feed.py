"""From the change feed into the queue."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from include.errors import ConfigurationError
from include.models.outbound import FeedCounts
from include.outbound import feed
from include.outbound.feed import feed_queue, forget_removed_targets
from include.store.change_feed import lags, purge
from include.targets.base import OutboundSyncProvider


class Crm(OutboundSyncProvider):
    identifier = "crm"


class Doors(OutboundSyncProvider):
    identifier = "doors"
    triggers = ("checkin",)


class Shops(OutboundSyncProvider):
    identifier = "shops"
    source = "offer"
    triggers = ("created", "stock_changed")


@pytest.fixture
def orders(connection):
    """Three orders of two events, which CRM has not seen."""
    connection.execute("INSERT INTO event (slug, name) VALUES ('a', 'A'), ('b', 'B')")
    connection.execute("INSERT INTO ticket_product (event_id, name) VALUES (1, 'T')")
    connection.execute("INSERT INTO customer_order (event_id, code) VALUES (1, 'O1'), (1, 'O2'), (2, 'O3')")
    connection.execute("INSERT INTO order_position (order_id, number, product_id) VALUES (1, 1, 1)")
    connection.execute("INSERT INTO checkin_list (event_id, name) VALUES (1, 'L')")
    feed_queue(connection, Crm)
    return connection


def queue(connection, columns="source_id, triggered_by"):
    return connection.execute(f"SELECT {columns} FROM outbound_queue ORDER BY target, source_id, in_flight").fetchall()


def change(connection, orders="id = 1", **values):
    given = values or {"total": "total + 1"}
    connection.execute(f"UPDATE customer_order SET {', '.join(f'{k} = {v}' for k, v in given.items())} WHERE {orders}")


def test_a_new_target_does_not_queue_the_past(orders):
    assert feed_queue(orders, Crm) == FeedCounts()
    assert queue(orders) == []


def test_what_changed_is_queued_with_its_event(orders):
    change(orders, "id <> 2")
    assert feed_queue(orders, Crm) == FeedCounts(read=2, queued=2)
    assert queue(orders, "source, source_id, event_id, target, triggered_by, failed_attempts, in_flight") == [
        ("order", 1, 1, "crm", "changed", 0, False),
        ("order", 3, 2, "crm", "changed", 0, False),
    ]
    (due,) = orders.execute(
        "SELECT bool_and(not_before <= now() AND triggered_at < now()) FROM outbound_queue"
    ).fetchone()
    assert due
    assert feed_queue(orders, Crm) == FeedCounts()


def test_targets_name_their_changes_and_read_for_themselves(orders):
    feed_queue(orders, Doors)
    change(orders)
    orders.execute("INSERT INTO checkin (position_id, list_id) VALUES (1, 1)")
    assert feed_queue(orders, Doors) == FeedCounts(read=2, queued=1)
    assert feed_queue(orders, Crm) == FeedCounts(read=2, queued=1)
    assert feed_queue(orders, Doors) == FeedCounts()
    assert queue(orders, "target, triggered_by") == [("crm", "changed"), ("doors", "checkin")]


@pytest.mark.parametrize("block_size", [1, 2, 1000])
def test_the_change_that_stands_first_in_the_triggers_is_kept(orders, block_size):
    change(orders, email="'n'")
    change(orders, status="'p'", total=9)
    change(orders)
    feed_queue(orders, Crm, block_size=block_size)
    assert queue(orders) == [(1, "paid")]
    change(orders, email="'m'")
    feed_queue(orders, Crm, block_size=block_size)
    assert queue(orders) == [(1, "paid")]
    change(orders, status="'c'")
    orders.execute("UPDATE outbound_queue SET triggered_by = 'changed'")
    feed_queue(orders, Crm, block_size=block_size)
    assert queue(orders) == [(1, "canceled")]


def test_the_trigger_of_a_person_is_kept(orders):
    orders.execute("INSERT INTO outbound_queue (source_id, target, triggered_by) VALUES (1, 'crm', 'user')")
    change(orders)
    assert feed_queue(orders, Crm) == FeedCounts(read=1, waiting=1)
    assert queue(orders) == [(1, "user")]


def test_a_change_lets_a_parked_row_be_tried_now(orders):
    orders.execute(
        "INSERT INTO outbound_queue (source_id, target, triggered_by, triggered_at, not_before, failed_attempts,"
        " need_manual_retry, messages) VALUES (1, 'crm', 'changed', '2020-01-01Z', now() + interval '1 h', 3,"
        " 'permanent', '{no}'), (2, 'crm', 'changed', now(), '-infinity', 0, NULL, '{}')"
    )
    change(orders, "true")
    assert feed_queue(orders, Crm) == FeedCounts(read=3, queued=1, waiting=2)
    state = "failed_attempts, need_manual_retry, messages, not_before <= now(), triggered_at > '2021-01-01', event_id"
    assert queue(orders, state)[0] == (3, None, ["no"], True, True, 1)
    assert queue(orders, "not_before = '-infinity'")[1] == (True,), "what is due keeps its place"


def test_a_running_row_is_left_alone(orders):
    orders.execute(
        "INSERT INTO outbound_queue (source_id, target, triggered_by, in_flight, in_flight_since)"
        " VALUES (1, 'crm', 'placed', true, now())"
    )
    change(orders)
    feed_queue(orders, Crm)
    assert queue(orders, "triggered_by, in_flight") == [("changed", False), ("placed", True)]


def test_what_was_deleted_meanwhile_is_left_out(orders):
    change(orders, "id > 1")
    orders.execute("DELETE FROM customer_order WHERE id = 2")
    assert feed_queue(orders, Crm) == FeedCounts(read=2, queued=1, gone=1)
    assert queue(orders) == [(3, "changed")]


def test_offers(connection):
    connection.execute("INSERT INTO venue (name) VALUES ('v')")
    connection.execute("INSERT INTO product (name, subcategory_id) VALUES ('p', 's')")
    feed_queue(connection, Shops)
    connection.execute(
        "INSERT INTO offer (product_id, venue_id, name, subcategory_id)"
        " SELECT 1, 1, 'o', 's' FROM generate_series(1, 3)"
    )
    connection.execute("INSERT INTO stock (offer_id, price) VALUES (3, 1)")
    assert feed_queue(connection, Shops) == FeedCounts(read=4, queued=3)
    assert queue(connection, "source, source_id, event_id, triggered_by") == [
        ("offer", number, 0, "created") for number in (1, 2, 3)
    ]
    connection.execute("DELETE FROM outbound_queue")
    connection.execute("UPDATE offer SET name = 'n'")
    connection.execute("UPDATE stock SET price = 2")
    feed_queue(connection, Shops)
    assert queue(connection) == [(3, "stock_changed")]


def test_a_target_of_another_source_is_refused(connection):
    other = type("Other", (Crm,), {"source": "invoices"})
    with pytest.raises(ConfigurationError, match="crm: unknown source 'invoices'"):
        feed_queue(connection, other)


# Targets that were removed or renamed


@pytest.fixture
def project(monkeypatch):
    """A function that sets the targets that the project defines."""

    def project(*targets):
        monkeypatch.setattr(feed, "target_classes", lambda: list(targets))

    project(Crm)
    return project


def consumers(connection):
    return [(lag.consumer, lag.source) for lag in lags(connection)]


def ran(connection, target, days_ago):
    connection.execute(
        "INSERT INTO outbound_run (target, started_at) VALUES (%s, now() - make_interval(days => %s))",
        (target.identifier, days_ago),
    )


@pytest.mark.parametrize("last_run", [None, 8])
def test_a_removed_target_does_not_hold_back_the_purge(orders, project, caplog, last_run):
    orders.execute("INSERT INTO customer_order (event_id, code) SELECT 1, 'N' || n FROM generate_series(1, 197) AS n")
    feed_queue(orders, Crm)
    feed_queue(orders, Doors)
    purge(orders)
    if last_run:
        ran(orders, Doors, last_run)
    left = []
    for _ in range(4):
        change(orders, "true")
        feed_queue(orders, Crm)
        forget_removed_targets(orders, Crm)
        purge(orders)
        left += orders.execute("SELECT count(*) FROM change_feed").fetchone()
    assert left == [0, 0, 0, 0]
    assert caplog.text.count("Target doors no longer exists") == 1


def test_only_what_outbound_targets_read_is_forgotten(orders, project):
    feed_queue(orders, Doors)
    feed_queue(orders, Shops)
    orders.execute("INSERT INTO change_feed_consumer (consumer, source) VALUES ('search', 'offer')")
    change(orders)
    feed_queue(orders, Crm)
    assert purge(orders) == 0
    assert forget_removed_targets(orders, Crm) == ["doors", "shops"]
    assert consumers(orders) == [("outbound/crm", "order"), ("search", "offer")]
    assert purge(orders) == 1


def test_the_other_targets_of_the_project_keep_their_position(orders, project):
    project(Crm, Doors)
    feed_queue(orders, Doors)
    assert forget_removed_targets(orders, Crm) == []
    assert consumers(orders) == [("outbound/crm", "order"), ("outbound/doors", "order")]


def test_the_running_target_keeps_its_position_wherever_it_is_defined(orders, project):
    feed_queue(orders, Doors)
    assert forget_removed_targets(orders, Doors) == []


def test_a_target_of_another_package_keeps_its_position_while_it_runs(orders, project):
    feed_queue(orders, Doors)
    ran(orders, Doors, 6)
    assert forget_removed_targets(orders, Crm) == []
    orders.execute("UPDATE outbound_run SET started_at = now() - interval '8 days'")
    assert forget_removed_targets(orders, Crm) == ["doors"]


def test_while_a_module_cannot_be_imported_nothing_is_forgotten(orders, monkeypatch, caplog):
    """The module may define the target."""

    def broken():
        raise ImportError("no module brevo")

    monkeypatch.setattr(feed, "target_classes", broken)
    feed_queue(orders, Doors)
    assert forget_removed_targets(orders, Crm) == []
    assert consumers(orders) == [("outbound/crm", "order"), ("outbound/doors", "order")]
    assert "not all targets can be imported (no module brevo)" in caplog.text


def test_a_target_that_changed_its_source_forgets_the_old_one(orders, project):
    moved = type("Moved", (Shops,), {"identifier": "crm"})
    project(moved)
    feed_queue(orders, moved)
    ran(orders, moved, 0)
    assert forget_removed_targets(orders, moved) == ["crm"]
    assert consumers(orders) == [("outbound/crm", "offer")]


def test_two_at_once_queue_everything_once(orders, connect):
    orders.execute("INSERT INTO customer_order (event_id, code) SELECT 1, 'N' || n FROM generate_series(1, 2000) AS n")
    counts = []
    threads = [
        threading.Thread(target=lambda: counts.append(feed_queue(connect(), Crm, block_size=100))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (sum(each.queued for each in counts), sum(each.waiting for each in counts)) == (2000, 0)
    assert orders.execute("SELECT count(*) FROM outbound_queue").fetchone() == (2000,)


_FEEDER = """
import sys, psycopg
from include.targets.base import OutboundSyncProvider
from include.outbound.feed import feed_queue
feed_queue(psycopg.connect(sys.argv[1], autocommit=True), type("Crm", (OutboundSyncProvider,), {"identifier": "crm"}),
           block_size=50)
"""


def test_a_killed_feeder_loses_nothing(orders, database):
    orders.execute("INSERT INTO customer_order (event_id, code) SELECT 1, 'N' || n FROM generate_series(1, 5000) AS n")
    orders.execute(
        "CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF NEW.last_id > 2000 THEN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(1); END IF;"
        " RETURN NEW; END $$; CREATE TRIGGER die BEFORE UPDATE ON change_feed_consumer"
        " FOR EACH ROW EXECUTE FUNCTION die()"
    )
    died = subprocess.run(
        [sys.executable, "-c", _FEEDER, database], cwd=Path(__file__).parents[2], capture_output=True, check=False
    )
    assert died.returncode
    orders.execute("DROP FUNCTION die CASCADE")
    (half,) = orders.execute("SELECT count(*) FROM outbound_queue").fetchone()
    assert 1900 < half < 2100
    assert feed_queue(orders, Crm) == FeedCounts(read=5000 - half, queued=5000 - half)
