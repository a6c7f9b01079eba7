"""Generated blocks say what the code says."""

from datetime import UTC, datetime, timedelta

import pytest

from local.docs import __main__ as docs
from local.docs import classes, commands, dags, relations
from local.docs.sources import Sources, read_dags, table

pytestmark = pytest.mark.filterwarnings("ignore")  # Airflow's own


@pytest.fixture
def make_dag():
    from airflow.sdk import DAG, Asset, BaseOperator, Param

    def make(dag_id, **arguments):
        with DAG(dag_id, start_date=datetime(2026, 1, 1, tzinfo=UTC), **arguments) as dag:
            last = BaseOperator(task_id="a_last", outlets=[Asset(name="t", uri="postgres://db:5432/sync/public/t")])
            first = BaseOperator(task_id="z_first", retries=2, retry_delay=timedelta(seconds=90), pool="slow")
            first >> last
        dag.params.update({"amount": Param(None, type=["null", "integer"], minimum=1, description="At most | this")})
        return dag

    return make


@pytest.fixture
def chapter(tmp_path):
    """A function that gives the chapters of some DAGs."""

    def chapter(*given):
        sources = Sources(tmp_path)
        sources.dags = {dag.dag_id: dag for dag in given}
        return dags.chapters(sources)

    return chapter


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


def test_only_some_generators(project):
    assert docs.main(["commands"], project) == 0
    assert docs.main(["--check"], project) == 1


def test_a_block_without_a_generator_is_an_error(project):
    (project / "docs" / "page.md").write_text("<!-- generated: nothing -->\n<!-- end generated -->\n")
    with pytest.raises(SystemExit, match="There is no generator 'nothing'"):
        docs.main([], project)


def test_a_chapter_of_a_dag(make_dag, chapter):
    text = chapter(
        make_dag("b", schedule="@daily", doc_md="### Title\n\nWhat it is.\n", tags=["z", "y"], catchup=False)
    )
    assert text.startswith("## b\n\n**Title**\n\nWhat it is.\n\n")
    assert "| Tags | `y`, `z` |" in text
    assert "| Updates assets | `t` |" in text
    assert "| Tasks | `z_first` → `a_last` |" in text
    assert "| Pool | `default_pool`, `slow` |" in text
    assert "| Parameters | its own below |" in text
    assert "| `amount` | integer from 1 |  | At most \\| this |" in text


def test_what_an_earlier_dag_says_too_is_a_link(make_dag, chapter):
    doc = "### Title\n\nWhat it is.\n\n**Triage.** Clear it."
    text = chapter(make_dag("a", schedule=None, doc_md=doc), make_dag("b", schedule=None, doc_md=doc))
    assert text.count("Clear it.") == 1
    assert "**Triage.** As for [a](#a)." in text.partition("## b\n")[2]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"schedule": None}, "| Schedule | Runs when triggered |"),
        ({"schedule": "@daily"}, "| Schedule | Every day at 00:00, UTC time |"),
        ({"is_paused_upon_creation": True}, "| In a new installation | paused |"),
        ({"is_paused_upon_creation": False}, "| In a new installation | unpaused |"),
        ({}, "| In a new installation | as Airflow's `dags_are_paused_at_creation` says |"),
    ],
)
def test_when_a_dag_runs_and_whether_it_starts_paused(make_dag, chapter, arguments, line):
    assert line in chapter(make_dag("a", **{"schedule": None, **arguments}))


def test_a_dag_that_cannot_be_imported_is_named(tmp_path):
    (tmp_path / "broken.py").write_text("from airflow.sdk import DAG\n\n1 / 0\n")
    with pytest.raises(SystemExit, match=r"(?s)broken.*ZeroDivisionError"):
        read_dags(tmp_path)


def test_an_empty_folder_is_an_error(tmp_path):
    with pytest.raises(SystemExit, match="There is no DAG"):
        read_dags(tmp_path)


def test_a_class(tmp_path):
    (tmp_path / "module.py").write_text(
        '''class Thing:
    """What it is.

    It has::

        a = 1

    and more.
    """

    size: ClassVar[int] = 1
    """Of each
    of them."""
    _own: int = 2

    @property
    def total(self, *, of: int = 3) -> dict[str, int]:
        """Count.

        Args:
            of: how many,
                at most.

        Raises:
            ValueError: none.
        """

    def _private(self): ...
'''
    )
    text = classes.render(Sources(tmp_path), "module.py", "Thing")
    assert "It has:\n\n```python\na = 1\n```\n\nand more." in text
    assert "- `size: int = 1`: Of each of them." in text
    assert "@property\ndef total(self, *, of: int = 3) -> dict[str, int]" in text
    assert "**Args**\n\n- `of`: how many, at most.\n\n**Raises**\n\n- `ValueError`: none." in text
    assert "_own" not in text
    assert "_private" not in text
    with pytest.raises(SystemExit, match=r"module\.py has no Other"):
        classes.render(Sources(tmp_path), "module.py", "Other")


def test_commands_in_their_groups(tmp_path):
    (tmp_path / "Makefile").write_text(
        "##@ Start\n\nrun: venv ## run it\n\trun\n\n##@ Other\n\nall: ## do | all\n\nx:\n"
    )
    text = commands.render(Sources(tmp_path))
    assert text == (
        "## Start\n\n| Command | What it does |\n| --- | --- |\n| `make run` | run it |\n\n"
        "## Other\n\n| Command | What it does |\n| --- | --- |\n| `make all` | do \\| all |"
    )


def test_every_table_view_and_column_has_a_comment(database):
    with Sources(conninfo=database) as sources:
        text = relations.render(sources, "tables") + relations.render(sources, "views")
    assert [line for line in text.splitlines() if line.endswith("|  |")] == []
    assert "\n\n\n" not in text


def test_a_table_keeps_its_cells(tmp_path):
    assert table(("a", "b"), [("1|2", "3\n4")]) == "| a | b |\n| --- | --- |\n| 1\\|2 | 3 4 |"
