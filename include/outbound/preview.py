"""What would be sent of chosen orders, and which fields would change; nothing is sent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import psycopg

from include.errors import ConfigurationError
from include.outbound.mappings import load_if_any
from include.outbound.send import Sent, as_sync_error, send
from include.store import orders
from include.store import outbound as store
from include.targets.base import OutboundSyncProvider

MAX_PREVIEWED = 50


def preview(
    connection: psycopg.Connection[Any],
    target: type[OutboundSyncProvider],
    codes: Sequence[str] = (),
    event: str | None = None,
) -> Iterator[tuple[str, Sent]]:
    """Each object of these orders, or of the first fifty that wait in the queue: (order's code, what would be sent).

    Raises:
        ConfigurationError: there is no order of such a code, or the target is not sent orders.
        BaseSyncError: the target cannot be made, or its mappings are wrong.
    """
    if codes and target.source != "order":
        raise ConfigurationError(f"{target.name()} is not sent orders: none can be chosen")
    if codes:
        ids = [key.order_id for key in orders.find_orders(connection, codes=codes, event_slug=event)]
    else:
        ids = store.waiting(connection, target.identifier, target.source, MAX_PREVIEWED)
    things: dict[int, Any] = orders.load(connection, target.source, ids)
    previous = store.load_results(connection, target.identifier, target.source, ids)
    for id_, thing in things.items():
        provider = target.__new__(target)
        provider.stored_mappings = load_if_any(connection, target.identifier)
        try:
            provider.__init__(getattr(thing, "event", None))  # type: ignore[misc]
        except Exception as error:  # a target's code may raise anything
            raise as_sync_error(error) from error
        with provider:
            outcome = send(provider, thing, {k: v for k, v in previous.items() if k[0] == id_}, dry_run=True)
        if outcome.error and not outcome.objects:
            raise outcome.error
        code = str(getattr(thing, "code", "") or id_)
        for sent in outcome.objects:
            yield code, sent
