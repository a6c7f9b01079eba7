"""What all tests share: a PostgreSQL of their own, a database per test made from a migrated template."""

import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from include.store.migrate import migrate
from local import postgres as embedded

ROOT = Path(__file__).parents[1]
TEMPLATE = "migrated"

# Ends the server when the tests end, however they do: its standard input closes with the test process.
_WATCH = """
import shutil, sys
from pathlib import Path
from local import postgres
sys.stdin.read()
folder = Path(sys.argv[1])
postgres.stop(folder / "data")
shutil.rmtree(folder, ignore_errors=True)
"""


@contextmanager
def postgres_server():
    """Run an embedded PostgreSQL in a temporary folder; yields the server, on which `conninfo(database)` is asked."""
    folder = Path(tempfile.mkdtemp(prefix="provider-sync-tests-", dir="/tmp" if Path("/tmp").is_dir() else None))
    watcher = subprocess.Popen(
        [sys.executable, "-c", _WATCH, str(folder)], cwd=ROOT, stdin=subprocess.PIPE, start_new_session=True
    )
    try:
        server = embedded.start(folder / "data")
        with psycopg.connect(server.conninfo("postgres"), autocommit=True) as connection:
            for setting in ("fsync = off", "full_page_writes = off", "max_connections = 100"):
                connection.execute(f"ALTER SYSTEM SET {setting}")
            connection.execute("SELECT pg_reload_conf()")
        yield server
    finally:
        watcher.stdin.close()
        watcher.wait()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres():
    """The tests' own PostgreSQL, without a guarantee against power cuts."""
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="session")
def new_database(postgres):
    """A function that makes databases: migrated ones, or empty ones; returns the conninfo. They go with the session."""
    numbers = count(1)
    embedded.create_databases(postgres, TEMPLATE)
    migrate(postgres.conninfo(TEMPLATE))

    def create(*, template=TEMPLATE):
        name = f"test_{next(numbers)}"
        with psycopg.connect(postgres.conninfo("postgres"), autocommit=True) as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
            )
        return postgres.conninfo(name)

    return create


@pytest.fixture
def database(new_database, postgres):
    """Conninfo of a fresh database with all tables."""
    conninfo = new_database()
    yield conninfo
    name = psycopg.conninfo.conninfo_to_dict(conninfo)["dbname"]
    with psycopg.connect(postgres.conninfo("postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def connect(database):
    """A function that opens autocommit connections to the test's database; they are closed at its end."""
    opened = []

    def connect():
        opened.append(psycopg.connect(database, autocommit=True))
        return opened[-1]

    yield connect
    for connection in opened:
        connection.close()


@pytest.fixture
def connection(connect):
    """A connection to the test's database, in autocommit mode."""
    return connect()
