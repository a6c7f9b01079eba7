"""Limits, dry runs, and what an unchanged run costs."""

from datetime import UTC, datetime
from decimal import Decimal

import psycopg
import pytest

from include.errors import ConfigurationError
from include.masking import MASK
from tests.inbound.items import CursorItems, Items, day, item

LEDGER = {"catalog", "catalog_scheme", "catalog_scheme_operation", "catalog_scheme_operation_instance",
          "catalog_operation_instance_result", "local_provider_event", "load_report"}  # fmt: skip


def business_rows(connection):
    names = [name for (name,) in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
    return {
        name: connection.execute(f"SELECT t::text, xmin::text FROM {name} AS t ORDER BY 1").fetchall()
        for name in sorted(set(names) - LEDGER)
    }


@pytest.mark.parametrize("limit", [1, 6, 7, 8, 14, 19, 20, 21])
@pytest.mark.parametrize("chunk_size", [1, 7, 1000])
def test_a_limit_is_exact_and_counts_bad_records_too(sync, rows, connection, limit, chunk_size):
    listing = [KeyError("x") if n == 5 else item(f"k{n:02d}") for n in range(20)]
    report = sync(listing, limit=limit, chunk_size=chunk_size)
    assert report.records == min(limit, 20)
    assert (report.created, report.rejected) == (len(rows()), limit > 5) == (report.records - (limit > 5), limit > 5)
    assert connection.execute("SELECT last_sync_date FROM provider").fetchone() == (None,)


@pytest.mark.parametrize("wrong", [{"limit": 0}, {"limit": -1}, {"chunk_size": 0}])
def test_numbers_below_one_are_refused(sync, connection, wrong):
    with pytest.raises(ConfigurationError, match="1 or more"):
        sync([item("a")], **wrong)
    assert connection.execute("SELECT count(*) FROM catalog").fetchone() == (0,)


@pytest.mark.parametrize("provider_class", [Items, CursorItems])
@pytest.mark.parametrize("chunk_size", [2, 1000])
def test_a_dry_run_writes_nothing_but_the_ledger(sync, connection, provider_class, chunk_size):
    sync([item(key, quantity=1) for key in "abc"], provider_class)
    before = business_rows(connection)
    report = sync(
        [item("a", quantity=2, price=Decimal("2.50")), item("b", quantity=1), item("d", price=-1),
         item("e", starts_at=day(1)), KeyError("x"), item("c", quantity="many"), item("f")],
        provider_class, dry_run=True, chunk_size=chunk_size,
    )  # fmt: skip
    assert business_rows(connection) == before
    assert report.dry_run
    assert (report.created, report.updated, report.unchanged, report.rejected) == (2, 1, 1, 3)
    assert sorted(report.differences, key=lambda one: one["key"]) == [
        {"table": "item", "key": "a", "change": "update", "fields": {"quantity": [1, 2], "price": [None, "2.50"]}},
        {"table": "item", "key": "e", "change": "create",
         "fields": {"name": [None, "name of e"], "starts_at": [None, "2026-01-01T00:00:00Z"]}},
        {"table": "item", "key": "f", "change": "create", "fields": {"name": [None, "name of f"]}},
    ]  # fmt: skip
    assert connection.execute("SELECT dry_run FROM load_report ORDER BY instance_id DESC LIMIT 1").fetchone()[0]


@pytest.mark.parametrize(
    "value", ["nul \0", "lone \ud800", pytest.param(object(), id="object"), {1, 2}, Decimal("sNaN"), 10**40], ids=repr
)
def test_a_dry_run_survives_values_that_cannot_be_shown(sync, value):
    sync([item("a"), item("b")])
    report = sync([item("a", quantity=value, name=value), item("b", quantity=1)], dry_run=True)
    assert (report.updated, report.rejected) == (1, 1)
    assert [one["key"] for one in report.differences] == ["b"]


def test_a_dry_run_shows_a_sample_and_counts_all(sync, rows):
    report = sync([item(f"k{n}") for n in range(100)], dry_run=True, chunk_size=10)
    assert (report.created, len(report.differences)) == (100, 20)
    assert rows() == {}


def test_differences_show_no_personal_data_and_are_not_kept(sync, connection):
    class Masked(Items):
        masked_fields = frozenset({"name"})

    (difference,) = sync([item("a", extra_data={"email": "jane@example.org"})], Masked, dry_run=True).differences
    assert difference["fields"]["name"] == [MASK, MASK]
    assert difference["fields"]["extra_data"] == [None, {"email": MASK}]
    kept = connection.execute(
        "SELECT report::text || progress::text FROM catalog_operation_instance_result AS result"
        " JOIN catalog_scheme_operation_instance AS instance ON instance.id = result.instance_id"
    ).fetchone()[0]
    assert "difference" not in kept


@pytest.mark.parametrize("date", [None, day(1)], ids=["dateless", "dated"])
def test_an_unchanged_run_writes_no_row(sync, versions, connection, date):
    listing = [item(f"{n:05d}", date=date, quantity=n, price=Decimal(n), extra_data={"n": n}) for n in range(20_000)]
    sync(listing)
    before = versions()
    connection.execute("CHECKPOINT")
    at = connection.execute("SELECT pg_current_wal_insert_lsn()").fetchone()[0]
    provider = Items(listing)
    assert sync(provider).unchanged == 20_000
    assert provider.filled == (20_000 if date is None else 0)  # known and dated: not even filled
    wal = connection.execute("SELECT pg_current_wal_insert_lsn() - %s::pg_lsn", (at,)).fetchone()[0]
    assert wal < 1_000_000
    assert versions() == before


def test_the_connection_is_given_back_as_it_was(database, sync):
    with psycopg.connect(database) as mine:
        setting = mine.execute("SHOW synchronous_commit").fetchone()
        mine.commit()
        sync([item("a")], on=mine)
        assert not mine.autocommit
        assert mine.execute("SHOW synchronous_commit").fetchone() == setting
        assert mine.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone() == (0,)


def test_the_traditional_name_and_the_times_of_the_run(connection, rows):
    before = datetime.now(UTC)
    report = Items([item("a"), item("b")]).updateObjects(1, connection=connection)
    assert (report.created, len(rows())) == (1, 1)
    assert before <= rows("item", "date_modified_at_last_provider")["a"] <= datetime.now(UTC)
