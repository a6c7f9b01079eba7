"""Kill a sync at random moments: the next attempt must end as if nothing had happened.

Each time, `TiteLiveStocks` runs against the sandbox into a fresh database and is killed once or twice; then it may
finish. Its rows, rejected records, counts and watermark must be those of an undisturbed run. The first half begins with
an empty venue, the second with a venue that was synced before and whose supplier has changed since.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import psycopg
import requests
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from bench import database
from bench.measuring import WrongResult
from include.connectors.http import HttpConnector
from include.inbound import loads
from include.inbound.loads import register_providers
from include.inbound.sync import sync_provider
from include.providers.titelive_stocks import TiteLiveStocks
from include.store import ledger
from include.store.migrate import migrate
from include.store.providers import load_link
from local.demo import load_venues
from sandbox.testing import serving
from sandbox.world import Settings, World
from soak import kill

BAD_KINDS = ["negative_available", "text_price", "missing_available", "negative_price"]
CHUNK_SIZES = (50, 97, 1000)
COUNTS = ("records", "checked", "created", "updated", "unchanged", "skipped", "rejected")
CHANGED_PERCENT = 40
_COUNTS = ", ".join(f"({name})" for name in COUNTS)
_QUERIES = {
    "offers": "SELECT id_at_providers, id_at_provider, name, product_id, venue_id, extra_data::text FROM offer"
    " ORDER BY 1",
    "stocks": "SELECT stock.id_at_providers, offer.id_at_providers, price, quantity, raw_provider_quantity,"
    " booked_quantity FROM stock JOIN offer ON offer.id = offer_id ORDER BY 1",
    "rejected": "SELECT id_at_providers, model, reason, payload FROM rejected_record ORDER BY payload, reason",
    "counts": f"SELECT run_id, state, error, {_COUNTS} FROM load_report ORDER BY instance_id",
    "loads": "SELECT run_id, state FROM catalog ORDER BY id",
    "watermark": "SELECT last_sync_date IS NOT NULL FROM venue_provider",
}
_PROGRESS = (
    "SELECT (progress ->> 'records')::int, root.state = 'loaded' FROM catalog_scheme_operation_instance AS instance"
    " JOIN catalog ON catalog.id = instance.catalog_id JOIN catalog AS root ON root.id = catalog.parent_id"
    " WHERE root.run_id = %s"
)

State = dict[str, list[tuple[Any, ...]]]
"""What a load left, without what differs between runs (times, ids, attempts)."""


def read_state(conninfo: str) -> State:
    """Read what a load left in a database."""
    with psycopg.connect(conninfo) as connection:
        return {name: connection.execute(query).fetchall() for name, query in _QUERIES.items()}  # type: ignore[arg-type]


def differences(state: State, expected: State) -> list[str]:
    """Return which parts differ, with the first rows that only one of them has."""
    found = []
    for name, rows in state.items():
        if rows != expected[name]:
            here, there = ({str(row) for row in some} for some in (rows, expected[name]))
            found.append(f"{name}: only here {sorted(here - there)[:3]}, only undisturbed {sorted(there - here)[:3]}")
    return found


def load_shop(conninfo: str, world: World) -> None:
    """Insert the venues of a sandbox and all its products into a migrated database, linked to TiteLive."""
    with psycopg.connect(conninfo) as connection:
        register_providers(connection)
        load_venues(connection, world, ["TiteLiveStocks"])


class Shop(NamedTuple):
    """A sandbox with one venue, some of whose records are bad, and the supplier's address."""

    world: World
    url: str


@contextmanager
def shop(books: int, page: int = 500, latency_ms: float = 5) -> Iterator[Shop]:
    """Serve a venue with this many books."""
    world = World(Settings(venues=1, books=books, max_limit=page, latency_ms=latency_ms))
    with serving(world) as url:
        rule = {"fault": "bad_records", "kinds": BAD_KINDS, "share": 0.05}
        requests.post(f"{url}/sandbox/faults", json=[rule], timeout=10).raise_for_status()
        yield Shop(world, url)


