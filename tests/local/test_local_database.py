"""How `make status`, `make problems` and `make psql` reach the database, and what they leave behind."""

import io
import os
import shutil
from pathlib import Path

import psycopg
import pytest
from rich.console import Console

from include.store.migrate import migrate
from local import commands, database, postgres, problems, psql, status
from local.checkout import Checkout, LocalError
from local.console import Screen
from local.lock import CheckoutLock
from local.signals import Signals

ROOT = Path(__file__).parents[2]


def a_local(folder, **env):
    shutil.copy(ROOT / "airflow_settings.yaml", folder)
    (folder / "dags").mkdir(exist_ok=True)
    screen = Screen(Console(file=io.StringIO(), highlight=False, soft_wrap=True))
    return commands.Local(Checkout(folder), screen, Signals(), dict(os.environ) | env)


def printed(local):
    return local.screen.console.file.getvalue()


@pytest.fixture
def local(tmp_path):
    found = a_local(tmp_path)
    with found.stack:
        yield found
    postgres.stop(found.data)


@pytest.fixture
def started(local):
    """The clone's own server with its tables, as `make up` runs it; returns the lock of that other process."""
    server = postgres.start(local.data)
    postgres.create_databases(server, "sync")
    migrate(server.conninfo("sync"))
    lock = CheckoutLock(local.checkout.state / "lock")
    lock.acquire("up")
    yield lock
    lock.release()


@pytest.mark.parametrize("command", [status.status, problems.problems])
def test_before_the_first_run_it_says_what_to_do(local, command, capsys):
    assert command(local, "", "text") == 0
    assert printed(local) == f"{database.NOTHING_YET}\n"
    assert "`make run`" in database.NOTHING_YET
    assert command(local, "", "json") == 0
    assert capsys.readouterr().out == "{}\n"
    assert not local.data.exists()


def test_psql_before_the_first_run_fails_as_psql_does_without_a_server(local):
    with pytest.raises(LocalError, match="`make run`") as error:
        psql.psql(local, "SELECT 1", [])
    assert error.value.status == 2


def test_what_runs_is_used_and_goes_on_running(local, started):
    assert status.status(local, "", "text") == 0
    assert problems.problems(local, "", "text") == 0
    assert printed(local).endswith("No problems.\n")
    assert psql.psql(local, "SELECT 1/0", []) == 1
    assert postgres.is_running(local.data)
    assert started.holder()["command"] == "up"


def test_what_does_not_run_is_started_and_stopped_again(local, started):
    started.release()
    postgres.stop(local.data)
    assert problems.problems(local, "", "text") == 0
    assert not postgres.is_running(local.data)
    assert CheckoutLock(local.checkout.state / "lock").holder() == {"command": "problems", "pid": os.getpid()} | {
        "conninfo": local.lock.holder()["conninfo"]
    }


def test_tables_of_an_older_version_are_an_error_with_what_to_do(local, started):
    with psycopg.connect(database.running_server(local.data).conninfo("sync")) as connection:
        connection.execute("ALTER TABLE search_index DROP COLUMN checked_at")
    with pytest.raises(LocalError, match="`make migrate`"):
        status.status(local, "", "text")


def test_ones_own_database_is_read_and_nothing_is_started(tmp_path, new_database):
    where = psycopg.conninfo.conninfo_to_dict(new_database())
    uri = f"postgres://postgres@/{where['dbname']}?host={where['host']}&port={where['port']}"
    local = a_local(tmp_path, AIRFLOW_CONN_SYNC_DB=uri)
    with local.stack:
        assert problems.problems(local, "", "text") == 0
        assert psql.psql(local, "SELECT 1", ["--output", str(tmp_path / "out")]) == 0
    assert "1 row" in (tmp_path / "out").read_text()
    assert not (tmp_path / ".local").exists()


def test_ones_own_database_that_is_away_is_an_error_without_its_password(tmp_path):
    local = a_local(tmp_path, AIRFLOW_CONN_SYNC_DB="postgres://me:hidden@127.0.0.1:1/sync")
    with local.stack, pytest.raises(LocalError, match=r"cannot be read: .*refused") as error:
        status.status(local, "", "text")
    assert "hidden" not in str(error.value)
    assert "\n" not in str(error.value)
    with local.stack, pytest.raises(LocalError) as error:
        problems.problems(local, "", "text")
    assert error.value.status == 2  # 1 says that there are problems
