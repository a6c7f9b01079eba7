"""Generated blocks say what the code says.

The pages are the examples that the generators are compared with; the other tests have what no page contains.
"""

from datetime import UTC, datetime, timedelta

import pytest

from local.docs import __main__ as docs
from local.docs import classes, dags, reference
from local.docs.sources import Sources, table

pytestmark = pytest.mark.filterwarnings("ignore")  # Airflow's own


@pytest.fixture
def project(tmp_path):
    """A page with one block, and the module that it is of."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "page.md").write_text(
        "# Page\n\n<!-- generated: class module.py Thing -->\n<!-- end generated -->\n\nBy hand.\n"
    )
    (tmp_path / "module.py").write_text('class Thing(Base):\n    """What it is."""\n')
    return tmp_path


def test_the_pages_of_the_project_are_up_to_date(database, capsys):
    assert docs.main(["--check"], conninfo=database) == 0, capsys.readouterr().out


def test_writing_and_checking(project, capsys):
    page = project / "docs" / "page.md"
    assert docs.main(["commands"], project) == 0, "only other generators"
    assert docs.main(["--check"], project) == 1
    assert "+class Thing(Base)" in capsys.readouterr().out
    assert docs.main([], project) == 0
    assert docs.main(["--check"], project) == 0
    text = page.read_text()
    assert text.startswith("# Page\n\n<!-- generated")
    assert text.endswith("What it is.\n\n<!-- end generated -->\n\nBy hand.\n")

    page.write_text(text.replace("What it is.", "What it was."))
    capsys.readouterr()
    assert docs.main(["--check"], project) == 1
    assert "-What it was.\n+What it is." in (shown := capsys.readouterr().out)
    assert "run `make docs`" in shown


@pytest.mark.parametrize(
    ("block", "error"),
    [
        ("nothing", "There is no generator 'nothing'"),
        ("class module.py Other", r"module\.py has no Other"),
        ("dag-table page", "There is no DAG"),
        ("dags", r"(?s)broken.*ZeroDivisionError"),
    ],
)
def test_a_block_that_cannot_be_written(project, block, error):
    if block == "dags":
        (project / "dags").mkdir()
        (project / "dags" / "broken.py").write_text("from airflow.sdk import DAG\n\n1 / 0\n")
    (project / "docs" / "page.md").write_text(f"<!-- generated: {block} -->\n<!-- end generated -->\n")
    with pytest.raises(SystemExit, match=error):
        docs.main([], project)


def test_a_chapter_of_a_dag_with_parameters_of_its_own(tmp_path):
    from airflow.sdk import DAG, BaseOperator, Param

    params = {"amount": Param(None, type=["null", "integer"], minimum=1, description="At most | this")}
    with DAG("b", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC), params=params) as dag:
        last = BaseOperator(task_id="a_last")
        BaseOperator(task_id="z_first", retry_delay=timedelta(seconds=90), pool="slow") >> last
    sources = Sources(tmp_path)
    sources.dags = {"b": dag}
    text = dags.chapters(sources)
    assert text.startswith("## b\n\n**b**\n\n")
    for line in (
        "as Airflow's `dags_are_paused_at_creation` says |",
        "| Tasks | `z_first` → `a_last` |",
        "| Pool | `default_pool`, `slow` |",
        "| Retries | 0, 5 min apart, 0, 90 s apart |",
        "| Parameters | its own below |",
        "| `amount` | integer from 1 |  | At most \\| this |",
    ):
        assert line in text


def test_a_literal_block_keeps_its_indentation(tmp_path):
    (tmp_path / "module.py").write_text(
        '''@final
def total(*, of: int = 3) -> int:  # noqa: X1
    """Count.

    As in::

        def f():
            return 1

        f()

    or more.

    Args:
        of: how many,
            at most.
    """
'''
    )
    assert classes.render(Sources(tmp_path), "module.py", "total") == (
        "### total\n\n```python\n@final\ndef total(*, of: int = 3) -> int\n```\n\nCount.\n\nAs in:\n\n"
        "```python\ndef f():\n    return 1\n\nf()\n```\n\nor more.\n\n**Args**\n\n- `of`: how many, at most."
    )


def test_every_table_view_and_column_has_a_comment(database):
    with Sources(conninfo=database) as sources:
        text = reference.relations(sources, "tables") + reference.relations(sources, "views")
    assert [line for line in text.splitlines() if line.endswith("|  |")] == []
    assert "\n\n\n" not in text


def test_a_table_keeps_its_cells():
    assert table(("a", "b"), [("1|2", "3\n4")]) == "| a | b |\n| --- | --- |\n| 1\\|2 | 3 4 |"
