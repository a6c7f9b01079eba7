"""Send one order or offer with all its objects. No database access: the results are returned."""

from __future__ import annotations

import hashlib
import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import msgspec

from include.connectors.redaction import redact
from include.errors import (
    AccessRefused,
    BaseSyncError,
    ConfigurationError,
    FatalError,
    RecoverableSyncError,
    RetryableError,
    SyncConfigError,
    UnrecoverableSyncError,
)
from include.masking import MASK
from include.models.orders import Inputs, Order, SourceItem, Value
from include.models.outbound import ObjectKey, StoredResult
from include.targets.base import OutboundSyncProvider, Property, mappings_of
from include.targets.entries import normalize_mapping
from include.targets.fields import MODELS, Field, event_or_subevent
from include.targets.mapping import ObjectMapping, StaticMapping

log = logging.getLogger(__name__)

MAX_ID_LENGTH = 128
MAX_LINK_LENGTH = 255
MAX_MESSAGE_LENGTH = 1000
PERSONAL_CATEGORIES = (11, 12, 22)
"""Categories of source fields that are masked in the log: attendee, questions, invoice address."""
PERSONAL_KEYS = ("email", "presale_ticket_url", "presale_order_url")
"""Source fields masked in every other category too: a link with a secret grants access to anyone who has it."""


@dataclass
class ObjectResult:
    """What happened to one object.

    `outcome` is sent, nothing_to_do, not_synced (skipped by the target or without an id) or failed. `payload` is what
    was sent, with personal values masked; `changed` the fields that differ from what was sent last.
    """

    mapping_id: int
    position_id: int | None
    outcome: str
    result: StoredResult | None = None
    error: BaseSyncError | None = None
    payload: dict[str, Value] = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)
    is_called: bool = False
    """Whether the target was called: if that failed, the state of the object at the target is unknown."""


@dataclass
class SendResult:
    """What happened to an order or offer: its objects, and the error that decides how the queue proceeds, if any.

    `wait_seconds` is the time until a retry.
    """

    objects: list[ObjectResult] = field(default_factory=list)
    error: BaseSyncError | None = None
    wait_seconds: float = 0.0

    @property
    def reason(self) -> str:
        """The reason for which it is parked, if the error is not recoverable."""
        return str(getattr(self.error, "failure_mode", "internal"))

    @property
    def is_accepted(self) -> bool:
        """Whether the target accepted at least one object."""
        return any(each.outcome == "sent" for each in self.objects)

    @property
    def is_called(self) -> bool:
        """Whether the target was called for at least one object."""
        return any(each.is_called for each in self.objects)


def send(
    target: OutboundSyncProvider,
    item: SourceItem,
    previous: Mapping[ObjectKey, StoredResult],
    *,
    force: bool = False,
    dry_run: bool = False,
) -> SendResult:
    """Send an order or offer.

    An object that fails does not stop the others. `finalize_sync_order` is only called if all objects succeeded.

    - `previous`: the last results of its objects.
    - `force`: also send objects that equal what was sent last.
    - `dry_run`: stop before the target is called; `outcome` says what would happen.
    """
    result = SendResult()
    try:
        if not target.should_sync_order(item):
            return result
        mappings = [(given, _checked(given, target.source)) for given in mappings_of(target)]
    except Exception as error:  # a target's code may raise anything
        result.error = as_sync_error(error)
        return result
    mapped_objects: dict[int, list[StoredResult | None]] = {}
    for given, mapping in mappings:
        results = mapped_objects[mapping.id] = []
        for part_id, inputs in inputs_of(item, mapping.source_model):
            key = (item.source_id, part_id, mapping.id)
            sender = _ObjectSender(target, given, mapping, key, inputs, previous.get(key))
            sent = sender.send(mapped_objects, force=force, dry_run=dry_run)
            results.append(sent.result if sent.error is None else None)
            result.objects.append(sent)
    if errors := [sent.error for sent in result.objects if sent.error]:
        result.error = _deciding(errors)
    elif not dry_run:
        try:
            target.finalize_sync_order(item)
        except Exception as error:
            result.error = as_sync_error(error)
    return result


