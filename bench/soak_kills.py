"""Kill a sync with SIGKILL at random moments; the next try must end as if nothing had happened.

    python -m bench.soak_kills --count 50 --seed 1

Each time, a process of its own runs `TiteLiveStocks` against the sandbox into a fresh database and is killed once or
twice while it works; then it is let through. Its rows, rejected records, counts and marker must be those of an
undisturbed run. The first half begins with an empty venue, the second with one that was synchronised before and whose
supplier has moved on since. Exits with 1 on any difference.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
BAD_KINDS = ["negative_available", "text_price", "missing_available", "negative_price"]
CHUNK_SIZES = (50, 97, 1000)
COUNTS = ("records", "checked", "created", "updated", "unchanged", "skipped", "rejected")


class Outcome(NamedTuple):
    """What a load left behind, without what differs from run to run (times, ids, attempts)."""

    offers: list[tuple[Any, ...]]
    stocks: list[tuple[Any, ...]]
    rejected: list[tuple[Any, ...]]
    counts: list[tuple[Any, ...]]
    loads: list[tuple[Any, ...]]
    is_marked: bool

    def differences(self, other: Outcome) -> list[str]:
        """The parts that are not the same, with the first entries that only one of them has."""
        found = []
        for name, mine, theirs in zip(self._fields, self, other, strict=True):
            if mine != theirs:
                shown = f"{mine} instead of {theirs}"
                if isinstance(mine, list) and len(mine) > 3:
                    shown = f"only here {sorted(set(mine) - set(theirs))[:3]}, "
                    shown += f"only undisturbed {sorted(set(theirs) - set(mine))[:3]}"
                found.append(f"{name}: {shown}")
        return found


def outcome(conninfo: str) -> Outcome:
    """Read what the load `soak` left in a database."""
    import psycopg

    with psycopg.connect(conninfo) as connection:

        def all_of(query: str) -> list[tuple[Any, ...]]:
            return connection.execute(query).fetchall()  # type: ignore[arg-type]

        counts = ", ".join(f"({name})" for name in COUNTS)
        return Outcome(
            all_of(
                "SELECT id_at_providers, id_at_provider, name, product_id, venue_id, extra_data::text"
                " FROM offer ORDER BY 1"
            ),
            all_of(
                "SELECT stock.id_at_providers, offer.id_at_providers, price, quantity, raw_provider_quantity,"
                " booked_quantity FROM stock JOIN offer ON offer.id = offer_id ORDER BY 1"
            ),
            all_of("SELECT id_at_providers, model, reason, payload FROM rejected_record ORDER BY payload, reason"),
            all_of(f"SELECT run_id, state, error, {counts} FROM load_report ORDER BY instance_id"),
            all_of("SELECT run_id, state FROM catalog ORDER BY id"),
            bool(all_of("SELECT FROM venue_provider WHERE last_sync_date IS NOT NULL")),
        )


def load_shop(conninfo: str, settings: Any) -> None:
    """Put the first venue of a sandbox and all its products into a migrated database, linked to TiteLive."""
    import psycopg
    from psycopg.types.json import Jsonb

    from include.inbound.loads import register_providers
    from sandbox.demo import products, venues

    with psycopg.connect(conninfo) as connection:
        register_providers(connection)
        venue = next(venues(settings))
        connection.execute(
            "WITH made AS (INSERT INTO venue (name, siret, booking_email)"
            " VALUES (%(name)s, %(siret)s, %(booking_email)s) RETURNING id)"
            " INSERT INTO venue_provider (venue_id, provider_id, venue_id_at_offer_provider)"
            " SELECT made.id, provider.id, %(siret)s FROM made, provider WHERE local_class = 'TiteLiveStocks'",
            venue,
        )
        copy_sql = (
            "COPY product (id_at_providers, name, description, extra_data, subcategory_id, is_gcu_compatible,"
            " is_synchronization_compatible) FROM STDIN"
        )
        with connection.cursor() as cursor, cursor.copy(copy_sql) as copy:
            for product in products(settings):
                copy.write_row([Jsonb(value) if isinstance(value, dict) else value for value in product.values()])


def work(conninfo: str, url: str, run_id: str, chunk_size: int) -> None:
    """What the killed process does: open the load or find it, run what is left of it, close it."""
    import psycopg

    from include.connectors.http import HttpConnector
    from include.inbound import loads
    from include.inbound.run import sync_provider
    from include.providers.titelive_stocks import TiteLiveStocks
    from include.store import ledger
    from include.store.providers import load_link

    with psycopg.connect(conninfo) as connection:
        print("begun", flush=True)
        load = loads.open_load(connection, TiteLiveStocks, ledger.LoadParameters(), run_id=run_id)
        for instance in ledger.pending_instances(connection, load, 0):
            connection.commit()
            with HttpConnector(f"{url}/titelive/stocks") as connector:
                provider = TiteLiveStocks(load_link(connection, instance.venue_provider_id or 0), connector)
                connection.commit()
                sync_provider(provider, connection, instance_id=instance.id, chunk_size=chunk_size)
        loads.close_load(connection, load)


def begin(conninfo: str, url: str, run_id: str, chunk_size: int) -> subprocess.Popen[str]:
    """Start `work` in a process of its own; returns when it has a connection and is about to begin."""
    command = [sys.executable, "-m", "bench.soak_kills", "--work", conninfo, url, run_id, str(chunk_size)]
    running = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if running.stdout is None or running.stdout.readline() != "begun\n":
        raise RuntimeError(f"the worker did not start: {running.communicate()[1]}")
    return running


def let_through(conninfo: str, url: str, run_id: str, chunk_size: int) -> float:
    """Run `work` to its end in a process of its own; returns the seconds it took."""
    running = begin(conninfo, url, run_id, chunk_size)
    began = time.perf_counter()
    _, said = running.communicate()
    if running.returncode:
        raise RuntimeError(f"the worker failed with {running.returncode}: {said}")
    return time.perf_counter() - began


@dataclass
class Arena:
    """A venue before its first sync or before a later one, and what an undisturbed run makes of it."""

    server: Any
    url: str
    run_id: str
    template: str
    expected: Outcome
    seconds: float
    _numbers: Iterator[int] = field(default_factory=lambda: iter(range(1_000_000)))

    def kill(self, seed: int) -> str:
        """Kill and retry in a fresh database, moments and sizes by the seed; returns what was done.

        Raises:
            AssertionError: the outcome is another than the undisturbed one.
        """
        draw = random.Random(seed)
        conninfo = copy_database(self.server, self.template, f"{self.template}_{next(self._numbers)}")
        done = []
        for _ in range(draw.choice((1, 1, 2))):
            chunk_size = draw.choice(CHUNK_SIZES)
            moment = draw.uniform(0, self.seconds)
            running = begin(conninfo, self.url, self.run_id, chunk_size)
            time.sleep(moment)
            running.send_signal(signal.SIGKILL)
            _, said = running.communicate()
            if running.returncode == 0:
                done.append("ended before it was killed")
                break
            if running.returncode != -signal.SIGKILL:
                raise AssertionError(f"seed {seed}: the worker failed with {running.returncode}: {said}")
            records, is_loaded = self._left_behind(conninfo)
            done.append(f"killed after {moment:.3f} s of chunks of {chunk_size}, {records} records in")
            if is_loaded:  # it had only to end: a next try would be a load of its own
                break
        else:
            let_through(conninfo, self.url, self.run_id, 1000)
        told = f"seed {seed}, {self.run_id}: {'; '.join(done)}"
        if differences := outcome(conninfo).differences(self.expected):
            raise AssertionError(f"{told}\n  " + "\n  ".join(differences))
        drop_database(self.server, conninfo)
        return told

    def _left_behind(self, conninfo: str) -> tuple[int, bool]:
        """The records saved and whether the load was closed, once PostgreSQL has noticed the death."""
        import psycopg

        with psycopg.connect(conninfo, autocommit=True) as connection:
            others = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            others += " AND backend_type = 'client backend'"
            while connection.execute(others).fetchone() is not None:
                time.sleep(0.01)
            row = connection.execute(
                "SELECT (progress ->> 'records')::int, root.state = 'loaded'"
                " FROM catalog_scheme_operation_instance AS instance JOIN catalog ON catalog.id = instance.catalog_id"
                " JOIN catalog AS root ON root.id = catalog.parent_id WHERE root.run_id = %s",
                (self.run_id,),
            ).fetchone()
        return (row[0] or 0, row[1]) if row else (0, False)


def copy_database(server: Any, template: str, name: str) -> str:
    """A copy of a database; returns its conninfo."""
    import psycopg
    from psycopg import sql

    with psycopg.connect(server.conninfo("postgres"), autocommit=True) as connection:
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        connection.execute(statement.format(sql.Identifier(name), sql.Identifier(template)))
    return str(server.conninfo(name))


def drop_database(server: Any, conninfo: str) -> None:
    """Drop a database."""
    import psycopg
    from psycopg import sql

    name = str(psycopg.conninfo.conninfo_to_dict(conninfo)["dbname"])
    with psycopg.connect(server.conninfo("postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def first_arena(server: Any, url: str, world: Any) -> Arena:
    """A venue that was never synchronised."""
    from include.store.migrate import migrate
    from local import postgres

    template = "soak_first"
    postgres.create_databases(server, template)
    migrate(server.conninfo(template))
    load_shop(server.conninfo(template), world.settings)
    done = copy_database(server, template, f"{template}_done")
    seconds = let_through(done, url, "first", 1000)
    return Arena(server, url, "first", template, outcome(done), seconds)


def second_arena(first: Arena, world: Any, percent: float = 40) -> Arena:
    """The same venue after its first sync, its supplier having moved on; the first arena is of no use any more."""
    template = "soak_first_done"
    world.advance(percent)
    done = copy_database(first.server, template, "soak_second_done")
    seconds = let_through(done, first.url, "second", 1000)
    return Arena(first.server, first.url, "second", template, outcome(done), seconds)


@contextmanager
def shop(books: int, page: int, latency_ms: float) -> Iterator[tuple[Any, str]]:
    """Serve a venue of so many books, some of its rows bad; yields the world and its address."""
    import requests

    from sandbox.testing import serving
    from sandbox.world import Settings, World

    world = World(Settings(venues=1, books=books, max_limit=page, latency_ms=latency_ms))
    with serving(world) as url:
        rule = {"fault": "bad_records", "kinds": BAD_KINDS, "share": 0.05}
        requests.post(f"{url}/sandbox/faults", json=[rule], timeout=10).raise_for_status()
        yield world, url


def soak(count: int, seed: int, books: int) -> int:
    """Kill so many times; returns how often the outcome was wrong."""
    from local import postgres

    wrong = 0
    with tempfile.TemporaryDirectory(prefix="provider-sync-soak-") as folder, shop(books, 500, 5) as (world, url):
        data = Path(folder) / "data"
        server = postgres.start(data)
        try:
            arena = first_arena(server, url, world)
            for number in range(count):
                if number == (count + 1) // 2:
                    arena = second_arena(arena, world)
                if number in (0, (count + 1) // 2):
                    counts = dict(zip(COUNTS, arena.expected.counts[-1][3:], strict=True))
                    print(f"undisturbed {arena.run_id} run: {json.dumps(counts)} in {arena.seconds:.2f} s", flush=True)
                try:
                    print(arena.kill(seed + number), flush=True)
                except AssertionError as error:
                    wrong += 1
                    print(f"WRONG {error}", flush=True)
        finally:
            postgres.stop(data)
    print(f"{count} loads disturbed, {wrong} ended otherwise than undisturbed")
    return wrong


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak_kills", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=50, help="loads to disturb (default %(default)s)")
    parser.add_argument("--seed", type=int, help="of the moments; without it another one each time")
    parser.add_argument("--books", type=int, default=10_000, help="books of the venue (default %(default)s)")
    parser.add_argument("--work", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.work:
        conninfo, url, run_id, chunk_size = options.work
        work(conninfo, url, run_id, int(chunk_size))
        return 0
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    print(f"seed {seed}")
    return 1 if soak(options.count, seed, options.books) else 0


if __name__ == "__main__":
    sys.exit(main())
