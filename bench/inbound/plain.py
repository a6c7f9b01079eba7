"""A hand-written script: requests, json, COPY to a temporary table, ON CONFLICT, a transaction per page."""

from __future__ import annotations

import json
from collections.abc import Callable

import psycopg

from bench.inbound.listing import COLUMNS
from bench.inbound.peer import pages, upsert
from bench.measuring import Task, main


def prepare(task: Task) -> Callable[[], object]:
    """Connect; the work is the whole listing."""
    connection = psycopg.connect(task.conninfo, autocommit=True)
    table = task.options["table"]
    statement = upsert(table, COLUMNS)

    def work() -> None:
        connection.execute(
            f"CREATE TEMPORARY TABLE incoming ON COMMIT DELETE ROWS AS SELECT * FROM {table} WITH NO DATA"
        )
        for page in pages(task.url, json.loads):
            with connection.transaction(), connection.cursor() as cursor:
                with cursor.copy(f"COPY incoming ({', '.join(COLUMNS)}) FROM STDIN") as copy:
                    for record in page:
                        copy.write_row([record[name] for name in COLUMNS])
                cursor.execute(statement)

    return work


if __name__ == "__main__":
    main(prepare)
