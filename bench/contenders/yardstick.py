"""The yardstick: psql copies a prepared file into a temporary table, and one statement takes it over."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

from bench.contenders.statements import upsert
from bench.measuring import Task, main


def prepare(task: Task) -> Callable[[], object]:
    """Write the script; the work is one run of psql."""
    names = ", ".join(task.columns)
    script = (
        f"CREATE TEMPORARY TABLE incoming AS SELECT {names} FROM {task.table} WITH NO DATA;\n"
        f"\\copy incoming ({names}) FROM '{task.prepared}'\n"
        f"{upsert(task.table, 'incoming', task.columns)};\n"
    )
    command = [task.psql, "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", task.conninfo]

    def work() -> None:
        subprocess.run(command, input=script, text=True, check=True)

    return work


if __name__ == "__main__":
    main(prepare)
