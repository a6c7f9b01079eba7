"""The dry run: what would be sent, and which fields would change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing

import psycopg

from include.errors import ConfigurationError
from include.outbound.mappings import load
from include.outbound.send import ObjectResult, as_sync_error, send
from include.store import orders, queue, results
from include.targets.base import OutboundSyncProvider

MAX_PREVIEWED = 50


def preview(
    connection: psycopg.Connection,
    target: type[OutboundSyncProvider],
    codes: Sequence[str] = (),
    event: str | None = None,
) -> Iterator[tuple[str, ObjectResult]]:
    """Yield (order code or offer id, result) for each object of these orders; nothing is sent.

    Without codes: of the next MAX_PREVIEWED orders or offers in the queue.

    Raises:
        ConfigurationError: a code is unknown, or the target does not receive orders.
        BaseSyncError: the target's constructor failed, or its mappings are invalid.
    """
    if codes and target.source != "order":
        raise ConfigurationError(f"{target.name()} does not receive orders: `orders` cannot be used")
    if codes:
        ids = orders.find_orders(connection, codes, event)
    else:
        ids = queue.waiting_ids(connection, target.identifier, target.source, MAX_PREVIEWED)
    stored = load(connection, target.identifier)
    previous = results.load_results(connection, target.identifier, target.source, ids)
    for id_, item in orders.load(connection, target.source, ids).items():
        try:
            instance = target.create(item.event, stored_mappings=stored)
        except Exception as error:  # a target's code may raise anything
            raise as_sync_error(error) from error
        with closing(instance):
            result = send(instance, item, {k: v for k, v in previous.items() if k[0] == id_}, dry_run=True)
        if result.error and not result.objects:
            raise result.error
        for sent in result.objects:
            yield item.label or str(id_), sent
