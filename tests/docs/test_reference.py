"""What the reference pages list by hand is what exists."""

import ast
import inspect
import re

import pytest
import yaml

from include import errors
from tests.docs.pages import NAMES, ROOT, by_hand, prose, text_of

SETTINGS = yaml.safe_load((ROOT / "airflow_settings.yaml").read_text(encoding="utf-8"))["airflow"]
PAGE = "docs/reference/connections-and-variables.md"


def first_column(text, heading):
    """The names in the first column of the table below a heading."""
    part = re.split(r"^#+ ", text.partition(f"{heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    cells = re.findall(r"^\| (.+?) \|", part, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def test_every_error_says_what_to_do():
    known = {
        name
        for name, found in inspect.getmembers(errors, inspect.isclass)
        if issubclass(found, errors.ProviderSyncError)
    }
    assert first_column(text_of("docs/reference/errors.md"), "What to do") == known - {"ProviderSyncError"}


def test_extras_of_connections():
    from include.operators.connections import OWN_EXTRAS

    assert first_column(text_of(PAGE), "Extra of an http connection") == set(OWN_EXTRAS)


def test_variables():
    from include.operators.notifiers import SETTING as NOTIFIER
    from include.operators.params import VARIABLES
    from include.operators.storage import VARIABLE as STORAGE

    ours = {STORAGE, NOTIFIER, *(f"algolia_customer_dispo_{name}" for name in VARIABLES)}
    assert {entry["variable_name"] for entry in SETTINGS["variables"]} <= ours
    by_hand_table = by_hand(text_of(PAGE)).partition("## Pools")[0].rpartition("| Without it |")[2]
    assert set(re.findall(r"^\| `([^`]+)` \|", by_hand_table, re.MULTILINE)) == ours


@pytest.mark.parametrize("name", NAMES)
def test_connections_and_variables_in_prose_exist(name):
    text = prose(by_hand(text_of(name)))
    known = {entry["conn_id"] for entry in SETTINGS["connections"]} | {
        "smtp_default",
        "slack_default",
        "hook",
        "crm_api",
        "billets_api",
    }
    assert set(re.findall(r"connections? `(\w+)`", text)) <= known
    known = {f"AIRFLOW_CONN_{conn_id.upper()}" for conn_id in known}
    assert set(re.findall(r"AIRFLOW_CONN_[A-Z_]+", text)) <= known | {"AIRFLOW_CONN_"}


def test_faults_of_the_sandbox():
    from sandbox.faults import PARAMETERS

    named = first_column(text_of("docs/reference/sandbox.md"), "Own keys") | first_column(
        text_of("docs/reference/sandbox.md"), "Faults"
    )
    assert PARAMETERS.keys() <= named


def test_exit_variables_of_make():
    exported = re.search(r"^export (.+)$", text_of("Makefile"), re.MULTILINE)[1].split()
    named = first_column(text_of("docs/reference/commands.md"), "Variables of the commands")
    assert set(exported) <= named


def test_the_glossary_is_sorted_and_short():
    titles = re.findall(r"^## (.+)$", text_of("docs/glossary.md"), re.MULTILINE)
    assert titles == sorted(titles)
    assert 15 <= len(titles) <= 25


def test_tests_that_the_guarantees_name_have_tests():
    for path in re.findall(r"`(tests/[\w/]+\.py)`", text_of("docs/explanation/guarantees.md")):
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        assert any(
            isinstance(node, ast.FunctionDef | ast.ClassDef) and "test" in node.name.lower() for node in tree.body
        ), path
