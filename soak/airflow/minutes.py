"""The DAG of each minute in a whole Airflow: is it on time, and how soon after a move is the last record patched?

The indexer rebuilds the index at random moments. Seconds count from the time at which its move was accepted to the time
at which the database has the pass as finished. The delay of a minute is from its beginning to the start of its task.

Meanwhile four suppliers that allow one request every two seconds are loaded over and over, so that slots are scarce.
"""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import median
from typing import Any

import psycopg

from bench.search.server import StandIn
from local.airflow import Api
from local.runs import UNFINISHED
from soak.airflow import server, stack
from soak.airflow.shops import PROVIDERS, Shops, fill

DAG = "algolia_customer_dispo"
RECORDS = 5000
VENUES, BOOKS = 40, 200
"""Of each slow supplier."""
MAX_SECONDS = 300
"""From a move to the end of its pass: after that it counts as missed."""
MAX_DELAY = 20.0
"""Seconds from the beginning of a minute to the start of its task."""


@dataclass(frozen=True)
class Minute:
    """A scheduled run: its minute, and from when to when its task ran."""

    at: datetime
    state: str
    start: datetime
    end: datetime

    @property
    def delay(self) -> float:
        """Seconds from the minute to the start."""
        return (self.start - self.at).total_seconds()


def run(minutes: int = 20, moves: int = 10) -> bool:
    """Watch the DAG for some minutes, with rebuilds at random moments; returns whether all was as it should be."""
    shops = Shops(VENUES, BOOKS)
    with ExitStack() as exits:
        environment = stack.connections(exits.enter_context(server.running(shops)), 0.5)
        dag_ids = [DAG, *PROVIDERS]
        _, started = exits.enter_context(stack.running(environment, dag_ids, schedules=True))
        assert started.sandbox is not None
        api, service = started.api, StandIn(started.sandbox)
        for name in ("dry_run", "dry_run_notify"):
            api.request("PATCH", f"/variables/{DAG}_{name}", json={"key": f"{DAG}_{name}", "value": "false"})
        connection = exits.enter_context(psycopg.connect(started.conninfo, autocommit=True))
        with loads(connection, api, shops) as loaded:
            api.set_paused(DAG, False)
            wait_for_pass(connection, None, started.check)
            began = time.monotonic()
            seconds: list[float] = []
            for number in range(1, moves + 1):
                _sleep_until(began + draw_moment(number, minutes, moves), started.check)
                seconds.append(follow_move(connection, service.url, number, started.check))
                print(f"move {number:>2} of {moves}: the last record was patched {seconds[-1]:.1f} s later", flush=True)
            _sleep_until(began + 60 * minutes, started.check)
            api.set_paused(DAG, True)
            time.sleep(5)
            service.check(RECORDS, generation=moves)
        print(f"Loads meanwhile: {dict(loaded) or 'none'}")
        is_good = judge(seconds, scheduled(api))
        return is_good and loaded.keys() == {"success"}


def judge(seconds: list[float], watched: list[Minute]) -> bool:
    """Print a summary; returns whether everything was as it should be."""
    if seconds:
        print(f"{len(seconds)} moves: the last record patched {_spread(seconds)} later (min / median / max)")
    if not watched:
        print("No scheduled run ended")
        return False
    delays = [each.delay for each in watched]
    overlapping = sum(after.start < before.end for before, after in pairwise(watched))
    failed = sum(each.state != "success" for each in watched)
    missing = round((watched[-1].at - watched[0].at) / timedelta(minutes=1)) + 1 - len(watched)
    print(
        f"{len(watched)} minutes: tasks started {_spread(delays)} after the minute and took "
        f"{_spread([(each.end - each.start).total_seconds() for each in watched])} (min / median / max); "
        f"{overlapping} overlapped, {failed} failed, {missing} minutes had no run"
    )
    return not (overlapping or failed or missing) and max(delays) <= MAX_DELAY


def _spread(seconds: list[float]) -> str:
    return f"{min(seconds):.1f} / {median(seconds):.1f} / {max(seconds):.1f} s"


def _sleep_until(moment: float, check: Callable[[], None]) -> None:
    while time.monotonic() < moment:
        check()
        time.sleep(min(1.0, max(0.0, moment - time.monotonic())))


@contextmanager
def loads(connection: psycopg.Connection[Any], api: Api, shops: Shops) -> Iterator[Counter[str]]:
    """Load all suppliers over and over; yields how many runs ended in which state."""
    ended: Counter[str] = Counter()
    fill(connection, shops)
    is_over = threading.Event()

    def keep_loading() -> None:
        running: dict[str, str] = {}
        while not is_over.wait(2):
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
        is_over.set()
        loading.join()


def draw_moment(number: int, minutes: int, moves: int) -> float:
    """Draw a random second in a move's part of the minutes; the last 90 seconds belong to no move."""
    part = max(0.0, 60 * minutes - 90) / moves
    return part * (number - 1) + random.uniform(0, min(part, 60.0))


def follow_move(connection: psycopg.Connection[Any], url: str, generation: int, check: Callable[[], None]) -> float:
    """Let the indexer rebuild the index; returns the seconds from its move until the last record was patched."""
    command = [sys.executable, "-m", "sandbox.indexer", f"--url={url}", f"--records={RECORDS}"]
    output = subprocess.run(
        [*command, f"--generation={generation}"], cwd=stack.ROOT, capture_output=True, text=True, check=True
    ).stdout
    moved = datetime.fromisoformat(output.split()[0])
    return (wait_for_pass(connection, moved, check) - moved).total_seconds()


def wait_for_pass(
    connection: psycopg.Connection[Any], moved: datetime | None, check: Callable[[], None] = lambda: None
) -> datetime:
    """Wait for the end of the pass of a move, or of any pass if that is None; returns when it ended."""
    stamped = moved - timedelta(seconds=2) if moved else None  # the log has whole seconds
    deadline = time.monotonic() + MAX_SECONDS
    while time.monotonic() < deadline:
        row = connection.execute(
            "SELECT finished_at FROM search_report WHERE state = 'done' AND NOT dry_run"
            " AND (%(stamped)s::timestamptz IS NULL OR moved_at >= %(stamped)s) ORDER BY id LIMIT 1",
            {"stamped": stamped},
        ).fetchone()
        if row:
            finished: datetime = row[0]
            return finished
        check()
        time.sleep(0.1)
    raise RuntimeError(f"no pass ended within {MAX_SECONDS} s")


def scheduled(api: Api) -> list[Minute]:
    """Return the scheduled runs that ended, in order, without the first: the DAG was unpaused in its minute."""
    found: list[dict[str, Any]] = []
    path = f"/dags/{DAG}/dagRuns"
    while True:
        page = api.request("GET", path, params={"limit": 100, "offset": len(found)})
        found += page["dag_runs"]
        if len(found) >= page["total_entries"]:
            break
    minutes = []
    for each in found:
        if each["run_type"] == "scheduled" and each["state"] in ("success", "failed"):
            task = api.tasks(DAG, each["dag_run_id"])[0]
            times = (each["run_after"], task["start_date"], task["end_date"])
            at, start, end = (datetime.fromisoformat(text) for text in times)
            minutes.append(Minute(at, each["state"], start, end))
    return sorted(minutes, key=lambda minute: minute.at)[1:]
