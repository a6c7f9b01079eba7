"""Four suppliers of stocks with a thousand venues each, through a whole Airflow: what does Airflow itself cost?

In a copy of the project an Airflow of its own runs as `make up` has it, with its LocalExecutor, and all four DAGs are
triggered at once through its REST API: a first load; the same with everything listed again and nothing changed; and a
run as on every night, for which the suppliers have nothing new. Afterwards the rows are compared with what was listed.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import psycopg
from rich.console import Console

from bench import tables
from bench.tables import Table, number
from bench.venues import standin
from bench.venues.data import SUPPLIERS, Shops, fill, held_sums
from bench.venues.memory import Memory, sampled
from include.providers import load_provider
from local import airflow, runs
from local.airflow import Api
from local.checkout import Checkout
from local.console import Screen
from local.context import Local, claim
from local.settings import Pool, Settings
from local.signals import Interrupted, Signals
from local.stack import Stack, running_stack

ROOT = Path(__file__).parents[2]
VENUES, BOOKS = 1000, 200
DAGS = {
    "TiteLiveStocks": "titelive_stocks",
    "FnacStocks": "fnac_stocks",
    "LibrairesStocks": "libraires_stocks",
    "PraxielStocks": "praxiel_stocks",
}
POOL_SLOTS = 8
LONGEST = 3600
POLL_SECONDS = 1.0
PER_SECOND = 100_000
"""Requests that are allowed: Airflow is looked at here, not the pace."""
LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "logs", "tests")
FIRST, AGAIN, NIGHTLY = "first load", "all listed again, unchanged", "nothing listed since"


@dataclass(frozen=True)
class Task:
    """A task that ended, in seconds since 1970."""

    dag_id: str
    task_id: str
    state: str
    queued: float
    start: float
    end: float

    @property
    def seconds(self) -> float:
        """How long it ran."""
        return self.end - self.start


@dataclass(frozen=True)
class DagRun:
    """A run of a DAG, and what the ledger says of its load: seconds of all its links, on how many workers ever.

    `link_seconds` are those from the beginning of a link's try to its end, `engine_seconds` those of reading and
    writing its listing.
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


def run(venues: int = VENUES, books: int = BOOKS) -> bool:
    """Run the loads and print what they took; True when the rows are right."""
    shops = Shops(venues, books)
    with (
        tempfile.TemporaryDirectory(prefix="provider-sync-soak-") as place,
        standin.running(shops) as url,
        up(Path(place) / "clone", url) as (local, whole),
        psycopg.connect(whole.conninfo, autocommit=True) as connection,
    ):
        with local.screen.step(f"Making {4 * venues:,} venues"):
            fill(connection, shops)
        found = []
        for phase, conf in ((FIRST, {}), (AGAIN, {"full_refresh": True}), (NIGHTLY, {})):
            with local.screen.step(f"Four DAGs of {venues:,} venues: {phase}"), sampled(_scheduler(whole)) as memory:
                loaded = load(whole, connection, conf)
            found.append((phase, loaded, memory))
            tables.show(_console(), told(phase, loaded, memory, _slots(whole)))
        held, wanted = held_sums(connection), shops.sums()
    is_right = held == dict.fromkeys(SUPPLIERS, wanted)
    if not is_right:
        print(f"Wrong rows: the tables hold {held}, each supplier listed {wanted}")
    failed = [run.dag_id for _, loaded, _ in found for run in loaded if run.state != "success"]
    if failed:
        print(f"Failed: {', '.join(failed)}")
    return is_right and not failed


@contextmanager
def up(root: Path, url: str) -> Iterator[tuple[Local, Stack]]:
    """An Airflow as `make up` has it, without schedules, in a copy of the project; ended whatever happens.

    What the environment says of connections is kept from it: it shall find no other service and no other database.
    """
    shutil.copytree(ROOT, root, ignore=LEFT_OUT)
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW_", "SANDBOX_"))}
    for name in SUPPLIERS:
        conn_id = load_provider(f"include.providers.{DAGS[name]}.{name}").conn_id
        extra = f'{{"requests_per_second": {PER_SECOND}}}'
        env[f"AIRFLOW_CONN_{conn_id.upper()}"] = f'{{"conn_type": "http", "host": "{url}", "extra": {extra}}}'
    signals = Signals()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    signals.install()
    local = Local(Checkout(root), Screen(), signals, env)
    try:
        with local.cleanup:
            claim(local, "run")
            with running_stack(local, airflow.free_port(), schedules=False) as whole:
                add_pools(whole.api)
                since = datetime.fromtimestamp(0, UTC)
                airflow.wait_until_parsed(whole.api, DAGS.values(), since=since, check=whole.check)
                for dag_id in DAGS.values():
                    whole.api.set_paused(dag_id, False)
                yield local, whole
    except Interrupted as interrupted:
        raise KeyboardInterrupt(str(interrupted)) from None
    finally:
        for number_, handler in before.items():
            signal.signal(number_, handler)


