"""Demo orders are sent to the sandbox automatically, and to nothing else; `make advance` changes a few."""

import json
from pathlib import Path

import psycopg
import pytest

from include.outbound.feed import feed_queue
from include.targets import load_target
from local import commands, demo, outbound, report, schedules, settings
from local.checkout import Checkout, LocalError
from sandbox.testing import serving
from sandbox.world import Settings, World

ROOT = Path(__file__).parents[2]
DAG = "outbound_mailing_list"
TARGET = load_target("include.targets.mailing_list.MailingList")


@pytest.fixture
def loaded(database):
    """A database with the demo data, loaded as by the local run."""
    outbound.subscribe(database, [TARGET])
    demo.load(database)
    return database


class Api:
    """Airflow's API, reduced to pausing DAGs."""

    def __init__(self, **paused):
        self.paused = paused

    def dags(self):
        return {dag_id: {"is_paused": is_paused} for dag_id, is_paused in self.paused.items()}

    def set_paused(self, dag_id, is_paused):
        self.paused[dag_id] = is_paused


def queued(conninfo):
    with psycopg.connect(conninfo, autocommit=True) as connection:
        return feed_queue(connection, TARGET).queued


def test_loaded_orders_are_queued_once(loaded):
    with psycopg.connect(loaded) as connection:
        orders = connection.execute("SELECT count(*) FROM customer_order").fetchone()[0]
    assert queued(loaded) == orders > 0
    outbound.subscribe(loaded, [TARGET])
    demo.load(loaded)
    assert queued(loaded) == 0


def test_orders_change_in_three_ways_again_and_again(loaded):
    queued(loaded)
    with psycopg.connect(loaded, autocommit=True) as connection:
        connection.execute("DELETE FROM outbound_queue")
        pending = connection.execute("SELECT count(*) FROM customer_order WHERE status = 'n'").fetchone()[0]
    changes = [outbound.change_orders(loaded) for _ in range(pending + 1)]
    assert [line.split()[-1] for line in changes[0][:2]] == ["canceled", "paid"]
    assert changes[0][2].endswith("-Valmory")
    assert [len(lines) for lines in changes] == [3] * pending + [2]
    names = [line for lines in changes for line in lines]
    assert len(set(names)) == len(names)
    assert queued(loaded) > pending
    with psycopg.connect(loaded) as connection:
        found = connection.execute("SELECT DISTINCT triggered_by FROM outbound_queue ORDER BY 1").fetchall()
    assert found == [("canceled",), ("modified",), ("paid",)]


def test_a_database_that_is_not_migrated_has_no_orders_to_change(database):
    with psycopg.connect(database) as connection:
        connection.execute("ALTER TABLE customer_order RENAME TO moved")
    assert outbound.change_orders(database) == []


@pytest.mark.parametrize(
    ("own_database", "environment", "expected"),
    [
        (False, {}, {}),
        (True, {}, {DAG: "it sends the orders of your own database"}),
        (False, {"AIRFLOW_CONN_BREVO_API": "http://"}, {DAG: "its connection points to a live service"}),
        (True, {"AIRFLOW_CONN_BREVO_API": "http://"}, {DAG: "its connection points to a live service"}),
    ],
)
def test_only_demo_orders_go_only_to_the_sandbox(own_database, environment, expected):
    kept, _ = settings.without_overridden(settings.read(ROOT / "airflow_settings.yaml"), environment)
    stand_ins = settings.in_sandbox(kept)
    assert outbound.live({DAG: TARGET}, own_database=own_database, stand_ins=stand_ins) == expected


def test_targets_are_found_where_dags_name_them(tmp_path):
    path = f"{TARGET.__module__}.{TARGET.__name__}"
    (tmp_path / "a.py").write_text(f'TARGET = "{path}"\nopened = Open(target=TARGET)\n')
    (tmp_path / "b.py").write_text(f'Open(task_id="x", target="{path}")\n')
    (tmp_path / "c.py").write_text("other = 1\n")
    (tmp_path / "d.py").write_text("not Python\n")
    assert outbound.targets(tmp_path) == {"a": TARGET, "b": TARGET}
    (tmp_path / "e.py").write_text('TARGET = "include.targets.none.None"\n')
    with pytest.raises(LocalError, match=r"e\.py: There is no target"):
        outbound.targets(tmp_path)


