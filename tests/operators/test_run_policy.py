"""The cluster policy refuses a run while it is created, and lets every other run be."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.operators.conftest import Run

ROOT = Path(__file__).parents[2]
HUGE = 10**30


@pytest.fixture
def create(airflow, load_dag):
    """A function that creates a run as Airflow's API does; the run is taken back at the end."""
    session = airflow.Session()

    def start(dag_id, conf, *, run_type="manual", state="queued"):
        return Run(load_dag(dag_id), session).create(conf, run_type, None, state=state).dag_run

    yield start
    session.rollback()
    session.close()


def test_airflow_has_loaded_the_policy(airflow):
    """It finds `airflow_local_settings.py` on the Python path."""
    import airflow_local_settings
    from include.operators.run_policy import task_instance_mutation_hook

    assert airflow_local_settings.task_instance_mutation_hook is task_instance_mutation_hook
    assert not airflow.task_instance_mutation_hook.is_noop


@pytest.mark.parametrize("run_type", ["manual", "operator_triggered"])
@pytest.mark.parametrize(
    ("dag_id", "name", "meant"),
    [
        ("titelive_stocks", "dryrun", "dry_run"),
        ("outbound_mailing_list", "Orders", "orders"),
        ("algolia_customer_dispo", "compare-every", "compare_every"),
        ("venue_links", "setings", "settings"),
    ],
)
def test_an_unknown_parameter_is_refused_with_what_was_meant(create, dag_id, name, meant, run_type):
    from airflow.exceptions import ParamValidationError

    with pytest.raises(
        ParamValidationError, match=rf"^{dag_id} has no parameter {name} \(did you mean {meant}\?\); it"
    ):
        create(dag_id, {name: True}, run_type=run_type)


def test_a_backfill_is_refused_with_the_error_that_its_route_reports(create):
    from airflow.models.backfill import InvalidBackfillConf

    with pytest.raises(InvalidBackfillConf, match="did you mean dry_run"):
        create("titelive_stocks", {"dryrun": True}, run_type="backfill")


@pytest.mark.parametrize(
    ("dag_id", "conf"),
    [
        ("titelive_stocks", {"limit": HUGE}),
        ("titelive_stocks", {"venue_links": [HUGE]}),
        ("titelive_stocks", {"unknown": HUGE}),
        ("titelive_stocks", {"unknown": {"a": [{"b": -HUGE}]}}),
        ("venue_links", {"settings": {"prices": [{"price": HUGE}]}}),
        ("outbound_mailing_list", {"mappings": [{"property_mappings": [{"value_map": {"p": HUGE}}]}]}),
        ("algolia_customer_dispo", {"compare_every": HUGE}),
    ],
    ids=str,
)
def test_a_number_that_no_task_can_get_is_refused_wherever_it_is(create, dag_id, conf):
    from airflow.exceptions import ParamValidationError

    with pytest.raises(ParamValidationError):
        create(dag_id, conf)


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1, "\ud800"])
def test_what_a_dag_lets_through_must_still_reach_its_tasks(value):
    from include.operators.run_policy import _reason_not_encodable

    assert _reason_not_encodable({"own": [{"a": value}]}).startswith("Airflow cannot pass these parameters to a task: ")
    assert _reason_not_encodable({"own": [2**64 - 1, -(2**63), 1.5, None, "é"]}) is None


@pytest.mark.parametrize("conf", [None, {}, {"limit": 5}, {"limit": None, "venue_links": [1]}])
@pytest.mark.parametrize("run_type", ["manual", "backfill", "scheduled", "operator_triggered"])
def test_every_other_run_is_created_with_all_its_tasks(create, run_type, conf):
    made = create("titelive_stocks", conf, run_type=run_type)
    assert {instance.task_id for instance in made.task_instances} == {"open_load", "sync_venues", "close_load"}


@pytest.mark.parametrize("run_type", ["scheduled", "asset_triggered"])
def test_the_scheduler_never_meets_an_error(create, run_type):
    assert create("titelive_stocks", {"dryrun": True}, run_type=run_type).task_instances


def test_a_run_that_exists_is_left_to_its_tasks(create):
    """One of an earlier version of the project: Airflow goes through its tasks when the DAG changes."""
    from sqlalchemy.orm import object_session

    made = create("titelive_stocks", {"dryrun": True}, state="running")
    for state in ("running", "queued", "failed"):
        made.state = state
        made.verify_integrity(dag_version_id=made.created_dag_version_id, session=object_session(made))


def test_an_error_of_the_policy_itself_lets_the_run_be(create, monkeypatch, caplog):
    def fail(*arguments):
        raise RuntimeError("a mistake")

    monkeypatch.setattr("include.operators.unknown_params.unknown_params", fail)
    assert create("titelive_stocks", {"dryrun": True}).task_instances
    assert "; its tasks will check them" in caplog.text


def test_tasks_of_other_projects_are_left_alone():
    from types import SimpleNamespace

    from airflow.models.taskinstance import TaskInstance
    from airflow.providers.standard.operators.empty import EmptyOperator

    from include.operators.run_policy import task_instance_mutation_hook

    run = SimpleNamespace(conf={"anything": 1}, run_type="manual", state="queued", dag=SimpleNamespace(params={}))
    instance = TaskInstance.__new__(TaskInstance)
    instance.task = EmptyOperator(task_id="theirs")
    task_instance_mutation_hook(instance, run)
    task_instance_mutation_hook(instance, None)


def test_the_policy_costs_nothing_when_airflow_starts():
    """Airflow imports it while it starts, in every task too."""
    code = "import sys, airflow_local_settings; print([n for n in sys.modules if n.split('.')[0] in HEAVY])"
    code = code.replace("HEAVY", "('airflow', 'msgspec', 'sqlalchemy', 'psycopg')")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
