"""Airflow's events of the tables: which there are, and that DAGs which close together do not hinder each other."""

import json
import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

ROOT = Path(__file__).parents[2]
RACES = 20


def airflow_process(url, *command):
    """Run Python with an Airflow on this metadata database; returns what it printed."""
    env = os.environ | {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": url, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *command], env=env, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.timeout(900)  # twenty databases, and an Airflow that a busy machine builds in half a minute
def test_eight_loads_that_close_in_the_same_second_all_succeed_on_a_fresh_metadata_database(postgres):
    url = postgres.sqlalchemy_url("{}")
    with psycopg.connect(postgres.conninfo("postgres"), autocommit=True) as connection:
        connection.execute("CREATE DATABASE airflow_template")
    airflow_process(url.format("airflow_template"), "-m", "airflow", "db", "migrate")
    printed = airflow_process(
        url.format("airflow_template"), "-m", "tests.operators.asset_race", url, "airflow_template", str(RACES)
    )
    races = json.loads(printed.splitlines()[-1])
    assert len(races) == RACES
    for race in races:
        assert race["answers"] == ["closed"] * 8
        assert race["states"] == ["success"] * 8
        assert race["events"] == {"provider_sync.product": 8, "provider_sync.offer": 8, "provider_sync.stock": 8}
