"""`python -m sandbox.indexer`: rebuild the index of offers, as the site's own indexer does.

It writes the records into a temporary index and then moves that over the live one, with the official client, like
https://www.algolia.com/doc/libraries/sdk/methods/search/replace-all-objects.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

from algoliasearch.http.hosts import Host, HostsCollection
from algoliasearch.search.client import SearchClientSync
from algoliasearch.search.config import SearchConfig

from sandbox.offers import INDEX, offers
from sandbox.world import Settings


@contextmanager
def connect(url: str, application_id: str, api_key: str) -> Iterator[SearchClientSync]:
    """Yield an Algolia client that sends every request to this URL."""
    address = urlsplit(url)
    config = SearchConfig(application_id, api_key)
    config.hosts = HostsCollection([Host(address.hostname or "", address.scheme, address.port)])
    client = SearchClientSync.create_with_config(config)
    try:
        yield client
    finally:
        client.close()


def rebuild(
    url: str,
    *,
    application_id: str = "SANDBOX",
    api_key: str = "sandbox-admin",
    index: str = INDEX,
    temporary: str = "offers_tmp",
    records: int = 5000,
    generation: int = 1,
    seed: int = 1,
    batch_size: int = 1000,
) -> datetime:
    """Rebuild an index with the offers of a generation; return when the move was accepted."""
    with connect(url, application_id, api_key) as client:
        client.delete_index(temporary)  # left over from an interrupted rebuild
        if client.index_exists(index):
            scope = ["settings", "rules", "synonyms"]
            client.operation_index(index, {"operation": "copy", "destination": temporary, "scope": scope})
        task = None
        source = offers(Settings(seed=seed, offers=records), generation)
        while requests := [{"action": "addObject", "body": offer} for offer in islice(source, batch_size)]:
            task = client.batch(temporary, {"requests": requests}).task_id
        if task is not None:  # the tasks of an index are processed in order
            client.wait_for_task(temporary, task, max_retries=800)
        move = client.operation_index(temporary, {"operation": "move", "destination": index})
        moved = datetime.now(UTC)
        client.wait_for_task(temporary, move.task_id, max_retries=800)
    return moved


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.indexer", description=__doc__)
    options: dict[str, tuple[Any, str]] = {
        "application-id": ("SANDBOX", "Algolia application id"),
        "api-key": ("sandbox-admin", "Algolia API key"),
        "index": (INDEX, "index to rebuild"),
        "temporary": ("offers_tmp", "temporary index to build it in"),
        "records": (5000, "number of records"),
        "generation": (1, "generation of the offers"),
        "seed": (1, "seed of the offers"),
    }
    parser.add_argument("--url", required=True, help="URL of the sandbox")
    for name, (default, description) in options.items():
        parser.add_argument(f"--{name}", type=type(default), default=default, help=f"{description} ({default!r})")
    return parser.parse_args(given)


def main() -> None:
    """Rebuild the index, and print the time of the move."""
    start = time.monotonic()
    moved = rebuild(**vars(arguments()))
    print(f"{moved.isoformat(timespec='milliseconds')} moved, {time.monotonic() - start:.1f} s")


if __name__ == "__main__":
    main()
