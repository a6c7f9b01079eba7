"""The per-minute DAG in a whole Airflow: is it on time, and how soon after a move is the last record patched?

In a copy of the project `python -m local up` runs as it would for a person; through its REST API the DAG is put to
work, from its own lines the rest is known. The indexer rebuilds the index at random moments; the seconds are from what
it says when its move was accepted to when the pass was closed in the database. The delay of a minute is from its
beginning to the start of its task.

Meanwhile four suppliers that allow one request every two seconds are loaded over and over, so that slots are wanted.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import psycopg

from bench.search.standin import StandIn
from bench.venues import standin as suppliers
from bench.venues.data import Shops, fill
from include.providers import load_provider
from local.airflow import Api, free_port
from local.runs import UNFINISHED

ROOT = Path(__file__).parents[2]
DAG = "algolia_customer_dispo"
RECORDS = 5000
PROVIDERS = {
    "titelive_stocks": "include.providers.titelive_stocks.TiteLiveStocks",
    "fnac_stocks": "include.providers.fnac_stocks.FnacStocks",
    "libraires_stocks": "include.providers.libraires_stocks.LibrairesStocks",
    "praxiel_stocks": "include.providers.praxiel_stocks.PraxielStocks",
}
"""The suppliers that are loaded meanwhile, by their DAGs."""
BOOKS = 200
STARTING_SECONDS = 300
ENDING_SECONDS = 60
FOLLOWED_SECONDS = 300
"""After a move: then it is taken for one that was missed."""
LATEST_START = 20.0
"""Seconds after the beginning of its minute."""
LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "logs", "tests")


@dataclass(frozen=True)
class Minute:
    """A scheduled run: its minute, and from when to when its task ran."""

    of: datetime
    state: str
    start: datetime
    end: datetime

    @property
    def delay(self) -> float:
        """Seconds from the minute to the start."""
        return (self.start - self.of).total_seconds()


def run(minutes: int = 20, moves: int = 10, venues: int = 40) -> bool:
    """Watch the DAG for some minutes with rebuilds at random moments; True when all went as it should.

    :param venues: venues of each of the four slow suppliers; 0 for no loads at all.
    """
    shops = Shops(venues, BOOKS)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="provider-sync-soak-"))
        clone = Path(folder) / "clone"
        shutil.copytree(ROOT, clone, ignore=LEFT_OUT)
        slow = slow_suppliers(stack.enter_context(suppliers.running(shops))) if venues else {}
        with up(clone, slow) as (holder, api), loads(holder, api, shops) as loaded:
            service = StandIn(holder["sandbox"])
            for name in ("dry_run", "dry_run_notify"):
                api.request("PATCH", f"/variables/{DAG}_{name}", json={"key": f"{DAG}_{name}", "value": "false"})
            api.set_paused(DAG, False)
            with psycopg.connect(holder["conninfo"], autocommit=True) as connection:
                wait_for_pass(connection, None)
                began = time.monotonic()
                seconds: list[float] = []
                for number in range(1, moves + 1):
                    time.sleep(max(0.0, began + draw_moment(number, minutes, moves) - time.monotonic()))
                    generation = number
                    seconds.append(follow_move(connection, service.url, generation))
                    print(
                        f"move {number:>2} of {moves}: the last record was patched {seconds[-1]:.1f} s later",
                        flush=True,
                    )
                time.sleep(max(0.0, began + 60 * minutes - time.monotonic()))
            api.set_paused(DAG, True)
            time.sleep(5)
            service.check(RECORDS, generation=moves)
            print(f"Loads meanwhile: {dict(loaded) or 'none'}")
            return told(seconds, scheduled(api)) and loaded.keys() <= {"success"} and bool(loaded) == bool(venues)


def told(seconds: list[float], watched: list[Minute]) -> bool:
    """Print what was seen; True when it is as it should be."""
    if seconds:
        print(
            f"{len(seconds)} moves: the last record patched {min(seconds):.1f} / {median(seconds):.1f} / "
            f"{max(seconds):.1f} s later (min / median / max)"
        )
    if not watched:
        print("There was no scheduled run that ended")
        return False
    delays = [each.delay for each in watched]
    lasted = [(each.end - each.start).total_seconds() for each in watched]
    overlapping = sum(after.start < before.end for before, after in pairwise(watched))
    failed = sum(each.state != "success" for each in watched)
    missing = round((watched[-1].of - watched[0].of) / timedelta(minutes=1)) + 1 - len(watched)
    print(
        f"{len(watched)} minutes: tasks began {min(delays):.1f} / {median(delays):.1f} / {max(delays):.1f} s after the "
        f"minute and took {min(lasted):.1f} / {median(lasted):.1f} / {max(lasted):.1f} s (min / median / max); "
        f"{overlapping} overlapped, {failed} failed, {missing} minutes had no run"
    )
    return not (overlapping or failed or missing) and max(delays) <= LATEST_START


def slow_suppliers(url: str) -> dict[str, str]:
    """The Airflow connections of four suppliers at an address, each with one request every two seconds."""
    body = json.dumps({"conn_type": "http", "host": url, "extra": {"requests_per_second": 0.5}})
    return {f"AIRFLOW_CONN_{load_provider(path).conn_id.upper()}": body for path in PROVIDERS.values()}


@contextmanager
def loads(holder: dict[str, Any], api: Api, shops: Shops) -> Iterator[Counter[str]]:
    """Load all suppliers over and over; yields how the runs ended, by state."""
    ended: Counter[str] = Counter()
    if not shops.venues:
        yield ended
        return
    with psycopg.connect(holder["conninfo"], autocommit=True) as connection:
        fill(connection, shops)
    over = threading.Event()

    def keep_loading() -> None:
        running: dict[str, str] = {}
        while not over.wait(2):
            for dag_id in PROVIDERS:
                if run_id := running.get(dag_id):
                    state = api.run(dag_id, run_id)["state"]
                    if state in UNFINISHED:
                        continue
                    ended[state] += 1
                running[dag_id] = api.trigger(dag_id, {"full_refresh": True})

    for dag_id in PROVIDERS:
        api.set_paused(dag_id, False)
    loading = threading.Thread(target=keep_loading)
    loading.start()
    try:
        yield ended
    finally:
        over.set()
        loading.join()


@contextmanager
def up(clone: Path, connections: dict[str, str]) -> Iterator[tuple[dict[str, Any], Api]]:
    """`make up` in a clone; yields what its lock tells, and the API. Ctrl-C ends it.

    What the environment says of connections is kept from it: it shall find no other index and no other database.
    """
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW_", "SANDBOX_"))}
    env |= connections
    command = [sys.executable, "-u", "-m", "local", "up", "--port", str(free_port())]
    with subprocess.Popen(
        command,
        cwd=clone,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as running:
        last: deque[str] = deque(maxlen=30)
        ready = threading.Event()

        def listen() -> None:
            for line in running.stdout or ():
                last.append(line)
                if "Ctrl-C ends it all" in line:
                    ready.set()
            ready.set()

        listener = threading.Thread(target=listen)
        listener.start()
        try:
            if not ready.wait(STARTING_SECONDS) or running.poll() is not None:
                raise RuntimeError(f"`make up` did not get ready:\n{''.join(last)}")
            holder = json.loads((clone / ".local" / "lock").read_text())
            api = Api(holder["url"], json.loads((clone / ".local" / "passwords.json").read_text())["admin"])
            try:
                yield holder, api
            finally:
                api.close()
        finally:
            running.send_signal(signal.SIGINT)
            try:
                running.wait(ENDING_SECONDS)
            except subprocess.TimeoutExpired:
                running.kill()
            listener.join()


def draw_moment(number: int, minutes: int, moves: int) -> float:
    """A random moment of the part of the minutes that belongs to a move, in seconds; some are left for the last one."""
    part = max(0.0, 60 * minutes - 90) / moves
    return part * (number - 1) + random.uniform(0, min(part, 60.0))


def follow_move(connection: psycopg.Connection[Any], url: str, generation: int) -> float:
    """Let the indexer rebuild the index; returns the seconds from its move to when the last record was patched."""
    command = [sys.executable, "-m", "sandbox.indexer", f"--url={url}", f"--records={RECORDS}"]
    said = subprocess.run(
        [*command, f"--generation={generation}"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    moved = datetime.fromisoformat(said.split()[0])
    return (wait_for_pass(connection, moved) - moved).total_seconds()


def wait_for_pass(connection: psycopg.Connection[Any], moved: datetime | None) -> datetime:
    """Wait for the end of the pass that was begun by a move, or by anything for None; returns when it was."""
    stamped = moved - timedelta(seconds=2) if moved else None  # the log has whole seconds
    deadline = time.monotonic() + FOLLOWED_SECONDS
    while time.monotonic() < deadline:
        row = connection.execute(
            "SELECT finished_at FROM search_report WHERE state = 'done' AND NOT dry_run"
            " AND (%(stamped)s::timestamptz IS NULL OR moved_at >= %(stamped)s) ORDER BY id LIMIT 1",
            {"stamped": stamped},
        ).fetchone()
        if row:
            finished: datetime = row[0]
            return finished
        time.sleep(0.1)
    raise RuntimeError(f"no pass ended within {FOLLOWED_SECONDS} s")


def scheduled(api: Api) -> list[Minute]:
    """The scheduled runs in their order, but the first: the DAG was put to work in the midst of its minute."""
    found = []
    path = f"/dags/{DAG}/dagRuns"
    while (
        len(found) < (answer := api.request("GET", path, params={"limit": 100, "offset": len(found)}))["total_entries"]
    ):
        found += answer["dag_runs"]
    minutes = []
    for each in found:
        if each["run_type"] == "scheduled" and each["state"] in ("success", "failed"):
            task = api.tasks(DAG, each["dag_run_id"])[0]
            moments = (each["run_after"], task["start_date"], task["end_date"])
            of, start, end = (datetime.fromisoformat(moment) for moment in moments)
            minutes.append(Minute(of, each["state"], start, end))
    return sorted(minutes, key=lambda minute: minute.of)[1:]


if __name__ == "__main__":
    sys.exit(0 if run(*(int(each) for each in sys.argv[1:])) else 1)
