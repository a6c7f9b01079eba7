"""Thousands of steps of the machine, more than a test has time for. A failure prints the shortest failing story."""

from __future__ import annotations

import random
import tempfile
import time
import traceback
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import seed as seeded
from hypothesis.stateful import run_state_machine_as_test

from bench import database
from soak.machine.machine import machine_on, set_up

MAX_STEPS = 50
"""Per story."""
EXAMPLES_AT_ONCE = 50


def run(examples: int, seed: int | None = None) -> bool:
    """Run random stories; returns whether each of them ended as in the model. Without a seed, one is drawn."""
    seed = random.SystemRandom().randrange(10**6) if seed is None else seed
    print(f"seed {seed}", flush=True)
    with (
        tempfile.TemporaryDirectory(prefix="provider-sync-soak-") as folder,
        database.running(Path(folder)) as running,
    ):
        set_up(running.conninfo)
        with machine_on(running.conninfo) as machine:
            began = time.monotonic()
            for done in range(0, examples, EXAMPLES_AT_ONCE):
                limits = settings(
                    max_examples=min(EXAMPLES_AT_ONCE, examples - done),
                    stateful_step_count=MAX_STEPS,
                    deadline=None,
                    database=None,
                    suppress_health_check=list(HealthCheck),
                )
                try:
                    run_state_machine_as_test(seeded(seed + done)(machine), settings=limits)
                except Exception:
                    traceback.print_exc()
                    print(f"WRONG: --seed {seed + done} repeats it", flush=True)
                    return False
                counts = ", ".join(f"{times:,} {what}" for what, times in sorted(machine.done.items()))
                print(f"{counts}; {time.monotonic() - began:.0f} s", flush=True)
    return True