def add_pools(api: Api) -> None:
    """Make the pools of the DAGs that the settings do not have."""
    there = {pool["name"] for pool in api.request("GET", "/pools", params={"limit": 100})["pools"]}
    missing = tuple(Pool(name, POOL_SLOTS, "Of the benchmark") for name in DAGS.values() if name not in there)
    if missing:
        api.import_settings(Settings(pools=missing), ())


def load(whole: Stack, connection: psycopg.Connection[Any], conf: Mapping[str, Any]) -> list[DagRun]:
    """Trigger all four DAGs at once, and wait for their ends."""
    api = whole.api
    started = runs.trigger(api, DAGS.values(), conf)
    deadline = time.monotonic() + LONGEST
    ended: dict[str, dict[str, Any]] = {}
    while len(ended) < len(started):
        whole.check()
        if time.monotonic() > deadline:
            raise RuntimeError(f"the loads did not end within {LONGEST} s")
        time.sleep(POLL_SECONDS)
        for each in started:
            if each.dag_id not in ended and (now := api.run(each.dag_id, each.run_id))["state"] not in runs.UNFINISHED:
                ended[each.dag_id] = now
    return [_dag_run(api, connection, ended[each.dag_id]) for each in started]


def _dag_run(api: Api, connection: psycopg.Connection[Any], ended: Mapping[str, Any]) -> DagRun:
    dag_id, run_id = ended["dag_id"], ended["dag_run_id"]
    row = connection.execute(
        "SELECT count(*), coalesce(sum(records), 0), coalesce(sum(extract(epoch FROM finished_at - started_at)), 0),"
        " coalesce(sum(seconds), 0) FROM load_report WHERE run_id = %s",
        (f"{dag_id}/{run_id}",),
    ).fetchone()
    assert row is not None
    ran = [
        Task(
            dag_id,
            task["task_id"],
            task["state"],
            *(_epoch(task[name]) for name in ("queued_when", "start_date", "end_date")),
        )
        for task in api.tasks(dag_id, run_id)
        if task["start_date"] and task["end_date"]
    ]
    start, end = _epoch(ended["start_date"]), _epoch(ended["end_date"])
    return DagRun(dag_id, ended["state"], start, end, ran, row[0], int(row[1]), float(row[2]), float(row[3]))


def told(phase: str, loaded: list[DagRun], memory: Memory, slots: int) -> Iterator[Table]:
    """What a phase took: per DAG and in all; where the time of Airflow's slots went; memory."""
    header = [phase, "s", "venues", "records", "records/s", "tasks", "queued s, median / max", "in tasks s", "engine s"]
    yield header, [_row(each.dag_id, [each]) for each in loaded] + [_row("all", loaded)]
    elapsed = _elapsed(loaded)
    in_tasks = sum(task.seconds for each in loaded for task in each.tasks)
    in_links = sum(each.link_seconds for each in loaded)
    engine = sum(each.engine_seconds for each in loaded)
    whole = slots * elapsed
    links = sum(each.links for each in loaded)
    parts = (
        ("the engine, reading and writing listings", engine, links, "link"),
        ("the engine, beginning and ending links", in_links - engine, links, "link"),
        ("Airflow, in tasks: their start, and what each does once", in_tasks - in_links, _count(loaded), "task"),
        ("Airflow, between tasks", whole - in_tasks, _count(loaded), "task"),
    )
    yield (
        [f"of {whole:,.0f} s, {slots} slots in {elapsed:,.1f} s", "s", "%", "ms each"],
        [
            [name, number(seconds, 1), number(100 * seconds / whole, 0), f"{1000 * seconds / count:,.0f} a {of}"]
            for name, seconds, count, of in parts
        ],
    )
    yield (
        ["memory, RSS", "MiB"],
        [
            ["the largest process of a task", number(memory.largest, 0)],
            [f"all processes of tasks, up to {memory.most_tasks} at once", number(memory.together, 0)],
            ["the same with the executor's workers", number(memory.workers, 0)],
        ],
    )


def _row(name: str, loaded: list[DagRun]) -> list[str]:
    elapsed, records = _elapsed(loaded), sum(each.records for each in loaded)
    queued = [task.start - task.queued for each in loaded for task in each.tasks]
    return [
        name,
        number(elapsed, 1),
        number(sum(each.links for each in loaded), 0),
        number(records, 0),
        number(records / elapsed, 0),
        number(_count(loaded), 0),
        f"{median(queued):.1f} / {max(queued):.1f}",
        number(sum(task.seconds for each in loaded for task in each.tasks), 1),
        number(sum(each.engine_seconds for each in loaded), 1),
    ]


def _elapsed(loaded: list[DagRun]) -> float:
    return max(each.end for each in loaded) - min(each.start for each in loaded)


def _count(loaded: list[DagRun]) -> int:
    return sum(len(each.tasks) for each in loaded)


def _slots(whole: Stack) -> int:
    return int(whole.airflow.env["AIRFLOW__CORE__PARALLELISM"])


def _scheduler(whole: Stack) -> int:
    return whole.airflow.components["scheduler"].pid


def _epoch(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _console() -> Console:
    return Console(highlight=False, width=200)
