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


ENGINES = ("include/connectors", "include/inbound", "include/providers", "include/store")
ALL = ("include", "include/models", *ENGINES)
PARSED = ("dags", "plugins", "include/operators")


@pytest.mark.parametrize(
    ("folders", "text", "codes"),
    [
        (ALL, AIRFLOW, ["TID251"]),
        (ALL, "import airflow\n", ["TID251"]),
        (ALL, "def work():\n    import airflow.providers.http\n", ["TID251"]),
        (PARSED, AIRFLOW, []),
        (PARSED, HEAVY, ["TID253"]),
        (PARSED, "from include.inbound.run import sync_provider\n", ["TID253"]),
        (PARSED, LATE, []),
        (ENGINES, HEAVY, []),
    ],
)
def test_where_airflow_begins_and_what_dag_files_import_late(folders, text, codes):
    for folder in folders:
        assert found(f"{folder}/probe.py", text) == codes, folder


def test_the_project_keeps_to_it():
    command = [sys.executable, "-m", "ruff", "check", "--select=TID", "dags", "include", "plugins"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
