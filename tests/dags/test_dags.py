"""What holds for every DAG of the project."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

pytestmark = pytest.mark.filterwarnings("ignore")  # Airflow's own; what a DAG file warns of, its import test sees

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "dags"
FILES = sorted(FOLDER.glob("*.py"))
NAMES = [path.stem for path in FILES]

HEAVY = (
    "requests",
    "psycopg",
    "algoliasearch",
    "alembic",
    "include.connectors",
    "include.inbound",
    "include.models",
    "include.providers",
    "include.store",
    "airflow.providers.http.hooks",
    "airflow.providers.postgres.hooks",
    "airflow.models.dag",
    "airflow.models.taskinstance",
)


@pytest.fixture(scope="module")
def bag():
    from airflow.dag_processing.dagbag import DagBag

    return DagBag(str(FOLDER))


@pytest.fixture(scope="module")
def dags(bag):
    return bag.dags


def every_task(dags):
    return [task for dag in dags.values() for task in dag.tasks]


def test_every_file_is_a_dag_of_its_name(bag):
    assert NAMES
    assert not bag.import_errors
    assert sorted(bag.dags) == NAMES


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_a_file_is_wiring_only(path):
    text = path.read_text()
    tree = ast.parse(text)
    assert len(text.splitlines()) - tree.body[0].end_lineno <= 45, "lines behind the DAG's doc"
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.For)]


@pytest.mark.parametrize("name", NAMES)
def test_one_tag_of_each_family(dags, name):
    from include.operators import tags

    families = [
        family
        for family in vars(tags).values()
        if isinstance(family, type) and issubclass(family, tags.StrEnum) and family is not tags.StrEnum
    ]
    assert len(families) > 1
    for family in families:
        assert len([tag for tag in family if tag in dags[name].tags]) == 1, family.__name__
    assert len(dags[name].tags) == len(families)


@pytest.mark.parametrize("name", NAMES)
def test_runs_are_bounded(dags, name):
    dag = dags[name]
    assert dag.max_active_runs == 1
    assert dag.dagrun_timeout is not None
    assert dag.catchup is False


@pytest.mark.parametrize("name", NAMES)
def test_the_schedule_of_what_reads_intervals_can_be_backfilled(dags, name):
    if "inbound" not in dags[name].tags:
        pytest.skip("it does not read its run's interval")
    if dags[name].schedule is None:
        pytest.skip("it has no schedule, and so no intervals")
    from airflow.sdk import timezone
    from airflow.serialization.serialized_objects import DagSerialization
    from airflow.timetables.base import TimeRestriction

    timetable = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dags[name])).timetable
    assert timetable.periodic
    restriction = TimeRestriction(timezone.datetime(2026, 3, 1), None, catchup=True)
    first = timetable.next_dagrun_info(last_automated_data_interval=None, restriction=restriction)
    second = timetable.next_dagrun_info(last_automated_data_interval=first.data_interval, restriction=restriction)
    assert first.data_interval.start < first.data_interval.end == second.data_interval.start


@pytest.mark.parametrize("name", NAMES)
def test_failures_and_recoveries_are_reported(dags, name):
    """The success of the last task stands for that of the run: there has to be one."""
    from include.operators import alerts

    dag = dags[name]
    assert dag.on_failure_callback is alerts.report_failed_run
    assert len(dag.leaves) == 1
    for task in dag.tasks:
        assert list(task.on_failure_callback) == [alerts.report_failed_task], task
        assert list(task.on_success_callback) == [alerts.report_recovery], task


@pytest.mark.parametrize("name", NAMES)
def test_a_dag_with_a_schedule_has_a_deadline_before_its_time_limit(dags, name):
    dag = dags[name]
    if dag.schedule is None:
        pytest.skip("a person who triggers it waits for it")
    (deadline,) = dag.deadline if isinstance(dag.deadline, list) else [dag.deadline]
    assert deadline.interval < dag.dagrun_timeout
    assert deadline.callback.path == "include.operators.alerts.report_late_run"


def test_every_task_has_an_owner_retries_a_pool_of_the_settings_and_a_time_limit(dags):
    """Airflow never starts a task whose pool does not exist, and only bounded pools leave slots for urgent tasks.

    The policy for retries is set where mapped tasks find it too, which an operator's `__init__` is not.
    """
    from include.operators.retry_policy import ErrorTreePolicy

    settings = yaml.safe_load((ROOT / "airflow_settings.yaml").read_text())["airflow"]
    pools = {pool["pool_name"] for pool in settings["pools"]}
    assert any(task.is_mapped for task in every_task(dags))
    for task in every_task(dags):
        assert task.owner != "airflow", task
        assert task.retries >= 1, task
        assert isinstance(task.retry_policy, ErrorTreePolicy), task
        assert task.pool in pools, task
        assert task.execution_timeout is not None, task
        assert not task.is_mapped or task.map_index_template == "{{ task.label }}", task


def test_search_comes_before_outbound_before_closing_before_loads(dags):
    from airflow.serialization.serialized_objects import DagSerialization

    weights = {}
    for dag in dags.values():
        scheduled = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag))
        for task in scheduled.tasks:
            weights[dag.dag_id, task.task_id] = task.weight_rule.get_weight(SimpleNamespace(task=task))
            assert weights[dag.dag_id, task.task_id] == task.priority_weight, "the weight of a task is its own alone"
    loads = {weight for (_, task_id), weight in weights.items() if task_id in ("open_load", "sync_venues")}
    closing = {weight for (_, task_id), weight in weights.items() if task_id == "close_load"}
    outbound = {weight for (dag_id, _), weight in weights.items() if dag_id.startswith("outbound")}
    search = {weights["algolia_customer_dispo", "patch_index"]}
    assert max(loads) < min(closing) <= max(closing) < min(outbound) <= max(outbound) < min(search)


@pytest.mark.parametrize(("given", "expected"), [(None, "default"), ("urgent", "urgent")])
def test_the_per_minute_dag_can_have_workers_of_its_own(monkeypatch, given, expected):
    from airflow.dag_processing.dagbag import DagBag

    if given:
        monkeypatch.setenv("AIRFLOW__PROVIDER_SYNC__URGENT_QUEUE", given)
    dags = DagBag(str(FOLDER)).dags
    assert dags["algolia_customer_dispo"].get_task("patch_index").queue == expected
    assert {task.queue for name, dag in dags.items() if name != "algolia_customer_dispo" for task in dag.tasks} == {
        "default"
    }


@pytest.mark.parametrize("name", NAMES)
def test_users_see_a_name_what_it_does_when_and_what_to_do_when_it_fails(dags, name):
    dag = dags[name]
    assert dag.dag_display_name != name
    assert not dag.dag_display_name.startswith("#")
    purpose, _, schedule = dag.description.removesuffix(".").rpartition(". ")
    assert purpose
    assert schedule.startswith(("Every", "At", "Runs when triggered"))
    assert "*" not in schedule
    assert dag.doc_md.startswith("### ")
    assert "**Triage.**" in dag.doc_md


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        ("30 2 * * *", "Every day at 02:30, Paris time"),
        ("* * * * *", "Every minute"),
        ("*/5 * * * *", "Every 5 minutes"),
        ("0 6 * * 1", "At 06:00, only on Monday, Paris time"),
        (None, "Runs when triggered"),
    ],
)
def test_a_schedule_in_words(schedule, words):
    from include.operators.defaults import schedule_in_words

    assert schedule_in_words(schedule) == words


def test_the_producers_of_a_table_are_known_before_they_run(dags):
    producers = {}
    for dag in dags.values():
        for task in dag.tasks:
            for outlet in task.outlets:
                producers.setdefault(outlet.name, set()).add(dag.dag_id)
    inbound = {name for name, dag in dags.items() if "inbound" in dag.tags}
    assert producers["provider_sync.offer"] == producers["provider_sync.stock"] == inbound
    assert producers["provider_sync.product"] == {"allocine_stocks"}
    assert len(producers) == 3


def test_the_local_run_knows_every_dag_that_sends(dags):
    """It lets those send to the sandbox only."""
    from include.targets import load_target
    from local.outbound import targets

    sending = {name: dag for name, dag in dags.items() if "outbound" in dag.tags}
    opened = {name: load_target(dag.roots[0].target) for name, dag in sending.items()}
    assert opened == targets(FOLDER)
    for dag in sending.values():
        assert dag.is_paused_upon_creation


@pytest.fixture(scope="module")
def parsed():
    """What two fresh processes say of the DAG files, with different hashes of strings."""
    processes = [_parse(seed) for seed in ("1", "2")]
    answers = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    return [json.loads(answer.splitlines()[-1]) for answer in answers]


def _parse(seed):
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", str(Path(__file__).with_name("parsing.py")), str(FOLDER)],
        env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_dag_that_did_not_change_is_no_new_version(parsed):
    first, second = parsed
    assert sorted(first["hashes"]) == NAMES
    assert first["hashes"] == second["hashes"]


def test_parsing_imports_nothing_heavy(parsed):
    imported = parsed[0]["imported"]
    assert "include.operators.load" in imported
    assert [name for name in imported if name.startswith(HEAVY)] == []


def test_parsing_is_quick(parsed):
    """The aim is 0.2 s; five times that on a busy machine is still a mistake found."""
    for name, seconds in parsed[0]["seconds"].items():
        assert seconds < 1.0, name
