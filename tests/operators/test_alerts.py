"""Alerts of a DAG: one per incident, with the true cause, also when several callbacks see the same failure."""

import asyncio
import json
from datetime import timedelta
from types import SimpleNamespace

import psycopg
import pytest
from airflow.sdk.definitions.dag import DAG

from include.errors import RequestRefused
from tests.operators.conftest import Run

DAG_ID = "some_dag"
FAILING, TIMED_OUT, LATE, WORKS = (f"{DAG_ID}: {what}" for what in ("failing", "timed out", "late", "works again"))
DOC = "### Title\n\nWhat it does.\n\n**Triage.** Look at\nthe log. Then clear.\n\nMore."


@pytest.fixture
def dag(channel, database, set_database, monkeypatch):
    """Functions that run the callbacks of a DAG, and give what is kept of its incident."""
    from include.operators import alerts

    set_database(database)
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.test/some/prefix/")
    dag = DAG(DAG_ID, schedule=None, doc_md=DOC, dagrun_timeout=timedelta(hours=12))
    task = SimpleNamespace(downstream_task_ids=set())

    def context(run_id="1", previous=None, task=task, **more):
        dag_run = SimpleNamespace(triggering_user_name="anna")
        previous = previous and SimpleNamespace(state=previous)
        instance = SimpleNamespace(
            dag_id=DAG_ID, task_id="last", get_previous_dagrun=lambda: previous, xcom_push=lambda **kwargs: None
        )
        return {"dag": dag, "run_id": run_id, "ti": instance, "task": task, "dag_run": dag_run, **more}

    def kept():
        with psycopg.connect(database) as connection:
            return connection.execute("SELECT failures, error, notified_at IS NOT NULL FROM failure_episode").fetchall()

    def late(run_id="1", state="running", run_type="scheduled", within="5 min"):
        run = {"dag_id": DAG_ID, "dag_run_id": run_id, "state": state, "run_type": run_type, "queued_at": "2026-01-01"}
        asyncio.run(alerts.report_late_run({"dag_run": run}, within))

    return SimpleNamespace(
        task_fails=lambda error="boom", **more: alerts.report_failed_task(context(exception=error, **more)),
        run_fails=lambda reason="task_failure", **more: alerts.report_failed_run(context(reason=reason, **more)),
        works=lambda **more: alerts.report_recovery(context(**more)),
        late=late,
        kept=kept,
        inner=SimpleNamespace(downstream_task_ids={"last"}),
    )


# Once per incident


def test_once_when_it_begins_and_once_when_it_is_over(channel, dag):
    for number in range(3):
        dag.task_fails(ValueError(f"boom {number}"), run_id=f"run {number}")
        dag.run_fails(run_id=f"run {number}")
    (card,) = channel.cards()
    assert card["title"] == FAILING
    assert card["text"] == (
        "ValueError: boom 0\nFailed runs: 1\nWhat to do: Look at the log. Then clear."
        " One more message follows when it works again.\nRun: run 0\nTriggered by: anna"
    )
    assert dag.kept()[0][::2] == (3, True)
    dag.works()
    dag.works()
    (card,) = channel.cards()
    assert card["title"] == WORKS
    assert "Failed runs: 3\nLast error: " in card["text"]
    assert dag.kept() == []


def test_the_link_leads_to_the_run_also_behind_a_path_prefix(channel, dag):
    dag.task_fails(run_id="scheduled__2026-06-01T00:00:00+00:00")
    (card,) = channel.cards()
    (action,) = card["card"]["actions"]
    runs = f"https://airflow.test/some/prefix/dags/{DAG_ID}/runs"
    assert action["url"] == f"{runs}/scheduled__2026-06-01T00%3A00%3A00%2B00%3A00"


def test_a_task_before_the_last_reports_nothing_by_itself(channel, dag):
    dag.task_fails(task=dag.inner)
    dag.works(task=dag.inner)
    assert (channel.titles(), dag.kept()) == ([], [])


def test_a_killed_task_is_left_to_the_callback_of_the_dag(channel, dag):
    dag.task_fails(None)
    assert (channel.titles(), dag.kept()) == ([], [])
    dag.run_fails()
    (card,) = channel.cards()
    assert (card["title"], card["text"].startswith("See the log of the red task of the run\n")) == (FAILING, True)


def test_a_run_that_timed_out_says_so(channel, dag):
    dag.run_fails("timed_out")
    (card,) = channel.cards()
    assert card["title"] == TIMED_OUT
    assert card["text"].startswith("The run was stopped after 12 h (dagrun_timeout); the task last was not finished\n")
    dag.works()
    assert channel.titles() == [WORKS]


def test_the_next_incident_is_reported_again(channel, dag):
    for number in range(2):
        dag.task_fails(run_id=str(number))
        dag.works()
    assert channel.titles() == [FAILING, WORKS] * 2


def test_a_cleared_run_that_fails_again_counts_once(channel, dag):
    for _ in range(3):
        dag.task_fails(run_id="same")
        dag.run_fails(run_id="same")
    assert channel.titles() == [FAILING]
    assert dag.kept() == [(1, "boom", True)]


def test_an_alert_that_was_not_delivered_is_sent_by_the_next_callback(channel, dag):
    channel.fault("status", status=503)
    dag.task_fails(run_id="1")
    assert channel.titles() == []
    channel.heal()
    dag.run_fails(run_id="1")
    dag.task_fails(run_id="2")
    assert channel.titles() == [FAILING]


def test_a_recovery_that_was_not_delivered_is_sent_by_the_next_good_run(channel, dag):
    dag.task_fails()
    channel.fault("status", status=400)
    dag.works()
    assert dag.kept() != []
    channel.heal()
    dag.works()
    dag.works()
    assert channel.titles() == [FAILING, WORKS]


