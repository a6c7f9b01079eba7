"""This project, as a mapped task of the DAG does it: the venue links of a batch, one after the other."""

from __future__ import annotations

from collections.abc import Callable

import psycopg

from bench.measuring import Task, main
from include.connectors.http import HttpConnector
from include.inbound.sync import sync_provider
from include.providers.allocine_stocks import AllocineStocks
from include.store import ledger
from include.store.providers import load_link


def prepare(task: Task) -> Callable[[], object]:
    """Prepare nothing; the work is the whole batch, from its connections to its end."""
    load, batch = task.options["load"], task.options["batch"]

    def work() -> None:
        with psycopg.connect(task.conninfo) as connection, HttpConnector(task.url) as connector:
            for instance in ledger.pending_instances(connection, load, batch):
                ledger.past_error_limit(connection, load)
                link = load_link(connection, instance.venue_provider_id or 0)
                connection.commit()
                sync_provider(AllocineStocks(link, connector), connection, instance_id=instance.id)

    return work


if __name__ == "__main__":
    main(prepare)
