"""Four suppliers of stocks with a thousand venues each, through a whole Airflow: what does Airflow itself cost?

All four DAGs are triggered at the same time through the REST API: a first load; the same listings again, unchanged; and
a nightly run, for which the suppliers list nothing. Afterwards the rows are compared with the listings.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Any

import psycopg

from local import runs
from local.airflow import Api
from local.stack import Stack
from soak.airflow import server, stack
from soak.airflow.memory import Memory, sampled
from soak.airflow.shops import PROVIDERS, Shops, fill, read_sums

TIMEOUT = 3600
UNLIMITED = 100_000
"""Requests per second: the rate limit must not be what is measured."""
PHASES = {"first load": {}, "all listed again, unchanged": {"full_refresh": True}, "nothing listed since": {}}
"""The DAG parameters of each phase."""
_LEDGER = (
    "SELECT count(*), coalesce(sum(records), 0)::int,"
    " coalesce(sum(extract(epoch FROM finished_at - started_at)), 0)::float, coalesce(sum(seconds), 0)::float"
    " FROM load_report WHERE run_id = %s"
)


@dataclass(frozen=True)
class Task:
    """A task that ended. Times are seconds since 1970."""

    queued: float
    start: float
    end: float


@dataclass(frozen=True)
class DagRun:
    """A run of a DAG, and the sums of its load over all links and workers, from the ledger.

    `link_seconds` are from the start to the end of a link's attempt, `engine_seconds` those of reading and writing its
    listing.
    """

    dag_id: str
    state: str
    start: float
    end: float
    tasks: list[Task]
    links: int
    records: int
    link_seconds: float
    engine_seconds: float


def run(venues: int = 1000, books: int = 200) -> bool:
    """Run the loads and print what they took; returns whether the rows are right and all runs succeeded."""
    shops = Shops(venues, books)
    dag_ids = list(PROVIDERS)
    with (
        server.running(shops) as url,
        stack.running(stack.connections(url, UNLIMITED), dag_ids, schedules=False) as (local, started),
        psycopg.connect(started.conninfo, autocommit=True) as connection,
    ):
        for dag_id in dag_ids:
            started.api.set_paused(dag_id, False)
        with local.screen.step(f"Inserting {4 * venues:,} venues"):
            fill(connection, shops)
        scheduler = started.airflow.components["scheduler"].pid
        slots = int(started.airflow.env["AIRFLOW__CORE__PARALLELISM"])
        failed = []
        for phase, conf in PHASES.items():
            with local.screen.step(f"Four DAGs of {venues:,} venues: {phase}"), sampled(scheduler) as memory:
                loaded = load(started, connection, conf)
            failed += [each.dag_id for each in loaded if each.state != "success"]
            print(*summarize(phase, loaded, memory, slots), sep="\n", flush=True)
        found, expected = read_sums(connection), dict.fromkeys(PROVIDERS.values(), shops.sums())
    if found != expected:
        print(f"WRONG: the tables have {found}, the listings {expected}")
    if failed:
        print(f"Failed: {', '.join(failed)}")
    return found == expected and not failed


def load(started: Stack, connection: psycopg.Connection[Any], conf: Mapping[str, Any]) -> list[DagRun]:
    """Trigger all four DAGs at the same time, and wait until their runs have ended."""
    triggered = runs.trigger(started.api, PROVIDERS, conf)
    deadline = time.monotonic() + TIMEOUT
    ended: dict[str, dict[str, Any]] = {}
    while len(ended) < len(triggered):
        started.check()
        if time.monotonic() > deadline:
            raise RuntimeError(f"the loads did not end within {TIMEOUT} s")
        time.sleep(1)
        for each in triggered:
            if each.dag_id not in ended:
                state = started.api.run(each.dag_id, each.run_id)
                if state["state"] not in runs.UNFINISHED:
                    ended[each.dag_id] = state
    return [_dag_run(started.api, connection, ended[each.dag_id]) for each in triggered]


def _dag_run(api: Api, connection: psycopg.Connection[Any], ended: Mapping[str, Any]) -> DagRun:
    dag_id, run_id = ended["dag_id"], ended["dag_run_id"]
    row = connection.execute(_LEDGER, (f"{dag_id}/{run_id}",)).fetchone()
    assert row is not None
    times = ("queued_when", "start_date", "end_date")
    found = api.tasks(dag_id, run_id)
    tasks = [Task(*(_epoch(one[name]) for name in times)) for one in found if one["start_date"] and one["end_date"]]
    return DagRun(dag_id, ended["state"], _epoch(ended["start_date"]), _epoch(ended["end_date"]), tasks, *row)


def summarize(phase: str, loaded: list[DagRun], memory: Memory, slots: int) -> Iterator[str]:
    """Return what a phase took, what the time of Airflow's slots was used for, and the memory, as lines of text."""
    elapsed = max(each.end for each in loaded) - min(each.start for each in loaded)
    tasks = [task for each in loaded for task in each.tasks]
    links, records = (sum(getattr(each, name) for each in loaded) for name in ("links", "records"))
    queued = [task.start - task.queued for task in tasks]
    yield (
        f"{phase}: {elapsed:,.1f} s, {links:,} venues, {records:,} records, {len(tasks)} tasks, "
        f"which were queued for {median(queued):.1f} s (maximum: {max(queued):.1f} s)"
    )
    in_tasks = sum(task.end - task.start for task in tasks)
    in_links, engine = (sum(getattr(each, name) for each in loaded) for name in ("link_seconds", "engine_seconds"))
    total = slots * elapsed
    yield f"Of {total:,.0f} s, {slots} slots in {elapsed:,.1f} s:"
    for name, seconds, count, of in (
        ("the engine, reading and writing listings", engine, links, "link"),
        ("the engine, starting and finishing links", in_links - engine, links, "link"),
        ("Airflow, in tasks: starting them, and what each does once", in_tasks - in_links, len(tasks), "task"),
        ("Airflow, between tasks", total - in_tasks, len(tasks), "task"),
    ):
        yield f"  {name}: {seconds:,.1f} s, {100 * seconds / total:.0f} %, {1000 * seconds / count:,.0f} ms a {of}"
    yield (
        f"The largest process of a task has {memory.largest:.0f} MiB; up to {memory.most_tasks} of them at the same "
        f"time have {memory.together:.0f} MiB"
    )


def _epoch(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
