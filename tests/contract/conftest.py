"""Every provider of the project, each before the stand-in of its service."""

import psycopg
import pytest

from include.providers import provider_classes

TABLES = ("product", "offer", "stock")
NOT_COMPARED = {"id", "product_id", "offer_id", "date_modified_at_last_provider", "provider_dates", "date_modified"}
"""Columns that tell when or in which order rows were written."""


@pytest.fixture(params=provider_classes(), ids=lambda provider_class: provider_class.__name__)
def provider_class(request):
    return request.param


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
                    kept = {name: value for name, value in row.items() if name not in NOT_COMPARED}
                    found[table, row["id_at_providers"]] = kept
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
def forget(connection):
    """Remove what syncs wrote, so that the next one is a first one."""

    def forget():
        for table in ("stock", "offer"):
            connection.execute(f"DELETE FROM {table}")
        connection.execute("DELETE FROM product WHERE last_provider_id IS NOT NULL")
        connection.execute("UPDATE venue_provider SET last_sync_date = NULL")

    return forget
