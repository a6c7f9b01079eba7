"""Patch indices of up to a million records: memory must not grow with the index.

Of each size: a pass in which all records change, one in which none does, each in a fresh process, then a look at every
record. Beside them the client's own helpers, of which it is told what becomes of them; they decide nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench import database
from bench.measuring import Measured
from bench.rounds import measure
from bench.search import standin
from bench.search.rounds import forget_all
from bench.search.standin import StandIn, WrongRecords
from bench.search.task import FIRST, FORCED, SearchTask

PHASES = {FIRST: "all change", FORCED: "none changes"}
MAX_GROWTH = 30.0
"""MiB over the start, whatever the size."""
MAX_DIFFERENCE = 10.0
"""MiB between the peaks of two sizes in the same phase."""


def run(folder: Path, sizes: Sequence[int]) -> bool:
    """Patch indices of these sizes; True when memory is flat and all records are right."""
    folder.mkdir(parents=True, exist_ok=True)
    measured: dict[str, list[Measured]] = {phase: [] for phase in PHASES}
    with database.running(folder) as held:
        for records in sizes:
            with standin.running(records, offers=records) as service:
                _beside(service, held.conninfo, folder, records)
                forget_all(held.connection)
                try:
                    for phase in PHASES:
                        measured[phase].append(_pass(service, held.conninfo, folder, records, phase))
                except WrongRecords as wrong:
                    print(f"Wrong records: {wrong}")
                    return False
    peaks = {phase: [each.peak for each in those] for phase, those in measured.items()}
    difference = max(max(those) - min(those) for those in peaks.values())
    grown = max(each.growth for those in measured.values() for each in those)
    is_flat = grown <= MAX_GROWTH and difference <= MAX_DIFFERENCE
    print(
        f"Memory is {'flat' if is_flat else 'NOT flat'}: peaks of {min(map(min, peaks.values())):.0f} to "
        f"{max(map(max, peaks.values())):.0f} MiB from {min(sizes):,} to {max(sizes):,} records; they differ by "
        f"{difference:.1f} in the same phase and are {grown:.1f} over the start, {MAX_DIFFERENCE:.0f} and "
        f"{MAX_GROWTH:.0f} are allowed"
    )
    return is_flat


def _pass(service: StandIn, conninfo: str, folder: Path, records: int, phase: str) -> Measured:
    """One pass of this project, all records of which change the first time and none the second."""
    task = SearchTask(service.url, conninfo, phase)
    done = measure(f"{records:,} records, {phase}", "bench.search.ours", task, folder)
    _tell(records, f"this project, {PHASES[phase]}", _figures(records, done))
    service.check(records, generation=0)
    return done


def _beside(service: StandIn, conninfo: str, folder: Path, records: int) -> None:
    """Let the client's helpers browse and patch the same index, then put it back as it was."""
    next(service.pages())  # the stand-in makes its records when it is first asked for them
    try:
        done = measure("helpers", "bench.search.helper", SearchTask(service.url, conninfo, FIRST, "differing"), folder)
        told = _figures(records, done)
    except RuntimeError as error:  # the process ended with another status than 0
        told = f"died: {str(error).strip().splitlines()[-1][:200]}"
    _tell(records, f"the client's helpers, {PHASES[FIRST]}", told)
    service.ask("POST", "/sandbox/reset")
    next(service.pages())


def _tell(records: int, what: str, told: str) -> None:
    print(f"{records:>11,} records: {what:<33} {told}", flush=True)


def _figures(records: int, done: Measured) -> str:
    return (
        f"{done.seconds:8.2f} s  {records / done.seconds:>9,.0f} records/s  {done.cpu_seconds:7.2f} s CPU"
        f"  peak {done.peak:,.0f} MiB, +{done.growth:.1f}"
    )
