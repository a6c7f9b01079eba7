"""Every provider with the stand-in of its service: those of the project, and an example without venues."""

from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

import include.providers
from include.providers import provider_classes
from local.settings import Connection
from tests.contract.example_register import ExampleRegister
from tests.sources import CONNECTIONS, ROOT, SMALL

HERE = Path(__file__).parent
TABLES = ("product", "offer", "stock")
NOT_COMPARED = {"id", "product_id", "offer_id", "date_modified_at_last_provider", "provider_dates", "date_modified"}
"""Columns that tell when or in which order rows were written."""


@contextmanager
def example_supplier():
    """Let the sandbox find the stand-in of the example."""
    from sandbox import suppliers

    folder = str(HERE / "suppliers")
    suppliers.__path__.append(folder)
    try:
        yield
    finally:
        suppliers.__path__.remove(folder)


@pytest.fixture(scope="session")
def sandbox():
    """The sandbox of tests/conftest.py, with one more supplier."""
    from sandbox.testing import serving
    from sandbox.world import World

    world = World(SMALL)
    with example_supplier():
        served = serving(world)
        url = served.__enter__()
    yield world, url
    served.__exit__(None, None, None)


@pytest.fixture(autouse=True)
def example(monkeypatch):
    """Let the project have the example, its stand-in and its Airflow connection."""
    known = [*provider_classes(), ExampleRegister]
    monkeypatch.setattr(include.providers, "provider_classes", lambda: known)
    connection = Connection(ExampleRegister.conn_id, "http", host="http://sandbox/example_register")
    monkeypatch.setitem(CONNECTIONS, connection.id, connection)
    with example_supplier():
        yield


@pytest.fixture(params=[*provider_classes(), ExampleRegister], ids=lambda provider_class: provider_class.__name__)
def provider_class(request):
    return request.param


@pytest.fixture
def dags(provider_class):
    """The folder with the provider's DAG."""
    return HERE / "dags" if provider_class is ExampleRegister else ROOT / "dags"


@pytest.fixture
def source(sources, provider_class):
    return sources(provider_class.row_name())


@pytest.fixture
def rows(connection):
    """What the tables hold of what providers write, by table and key."""

    def read():
        found = {}
        for table in TABLES:
            with connection.cursor(row_factory=psycopg.rows.dict_row) as cursor:
                for row in cursor.execute(f"SELECT * FROM {table} WHERE last_provider_id IS NOT NULL").fetchall():
                    compared = {name: value for name, value in row.items() if name not in NOT_COMPARED}
                    found[table, row["id_at_providers"]] = compared
        return found

    return read


@pytest.fixture
def versions(connection):
    """Which physical version of each row there is: writing a row changes it."""
    return lambda: {
        table: dict(connection.execute(f"SELECT id, (xmin, ctid)::text FROM {table}").fetchall()) for table in TABLES
    }


@pytest.fixture
def rejections(connection):
    return lambda: connection.execute("SELECT reason, payload, resolution FROM rejected_record ORDER BY id").fetchall()


@pytest.fixture
def watermark(connection, source):
    """The watermark of a listing, which belongs to the venue link or, without venues, to the provider."""

    def read():
        link = source.links[0]
        table, number = ("venue_provider", link.id) if link else ("provider", source.provider_id)
        return connection.execute(f"SELECT last_sync_date FROM {table} WHERE id = %s", (number,)).fetchone()[0]

    return read


@pytest.fixture
def forget(connection):
    """Remove what syncs wrote, so that the next one is a first one."""

    def forget():
        for table in ("stock", "offer"):
            connection.execute(f"DELETE FROM {table}")
        connection.execute("DELETE FROM product WHERE last_provider_id IS NOT NULL")
        for table in ("venue_provider", "provider"):
            connection.execute(f"UPDATE {table} SET last_sync_date = NULL")

    return forget
