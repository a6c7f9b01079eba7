"""Send one order, or offer, with all its objects. No database here: what comes of it is handed back."""

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
from include.store.outbound import ResultRow
from include.targets.base import OutboundSyncProvider, mappings_of

log = logging.getLogger(__name__)

MAX_ID_LENGTH = 128
MAX_LINK_LENGTH = 255
MAX_MESSAGE_LENGTH = 1000
PERSONAL_CATEGORIES = (11, 12, 22)
"""Categories of source fields whose values are masked in the log: attendee, questions, invoice address."""
PERSONAL_KEYS = ("email", "presale_ticket_url", "presale_order_url")
"""And those of other categories: addresses with a secret let whoever has them in."""
MODELS = {"order": ("Order", "OrderPosition"), "offer": ("Offer", "Stock")}
"""What a mapping can be of, by the source of the target."""

Key = tuple[int, int | None, int]
"""Source id, position id, mapping id."""


@dataclass
class Sent:
    """What became of one object. `payload` is what was sent, personal values masked."""

    mapping_id: int
    position_id: int | None
    outcome: str
    result: ResultRow | None = None
    error: BaseSyncError | None = None
    payload: dict[str, Any] = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)
    is_called: bool = False
    """The target was called: if that failed, what it holds is not known any more."""


@dataclass
class Outcome:
    """What became of an order: its objects, and the failure that decides about it, if any."""

    objects: list[Sent] = field(default_factory=list)
    error: BaseSyncError | None = None
    is_left_alone: bool = False
    wait_seconds: float = 0.0

    @property
    def reason(self) -> str:
        """Why it waits for a person, unless it is tried again by itself."""
        return str(getattr(self.error, "failure_mode", "internal"))


def send(
    provider: OutboundSyncProvider,
    thing: Any,
    previous: Mapping[Key, ResultRow],
    *,
    anyway: bool = False,
    dry_run: bool = False,
) -> Outcome:
    """Send an order or offer. One object that fails does not stop the others; finalized is only what went well."""
    outcome = Outcome()
    try:
        if not provider.should_sync_order(thing):
            return Outcome(is_left_alone=True)
        mappings = [(mapping, _checked(mapping, provider.source)) for mapping in mappings_of(provider)]
    except Exception as error:  # a target's code may raise anything
        outcome.error = as_sync_error(error)
        return outcome
    mapped: dict[int, list[ResultRow | None]] = {}
    for given, mapping in mappings:
        mapped[mapping.id] = []
        for inputs in inputs_of(thing, mapping.source_model):
            sent = _send_object(
                provider, inputs, mapping, previous, given=given, mapped=mapped, anyway=anyway, dry_run=dry_run
            )
            mapped[mapping.id].append(sent.result if sent.error is None else None)
            outcome.objects.append(sent)
    errors = [sent.error for sent in outcome.objects if sent.error]
    if errors:
        outcome.error = _worst(errors)
    elif not dry_run:
        try:
            provider.finalize_sync_order(thing)
        except Exception as error:
            outcome.error = as_sync_error(error)
    return outcome


def inputs_of(thing: Any, model: str) -> list[dict[str, Any]]:
    """What a mapping of a model is evaluated with: once per order or offer, or once per position or stock."""
    if model == "Order":
        return [{"order": thing, "event": thing.event}]
    if model == "OrderPosition":
        from include.targets.fields import event_or_subevent

        return [
            {"order": thing, "event": thing.event, "position": position}
            | {"event_or_subevent": event_or_subevent(position, thing.event)}
            for position in thing.positions
        ]
    if model == "Offer":
        return [{"offer": thing}]
    return [{"offer": thing, "stock": stock} for stock in thing.stocks]


def id_of(thing: Any) -> int:
    """The id of an order or offer."""
    return int(thing.order_id if hasattr(thing, "order_id") else thing.offer_id)


def as_sync_error(error: BaseException) -> BaseSyncError:
    """Any exception as one that says what to do: connectors' errors by their place in the tree, others as internal."""
    if isinstance(error, BaseSyncError):
        return error
    text = _readable(redact(error))[:MAX_MESSAGE_LENGTH]
    if isinstance(error, RetryableError):
        return RecoverableSyncError([text], retry_after=error.retry_after)
    if isinstance(error, AccessRefused | ConfigurationError):
        return SyncConfigError([text])
    if isinstance(error, FatalError):
        return UnrecoverableSyncError([text])
    log.warning("A target raised %s", type(error).__name__, exc_info=error)
    return BaseSyncError([f"{type(error).__name__}: {text}" if text else type(error).__name__])


