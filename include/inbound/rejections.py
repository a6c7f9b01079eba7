"""Rejected records: what is stored of them, and which of them the source lists again.

Their SQL is in `include.store.rejected`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from include.masking import USUAL, Fields, masked, masked_text
from include.models import Providable
from include.models.report import storable
from include.providers.base import ProvidableInfo
from include.store import Connection, rejected
from include.store.ledger import Place
from include.store.rejected import OpenRecord, RejectedRow

MAX_PAYLOAD_LENGTH = 200_000
"""Characters stored of a payload."""
CUT = " … (cut)"
"""End of a payload that was longer; no JSON document ends like this."""
MAX_REASON_LENGTH = 1_000
MAX_KEY_LENGTH = 255
MAX_OPEN_RECORDS = 10_000
"""Open rejected records of a link that a run looks for in its listing: the newest ones."""
_SEPARATOR = re.compile(r"[\W_]")


class Rejection(NamedTuple):
    """A record or an object that cannot be used."""

    model: str | None
    """Class name of the object; None if no object could be read from the record."""
    id_at_providers: str | None
    reason: str
    payload: Any
    """The record: raw JSON (bytes), a struct or plain values."""
    reference: str | None = None
    """What the keys of the record's objects begin with, if at least that could be read."""

    def row(self, fields: Fields) -> RejectedRow:
        """Return what is stored of it, with the personal fields masked."""
        key = self.id_at_providers if self.id_at_providers is not None else self.reference
        return RejectedRow(
            self.model,
            None if key is None else _stored_key(key),
            storable(self.reason)[:MAX_REASON_LENGTH],
            masked_payload(self.payload, fields),
        )


class OpenRecords:
    """The open rejected records of a link when a run begins; the run resolves those that its listing has again.

    Otherwise a later replay could overwrite newer values: a row that was listed again, but was unchanged or skipped, is
    not written, so its date does not protect it. Records that the run itself rejects are not among them.
    """

    def __init__(self, connection: Connection, place: Place) -> None:
        self._objects: defaultdict[str, set[OpenRecord]] = defaultdict(set)
        self._records: defaultdict[str, set[OpenRecord]] = defaultdict(set)
        for record in rejected.open_records(connection, place, MAX_OPEN_RECORDS):
            (self._records if record.is_record else self._objects)[record.key].add(record)

    def __bool__(self) -> bool:
        return bool(self._objects or self._records)

    def listed_again(
        self,
        infos: Mapping[type[Providable], Sequence[ProvidableInfo]],
        rejections: Sequence[Rejection],
        requested_at: datetime,
    ) -> set[OpenRecord]:
        """Return the open records that a chunk lists again; `requested_at` is the date of its undated records.

        An object with a date replaces an open record only if it changed after that record's page was requested. A
        record that is rejected once more is listed again, too; references are not.
        """
        found: set[OpenRecord] = set()
        for same_model in infos.values():
            for info in same_model:
                if info.role == "reference" or not isinstance(info.id_at_providers, str):
                    continue
                for record in self._named_by(info.id_at_providers):
                    if record.requested_at < _moment(info, requested_at):
                        found.add(record)
        for rejection in rejections:
            if rejection.reference is not None:
                records = self._records.get(_stored_key(rejection.reference), ())
                found.update(record for record in records if record.requested_at < requested_at)
        return found

    def _named_by(self, key: str) -> Iterator[OpenRecord]:
        """Yield open objects with this key, and open records whose reference ends at a separator of it."""
        yield from self._objects.get(key, ())
        if self._records:
            ends = {end for separator in _SEPARATOR.finditer(key) for end in separator.span()} | {len(key)}
            for end in ends:
                yield from self._records.get(key[:end], ())

    def forget(self, resolved: Collection[OpenRecord]) -> None:
        """Stop looking for these records."""
        for record in resolved:
            by_key = self._records if record.is_record else self._objects
            by_key[record.key].discard(record)
            if not by_key[record.key]:
                del by_key[record.key]


def _moment(info: ProvidableInfo, requested_at: datetime) -> datetime:
    """Return a time that the object's values are at least as new as."""
    date = info.date_modified_at_provider
    return requested_at if date is None or date.tzinfo is None else min(date, requested_at)


def _stored_key(key: object) -> str:
    return storable(str(key))[:MAX_KEY_LENGTH]


def masked_payload(payload: Any, fields: Fields = USUAL) -> str | None:
    """Return a payload as JSON text with personal fields masked; None for None.

    The payload is raw JSON (bytes), a struct, or plain values; text that is not JSON is masked by pattern. Text longer
    than `MAX_PAYLOAD_LENGTH` is cut and ends with `CUT`, also when a cut payload is stored again.
    """
    if payload is None:
        return None
    try:
        value = msgspec.json.decode(payload) if isinstance(payload, bytes) else msgspec.to_builtins(payload)
        text = msgspec.json.encode(masked(value, fields)).decode()
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError):
        shown = _as_text(payload)
        uncut = shown.removesuffix(CUT)
        text = masked_text(uncut[:MAX_PAYLOAD_LENGTH], fields)
        if uncut != shown or len(uncut) > MAX_PAYLOAD_LENGTH:
            text += CUT
    text = storable(text)
    return text if len(text) <= MAX_PAYLOAD_LENGTH else text.removesuffix(CUT)[: MAX_PAYLOAD_LENGTH - len(CUT)] + CUT


def _as_text(payload: Any) -> str:
    try:
        return payload.decode("utf-8", "replace") if isinstance(payload, bytes) else repr(payload)
    except Exception as error:  # raised by a provider's own class, or by a number with too many digits
        return f"<{type(payload).__name__} that cannot be shown: {error}>"
