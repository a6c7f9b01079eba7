"""What all tests share: a PostgreSQL of their own, a database per test made from a migrated template."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from include.store.migrate import migrate
from local import postgres as embedded
from tests import postgres_servers
from tests.postgres_programs import EMBEDDED, VersionMissing, describe

if worker := os.environ.get("PYTEST_XDIST_WORKER"):  # tests that run in parallel do not share an Airflow
    airflow_home = Path(os.environ.get("AIRFLOW_HOME", tempfile.gettempdir())) / worker
    os.environ["AIRFLOW_HOME"] = str(airflow_home)
    os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = f"sqlite:///{airflow_home}/airflow.db"

ROOT = Path(__file__).parents[1]
TEMPLATE = "migrated"
_VERSION = pytest.StashKey[str]()

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

# What a test may have changed beside rows. A database in which this is another than before is not used again.
_SCHEMA = """
    SELECT array_agg((oid, relname, relnatts, relchecks, reloptions)::text ORDER BY oid),
           (SELECT array_agg((oid, xmin)::text ORDER BY oid) FROM pg_constraint),
           (SELECT array_agg((oid, xmin)::text ORDER BY oid) FROM pg_proc WHERE oid > 16383),
           (SELECT array_agg((oid, xmin)::text ORDER BY oid) FROM pg_trigger),
           (SELECT array_agg((oid, xmin)::text ORDER BY oid) FROM pg_attrdef)
    FROM pg_class WHERE relnamespace = 'public'::regnamespace
"""

# DELETE is many times faster than TRUNCATE on tables of a few rows.
_EMPTY = """
    DO $$
    DECLARE one record;
    BEGIN
        SET LOCAL session_replication_role = replica;
        FOR one IN SELECT oid::regclass AS name, relkind FROM pg_class
                   WHERE relnamespace = 'public'::regnamespace AND relname <> 'alembic_version'
        LOOP
            IF one.relkind = 'r' THEN EXECUTE format('DELETE FROM %s', one.name);
            ELSIF one.relkind = 'S' THEN PERFORM setval(one.name, 1, false);
            END IF;
        END LOOP;
    END $$
"""


def pytest_configure(config):
    """Find the PostgreSQL that is asked for before any test runs."""
    try:
        folder = postgres_servers.chosen_programs()
    except VersionMissing as missing:
        raise pytest.UsageError(str(missing)) from None
    config.stash[_VERSION] = describe(folder) if folder else f"{EMBEDDED} (embedded)"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark what needs PostgreSQL: `-m database` runs it on another version."""
    for item in items:
        if "postgres" in getattr(item, "fixturenames", ()):
            item.add_marker("database")


def pytest_terminal_summary(terminalreporter, config):
    """Say what the tests ran on."""
    python = ".".join(map(str, sys.version_info[:3]))
    terminalreporter.write_line(f"Python {python}, PostgreSQL {config.stash[_VERSION]}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    """Make what was captured fit to be sent to the process that prints it: half characters cannot be encoded."""
    report = yield
    report.sections = [(name, text.encode("utf-8", "replace").decode()) for name, text in report.sections]
    return report


@contextmanager
def postgres_server():
    """Run a PostgreSQL in a temporary folder; yields the server, on which `conninfo(database)` is asked."""
    folder = Path(tempfile.mkdtemp(prefix="provider-sync-tests-", dir="/tmp" if Path("/tmp").is_dir() else None))
    watcher = subprocess.Popen(
        [sys.executable, "-c", _WATCH, str(folder)], cwd=ROOT, stdin=subprocess.PIPE, start_new_session=True
    )
    try:
        server = postgres_servers.start(folder / "data")
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


@pytest.fixture(scope="session")
def database_template():
    """What `database` is a copy of; a folder with tables of its own overrides it."""
    return TEMPLATE


@pytest.fixture(scope="session")
def used_databases():
    """Databases that tests gave back empty, by template: they are faster to have than new ones."""
    return defaultdict(list)


@pytest.fixture
def database(new_database, postgres, database_template, used_databases):
    """Conninfo of a database with all tables and no rows."""
    used = used_databases[database_template]
    conninfo = used.pop() if used else new_database(template=database_template)
    with psycopg.connect(conninfo) as connection:
        schema = connection.execute(_SCHEMA).fetchone()
    yield conninfo
    name = psycopg.conninfo.conninfo_to_dict(conninfo)["dbname"]
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        if connection.execute(_SCHEMA).fetchone() == schema:
            connection.execute(_EMPTY)
            used.append(conninfo)
            return
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


@pytest.fixture(scope="session")
def sandbox():
    """The small world of `tests.sources`, and the address at which it is served."""
    from sandbox.testing import serving
    from sandbox.world import World
    from tests.sources import SMALL

    world = World(SMALL)
    with serving(world) as url:
        yield world, url


@pytest.fixture
def sources(sandbox, database, connection):
    """A function that returns the `Source` of a provider by its row's name; the sandbox's world is as at its start."""
    import requests

    from include.providers import provider_classes
    from tests.sources import Source, load

    world, url = sandbox
    requests.post(f"{url}/sandbox/reset", timeout=10).raise_for_status()
    load(database)
    classes = {provider_class.row_name(): provider_class for provider_class in provider_classes()}
    return lambda name: Source(classes[name], world, url, connection)
