"""dlt (https://dlthub.com/docs/general-usage/merge-loading#upsert-strategy): merge with the upsert strategy.

The dataset `dlt_plain` loads pages of dictionaries, as the guide shows; `dlt_best` uses what makes dlt fastest: Arrow
tables, loaded from CSV.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

from bench.inbound.loaders import pages
from bench.measuring import Task, main


def prepare(task: Task) -> Callable[[], object]:
    """Import dlt and describe the pipeline; the work is one run of it."""
    os.environ.update(RUNTIME__DLTHUB_TELEMETRY="false", RUNTIME__LOG_LEVEL="ERROR", DLT_DATA_DIR=task.folder)
    import dlt
    import orjson
    from dlt.destinations import postgres

    dataset, _, name = task.options["table"].partition(".")
    is_best = dataset == "dlt_best"
    schema = _arrow_schema() if is_best else None

    @dlt.resource(  # type: ignore[untyped-decorator]
        name=name, primary_key="ref", write_disposition={"disposition": "merge", "strategy": "upsert"}
    )
    def stocks() -> Iterator[Any]:
        for page in pages(task.url, orjson.loads):
            yield _arrow_table(page, schema) if is_best else page

    destination = postgres(_url(task.conninfo))
    pipeline = dlt.pipeline(dataset, destination=destination, dataset_name=dataset, pipelines_dir=task.folder)

    def work() -> None:
        pipeline.run(stocks(), loader_file_format="csv" if is_best else None)

    return work


def _url(conninfo: str) -> str:
    from psycopg2.extensions import parse_dsn

    parts = parse_dsn(conninfo)
    # dlt requires a host; libpq prefers the one in the query, which is the folder of the socket.
    return f"postgresql://{parts['user']}:none@localhost/{parts['dbname']}?host={parts['host']}&port={parts['port']}"


def _arrow_schema() -> Any:
    import pyarrow

    texts = [(name, pyarrow.string()) for name in ("ref", "title", "author", "publisher", "modified")]
    return pyarrow.schema([*texts, ("available", pyarrow.int64()), ("price", pyarrow.float64())])


def _arrow_table(page: list[dict[str, Any]], schema: Any) -> Any:
    import pyarrow

    table = pyarrow.Table.from_pylist(page, schema=schema)
    dates = table["modified"].cast(pyarrow.timestamp("us", tz="UTC"))
    return table.set_column(schema.get_field_index("modified"), "modified", dates)


if __name__ == "__main__":
    main(prepare)