def test_an_incident_that_nobody_heard_of_ends_all_the_same(channel, dag, monkeypatch):
    monkeypatch.delenv("AIRFLOW_CONN_TEAMS")
    dag.task_fails()
    dag.works()
    assert dag.kept() == []


@pytest.mark.parametrize("error", ["it said password=hunter22 to me", RuntimeError("http://user:hunter22@host/")])
def test_secrets_in_an_error_are_hidden(channel, dag, error):
    dag.task_fails(error)
    (card,) = channel.cards()
    assert "hunter22" not in json.dumps(card)
    assert "***" in card["text"]
    assert "hunter22" not in str(dag.kept())


def test_a_long_error_is_cut(channel, dag):
    dag.task_fails(ValueError("x" * 50_000))
    (card,) = channel.cards()
    assert 1000 < len(card["text"]) < 3000


def test_an_error_of_the_project_needs_no_class_name(channel, dag):
    dag.task_fails(RequestRefused("the service knows no venue 5", status=404))
    (card,) = channel.cards()
    assert card["text"].startswith("the service knows no venue 5\n")


@pytest.mark.parametrize(
    ("previous", "reported"), [("failed", []), ("success", [FAILING]), (None, [FAILING]), ("running", [FAILING])]
)
def test_while_the_database_is_away_the_run_before_decides(channel, dag, set_database, caplog, previous, reported):
    set_database("host=127.0.0.1 port=1 user=nobody dbname=none")
    dag.task_fails("boom", previous=previous)
    dag.run_fails(previous=previous)
    assert channel.titles() == reported
    assert "Could not record the incident: PostgreSQL of connection 'sync_db' cannot be reached" in caplog.text
    dag.works()
    assert channel.titles() == []
    assert "Could not look up the open incident" in caplog.text


# Late runs


def test_a_late_run_is_reported_once_and_its_end_too(channel, dag):
    for number in range(3):
        dag.late(run_id=f"run {number}")
    (card,) = channel.cards()
    assert card["title"] == LATE
    assert card["text"].startswith("The run has not ended within 5 min of being queued.\nState: running\nQueued at: ")
    assert card["text"].endswith("\nRun: run 0")
    dag.works(run_id="run 0")
    (card,) = channel.cards()
    assert (card["title"], "Was late: run run 0 has not ended within 5 min" in card["text"]) == (WORKS, True)
    assert dag.kept() == []


def test_a_late_run_that_fails_is_news(channel, dag):
    dag.late()
    dag.run_fails("timed_out")
    dag.late(run_id="2")
    dag.works()
    assert channel.titles() == [LATE, TIMED_OUT, WORKS]


@pytest.mark.parametrize("run", [{"state": "success"}, {"state": "failed"}, {"run_type": "backfill"}], ids=str)
def test_a_run_that_has_ended_or_waits_for_another_of_its_backfill_is_not_late(channel, dag, run):
    dag.late(**run)
    assert (channel.titles(), dag.kept()) == ([], [])


def test_a_late_run_is_reported_although_the_database_is_away(channel, dag, set_database):
    set_database("host=127.0.0.1 port=1 user=nobody dbname=none")
    dag.late()
    assert channel.titles() == [LATE]


@pytest.mark.parametrize(
    ("seconds", "words"), [(300, "5 min"), (43_200, "12 h"), (5400, "1 h 30 min"), (45, "45 s"), (0, "0 s")]
)
def test_durations_are_in_words(airflow, seconds, words):
    from include.operators.alerts import in_words

    assert in_words(timedelta(seconds=seconds)) == words


# The inbound DAGs, through Airflow's own machinery


def test_an_inbound_run_names_the_failed_venues_and_recovers_when_it_is_cleared(service, shops, run, channel):
    siret = service.sirets[0]
    service.fault("status", status=404, venue=siret)
    failed = run()
    assert failed.state == "failed"
    (card,) = channel.cards()
    assert card["title"] == "titelive_stocks: failing"
    assert "1 of 3 venue links failed" in card["text"]
    assert siret in card["text"]
    service.heal()
    assert failed.clear("sync_venues", "close_load").state == "success"
    assert channel.titles() == ["titelive_stocks: works again"]


def test_a_load_that_could_not_be_opened_tells_the_error_of_the_task_that_opens_it(shops, service, run, channel):
    for _ in range(2):
        assert run({"venue_links": ["nonsense"]}).state == "failed"
    (card,) = channel.cards()
    assert card["title"] == "titelive_stocks: failing"
    assert "nonsense" in card["text"]
    assert "No load was opened" not in card["text"]
    assert shops.execute("SELECT failures FROM failure_episode").fetchall() == [(2,)]
    assert run().state == "success"
    assert channel.titles() == ["titelive_stocks: works again"]


def test_a_retry_that_succeeds_sends_nothing(service, shops, run, channel):
    service.fault("status", status=503, times=1)
    done = run()
    assert (done.state, sum(done.tries.values()) > len(done.tries)) == ("success", True)
    assert channel.titles() == []


def test_the_dag_processor_reports_a_run_that_timed_out(service, shops, airflow, load_dag, channel):
    session = airflow.Session()
    started = Run(load_dag("titelive_stocks"), session).create({}, "scheduled", None)
    started.call_back("timed_out")
    started.call_back("timed_out")
    (card,) = channel.cards()
    assert card["title"] == "titelive_stocks: timed out"
    assert "The run was stopped after 12 h (dagrun_timeout)" in card["text"]
    assert "The red `close_load` names the venues" in card["text"]
    assert shops.execute("SELECT failures FROM failure_episode").fetchall() == [(1,)]
    session.close()
