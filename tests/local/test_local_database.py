"""`make status`, `make problems` and `make psql` reach the database and leave nothing running."""

import os

import psycopg
import pytest

from include.store.migrate import migrate
from local import database, postgres, problems, psql, status
from local.checkout import LocalError
from local.lock import CheckoutLock


@pytest.fixture
def started(local, up_lock):
    """The embedded server with its tables, run as by `make up` in another process; returns that process's lock."""
    server = postgres.start(local.data)
    postgres.create_databases(server, "sync")
    migrate(server.conninfo("sync"))
    yield up_lock
    postgres.stop(local.data)


@pytest.mark.parametrize("command", [status.status, problems.problems])
def test_before_the_first_run_it_says_what_to_do(local, command, printed, capsys):
    assert command(local, "", "text") == 0
    assert printed() == [database.NOTHING_YET]
    assert "`make run`" in database.NOTHING_YET
    assert command(local, "", "json") == 0
    assert capsys.readouterr().out == "{}\n"
    assert not local.data.exists()


def test_psql_before_the_first_run_fails_as_psql_does_without_a_server(local):
    with pytest.raises(LocalError, match="`make run`") as error:
        psql.psql(local, "SELECT 1", [])
    assert error.value.status == 2


def test_a_running_server_is_used_and_keeps_running(local, started, printed):
    assert status.status(local, "", "text") == 0
    assert problems.problems(local, "", "text") == 0
    assert printed()[-1] == "No problems."
    assert psql.psql(local, "SELECT 1/0", []) == 1
    assert postgres.is_running(local.data)
    assert started.holder()["command"] == "up"


def test_a_stopped_server_is_started_and_stopped_again(local, started):
    started.release()
    postgres.stop(local.data)
    assert problems.problems(local, "", "text") == 0
    assert not postgres.is_running(local.data)
    assert CheckoutLock(local.checkout.state / "lock").holder() == {"command": "problems", "pid": os.getpid()} | {
        "conninfo": local.lock.holder()["conninfo"]
    }


def test_tables_of_an_older_version_are_an_error_with_what_to_do(local, started):
    with psycopg.connect(postgres.running_server(local.data).conninfo("sync")) as connection:
        connection.execute("ALTER TABLE search_index DROP COLUMN checked_at")
    with pytest.raises(LocalError, match="`make migrate`"):
        status.status(local, "", "text")


def test_the_users_own_database_is_read_and_nothing_is_started(tmp_path, make_local, new_database):
    where = psycopg.conninfo.conninfo_to_dict(new_database())
    uri = f"postgres://postgres@/{where['dbname']}?host={where['host']}&port={where['port']}"
    local = make_local(AIRFLOW_CONN_SYNC_DB=uri)
    with local.cleanup:
        assert problems.problems(local, "", "text") == 0
        assert psql.psql(local, "SELECT 1", ["--output", str(tmp_path / "out")]) == 0
    assert "1 row" in (tmp_path / "out").read_text()
    assert not (tmp_path / ".local").exists()


def test_an_unreachable_database_is_an_error_without_its_password(make_local):
    local = make_local(AIRFLOW_CONN_SYNC_DB="postgres://me:hidden@127.0.0.1:1/sync")
    with local.cleanup, pytest.raises(LocalError, match=r"cannot be read: .*refused") as error:
        status.status(local, "", "text")
    assert "hidden" not in str(error.value)
    assert "\n" not in str(error.value)
    with local.cleanup, pytest.raises(LocalError) as error:
        problems.problems(local, "", "text")
    assert error.value.status == 2  # 1 says that there are problems
