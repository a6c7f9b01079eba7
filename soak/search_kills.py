"""Kill the process that patches an index with SIGKILL at random moments, rebuild the index now and then.

    python -m bench.search.soak_kills --count 30 --seed 1

Each process is killed somewhere between its start and a bit after its end; the next one takes the work up. One time in
five the index is rebuilt before the next one begins, one time in ten while it works; a rebuild takes two offers in a
hundred away and brings others. In the end one process is let through, and every record must be as the rule says, with
none new and none gone. Exits with 1 if one is not.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg

from bench import database
from bench.search import standin
from bench.search.standin import StandIn, WrongRecords
from bench.search.task import APPLICATION, PATCHING_KEY
from sandbox import indexer
from sandbox.offers import INDEX

ROOT = Path(__file__).parents[2]
LATENCY_MS = 40
TASK_MS = 300.0
"""From when a batch is accepted until it is published: there are always some of which that is open."""
BUSY_SECONDS = 30.0


class Soak:
    """A stand-in, a database, and how often which happened."""

    def __init__(self, service: StandIn, held: database.Database, records: int, seed: int) -> None:
        self.service = service
        self.held = held
        self.records = records
        self.draw = random.Random(seed)
        self.generation = 0
        self.killed = self.taken_up = self.moved = self.left = 0
        self.seconds = 0.0

    def run(self, count: int) -> None:
        """Kill so many processes, let the last one through, look at every record.

        Raises:
            WrongRecords: one is wrong, new, or gone.
            AssertionError: a process failed by itself.
        """
        with ThreadPoolExecutor(1) as indexing:
            self.rebuild()
            self.let_through("first run")  # twice: what is measured is a run that found a move
            self.rebuild()
            self.let_through("undisturbed")
            while self.killed < count:
                self.step(indexing)
        self.let_through("last run")
        if not self.let_through("one more").startswith("Nothing to do"):
            raise AssertionError("after the last run there was still something to do")
        self.left = self.service.check(self.records, self.generation, was_overtaken=True)

    def step(self, indexing: ThreadPoolExecutor) -> None:
        """Start a process, perhaps after a rebuild, and kill it."""
        told = []
        if not self.open_passes() or self.draw.random() < 0.2:
            told.append(f"moved at {self.rebuild():%H:%M:%S}")
        meanwhile: Future[datetime] | None = None
        if self.draw.random() < 0.1:
            meanwhile = indexing.submit(self.rebuild)
        moment = self.draw.uniform(0, 1.1 * self.seconds)
        running = begin(self.held.conninfo, self.service.url)
        self.wait(moment)
        running.send_signal(signal.SIGKILL)
        _, said = running.communicate()
        if meanwhile:
            told.append(f"moved meanwhile at {meanwhile.result():%H:%M:%S}")
        was_taken_up = "Taking up" in said
        self.taken_up += was_taken_up
        told += ["took up the one before"] if was_taken_up else []
        if running.returncode == -signal.SIGKILL:
            self.killed += 1
            told.append(f"killed after {moment:.2f} s, {self.left_behind()}")
        elif running.returncode == 0:
            told.append("ended before it was killed")
        else:
            raise AssertionError(f"a process failed with {running.returncode}: {said}")
        print(f"{self.killed:>4} {'; '.join(told)}", flush=True)

    def wait(self, seconds: float) -> None:
        """Wait for the moment to kill."""
        time.sleep(seconds)

    def rebuild(self) -> datetime:
        """Let the indexer put the next generation of the offers in place."""
        self.generation += 1
        self.moved += 1
        return indexer.rebuild(self.service.url, records=self.records, generation=self.generation)

    def let_through(self, told: str) -> str:
        """Let a process come to its end, and return its words; its seconds are what moments are drawn from."""
        running = begin(self.held.conninfo, self.service.url)
        began = time.monotonic()
        summary, logged = running.communicate()
        self.seconds = time.monotonic() - began
        if running.returncode:
            raise AssertionError(f"{told}: a process failed with {running.returncode}: {logged}")
        self.taken_up += "Taking up" in logged
        print(f"     {told}: {summary.strip()} ({self.seconds:.2f} s)", flush=True)
        return summary

    def open_passes(self) -> bool:
        """Whether a pass is open, once PostgreSQL has noticed the death of the process before."""
        others = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        others += " AND backend_type = 'client backend'"
        deadline = time.monotonic() + BUSY_SECONDS
        while self.held.connection.execute(others).fetchone() is not None:
            if time.monotonic() > deadline:
                raise AssertionError("PostgreSQL holds on to the session of a killed process")
            time.sleep(0.01)
        return self.held.connection.execute("SELECT FROM search_pass WHERE state = 'open'").fetchone() is not None

    def left_behind(self) -> str:
        """What the killed process had kept of its pass."""
        if not self.open_passes():
            return "no pass is open"
        row = self.held.connection.execute(
            "SELECT mark -> 'report' ->> 'read', jsonb_array_length(mark -> 'tasks') FROM search_pass"
            " WHERE state = 'open'"
        ).fetchone()
        return f"{int(row[0]):,} records and {row[1]} open tasks kept" if row and row[0] else "nothing kept"


def begin(conninfo: str, url: str) -> subprocess.Popen[str]:
    """Start a process that patches; returns when it has its connections and is about to begin."""
    command = [sys.executable, "-m", "bench.search.soak_kills", "--work", conninfo, url]
    running = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if running.stdout is None or running.stdout.readline() != "begun\n":
        raise RuntimeError(f"the process did not start: {running.communicate()[1]}")
    return running


def work(conninfo: str, url: str) -> None:
    """What the killed process does: one run."""
    import logging

    from include.connectors.algolia import AlgoliaIndex
    from include.patches.customer_dispo import CUSTOMER_DISPO
    from include.search.watch import watch_index

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with (
        psycopg.connect(conninfo, autocommit=True) as connection,
        AlgoliaIndex(APPLICATION, PATCHING_KEY, INDEX, hosts=[url]) as index,
    ):
        print("begun", flush=True)
        print(watch_index(index, connection, [CUSTOMER_DISPO]).summary, flush=True)


@contextmanager
def arena(folder: Path, records: int, seed: int) -> Iterator[Soak]:
    """Start what the soak needs, and stop it in the end."""
    settings: dict[str, Any] = {"algolia_task_ms": TASK_MS, "algolia_log_entries": 1000}
    with database.running(folder) as held, standin.running(records, LATENCY_MS, **settings) as service:
        yield Soak(service, held, records, seed)


def run(count: int = 30, records: int = 40_000, seed: int | None = None) -> bool:
    """Kill so many times; True when every record is right in the end."""
    seed = random.SystemRandom().randrange(10**6) if seed is None else seed
    print(f"seed {seed}, {records:,} records")
    with (
        tempfile.TemporaryDirectory(prefix="provider-sync-soak-") as folder,
        arena(Path(folder), records, seed) as soak,
    ):
        try:
            soak.run(count)
        except (WrongRecords, AssertionError) as error:
            print(f"WRONG {error}", flush=True)
            return False
        if soak.left:
            print(f"{soak.left} records that the rule leaves alone hold what was on its way during a move")
        print(
            f"{soak.killed} processes killed, {soak.taken_up} passes taken up, {soak.moved} rebuilds: "
            f"all {records:,} records are right, none is new"
        )
    return True


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m bench.search.soak_kills", description=(__doc__ or "")[:104])
    parser.add_argument("--count", type=int, default=30, help="processes to kill (default %(default)s)")
    parser.add_argument("--seed", type=int, help="of the moments; without it another one each time")
    parser.add_argument("--records", type=int, default=40_000, help="of the index (default %(default)s)")
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.work:
        work(*options.work)
        return 0
    return 0 if run(options.count, options.records, options.seed) else 1


if __name__ == "__main__":
    sys.exit(main())
