"""`python -m sandbox.indexer`: rebuilds the index of the offers, as the site's own indexer does.

The records go into a temporary index, which then takes the place of the other. It speaks to the service through its
official client: https://www.algolia.com/doc/libraries/sdk/methods/search/replace-all-objects tells of the same way.
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
    """Yield a client that speaks to this address only."""
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
    """Rebuild an index with the offers of a generation; returns when the move was accepted."""
    with connect(url, application_id, api_key) as client:
        client.delete_index(temporary)  # what a run that broke off left there
        if client.index_exists(index):
            scope = ["settings", "rules", "synonyms"]
            client.operation_index(index, {"operation": "copy", "destination": temporary, "scope": scope})
        task = None
        made = offers(Settings(seed=seed, offers=records), generation)
        while requests := [{"action": "addObject", "body": offer} for offer in islice(made, batch_size)]:
            task = client.batch(temporary, {"requests": requests}).task_id
        if task is not None:  # tasks of an index are done in their order
            client.wait_for_task(temporary, task, max_retries=800)
        move = client.operation_index(temporary, {"operation": "move", "destination": index})
        moved = datetime.now(UTC)
        client.wait_for_task(temporary, move.task_id, max_retries=800)
    return moved


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.indexer", description=__doc__)
    options: dict[str, tuple[Any, str]] = {
        "application-id": ("SANDBOX", ""),
        "api-key": ("sandbox-admin", ""),
        "index": (INDEX, "what is rebuilt"),
        "temporary": ("offers_tmp", "where it is built"),
        "records": (5000, "so many"),
        "generation": (1, "of the offers; each further rebuild takes the next one"),
        "seed": (1, "of the offers"),
        "times": (1, "rebuilds"),
        "every": (0.0, "seconds from the start of a rebuild to that of the next"),
        "batch-size": (1000, "records sent together"),
    }
    parser.add_argument("--url", required=True, help="address of the sandbox")
    for name, (default, told) in options.items():
        parser.add_argument(f"--{name}", type=type(default), default=default, help=f"{told} ({default!r})".strip())
    return parser.parse_args(given)


def main() -> None:
    """Rebuild as often as asked for, and say when each move was."""
    options = vars(arguments())
    url, times, every, first = (options.pop(name) for name in ("url", "times", "every", "generation"))
    for number in range(times):
        start = time.monotonic()
        moved = rebuild(url, generation=first + number, **options)
        seconds = time.monotonic() - start
        print(f"{moved.isoformat(timespec='milliseconds')} moved, {seconds:.1f} s", flush=True)
        if number < times - 1:
            time.sleep(max(0.0, every - seconds))


if __name__ == "__main__":
    main()
