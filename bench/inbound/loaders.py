"""Other ways to load the listing: psql as the yardstick, a hand-written script, Airflow's hook, and an ORM."""

from __future__ import annotations

import json
import logging
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from bench.inbound.listing import COLUMNS
from bench.measuring import Task, main

Work = Callable[[], object]


def prepare(task: Task) -> Work:
    """Prepare the loader of the task; the work is the whole listing."""
    return {"psql": _psql, "script": _script, "hook": _hook, "orm": _orm}[task.options["loader"]](task)


def _psql(task: Task) -> Work:
    """Let psql copy a prepared file into a temporary table, and write its rows with one statement."""
    table, columns = task.options["table"], task.options["columns"]
    names = ", ".join(columns)
    script = (
        f"CREATE TEMPORARY TABLE incoming AS SELECT {names} FROM {table} WITH NO DATA;\n"
        f"\\copy incoming ({names}) FROM '{task.options['file']}'\n"
        f"{_upsert(table, columns)};\n"
    )
    command = [task.options["psql"], "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", task.conninfo]
    return lambda: subprocess.run(command, input=script, text=True, check=True)


def _script(task: Task) -> Work:
    """Use requests, json, COPY to a temporary table and ON CONFLICT, with a transaction per page."""
    import psycopg

    connection, table, names = (
        psycopg.connect(task.conninfo, autocommit=True),
        task.options["table"],
        ", ".join(COLUMNS),
    )

    def work() -> None:
        connection.execute(
            f"CREATE TEMPORARY TABLE incoming ON COMMIT DELETE ROWS AS SELECT * FROM {table} WITH NO DATA"
        )
        for page in pages(task.url, json.loads):
            with connection.transaction(), connection.cursor() as cursor:
                with cursor.copy(f"COPY incoming ({names}) FROM STDIN") as copy:
                    for record in page:
                        copy.write_row([record[name] for name in COLUMNS])
                cursor.execute(_upsert(table, COLUMNS))

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


def _orm(task: Task) -> Work:
    """Use SQLAlchemy: a SELECT per object, then an insert or an update, with a transaction per page."""
    import psycopg
    from sqlalchemy import DateTime, Integer, Numeric, Text, create_engine, select
    from sqlalchemy.orm import Session, declarative_base, mapped_column
    from sqlalchemy.pool import NullPool

    types = (Text, Integer, Numeric(10, 2), Text, Text, Text, DateTime(timezone=True))
    columns = {name: mapped_column(kind, primary_key=name == "ref") for name, kind in zip(COLUMNS, types, strict=True)}
    stock_class: Any = type("Stock", (declarative_base(),), {"__tablename__": task.options["table"], **columns})
    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(task.conninfo), poolclass=NullPool)

    def save(session: Session, record: dict[str, Any]) -> None:
        values = {
            **record,
            "modified": datetime.fromisoformat(record["modified"]),
            "price": Decimal(str(record["price"])),
        }
        stock = session.execute(select(stock_class).where(stock_class.ref == record["ref"])).scalar_one_or_none()
        if stock is None:
            session.add(stock_class(**values))
        elif stock.modified < values["modified"]:
            for name, value in values.items():
                setattr(stock, name, value)

    def work() -> None:
        with Session(engine) as session:
            for page in pages(task.url, json.loads):
                for record in page:
                    save(session, record)
                session.commit()
                session.expunge_all()

    return work


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


def _upsert(table: str, columns: Sequence[str]) -> str:
    """Return the statement that writes the rows of `incoming`, except over rows that are as new.

    The first column is the key, the last one the modification date.
    """
    names = ", ".join(columns)
    assignments = ", ".join(f"{name} = excluded.{name}" for name in columns[1:])
    return (
        f"INSERT INTO {table} AS stored ({names}) SELECT {names} FROM incoming ON CONFLICT ({columns[0]})"
        f" DO UPDATE SET {assignments} WHERE stored.{columns[-1]} < excluded.{columns[-1]}"
    )


if __name__ == "__main__":
    main(prepare)
