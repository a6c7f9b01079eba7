"""Other ways to load the listing: psql as the yardstick, a hand-written script, and Airflow's hook."""

from __future__ import annotations

import json
import logging
import os
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

from bench.inbound.listing import COLUMNS
from bench.measuring import Task, main

Work = Callable[[], object]
_NAMES = ", ".join(COLUMNS)


def prepare(task: Task) -> Work:
    """Prepare the loader of the task; the work is the whole listing."""
    return {"psql": _psql, "script": _script, "hook": _hook}[task.options["loader"]](task)


def _psql(task: Task) -> Work:
    """Let psql copy a prepared file into a temporary table, and write its rows with one statement."""
    table = task.options["table"]
    script = (
        f"CREATE TEMPORARY TABLE incoming AS SELECT {_NAMES} FROM {table} WITH NO DATA;\n"
        f"\\copy incoming ({_NAMES}) FROM '{task.options['file']}'\n"
        f"{_upsert(table)};\n"
    )
    command = [task.options["psql"], "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", task.conninfo]
    return lambda: subprocess.run(command, input=script, text=True, check=True)


def _script(task: Task) -> Work:
    """Use requests, json, COPY to a temporary table and ON CONFLICT, with a transaction per page."""
    import psycopg

    connection, table = psycopg.connect(task.conninfo, autocommit=True), task.options["table"]

    def work() -> None:
        connection.execute(
            f"CREATE TEMPORARY TABLE incoming ON COMMIT DELETE ROWS AS SELECT * FROM {table} WITH NO DATA"
        )
        for page in pages(task.url, json.loads):
            with connection.transaction(), connection.cursor() as cursor:
                with cursor.copy(f"COPY incoming ({_NAMES}) FROM STDIN") as copy:
                    for record in page:
                        copy.write_row([record[name] for name in COLUMNS])
                cursor.execute(_upsert(table))

    return work


def _hook(task: Task) -> Work:
    """Use Airflow's own way: `PostgresHook.insert_rows` with ON CONFLICT, a transaction per thousand rows."""
    from psycopg.conninfo import conninfo_to_dict

    parts = conninfo_to_dict(task.conninfo)
    target = {"host": parts["host"], "port": int(str(parts["port"])), "schema": parts["dbname"], "login": parts["user"]}
    os.environ["AIRFLOW_CONN_BENCH"] = json.dumps({"conn_type": "postgres", **target})
    from airflow.providers.postgres.hooks.postgres import PostgresHook

    logging.disable(logging.WARNING)
    hook = PostgresHook(postgres_conn_id="bench")
    options = {"commit_every": 1000, "replace": True, "replace_index": ["ref"], "executemany": True}

    def rows() -> Iterator[tuple[Any, ...]]:
        for page in pages(task.url, json.loads):
            for record in page:
                yield tuple([record[name] for name in COLUMNS])

    return lambda: hook.insert_rows(task.options["table"], rows(), target_fields=list(COLUMNS), **options)


def pages(url: str, decode: Callable[[bytes], Any]) -> Iterator[list[dict[str, Any]]]:
    """Request one page after the other, until one is empty; yields their records."""
    import requests

    parameters: dict[str, str | int] = {"limit": 1000}
    with requests.Session() as session:
        while True:
            response = session.get(url, params=parameters, timeout=60)
            response.raise_for_status()
            records = decode(response.content)["stocks"]
            if not records:
                return
            yield records
            parameters["after"] = records[-1]["ref"]


def _upsert(table: str) -> str:
    """Return the statement that writes the rows of `incoming`, except over rows that are as new."""
    assignments = ", ".join(f"{name} = excluded.{name}" for name in COLUMNS[1:])
    return (
        f"INSERT INTO {table} AS stored ({_NAMES}) SELECT {_NAMES} FROM incoming ON CONFLICT (ref)"
        f" DO UPDATE SET {assignments} WHERE stored.modified < excluded.modified"
    )


if __name__ == "__main__":
    main(prepare)
