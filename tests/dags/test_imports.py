"""Ruff holds the direction of imports: Airflow only where Airflow begins, nothing heavy while DAGs are parsed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

AIRFLOW = "from airflow.sdk import BaseOperator\n"
HEAVY = "import psycopg\n"
LATE = "def work():\n    import psycopg\n\n    return psycopg\n"


def found(path, text):
    """The codes that ruff finds in a file of the project with this path and text; the file need not be there."""
    command = [sys.executable, "-m", "ruff", "check", "--select=TID251,TID253", "--output-format=json"]
    done = subprocess.run(
        [*command, f"--stdin-filename={path}", "-"], cwd=ROOT, input=text, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1), done.stderr
    return [each["code"] for each in json.loads(done.stdout)]


@pytest.mark.parametrize(
    "folder",
    ["include", "include/connectors", "include/inbound", "include/models", "include/providers", "include/store"],
)
@pytest.mark.parametrize("text", [AIRFLOW, "import airflow\n", "def work():\n    import airflow.providers.http\n"])
def test_airflow_is_kept_out(folder, text):
    assert found(f"{folder}/probe.py", text) == ["TID251"]


@pytest.mark.parametrize("folder", ["dags", "plugins", "include/operators"])
def test_airflow_begins_here(folder):
    assert found(f"{folder}/probe.py", AIRFLOW) == []


@pytest.mark.parametrize("folder", ["dags", "plugins", "include/operators"])
def test_nothing_heavy_while_dags_are_parsed(folder):
    assert found(f"{folder}/probe.py", HEAVY) == ["TID253"]
    assert found(f"{folder}/probe.py", "from include.inbound.run import sync_provider\n") == ["TID253"]
    assert found(f"{folder}/probe.py", LATE) == []


@pytest.mark.parametrize("folder", ["include/connectors", "include/inbound", "include/providers", "include/store"])
def test_engines_import_what_they_need(folder):
    assert found(f"{folder}/probe.py", HEAVY) == []


def test_the_project_keeps_to_it():
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--select=TID", "dags", "include", "plugins"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
