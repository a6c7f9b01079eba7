"""This project, as a mapped task of Airflow goes about it: the venue links of its batch, one after the other."""

from __future__ import annotations

from collections.abc import Callable

import psycopg

from bench.gate import pass_through
from bench.measuring import main
from bench.theatres.task import TheatreTask
from include.connectors.http import HttpConnector
from include.inbound.run import sync_provider
from include.providers.allocine_stocks import AllocineStocks
from include.store import ledger
from include.store.providers import load_link


def prepare(task: TheatreTask) -> Callable[[], object]:
    """Wait for the others; the work is the whole batch, from its connections to its end."""
    if task.waits:
        pass_through(task.conninfo)

    def work() -> None:
        with psycopg.connect(task.conninfo) as connection, HttpConnector(task.url) as connector:
            for instance in ledger.pending_instances(connection, task.catalog_id, task.batch):
                ledger.past_error_limit(connection, task.catalog_id)
                link = load_link(connection, instance.venue_provider_id or 0)
                connection.commit()
                sync_provider(AllocineStocks(link, connector), connection, instance_id=instance.id)

    return work


if __name__ == "__main__":
    main(prepare, TheatreTask)
