"""Fixtures around the small table of `items`."""

import psycopg
import pytest

from include.inbound.sync import sync_provider
from include.providers.base import LocalProvider
from tests.inbound.items import ITEM, Items


@pytest.fixture(scope="session")
def item_database(new_database):
    conninfo = new_database()
    with psycopg.connect(conninfo) as connection:
        connection.execute(ITEM)
    return psycopg.conninfo.conninfo_to_dict(conninfo)["dbname"]


@pytest.fixture(scope="session")
def database_template(item_database):
    return item_database


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

    def read(table="item", *columns, on=None):
        with (on or connection).cursor(row_factory=psycopg.rows.dict_row) as cursor:
            found = cursor.execute(f"SELECT * FROM {table} ORDER BY id_at_providers").fetchall()
        wanted = columns or [name for name in found[0] if name != "id"] if found else ()
        kept = {row["id_at_providers"]: tuple(row[name] for name in wanted) for row in found}
        return {key: row[0] for key, row in kept.items()} if len(wanted) == 1 else kept

    return read


@pytest.fixture
def rejections(connection):
    """The reasons and payloads of what was put aside."""

    def read():
        return connection.execute("SELECT id_at_providers, reason, payload FROM rejected_record ORDER BY id").fetchall()

    return read


@pytest.fixture
def versions(connection):
    """Which physical version of each row of a table there is: writing a row changes it."""
    return lambda table="item": dict(connection.execute(f"SELECT id, (xmin, ctid)::text FROM {table}").fetchall())


@pytest.fixture
def protect(connection):
    def protect(key, *fields, table="item"):
        connection.execute(f"UPDATE {table} SET fields_updated = %s WHERE id_at_providers = %s", (list(fields), key))

    return protect
