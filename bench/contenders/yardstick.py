"""The yardstick: psql copies a prepared file into a temporary table, and one statement takes it over."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

from bench.contenders.statements import upsert
from bench.listing import COLUMNS
from bench.measuring import Task, main


def prepare(task: Task) -> Callable[[], object]:
    """Write the script; the work is one run of psql."""
    script = (
        f"CREATE TEMPORARY TABLE incoming (LIKE {task.table});\n"
        f"\\copy incoming ({', '.join(COLUMNS)}) FROM '{task.prepared}'\n"
        f"{upsert(task.table, 'incoming')};\n"
    )
    command = [task.psql, "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", task.conninfo]

    def work() -> None:
        subprocess.run(command, input=script, text=True, check=True)

    return work


if __name__ == "__main__":
    main(prepare)