def inputs_of(item: SourceItem, model: str) -> list[tuple[int | None, Inputs]]:
    """Return (part id, inputs) of each object of a source model: one per order or offer, or per position or stock."""
    if isinstance(item, Order):
        if model == "Order":
            return [(None, {"order": item, "event": item.event})]
        return [
            (
                position.position_id,
                {
                    "order": item,
                    "event": item.event,
                    "position": position,
                    "event_or_subevent": event_or_subevent(position, item.event),
                },
            )
            for position in item.positions
        ]
    if model == "Offer":
        return [(None, {"offer": item})]
    return [(stock.stock_id, {"offer": item, "stock": stock}) for stock in item.stocks]


def as_sync_error(error: BaseException) -> BaseSyncError:
    """Return any exception as a sync error: connector errors by their place in the tree, all others as internal."""
    if isinstance(error, BaseSyncError):
        return error
    text = _printable(redact(error))[:MAX_MESSAGE_LENGTH]
    if isinstance(error, RetryableError):
        return RecoverableSyncError([text], retry_after=error.retry_after)
    if isinstance(error, AccessRefused | ConfigurationError):
        return SyncConfigError([text])
    if isinstance(error, FatalError):
        return UnrecoverableSyncError([text])
    log.warning("A target raised %s", type(error).__name__, exc_info=error)
    return BaseSyncError([f"{type(error).__name__}: {text}" if text else type(error).__name__])


@dataclass
class _ObjectSender:
    """Sends one object. `given` is the mapping as the target returned it, `mapping` its normalized form."""

    target: OutboundSyncProvider
    given: ObjectMapping
    mapping: StaticMapping
    key: ObjectKey
    inputs: Inputs
    stored: StoredResult | None

    def send(
        self, mapped_objects: Mapping[int, Sequence[StoredResult | None]], *, force: bool, dry_run: bool
    ) -> ObjectResult:
        sent = ObjectResult(self.mapping.id, self.key[1], "not_synced")
        stored = self.stored
        try:
            properties = self.target.get_properties(self.inputs, self.mapping.property_mappings)
            id_value = self._id_value()
            if not id_value:
                return sent
            digests = _digests(self.mapping, id_value, properties)
            sent.payload = _masked(self.target, self.mapping, properties)
            sent.changed = [name for name, digest in digests.items() if not stored or stored.sent.get(name) != digest]
            if stored and stored.sent == digests and not force and not self.target.sends_unchanged:
                sent.outcome, sent.result = "nothing_to_do", stored
                return sent
            if dry_run:
                sent.outcome = "sent"
                return sent
            sent.is_called = True
            sync = self.target.sync_object_with_properties
            returned = sync(
                external_id_field=self.mapping.external_id_field,
                id_value=id_value,
                properties=properties,
                inputs=self.inputs,
                mapping=self.given,
                mapped_objects=mapped_objects,
                **({"previous": stored} if _accepts_previous(type(self.target).sync_object_with_properties) else {}),
            )
            if not returned:
                return sent
            sent.outcome = "nothing_to_do" if returned.get("action") == "nothing_to_do" else "sent"
            sent.result = self._result(id_value, returned, digests)
        except Exception as error:  # a target's code may raise anything
            sent.error = as_sync_error(error)
            sent.outcome = "failed"
        return sent

    def _id_value(self) -> str:
        value = self.target.get_field_value(self.inputs, {"source_field": self.mapping.source_id_field})
        id_value = str(value) if value else ""
        if len(id_value) > MAX_ID_LENGTH:
            reason = f"{id_value[:40]}… has {len(id_value)} characters, the maximum is {MAX_ID_LENGTH}"
            raise UnrecoverableSyncError([f"{self.mapping.external_id_field}: {reason}"])
        return id_value

    def _result(self, id_value: str, returned: Mapping[str, object], digests: dict[str, str]) -> StoredResult:
        """Return what to store. The object is at the target already: no returned value may raise here."""
        info = dict(returned)
        href, name = info.pop("external_link_href", None), info.pop("external_link_display_name", None)
        source_id, part_id, mapping_id = self.key
        return StoredResult(
            source=self.target.source,
            source_id=source_id,
            position_id=part_id,
            target=self.target.identifier,
            mapping_id=mapping_id,
            external_object_type=self.mapping.external_object_type,
            external_id_field=self.mapping.external_id_field,
            id_value=id_value,
            external_link_href=str(href) if href and len(str(href)) <= MAX_LINK_LENGTH else None,
            external_link_display_name=str(name)[:MAX_LINK_LENGTH] if name else None,
            sync_info=_as_json(info),
            sent=digests,
        )


