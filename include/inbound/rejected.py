"""Records that could not be used: kept with their payload, personal fields masked, until the retention time is over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from include.inbound.ledger import Connection, Instance
from include.inbound.masking import masked, masked_text
from include.inbound.reading import Rejection
from include.inbound.report import storable
from include.providers.base import LocalProvider

LONGEST_PAYLOAD = 20_000
"""Characters kept of a payload."""
LONGEST_REASON = 1_000


def save_rejections(
    connection: Connection, instance: Instance, provider: LocalProvider, rejections: Sequence[Rejection]
) -> None:
    """Keep rejected records, in the transaction of their chunk."""
    if not rejections:
        return
    statement = (
        "COPY rejected_record (provider_id, venue_provider_id, instance_id, model, id_at_providers, reason, payload)"
        " FROM STDIN"
    )
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for rejection in rejections:
            key = rejection.id_at_providers
            copy.write_row(
                (
                    instance.provider_id,
                    instance.venue_provider_id,
                    instance.id,
                    rejection.model,
                    None if key is None else storable(str(key))[:255],
                    storable(rejection.reason)[:LONGEST_REASON],
                    masked_payload(rejection.payload, provider.masked_fields),
                )
            )


def masked_payload(payload: Any, more_fields: frozenset[str] = frozenset()) -> str | None:
    """A payload as JSON text with personal fields masked, cut to `LONGEST_PAYLOAD`; None stays None.

    Takes raw JSON (bytes), a struct, or plain values. Text that is not JSON is masked by pattern.
    """
    if payload is None:
        return None
    try:
        value = msgspec.json.decode(payload) if isinstance(payload, bytes) else msgspec.to_builtins(payload)
        text = msgspec.json.encode(masked(value, more_fields)).decode()
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError):
        text = masked_text(_shown(payload)[:LONGEST_PAYLOAD], more_fields)
    return storable(text)[:LONGEST_PAYLOAD]


def _shown(payload: Any) -> str:
    try:
        return payload.decode("utf-8", "replace") if isinstance(payload, bytes) else repr(payload)
    except Exception as error:  # of a provider's own class, or of a number with too many digits
        return f"<{type(payload).__name__} that cannot be shown: {error}>"
