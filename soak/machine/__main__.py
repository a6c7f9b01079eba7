"""Thousands of steps of the machine, for which a test has no time; it fails with the shortest story that goes wrong."""

from __future__ import annotations

import random
import tempfile
import time
import traceback
from pathlib import Path

from bench.inbound.machine import machine_on, set_up

STEPS = 50
"""Of a story, at most."""
EXAMPLES_AT_ONCE = 50


def run(examples: int, seed: int | None = None) -> bool:
    """Tell so many stories; True when each ended as the model says."""
    from hypothesis import HealthCheck, settings
    from hypothesis import seed as seeded
    from hypothesis.stateful import run_state_machine_as_test

    from include.store.migrate import migrate
    from local import postgres

    seed = random.SystemRandom().randrange(10**6) if seed is None else seed
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="provider-sync-soak-") as folder:
        server = postgres.start(Path(folder) / "data")
        try:
            postgres.create_databases(server, "machine")
            conninfo = server.conninfo("machine")
            migrate(conninfo)
            set_up(conninfo)
            with machine_on(conninfo) as machine:
                began = time.monotonic()
                for done in range(0, examples, EXAMPLES_AT_ONCE):
                    wanted = settings(
                        max_examples=min(EXAMPLES_AT_ONCE, examples - done),
                        stateful_step_count=STEPS,
                        deadline=None,
                        database=None,
                        suppress_health_check=list(HealthCheck),
                    )
                    try:
                        run_state_machine_as_test(seeded(seed + done)(machine), settings=wanted)
                    except Exception:
                        traceback.print_exc()
                        print(f"WRONG: --seed {seed + done} tells it again", flush=True)
                        return False
                    told = ", ".join(f"{times:,} {what}" for what, times in sorted(machine.done.items()))
                    print(f"{told}; {time.monotonic() - began:.0f} s", flush=True)
        finally:
            postgres.stop(Path(folder) / "data")
    return True
