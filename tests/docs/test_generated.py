"""`DAGS.md` says what the DAGs say."""

from datetime import UTC, datetime, timedelta

import pytest

from local import dags_md

pytestmark = pytest.mark.filterwarnings("ignore")  # Airflow's own


@pytest.fixture
def make_dag():
    from airflow.sdk import DAG, Asset, BaseOperator, Param

    def make(dag_id, **arguments):
        with DAG(dag_id, start_date=datetime(2026, 1, 1, tzinfo=UTC), **arguments) as dag:
            last = BaseOperator(task_id="a_last", outlets=[Asset(name="t", uri="postgres://db:5432/sync/public/t")])
            first = BaseOperator(task_id="z_first", retries=2, retry_delay=timedelta(seconds=90), pool="slow")
            first >> last
        dag.params.update({"limit": Param(None, type=["null", "integer"], minimum=1, description="At most | so many")})
        return dag

    return make


def test_the_file_in_the_project_is_what_the_dags_say(capsys):
    assert dags_md.main(["--check"]) == 0, capsys.readouterr().out


def test_writing_and_checking(tmp_path, capsys):
    file = tmp_path / "DAGS.md"
    assert dags_md.main(["--check"], file) == 1
    assert "+# DAGs" in capsys.readouterr().out
    assert dags_md.main([], file) == 0
    assert dags_md.main(["--check"], file) == 0
    assert file.read_text() == dags_md.FILE.read_text()

    file.write_text(file.read_text().replace("| 12 h |", "| 13 h |"))
    capsys.readouterr()
    assert dags_md.main(["--check"], file) == 1
    shown = capsys.readouterr().out
    assert "-| Longest run | 13 h |\n+| Longest run | 12 h |" in shown
    assert "run `make docs`" in shown


def test_a_chapter(make_dag):
    dag = make_dag("b", schedule="@daily", doc_md="### Title\n\nWhat it is.\n", tags=["z", "y"], catchup=False)
    text = dags_md.document({"b": dag, "a": make_dag("a", schedule=None)})
    assert text == dags_md.document({"a": make_dag("a", schedule=None), "b": dag})
    assert text.index("## a\n") < text.index("## b\n")
    assert "| [b](#b) | Title |" in text
    assert "**Title**\n\nWhat it is.\n" in text
    assert "| Tags | `y`, `z` |" in text
    assert "| Updates | `t` |" in text
    assert "| `limit` | integer from 1, or null | `null` | At most \\| so many |" in text
    tasks = text.partition("## b\n")[2].partition("### Tasks")[2]
    assert tasks.index("z_first") < tasks.index("a_last")
    assert "| `z_first` | BaseOperator |  | `slow` | 2, 90 s apart |  |" in tasks


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"schedule": None}, "| Schedule | on demand |"),
        ({"schedule": "@daily"}, "| Schedule | `0 0 * * *` UTC |"),
        ({"is_paused_upon_creation": True}, "| In a new installation | paused |"),
        ({"is_paused_upon_creation": False}, "| In a new installation | unpaused |"),
        ({}, "| In a new installation | as Airflow's `dags_are_paused_at_creation` says |"),
    ],
)
def test_a_chapter_says_when_a_dag_runs_and_whether_it_starts_paused(make_dag, arguments, line):
    assert line in dags_md.document({"a": make_dag("a", **{"schedule": None, **arguments})})


def test_a_dag_that_cannot_be_imported_is_named(tmp_path):
    (tmp_path / "broken.py").write_text("from airflow.sdk import DAG\n\n1 / 0\n")
    with pytest.raises(SystemExit, match=r"(?s)broken.*ZeroDivisionError"):
        dags_md.read_dags(tmp_path)


def test_an_empty_folder_is_an_error(tmp_path):
    with pytest.raises(SystemExit, match="There is no DAG"):
        dags_md.read_dags(tmp_path)
