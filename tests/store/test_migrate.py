"""Bringing a database up to date."""

import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from include.errors import ConfigurationError, DatabaseUnavailable
from include.store import migrate as module
from include.store.migrate import migrate

ROOT = Path(__file__).parents[2]


@pytest.fixture
def empty(new_database):
    return new_database(template="template0")


def tables(conninfo):
    with psycopg.connect(conninfo) as connection:
        return {name for (name,) in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}


def major(conninfo):
    with psycopg.connect(conninfo) as connection:
        return connection.info.server_version // 10_000


def test_it_runs_what_is_missing_once(empty):
    ran = migrate(empty)
    assert ran[0] == "0001"
    assert ran == sorted(ran)
    assert migrate(empty) == []
    assert {"product", "offer", "stock", "catalog", "rejected_record", "service_pace"} <= tables(empty)


def test_a_database_of_a_newer_version_is_left_alone_with_one_sentence(empty):
    migrate(empty)
    with psycopg.connect(empty, autocommit=True) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(ConfigurationError, match="at revision 9999, which this version of the project does not have"):
        migrate(empty)
    with psycopg.connect(empty) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("9999",)]


def test_two_at_once_wait_for_each_other(empty):
    command = [sys.executable, "-c", f"from include.store.migrate import migrate; print(migrate({empty!r}))"]
    running = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = sorted(one.communicate(timeout=60)[0].strip() for one in running)
    assert [one.returncode for one in running] == [0, 0]
    assert said[1] == "[]"
    assert "'0001'" in said[0]


def test_a_failed_revision_leaves_nothing(empty):
    with psycopg.connect(empty) as connection:
        connection.execute("CREATE TABLE stock (id bigint)")
    with pytest.raises(Exception, match='"stock" already exists'):
        migrate(empty)
    assert "product" not in tables(empty)
    with psycopg.connect(empty) as connection:
        connection.execute("DROP TABLE stock")
    assert migrate(empty)


def test_a_server_that_is_too_old_is_refused(empty, monkeypatch):
    monkeypatch.setattr(module, "OLDEST_POSTGRESQL", 99)
    with pytest.raises(
        ConfigurationError,
        match=rf"PostgreSQL {major(empty)} is too old, 99 or newer is needed: .*AIRFLOW_CONN_SYNC_DB",
    ):
        migrate(empty)
    assert tables(empty) == set()


@pytest.mark.parametrize(
    ("conninfo", "error"),
    [
        ("host=127.0.0.1 port=1 dbname=x connect_timeout=2", DatabaseUnavailable),
        ("host=/nowhere dbname=x", DatabaseUnavailable),
    ],
)
def test_a_server_that_cannot_be_reached(conninfo, error):
    with pytest.raises(error, match="cannot be reached"):
        migrate(conninfo)


def test_an_address_that_is_none():
    with pytest.raises(ConfigurationError, match="not a PostgreSQL connection string"):
        migrate("what is this")


def test_a_password_is_not_shown(postgres):
    with pytest.raises(DatabaseUnavailable) as raised:
        migrate("postgresql://someone:hidden-word@127.0.0.1:1/x")
    assert "hidden-word" not in str(raised.value)


@pytest.fixture
def before_broad(empty, monkeypatch):
    """A database as it was before revision 0004."""
    monkeypatch.setattr(
        module.command, "upgrade", lambda config, _, upgrade=module.command.upgrade: upgrade(config, "0003")
    )
    migrate(empty)
    monkeypatch.undo()
    return empty


def test_records_rejected_before_they_could_be_replayed_are_given_up(before_broad):
    """Nobody can tell whether they are older than what is there."""
    with psycopg.connect(before_broad) as connection:
        connection.execute(
            "WITH made AS (INSERT INTO provider (name, local_class) VALUES ('P', 'P') RETURNING id)"
            " INSERT INTO rejected_record (provider_id, reason, payload) SELECT id, 'bad', '{}' FROM made"
        )
    assert migrate(before_broad)[0] == "0004"
    with psycopg.connect(before_broad) as connection:
        found = connection.execute("SELECT resolution, resolved_at IS NOT NULL FROM rejected_record").fetchall()
    assert found == [("given up", True)]


def test_it_does_not_wait_long_for_a_reader(before_broad, monkeypatch):
    """Whoever books would queue up behind it."""
    read_text = Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda *args, **more: read_text(*args, **more).replace("'10s'", "'50ms'"))
    with psycopg.connect(before_broad) as reader:
        reader.execute("SET idle_in_transaction_session_timeout = '15s'")  # so that nothing waits for ever
        reader.execute("SELECT FROM stock")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            migrate(before_broad)
    assert migrate(before_broad)[0] == "0004"
