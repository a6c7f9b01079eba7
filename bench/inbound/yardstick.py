"""The yardstick: psql copies a prepared file into a temporary table, and one statement writes its rows."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

from bench.inbound.peer import upsert
from bench.measuring import Task, main


def prepare(task: Task) -> Callable[[], object]:
    """Write the script; the work is one run of psql."""
    table, columns = task.options["table"], task.options["columns"]
    names = ", ".join(columns)
    script = (
        f"CREATE TEMPORARY TABLE incoming AS SELECT {names} FROM {table} WITH NO DATA;\n"
        f"\\copy incoming ({names}) FROM '{task.options['file']}'\n"
        f"{upsert(table, columns)};\n"
    )
    command = [task.options["psql"], "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", task.conninfo]

    def work() -> None:
        subprocess.run(command, input=script, text=True, check=True)

    return work


if __name__ == "__main__":
    main(prepare)
