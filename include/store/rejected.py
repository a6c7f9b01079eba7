"""Records that could not be used: kept with their payload, personal fields masked, until the retention time is over."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from psycopg import sql
from psycopg.rows import class_row

from include.inbound.chunk import Chunk
from include.inbound.read import Rejection
from include.masking import USUAL, Fields, masked, masked_text
from include.models.report import storable
from include.providers.base import LocalProvider, ProvidableInfo
from include.store.ledger import Connection, Instance

MAX_PAYLOAD_LENGTH = 200_000
"""Characters kept of a payload."""
CUT = " … (cut)"
"""End of a payload that was longer; no JSON ends like that."""
MAX_REASON_LENGTH = 1_000
MAX_KEY_LENGTH = 255
MAX_WAITING = 10_000
"""Rejected records of a link that a run watches out for: the newest ones."""
SEPARATOR = re.compile(r"[\W_]")


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
    fields = provider.masking()
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
                    None if key is None else _stored_key(key),
                    storable(rejection.reason)[:MAX_REASON_LENGTH],
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


class _Waiting(NamedTuple):
    id: int
    key: str
    is_record: bool
    """Whether no object could be read of it, so that `key` is at most what the keys of its objects begin with."""
    asked_at: datetime


class WaitingRecords:
    """Rejected records of a link that waited when a run began, to be resolved when a later page has them again.

    Otherwise a replay could write them over what is newer: a row that was listed again, unchanged or skipped, is not
    written, so its date does not tell of it. What the run itself puts aside is not among them.
    """

    def __init__(self, connection: Connection, instance: Instance) -> None:
        self._objects: defaultdict[str, set[_Waiting]] = defaultdict(set)
        self._records: defaultdict[str, set[_Waiting]] = defaultdict(set)
        link = "venue_provider_id IS NULL" if instance.venue_provider_id is None else "venue_provider_id = %(link)s"
        statement = sql.SQL(
            "SELECT id, id_at_providers AS key, model IS NULL AS is_record, coalesce(asked_at, created_at) AS asked_at"
            " FROM rejected_record WHERE provider_id = %(provider)s AND {} AND resolved_at IS NULL"
            " AND id_at_providers IS NOT NULL ORDER BY id DESC LIMIT %(most)s"
        ).format(sql.SQL(link))
        asked = {"provider": instance.provider_id, "link": instance.venue_provider_id, "most": MAX_WAITING}
        with connection.cursor(row_factory=class_row(_Waiting)) as cursor:
            for one in cursor.execute(statement, asked):
                (self._records if one.is_record else self._objects)[one.key].add(one)

    def __bool__(self) -> bool:
        return bool(self._objects or self._records)

    def listed_again(self, chunk: Chunk, asked_at: datetime) -> set[_Waiting]:
        """Those that a chunk names again, whose undated records are of `asked_at`.

        An object that has a date is newer than they are only if it was changed after their page was asked for. What
        the objects of a chunk refer to is not listed with it. A record that is rejected anew is listed again too.
        """
        found: set[_Waiting] = set()
        for infos in chunk.infos.values():
            for info in infos:
                if info.role == "reference" or not isinstance(info.id_at_providers, str):
                    continue
                for one in self._named_by(info.id_at_providers):
                    if one.asked_at < _moment(info, asked_at):
                        found.add(one)
        for rejection in chunk.rejections:
            if rejection.reference is not None:
                named = self._records.get(_stored_key(rejection.reference), ())
                found.update(one for one in named if one.asked_at < asked_at)
        return found

    def _named_by(self, key: str) -> Iterator[_Waiting]:
        """Those of this key, and records with what it begins with, up to a separator or with it."""
        yield from self._objects.get(key, ())
        if self._records:
            ends = {end for separator in SEPARATOR.finditer(key) for end in separator.span()} | {len(key)}
            for end in ends:
                yield from self._records.get(key[:end], ())

    def forget(self, resolved: Collection[_Waiting]) -> None:
        """Watch out for these no longer."""
        for one in resolved:
            by_key = self._records if one.is_record else self._objects
            by_key[one.key].discard(one)
            if not by_key[one.key]:
                del by_key[one.key]


def resolve_named_again(connection: Connection, waiting: Collection[_Waiting]) -> None:
    """Resolve these, in the transaction of the chunk that names them."""
    connection.execute(
        "UPDATE rejected_record SET resolved_at = clock_timestamp(), resolution = 'listed again'"
        " WHERE id = ANY(%s) AND resolved_at IS NULL",
        ([one.id for one in waiting],),
    )


def _moment(info: ProvidableInfo, asked_at: datetime) -> datetime:
    """What an object tells of is at least as new as this."""
    date = info.date_modified_at_provider
    return asked_at if date is None or date.tzinfo is None else min(date, asked_at)


def _stored_key(key: object) -> str:
    return storable(str(key))[:MAX_KEY_LENGTH]


def masked_payload(payload: Any, fields: Fields = USUAL) -> str | None:
    """A payload as JSON text with personal fields masked; None stays None.

    Takes raw JSON (bytes), a struct, or plain values. Text that is not JSON is masked by pattern. What is longer than
    `MAX_PAYLOAD_LENGTH` is cut and ends with `CUT`, also when it is kept another time.
    """
    if payload is None:
        return None
    try:
        value = msgspec.json.decode(payload) if isinstance(payload, bytes) else msgspec.to_builtins(payload)
        text = msgspec.json.encode(masked(value, fields)).decode()
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError):
        shown = _shown(payload)
        whole = shown.removesuffix(CUT)
        text = masked_text(whole[:MAX_PAYLOAD_LENGTH], fields)
        if whole != shown or len(whole) > MAX_PAYLOAD_LENGTH:
            text += CUT
    text = storable(text)
    return text if len(text) <= MAX_PAYLOAD_LENGTH else text.removesuffix(CUT)[: MAX_PAYLOAD_LENGTH - len(CUT)] + CUT


def _shown(payload: Any) -> str:
    try:
        return payload.decode("utf-8", "replace") if isinstance(payload, bytes) else repr(payload)
    except Exception as error:  # of a provider's own class, or of a number with too many digits
        return f"<{type(payload).__name__} that cannot be shown: {error}>"