def _send_object(
    provider: OutboundSyncProvider,
    inputs: dict[str, Any],
    mapping: Any,
    previous: Mapping[Key, ResultRow],
    *,
    given: Any,
    mapped: Mapping[int, Sequence[ResultRow | None]],
    anyway: bool,
    dry_run: bool,
) -> Sent:
    thing = inputs.get("order") or inputs["offer"]
    part = inputs.get("position") or inputs.get("stock")
    part_id = None if part is None else (part.position_id if hasattr(part, "position_id") else part.stock_id)
    sent = Sent(mapping.id, part_id, "not_synced")
    try:
        properties = provider.get_properties(inputs, mapping.property_mappings)
        id_value = provider.get_field_value(inputs, {"source_field": mapping.source_id_field})
        if not id_value:
            return sent
        id_value = str(id_value)
        if len(id_value) > MAX_ID_LENGTH:
            told = f"{id_value[:40]}… has {len(id_value)} characters, {MAX_ID_LENGTH} are allowed"
            raise UnrecoverableSyncError([f"{mapping.external_id_field}: {told}"])
        held = previous.get((id_of(thing), part_id, mapping.id))
        digests = _digests(mapping, id_value, properties)
        sent.payload = _shown(provider, mapping, properties)
        sent.changed = [name for name, digest in digests.items() if held is None or held.sent.get(name) != digest]
        if held and held.sent == digests and not anyway and not provider.sends_unchanged:
            sent.outcome, sent.result = "nothing_to_do", held
            return sent
        if dry_run:
            sent.outcome = "sent"
            return sent
        arguments: dict[str, Any] = {
            "external_id_field": mapping.external_id_field,
            "id_value": id_value,
            "properties": properties,
            "inputs": inputs,
            "mapping": given,
            "mapped_objects": mapped,
        }
        if _takes_previous(type(provider).sync_object_with_properties):
            arguments["previous"] = held
        sent.is_called = True
        returned = provider.sync_object_with_properties(**arguments)
        if not returned:
            return sent
        sent.outcome = "nothing_to_do" if returned.get("action") == "nothing_to_do" else "sent"
        sent.result = _result(provider, (id_of(thing), part_id), mapping, id_value, returned, digests)
    except Exception as error:  # a target's code may raise anything
        sent.error = as_sync_error(error)
        sent.outcome = "failed"
    return sent


def _result(  # noqa: PLR0917
    provider: OutboundSyncProvider,
    ids: tuple[int, int | None],
    mapping: Any,
    id_value: str,
    returned: Mapping[str, Any],
    digests: dict[str, str],
) -> ResultRow:
    """What is kept of an answer. The object is at the target already: nothing in it may fail any more."""
    info = dict(returned)
    href, name = info.pop("external_link_href", None), info.pop("external_link_display_name", None)
    return ResultRow(
        source=provider.source,
        source_id=ids[0],
        position_id=ids[1],
        target=provider.identifier,
        mapping_id=mapping.id,
        external_object_type=mapping.external_object_type,
        external_id_field=mapping.external_id_field,
        id_value=id_value,
        external_link_href=str(href) if href and len(str(href)) <= MAX_LINK_LENGTH else None,
        external_link_display_name=str(name)[:MAX_LINK_LENGTH] if name else None,
        sync_info=_plain(info),
        sent=digests,
    )


def _plain(info: dict[str, Any]) -> dict[str, Any]:
    """As JSON keeps it; a value that cannot be kept is told as text."""
    try:
        return dict(msgspec.json.decode(msgspec.json.encode(info, enc_hook=str)))
    except (ValueError, TypeError, RecursionError):  # characters that are none, values that contain themselves
        if len(info) == 1:
            return {_readable(key): _readable(value) for key, value in info.items()}
        return {name: value for key, each in info.items() for name, value in _plain({key: each}).items()}


def _readable(value: object) -> str:
    return str(value).encode(errors="replace").decode()


def _checked(mapping: Any, source: str) -> Any:
    """A mapping in our names, checked before anything is sent by it."""
    from include.outbound.properties import normalize_mapping

    mapping = normalize_mapping(mapping)
    if mapping.source_model not in MODELS[source]:
        told = f"unknown source_model {mapping.source_model!r}; the models are: {', '.join(MODELS[source])}"
        raise SyncConfigError([f"Mapping {mapping.id}: {told}"])
    for name in ("external_object_type", "external_id_field"):
        if len(getattr(mapping, name)) > MAX_ID_LENGTH:
            raise SyncConfigError([f"Mapping {mapping.id}: {name} is longer than {MAX_ID_LENGTH} characters"])
    return mapping


def _digests(mapping: Any, id_value: str, properties: Sequence[tuple[str, Any, str]]) -> dict[str, str]:
    """A digest per external field, by which a change is seen without keeping what was sent."""
    values: dict[str, list[Any]] = {f"{mapping.external_object_type}/{mapping.external_id_field}": [id_value]}
    for name, value, mode in properties:
        values.setdefault(name, []).append([value, mode])
    return {name: _digest(value) for name, value in values.items()}


def _digest(value: object) -> str:
    return hashlib.blake2b(msgspec.json.encode(value, enc_hook=str), digest_size=8).hexdigest()


def _shown(provider: OutboundSyncProvider, mapping: Any, properties: Sequence[tuple[str, Any, str]]) -> dict[str, Any]:
    """The properties for the log, with personal values masked, and those of which it is not known."""
    sources: dict[str, list[Any]] = {}
    for entry in mapping.property_mappings:
        sources.setdefault(entry["external_field"], []).append(provider.data_fields.get(entry["source_field"]))
    return {
        name: MASK if value and any(map(_is_personal, sources.get(name, [None]))) else value
        for name, value, _ in properties
    }


def _is_personal(source: Any) -> bool:
    return source is None or source.category.sort in PERSONAL_CATEGORIES or source.key in PERSONAL_KEYS


def _worst(errors: Sequence[BaseSyncError]) -> BaseSyncError:
    """What decides about the order: what can be tried again is tried first, with all that was said."""
    messages = list(dict.fromkeys(message for error in errors for message in error.messages))
    recoverable = [error for error in errors if isinstance(error, RecoverableSyncError)]
    if recoverable:
        waits = [error.retry_after for error in recoverable if error.retry_after]
        return RecoverableSyncError(messages, retry_after=max(waits, default=None))
    by_weight = (SyncConfigError, UnrecoverableSyncError)
    kind = next((kind for kind in by_weight if any(isinstance(error, kind) for error in errors)), BaseSyncError)
    return kind(messages)


@cache
def _takes_previous(method: Callable[..., Any]) -> bool:
    """Whether a target wants the last stored result of an object."""
    parameters = inspect.signature(method).parameters.values()
    return any(p.name == "previous" or p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)