class InboundKills(kill.KillTest):
    """Kills the sync of a venue."""

    module = "soak.inbound_kills"
    unit = "books"
    usual_size = 10_000
    service: Shop
    databases = 0
    half = 0

    @classmethod
    @contextmanager
    def serving(cls, size: int) -> Iterator[Shop]:
        """Start the supplier."""
        with shop(size) as running:
            yield running

    def begin(self) -> None:
        """Prepare a venue that was never synced."""
        self.template = self.create("")
        migrate(self.template)
        load_shop(self.template, self.service.world)
        self.run_undisturbed("first")

    def move_on(self) -> None:
        """Continue with the venue after its first sync; its supplier has changed."""
        self.template = self.done
        self.service.world.advance(CHANGED_PERCENT)
        self.run_undisturbed("second")

    def run_undisturbed(self, run_id: str) -> None:
        """Sync a copy of the venue, and remember what the sync left and how long it took."""
        self.run_id = run_id
        self.done = self.create(self.template)
        self.seconds = self.let_finish(self.done, self.service.url, run_id, 1000).seconds
        self.expected = read_state(self.done)
        counts = json.dumps(dict(zip(COUNTS, self.expected["counts"][-1][3:], strict=True)))
        print(f"     undisturbed {run_id} run: {counts} in {self.seconds:.2f} s", flush=True)

    def run(self, count: int) -> None:
        """Kill this many processes, half of them in a first sync."""
        self.half = (count + 1) // 2
        super().run(count)

    def step(self) -> str:
        """Sync a copy of the venue, killing the process once or twice; compare what it left."""
        if self.half and self.run_id == "first" and self.killed >= self.half:
            self.move_on()
        conninfo = self.create(self.template)
        events = []
        for _ in range(self.random.choice((1, 1, 2))):
            chunk_size = self.random.choice(CHUNK_SIZES)
            ended = self.kill(self.seconds, conninfo, self.service.url, self.run_id, chunk_size)
            if not ended.was_killed:
                events.append("ended before it was killed")
                break
            records, is_loaded = self.left_behind(conninfo)
            events.append(f"killed after {ended.seconds:.3f} s with chunks of {chunk_size}, {records} records saved")
            if is_loaded:  # a further attempt would open another load
                break
        else:
            self.let_finish(conninfo, self.service.url, self.run_id, 1000)
        summary = f"{self.run_id} run: {'; '.join(events)}"
        if found := differences(read_state(conninfo), self.expected):
            raise WrongResult("\n  ".join([summary, *found]))
        self.drop(conninfo)
        return summary

    def finish(self) -> str:
        """Return a summary: every step has checked its database."""
        return f"{self.killed} processes killed: every load ended as an undisturbed one"

    def left_behind(self, conninfo: str) -> tuple[int, bool]:
        """Return how many records were saved and whether the load was closed, once PostgreSQL has noticed the death."""
        with database.attached(conninfo) as left:
            left.wait_until_alone()
            row = left.connection.execute(_PROGRESS, (self.run_id,)).fetchone()
        return (row[0] or 0, row[1]) if row else (0, False)

    def create(self, template: str) -> str:
        """Create a database, as a copy of another one if it is given; returns its conninfo."""
        self.databases += 1
        name = f"soak_{self.databases}"
        copied = conninfo_to_dict(template)["dbname"] if template else "template1"
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        self.database.connection.execute(statement.format(sql.Identifier(name), sql.Identifier(str(copied))))
        return make_conninfo(self.database.conninfo, dbname=name)

    def drop(self, conninfo: str) -> None:
        """Drop a database."""
        name = str(conninfo_to_dict(conninfo)["dbname"])
        self.database.connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def work(conninfo: str, url: str, run_id: str, chunk_size: str) -> None:
    """Open the load or find it, run its remaining instances, close it."""
    with psycopg.connect(conninfo) as connection:
        kill.ready()
        load = loads.open_load(connection, TiteLiveStocks, ledger.LoadParameters(), run_id=run_id)
        for instance in ledger.pending_instances(connection, load, 0):
            connection.commit()
            with HttpConnector(f"{url}/titelive/stocks") as connector:
                provider = TiteLiveStocks(load_link(connection, instance.venue_provider_id or 0), connector)
                connection.commit()
                sync_provider(provider, connection, instance_id=instance.id, chunk_size=int(chunk_size))
        loads.close_load(connection, load)


run = partial(kill.run, InboundKills)
"""Kill a number of processes, with a seed or a random one; returns whether everything is right."""

if __name__ == "__main__":
    kill.worker(work)
