"""Rounds: every contender after the other, each phase in a fresh process, and a look at the rows it left."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import database, peers
from bench.database import Database
from bench.entries import Contender
from bench.listing import CHANGED, FIRST, Listing
from bench.measuring import MIB, Measured, Task
from bench.serving import serving

ROOT = Path(__file__).parents[1]
LONGEST = 3600
"""Seconds after which a process is given up."""


class WrongRows(Exception):
    """A contender did not leave the rows that were listed."""


@dataclass(frozen=True)
class Outcome:
    """One phase of one contender in one round."""

    contender: str
    phase: str
    records: int
    measured: Measured
    wal: float
    """MB."""


class Arena:
    """The database, the server of the listings, and a folder to work in."""

    def __init__(self, folder: Path, held: Database, url: str) -> None:
        self.folder = folder
        self.database = held
        self.url = url

    def play(
        self, contender: Contender, records: int, tell: Callable[[Outcome], None], *, wait: int = 0
    ) -> list[Outcome]:
        """All phases of a contender on an empty table; each answer of the server takes `wait` milliseconds."""
        records = min(records, contender.at_most or records)
        self._empty(contender)
        outcomes = []
        generation = FIRST
        for phase in contender.phases:
            generation = CHANGED if phase == "changed" else generation
            listing = Listing(records, generation, contender.dated)
            outcomes.append(self._phase(contender, phase, listing, wait))
            self._check(contender, phase, listing)
            tell(outcomes[-1])
        return outcomes

    def _empty(self, contender: Contender) -> None:
        shutil.rmtree(self.folder / contender.name, ignore_errors=True)
        (self.folder / contender.name).mkdir()
        if contender.create:
            self.database.set_up(contender.create, contender.table)
        else:
            self.database.drop_schema(contender.table.partition(".")[0])

    def _phase(self, contender: Contender, phase: str, listing: Listing, wait: int) -> Outcome:
        task = Task(
            url=f"{self.url}{f'/wait/{wait}' if wait else ''}{listing.path}",
            conninfo=self.database.conninfo,
            table=contender.table,
            columns=contender.columns.all(),
            folder=str(self.folder / contender.name),
            phase=phase,
            records=listing.records,
            dated=listing.dated,
            prepared=str(self._prepared(listing)) if contender.wants_file else "",
            psql=self.database.psql,
        )
        self.database.settle(contender.table if phase != "first" else None)
        before = self.database.wal_position()
        measured = run(contender, task, self.folder)
        wal = (self.database.wal_position() - before) / 1e6
        return Outcome(contender.name, phase, listing.records, measured, wal)

    def _prepared(self, listing: Listing) -> Path:
        path = self.folder / f"listing-{listing.records}-{listing.generation}.tsv"
        if not path.exists():
            with path.open("wb") as file:
                file.writelines(listing.lines())
        return path

    def _check(self, contender: Contender, phase: str, listing: Listing) -> None:
        wanted = listing.sums()
        held = self.database.sums(contender.table, contender.columns, dated=listing.dated)
        if held != wanted:
            raise WrongRows(f"{contender.name}, {phase}: the table holds {held}, listed were {wanted}")


def run(contender: Contender, task: Task, folder: Path) -> Measured:
    """Run one process of a contender."""
    python = str(peers.python(folder)) if contender.is_installed_apart else sys.executable
    module = f"bench.contenders.{contender.module}"
    return measure(f"{contender.name}, {task.phase}", module, task, folder, python=python)


def measure(told: str, module: str, task: Any, folder: Path, *, python: str = sys.executable) -> Measured:
    """Run a module with a task in a process of its own; `told` names it when it fails."""
    command = [python, "-m", module, json.dumps(asdict(task))]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "AIRFLOW_HOME": str(folder / "airflow")},
        capture_output=True,
        text=True,
        check=False,
        timeout=LONGEST,
    )
    if done.returncode:
        raise RuntimeError(f"{told}: exit status {done.returncode}\n{done.stderr[-4000:]}")
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


@contextmanager
def arena(folder: Path) -> Iterator[Arena]:
    """Start what the contenders need, and stop it in the end."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("listing-*.tsv"):
        old.unlink()
    with database.running(folder) as held, serving("bench.server") as url:
        yield Arena(folder, held, url)


def memory_of_machine() -> float:
    """GiB."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / MIB / 1024
