"""Send up to a million queued orders: memory must not grow with the queue.

Of each size: a drain in which all is new to the target, one in which nothing changed, each in a fresh process. The
target is in that process and keeps sums only, so that what is looked at is this project's own memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench import database
from bench.measuring import Measured
from bench.outbound import data
from bench.outbound.rounds import CALLS, check_queue
from bench.outbound.standin import WrongObjects
from bench.outbound.task import ALL, NONE, OutboundTask
from bench.rounds import measure

PHASES = {ALL: "all new", NONE: "unchanged"}
MAX_GROWTH = 30.0
"""MiB over the start, whatever the size."""
MAX_DIFFERENCE = 10.0
"""MiB between the peaks of two sizes in the same phase."""


def run(folder: Path, sizes: Sequence[int]) -> bool:
    """Send queues of these sizes; True when memory is flat and all objects came."""
    folder.mkdir(parents=True, exist_ok=True)
    measured: dict[str, list[Measured]] = {phase: [] for phase in PHASES}
    with database.running(folder) as held:
        for orders in sizes:
            data.fill(held.connection, orders)
            for phase, told in PHASES.items():
                data.queue(held.connection)
                held.settle(None)
                is_new = phase == ALL
                task = OutboundTask(
                    "",
                    held.conninfo,
                    phase,
                    CALLS,
                    objects=data.OBJECTS * orders if is_new else 0,
                    total=data.checksum(orders) if is_new else 0,
                )
                try:
                    done = measure(f"{orders:,} orders, {told}", "bench.outbound.ours", task, folder)
                    check_queue(held.connection)
                except (RuntimeError, WrongObjects) as wrong:
                    print(f"Wrong: {wrong}")
                    return False
                measured[phase].append(done)
                print(
                    f"{orders:>11,} orders, {told:<10} {done.seconds:8.2f} s  {orders / done.seconds:>7,.0f} orders/s"
                    f"  {done.cpu_seconds:8.2f} s CPU  peak {done.peak:,.0f} MiB, +{done.growth:.1f}",
                    flush=True,
                )
    return is_flat(measured, sizes)


def is_flat(measured: dict[str, list[Measured]], sizes: Sequence[int]) -> bool:
    """Whether memory depends on the size."""
    peaks = {phase: [each.peak for each in those] for phase, those in measured.items()}
    difference = max(max(those) - min(those) for those in peaks.values())
    grown = max(each.growth for those in measured.values() for each in those)
    flat = grown <= MAX_GROWTH and difference <= MAX_DIFFERENCE
    print(
        f"Memory is {'flat' if flat else 'NOT flat'}: peaks of {min(map(min, peaks.values())):.0f} to "
        f"{max(map(max, peaks.values())):.0f} MiB from {min(sizes):,} to {max(sizes):,} orders; they differ by "
        f"{difference:.1f} in the same phase and are {grown:.1f} over the start, {MAX_DIFFERENCE:.0f} and "
        f"{MAX_GROWTH:.0f} are allowed"
    )
    return flat
