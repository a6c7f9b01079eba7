"""Fixtures around the small table of `items`."""

import psycopg
import pytest

from include.inbound import loads
from include.inbound.run import sync_provider
from include.providers.base import LocalProvider
from include.store import ledger
from include.store.ledger import LoadParameters
from include.store.providers import load_link, register_provider
from tests.inbound.items import ITEM, Items
from tests.inbound.shows import Shows


@pytest.fixture(scope="session")
def database_template(new_database):
    """The database of which each test gets a copy."""
    conninfo = new_database()
    with psycopg.connect(conninfo) as connection:
        connection.execute(ITEM)
    return psycopg.conninfo.conninfo_to_dict(conninfo)["dbname"]


@pytest.fixture
def sync(connection):
    """Run a provider over records, check that the counts add up, return the report."""

    def run(records, provider_class=Items, *, on=None, **options):
        provider = records if isinstance(records, LocalProvider) else provider_class(records)
        report = sync_provider(provider, on or connection, **options)
        parts = (report.created, report.updated, report.unchanged, report.skipped, report.rejected)
        assert report.checked == sum(parts), report
        assert min(parts) >= 0, report
        return report

    return run


@pytest.fixture
def counts(sync):
    """As `sync`, but returns created, updated, unchanged, skipped, rejected."""

    def run(*args, **options):
        report = sync(*args, **options)
        return report.created, report.updated, report.unchanged, report.skipped, report.rejected

    return run


@pytest.fixture
def rows(connection):
    """The rows of a table by key, as dictionaries without ids."""

    def read(table="item", *columns):
        with connection.cursor(row_factory=psycopg.rows.dict_row) as cursor:
            found = cursor.execute(f"SELECT * FROM {table} ORDER BY id_at_providers").fetchall()
        names = columns or [name for name in found[0] if name != "id"] if found else ()
        values = {row["id_at_providers"]: tuple(row[name] for name in names) for row in found}
        return {key: row[0] for key, row in values.items()} if len(names) == 1 else values

    return read


@pytest.fixture
def rejections(connection):
    """Key, reason and payload of the rejected records."""

    found = "SELECT id_at_providers, reason, payload FROM rejected_record ORDER BY id"
    return lambda: connection.execute(found).fetchall()


@pytest.fixture
def versions(connection):
    """The physical version of each row of a table; every write changes it."""
    return lambda table="item": dict(connection.execute(f"SELECT id, (xmin, ctid)::text FROM {table}").fetchall())


@pytest.fixture
def protect(connection):
    def protect(key, *fields, table="item"):
        connection.execute(f"UPDATE {table} SET fields_updated = %s WHERE id_at_providers = %s", (list(fields), key))

    return protect


@pytest.fixture
def opened(connection):
    """Open a load of the run "r", or find it; returns its id and that of the first instance that is left."""

    def opened(provider_class, **parameters):
        load = loads.open_load(connection, provider_class, LoadParameters(**parameters), run_id="r")
        return load, ledger.pending_instances(connection, load, 0)[0].id

    return opened


@pytest.fixture
def link(connection):
    """Link a new venue, or one that exists, to a provider."""

    def link(provider_class, id_at_provider, *, name="Cinema", siret=None, venue_id=None):
        provider_id = register_provider(connection, provider_class.row_name(), provider_class.name)
        insert = "INSERT INTO venue (name, siret) VALUES (%s, %s) RETURNING id"
        venue_id = venue_id or connection.execute(insert, (name, siret)).fetchone()[0]
        insert = "INSERT INTO venue_provider (venue_id, provider_id, venue_id_at_offer_provider) VALUES (%s, %s, %s)"
        made = connection.execute(f"{insert} RETURNING id", (venue_id, provider_id, id_at_provider))
        return load_link(connection, made.fetchone()[0])

    return link


@pytest.fixture
def cinema(link):
    return link(Shows, "c")


@pytest.fixture
def stocks(rows):
    """Columns of the stocks by key."""
    return lambda *columns: rows("stock", *columns)


@pytest.fixture
def book(connection):
    """Book `quantity` places of a stock."""

    def book(key, quantity=1):
        connection.execute(
            "INSERT INTO booking (stock_id, quantity) SELECT id, %s FROM stock WHERE id_at_providers = %s",
            (quantity, key),
        )

    return book
