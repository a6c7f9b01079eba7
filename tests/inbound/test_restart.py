"""PostgreSQL ends in the middle of a sync: to be tried later, and then as if nothing had happened."""

import psycopg
import pytest

from include.errors import DatabaseUnavailable
from include.inbound import loads
from include.inbound.run import sync_provider
from include.store import ledger
from include.store.ledger import LoadParameters
from include.store.migrate import migrate
from local import postgres as embedded
from tests import postgres_servers
from tests.conftest import postgres_server
from tests.inbound.items import ITEM, CursorItems, item


class Interrupted(CursorItems):
    """Does something before it reads record 7."""

    def __next__(self):
        if self.place == 7:
            self.interrupt()
        return super().__next__()


@pytest.mark.database
@pytest.mark.parametrize("chunk_size", [2, 5])
def test_a_restart_of_postgresql(chunk_size):
    listing = [item(f"k{n}", quantity=n) for n in range(12)]
    with postgres_server() as server:
        embedded.create_databases(server, "mine")
        migrate(server.conninfo("mine"))
        with psycopg.connect(server.conninfo("mine"), autocommit=True) as connection:
            connection.execute(ITEM)
            load = loads.open_load(connection, Interrupted, LoadParameters(), run_id="r")
            (instance,) = ledger.pending_instances(connection, load, 0)
            provider = Interrupted(listing)
            provider.interrupt = lambda: embedded.stop(server.data)
            with pytest.raises(DatabaseUnavailable, match="connection to PostgreSQL was lost") as lost:
                sync_provider(provider, connection, instance_id=instance.id, chunk_size=chunk_size)
            assert lost.value.retry_after
            assert lost.value.where == {"provider": "Items with a cursor"}
        again = postgres_servers.start(server.data)
        with psycopg.connect(again.conninfo("mine"), autocommit=True) as connection:
            (instance,) = ledger.pending_instances(connection, load, 0)
            assert (instance.state, instance.cursor) == ("running", str(7 // chunk_size * chunk_size))
            provider = Interrupted(listing)
            provider.interrupt = lambda: None
            report = sync_provider(provider, connection, instance_id=instance.id, chunk_size=chunk_size)
            assert (report.records, report.created, report.unchanged) == (12, 12, 0)
            assert loads.close_load(connection, load).state == "loaded"
            found = connection.execute("SELECT id_at_providers, quantity FROM item ORDER BY quantity").fetchall()
            assert found == [(f"k{n}", n) for n in range(12)]


@pytest.mark.parametrize("moment", ["reading", "filling"])
def test_a_connection_that_is_cut(sync, connect, connection, rows, moment):
    """An administrator ends the session, while a record is read or in the middle of a chunk's transaction."""
    mine, admin = connect(), connect()

    class Cut(CursorItems):
        def __next__(self):
            if moment == "reading" and self.place == 3:
                self.cut()
            return super().__next__()

        def fill_object_attributes(self, obj):
            if moment == "filling" and self.record["key"] == "k3":
                self.cut()
            super().fill_object_attributes(obj)

        def cut(self):
            admin.execute("SELECT pg_terminate_backend(%s, 5000)", (mine.info.backend_pid,))

    with pytest.raises(DatabaseUnavailable):
        sync_provider(Cut([item(f"k{n}") for n in range(6)]), mine, chunk_size=2)
    assert list(rows()) == ["k0", "k1"]
    assert mine.closed


def test_a_connection_that_is_gone_before(connect, sync):
    mine = connect()
    mine.close()
    with pytest.raises(DatabaseUnavailable):
        sync([item("a")], on=mine)
