"""Records that could not be used: kept with their payload, personal fields masked, until the retention time is over."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from psycopg import sql
from psycopg.rows import class_row

from include.inbound.ledger import Connection, Instance
from include.inbound.masking import USUAL, Fields, fields_of, masked, masked_text
from include.inbound.reading import Rejection
from include.inbound.report import storable
from include.providers.base import LocalProvider

LONGEST_PAYLOAD = 200_000
"""Characters kept of a payload."""
CUT = " … (cut)"
"""End of a payload that was longer; no JSON ends like that."""
LONGEST_REASON = 1_000


class Example(NamedTuple):
    """A rejected record as a task log names it."""

    id: int
    reference: str | None
    reason: str


def save_rejections(
    connection: Connection,
    instance: Instance,
    provider: LocalProvider,
    rejections: Sequence[Rejection],
    asked_at: datetime,
) -> None:
    """Keep rejected records, in the transaction of their chunk; `asked_at` is the date of its undated records."""
    if not rejections:
        return
    fields = fields_of(provider)
    statement = (
        "COPY rejected_record (provider_id, venue_provider_id, instance_id, model, id_at_providers, reason, payload,"
        " asked_at) FROM STDIN"
    )
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for rejection in rejections:
            key = rejection.id_at_providers if rejection.id_at_providers is not None else rejection.reference
            copy.write_row(
                (
                    instance.provider_id,
                    instance.venue_provider_id,
                    instance.id,
                    rejection.model,
                    None if key is None else storable(str(key))[:255],
                    storable(rejection.reason)[:LONGEST_REASON],
                    masked_payload(rejection.payload, fields),
                    asked_at,
                )
            )


def rejected_examples(connection: Connection, instance_id: int, count: int = 5) -> list[Example]:
    """The first records that an instance put aside."""
    with connection.cursor(row_factory=class_row(Example)) as cursor:
        return cursor.execute(
            "SELECT id, id_at_providers AS reference, reason FROM rejected_record WHERE instance_id = %s"
            " ORDER BY id LIMIT %s",
            (instance_id, count),
        ).fetchall()


def resolve_listed_again(connection: Connection, instance: Instance) -> int:
    """Resolve what other instances put aside of a link before this one began, which has read all of it since.

    Returns how many. To be called in the transaction that finishes the instance.
    """
    link = "venue_provider_id IS NULL" if instance.venue_provider_id is None else "venue_provider_id = %(link)s"
    return connection.execute(
        sql.SQL(
            "UPDATE rejected_record SET resolved_at = clock_timestamp(), resolution = 'listed again'"
            " WHERE provider_id = %(provider)s AND {} AND resolved_at IS NULL"
            " AND instance_id IS DISTINCT FROM %(instance)s AND coalesce(asked_at, created_at) < %(began)s"
        ).format(sql.SQL(link)),
        {
            "provider": instance.provider_id,
            "link": instance.venue_provider_id,
            "instance": instance.id,
            "began": instance.started_at,
        },
    ).rowcount


def masked_payload(payload: Any, fields: Fields = USUAL) -> str | None:
    """A payload as JSON text with personal fields masked; None stays None.

    Takes raw JSON (bytes), a struct, or plain values. Text that is not JSON is masked by pattern. What is longer than
    `LONGEST_PAYLOAD` is cut and ends with `CUT`, also when it is kept another time.
    """
    if payload is None:
        return None
    try:
        value = msgspec.json.decode(payload) if isinstance(payload, bytes) else msgspec.to_builtins(payload)
        text = msgspec.json.encode(masked(value, fields)).decode()
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError):
        shown = _shown(payload)
        whole = shown.removesuffix(CUT)
        text = masked_text(whole[:LONGEST_PAYLOAD], fields)
        if whole != shown or len(whole) > LONGEST_PAYLOAD:
            text += CUT
    text = storable(text)
    return text if len(text) <= LONGEST_PAYLOAD else text.removesuffix(CUT)[: LONGEST_PAYLOAD - len(CUT)] + CUT


def _shown(payload: Any) -> str:
    try:
        return payload.decode("utf-8", "replace") if isinstance(payload, bytes) else repr(payload)
    except Exception as error:  # of a provider's own class, or of a number with too many digits
        return f"<{type(payload).__name__} that cannot be shown: {error}>"
