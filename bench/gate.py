"""Processes that begin together: they wait at a gate in PostgreSQL until all of them are there."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg

from bench.measuring import Measured
from bench.rounds import measure

GATE = 7_230_917_900
"""Key of its advisory lock."""
ELSEWHERE = "postgres"
"""The database of the gate: waiting there is no time that the measured one was busy."""
MAX_QUIET = 60.0


def pass_through(conninfo: str) -> None:
    """Wait at the gate until it opens."""
    with psycopg.connect(conninfo, dbname=ELSEWHERE, autocommit=True) as gate:
        gate.execute("SELECT pg_advisory_lock_shared(%s)", (GATE,))


def measure_together(conninfo: str, told: str, module: str, tasks: Sequence[Any], folder: Path) -> Measured:
    """Measure a module's processes, one per task; `waits` is set on all of them. `told` names them when one fails."""
    with (
        psycopg.connect(conninfo, dbname=ELSEWHERE, autocommit=True) as gate,
        ThreadPoolExecutor(len(tasks)) as pool,
    ):
        gate.execute("SELECT pg_advisory_lock(%s)", (GATE,))
        running = [pool.submit(measure, told, module, task, folder) for task in tasks]
        try:
            _wait_for_waiting(gate, len(tasks), running)
        finally:
            gate.execute("SELECT pg_advisory_unlock(%s)", (GATE,))
        return _together([each.result() for each in running])


def _wait_for_waiting(gate: psycopg.Connection[Any], count: int, running: Iterable[Any]) -> None:
    """Until so many processes stand at the gate, or one of them is through with it already."""
    statement = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    while (row := gate.execute(statement).fetchone()) and row[0] < count and not any(f.done() for f in running):
        time.sleep(0.02)


def _together(measured: Sequence[Measured]) -> Measured:
    """Of processes side by side: as long as the longest, CPU in all, memory of the largest."""
    return Measured(
        max(each.seconds for each in measured),
        sum(each.cpu_seconds for each in measured),
        max(each.peak for each in measured),
        max(each.growth for each in measured),
    )


def busy_seconds(connection: psycopg.Connection[Any]) -> float:
    """How long statements ran in this database so far, once the others have gone and told."""
    others = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    others += " AND backend_type = 'client backend'"
    deadline = time.monotonic() + MAX_QUIET
    while connection.execute(others).fetchone() is not None:
        if time.monotonic() > deadline:
            raise RuntimeError("PostgreSQL holds on to the session of a process that has ended")
        time.sleep(0.02)
    connection.execute("SELECT pg_stat_force_next_flush()")
    row = connection.execute("SELECT active_time FROM pg_stat_database WHERE datname = current_database()").fetchone()
    return float(row[0]) / 1000 if row else 0.0
