"""Airflow's own way: `PostgresHook.insert_rows` with ON CONFLICT, a transaction per thousand rows."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from typing import Any

import psycopg

from bench.inbound.listing import COLUMNS
from bench.inbound.peer import pages
from bench.measuring import Task, main


def prepare(task: Task) -> Callable[[], object]:
    """Import the hook and set its connection; the work is the whole listing."""
    parts = psycopg.conninfo.conninfo_to_dict(task.conninfo)
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

    def work() -> None:
        hook.insert_rows(task.options["table"], rows(), target_fields=list(COLUMNS), **options)

    return work


if __name__ == "__main__":
    main(prepare)