@cache
def _accepts_previous(method: Callable[..., object]) -> bool:
    """Whether a target's method accepts the last stored result of an object."""
    parameters = inspect.signature(method).parameters.values()
    return any(p.name == "previous" or p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)


def _as_json(info: dict[str, object]) -> dict[str, Any]:
    """Return values as JSON represents them; those that it cannot represent as text."""
    try:
        return dict(msgspec.json.decode(msgspec.json.encode(info, enc_hook=str)))
    except (ValueError, TypeError, RecursionError):  # lone surrogates, values that contain themselves
        if len(info) == 1:
            return {_printable(key): _printable(value) for key, value in info.items()}
        return {name: value for key, each in info.items() for name, value in _as_json({key: each}).items()}


def _printable(value: object) -> str:
    return str(value).encode(errors="replace").decode()


def _checked(mapping: ObjectMapping, source: str) -> StaticMapping:
    """Return the normalized mapping; raise SyncConfigError before anything is sent if it cannot be used."""
    normalized = normalize_mapping(mapping)
    if normalized.source_model not in MODELS[source]:
        reason = f"unknown source_model {normalized.source_model!r}; the models are: {', '.join(MODELS[source])}"
        raise SyncConfigError([f"Mapping {normalized.id}: {reason}"])
    for name in ("external_object_type", "external_id_field"):
        if len(getattr(normalized, name)) > MAX_ID_LENGTH:
            raise SyncConfigError([f"Mapping {normalized.id}: {name} has more than {MAX_ID_LENGTH} characters"])
    return normalized


def _digests(mapping: StaticMapping, id_value: str, properties: Sequence[Property]) -> dict[str, str]:
    """Return a digest for each external field and the identity: they reveal changes, but not what was sent."""
    values: dict[str, list[object]] = {f"{mapping.external_object_type}/{mapping.external_id_field}": [id_value]}
    for name, value, mode in properties:
        values.setdefault(name, []).append([value, mode])
    return {name: _digest(value) for name, value in values.items()}


def _digest(value: object) -> str:
    return hashlib.blake2b(msgspec.json.encode(value, enc_hook=str), digest_size=8).hexdigest()


def _masked(target: OutboundSyncProvider, mapping: StaticMapping, properties: Sequence[Property]) -> dict[str, Value]:
    """Return the properties for the log; values of personal and of unknown source fields are masked."""
    sources: dict[str, list[Field | None]] = {}
    for entry in mapping.property_mappings:
        sources.setdefault(entry["external_field"], []).append(target.data_fields.get(entry["source_field"]))
    return {
        name: MASK if value and any(map(_is_personal, sources.get(name, [None]))) else value
        for name, value, _ in properties
    }


def _is_personal(source: Field | None) -> bool:
    return source is None or source.category.sort in PERSONAL_CATEGORIES or source.key in PERSONAL_KEYS


def _deciding(errors: Sequence[BaseSyncError]) -> BaseSyncError:
    """Return the error that decides about the whole order, with the messages of all.

    Recoverable errors come first, with the longest wait: a retry may fix them, and meets the others again anyway.
    """
    messages = list(dict.fromkeys(message for error in errors for message in error.messages))
    recoverable = [error for error in errors if isinstance(error, RecoverableSyncError)]
    if recoverable:
        waits = [error.retry_after for error in recoverable if error.retry_after]
        return RecoverableSyncError(messages, retry_after=max(waits, default=None))
    by_weight = (SyncConfigError, UnrecoverableSyncError)
    kind = next((kind for kind in by_weight if any(isinstance(error, kind) for error in errors)), BaseSyncError)
    return kind(messages)