@pytest.mark.parametrize("has_demo", [True, False])
def test_advancing_a_running_stack_changes_demo_orders_only(local, up_lock, loaded, printed, has_demo):
    with serving(World(Settings(books=100))) as url:
        up_lock.publish(sandbox=url, conninfo=loaded, has_demo=has_demo)
        assert commands.advance(local, 1.0) == 0
    assert printed()[0] == "Changed 1 % of each venue's books; the next run syncs them."
    assert [line.startswith("Changed orders: order ") for line in printed()[1:]] == [True] * has_demo


def test_advancing_before_the_first_run_starts_no_database(local, printed):
    assert commands.advance(local, 1.0) == 0
    assert not local.data.exists()
    assert "orders" not in "".join(printed())


@pytest.fixture
def checkout(tmp_path):
    (tmp_path / "dags").mkdir()
    for dag_id in ("a", DAG):
        (tmp_path / "dags" / f"{dag_id}.py").touch()
    return Checkout(tmp_path)


def test_a_dag_of_the_demo_is_unpaused_once(checkout):
    api = Api(a=True, **{DAG: True})
    schedules.unpause_new(checkout, api, [])
    assert not any(api.paused.values())
    api.set_paused("a", True)
    schedules.unpause_new(checkout, api, [])
    assert api.paused == {"a": True, DAG: False}


@pytest.mark.parametrize("is_live_at_first", [False, True])
def test_a_live_dag_is_paused_until_the_user_unpauses_it(checkout, is_live_at_first):
    api = Api(a=True, **{DAG: True})
    if not is_live_at_first:
        schedules.unpause_new(checkout, api, [])
    schedules.pause_live(checkout, api, [DAG])
    schedules.unpause_new(checkout, api, [DAG])
    assert api.paused == {"a": False, DAG: True}
    api.set_paused(DAG, False)
    schedules.pause_live(checkout, api, [DAG])
    schedules.unpause_new(checkout, api, [DAG])
    assert api.paused == {"a": False, DAG: False}


def run_of(connection, run_id, counts):
    return connection.execute(
        "INSERT INTO outbound_run (target, run_id, counts, finished_at) VALUES ('mailing_list', %s, %s, now())"
        " RETURNING id",
        (run_id, json.dumps(counts)),
    ).fetchone()[0]


def test_what_was_sent_is_a_line_and_what_could_not_be_a_table(loaded, screen):
    queued(loaded)
    with psycopg.connect(loaded) as connection:
        counts = {"orders": {"sent": 1200, "parked": 1}, "objects": {"sent": 2400}, "seconds": 1.5, "down": "no [key]"}
        this = run_of(connection, "d/this", counts)
        other = run_of(connection, "d/other", {"orders": {"parked": 1}})
        ids = [row[0] for row in connection.execute("SELECT source_id FROM outbound_queue ORDER BY id LIMIT 2")]
        for run, id_, message in (
            (this, ids[0], "EMAIL is no [address]" + 200 * "x"),
            (other, ids[1], "of another run"),
        ):
            connection.execute(
                "UPDATE outbound_queue SET need_manual_retry = 'permanent', messages = %s, failed_attempts = 1"
                " WHERE source_id = %s",
                ([message], id_),
            )
            connection.execute(
                "INSERT INTO outbound_log (run_id, target, source, source_id, outcome, triggered_by)"
                " VALUES (%s, 'mailing_list', 'order', %s, 'failed', 'placed')",
                (run, id_),
            )
        connection.commit()
        (code,) = connection.execute("SELECT code FROM customer_order WHERE id = %s", (ids[0],)).fetchone()
    report.show(screen, loaded, ["d/none"])
    assert screen.console.file.getvalue() == ""
    report.show(screen, loaded, ["d/this"])
    lines = screen.console.file.getvalue().splitlines()
    line = next(line for line in lines if line.startswith("mailing_list  "))
    assert line.split() == ["mailing_list", "1,200", "0", "0", "1", "2,400", "0", "0", "0", "1.50"]
    assert "mailing_list rejects every request: no [key]" in lines
    problem = next(line for line in lines if line.startswith(code))
    assert problem.split()[1:6] == ["salon", "waits", "for", "a", "person"]
    assert problem.split()[6:] == ["permanent", "EMAIL", "is", "no"]
    assert "[address]xxx" in "".join(lines)
    assert not [line for line in lines if "of another run" in line]
