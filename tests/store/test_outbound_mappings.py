"""Versions of mappings in PostgreSQL: one of each target is current."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from include.store import outbound_mappings as store


def versions(connection, target):
    return [(each.version, each.is_current, each.note) for each in store.list_versions(connection, target)]


def test_no_version(connection):
    assert store.find_current(connection, "crm") is None
    assert store.list_versions(connection, "crm") == []
    assert store.list_targets(connection) == []


def test_the_last_one_added_is_current(connection):
    assert store.add_version(connection, "crm", [{"id": 1}], "first") == 1
    assert store.add_version(connection, "crm", [{"id": 2}], "second") == 2
    assert store.add_version(connection, "crm", [], "none") == 3
    assert versions(connection, "crm") == [(3, True, "none"), (2, False, "second"), (1, False, "first")]
    assert [each.mappings for each in store.list_versions(connection, "crm")] == [[], [{"id": 2}], [{"id": 1}]]
    current = store.find_current(connection, "crm")
    assert current == store.list_versions(connection, "crm")[0]
    assert datetime.now(UTC) - current.created_at < timedelta(minutes=5)


def test_what_is_current_makes_no_version(connection):
    store.add_version(connection, "crm", [{"id": 1, "list": [1, 2]}])
    assert store.add_version(connection, "crm", [{"list": [1, 2], "id": 1}], "again") == 1
    assert store.add_version(connection, "crm", [{"id": 1, "list": [2, 1]}]) == 2
    assert store.add_version(connection, "crm", [{"id": True, "list": [2, 1]}]) == 3
    assert store.add_version(connection, "crm", [{"id": 1, "list": [1, 2]}]) == 4
    assert [number for number, _, _ in versions(connection, "crm")] == [4, 3, 2, 1]


def test_targets_do_not_touch_each_other(connection):
    store.add_version(connection, "b", [{"id": 1}])
    store.add_version(connection, "a", [{"id": 1}])
    store.add_version(connection, "a", [{"id": 2}])
    assert versions(connection, "b") == [(1, True, "")]
    assert store.list_targets(connection) == ["a", "b"]


def test_what_is_refused_leaves_the_current_one(connection):
    store.add_version(connection, "crm", [{"id": 1}])
    with pytest.raises(psycopg.DataError):
        store.add_version(connection, "crm", [{"name": "a\x00b"}])
    assert versions(connection, "crm") == [(1, True, "")]


def test_versions_added_at_once_are_all_kept(connect):
    connections = [connect() for _ in range(4)]

    def add(number):
        for each in range(5):
            store.add_version(connections[number], "crm", [{"id": 10 * number + each}])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(4)))
    kept = store.list_versions(connections[0], "crm")
    assert [each.version for each in kept] == list(range(20, 0, -1))
    assert [each.is_current for each in kept] == [True] + 19 * [False]
    assert {each.mappings[0]["id"] for each in kept} == {10 * number + each for number in range(4) for each in range(5)}


def test_reading_goes_on_while_somebody_adds(connect):
    writer, reader = connect(), connect()
    store.add_version(writer, "crm", [{"id": 1}])
    reader.execute("SET statement_timeout = '5s'")
    with writer.transaction():
        store.lock_versions(writer)
        store.add_version(writer, "crm", [{"id": 2}])
        assert store.find_current(reader, "crm").version == 1
    assert store.find_current(reader, "crm").version == 2
