"""The step *fill*: new objects, and what the records of a row make of its current values."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from msgspec.structs import astuple

from include.inbound.context import ChunkContext, Later
from include.inbound.differences import changes, keep_overrides, own_copy
from include.models import Providable
from include.providers.base import ProvidableInfo
from include.store.tables import DATE, ID, OVERRIDES, Table

Filled = tuple[ProvidableInfo, Providable]
"""An object with the record that it was last filled from."""


class Change(NamedTuple):
    """A row to update."""

    info: ProvidableInfo
    """The last record that changes it."""
    obj: Providable
    date: datetime
    must_write: bool
    """Whether to write the row even if its values stay the same, since its date changes."""
    before: Sequence[Any]
    """The stored values, in the order of `Table.columns`."""


def new_objects(context: ChunkContext, table: Table, infos: Sequence[ProvidableInfo], later: Later) -> list[Filled]:
    """Return the objects to create, each filled from all its records in turn."""
    defaults, has_images = astuple(table.model()), bool(context.images.entries)
    made: list[Filled] = []
    for info in infos:
        obj = _filled(context, table, info, defaults)
        if later and info.id_at_providers in later:
            info, obj = _apply_later(context, table, info, obj, later[info.id_at_providers])  # noqa: PLW2901
        if obj is not None:
            if has_images:
                _set_images(context, info, obj)
            made.append((info, obj))
    return made


def _apply_later(
    context: ChunkContext,
    table: Table,
    info: ProvidableInfo,
    obj: Providable | None,
    later: Sequence[ProvidableInfo],
) -> tuple[ProvidableInfo, Providable | None]:
    """Apply the further records of a new object, with the result that a chunk for each of them would have."""
    for record in later:
        if obj is None:  # all records before it were skipped or rejected
            info, obj = record, _filled(context, table, record, astuple(table.model()))
            continue
        before = astuple(obj)
        if not context.dates.may_change(record, (info.date_modified_at_provider or context.dates.undated).timestamp()):
            context.tally.unchanged += 1
            continue
        filled = _filled(context, table, record, before)
        if filled is None:
            continue
        is_undated = record.date_modified_at_provider is None
        if is_undated and not changes(filled.__struct_fields__, astuple(filled), before):
            context.tally.unchanged += 1
        else:
            info, obj = record, filled
            context.tally.updated += 1
    return info, obj


def change_of(
    context: ChunkContext,
    table: Table,
    row: Sequence[Any],
    infos: Sequence[ProvidableInfo],
    *,
    takes_over_key: bool = False,
) -> Change | None:
    """Apply the records of a locked row in turn; returns the change, or None if the row stays as it is."""
    before = values = row[ID:]
    date = None if takes_over_key else row[DATE]  # a row that takes over another key has to be written
    must_write = date is None
    change: Change | None = None
    for info in infos:
        applied = _apply(context, table, info, date, values, overrides=row[OVERRIDES] or ())
        if applied is not None:
            obj, new_date = applied
            must_write |= info.date_modified_at_provider is not None
            change = Change(info, obj, new_date, must_write, before)
            date, values = new_date.timestamp(), astuple(obj)
    return change


def _apply(
    context: ChunkContext,
    table: Table,
    info: ProvidableInfo,
    stored: float | None,
    values: Sequence[Any],
    *,
    overrides: Sequence[str],
) -> tuple[Providable, datetime] | None:
    """Apply a record to a locked row of date `stored`; returns object and date, or None if nothing changes."""
    date, tally = info.date_modified_at_provider, context.tally
    may_set_images = "thumbs" not in overrides
    if not context.dates.may_change(info, stored):
        # A record of the row's own date changes nothing but the images that an earlier run could not get.
        is_as_old = info.role != "create only" and date is not None and stored == date.timestamp()
        obj = _with_images(context, table, info, values) if is_as_old and may_set_images else None
        if obj is None or date is None:
            tally.unchanged += 1
            return None
        tally.updated += 1
        return obj, date
    obj = _filled(context, table, info, values)
    if obj is None:
        return None
    if may_set_images:
        _set_images(context, info, obj)
    if overrides:
        tally.count_overrides(table, keep_overrides(table, obj, values, overrides))
    if date is None and stored is not None and not changes(obj.__struct_fields__, astuple(obj), values):
        tally.unchanged += 1
        return None
    tally.updated += 1
    return obj, date or context.dates.undated


def _filled(context: ChunkContext, table: Table, info: ProvidableInfo, values: Sequence[Any]) -> Providable | None:
    """Return an object with these values, filled from its own record; None if it was skipped or rejected."""
    obj = table.model(*(own_copy(values) if table.documents else values))
    provider = context.provider
    provider.record, provider.key = info.record, info.id_at_providers
    try:
        provider.fill_object_attributes(obj)
    except Exception as error:
        context.tally.set_aside(info, error)
        return None
    return obj


def _set_images(context: ChunkContext, info: ProvidableInfo, obj: Any) -> bool:
    """Set the image entries that the chunk has for an object; returns False if the object has them already.

    Images that only changed their source are not counted, nor those of a dry run, which have no key.
    """
    entries = context.images.entries.get(info.type, {}).get(info.id_at_providers)
    if not entries or not (missing := {slot: new for slot, new in entries.items() if obj.thumbs.get(slot) != new}):
        return False
    created = updated = 0
    for slot, entry in missing.items():
        current = obj.thumbs.get(slot)
        if entry["key"] is None:
            continue
        if not isinstance(current, dict) or not current.get("key"):
            created += 1
        elif current["key"] != entry["key"]:
            updated += 1
    obj.thumbs = {**obj.thumbs, **missing}
    context.tally.image_changes[info.type, info.id_at_providers] = created, updated
    return True


def _with_images(context: ChunkContext, table: Table, info: ProvidableInfo, values: Sequence[Any]) -> Providable | None:
    """Return an object with these values and the images of the chunk; None if it has them already."""
    if info.id_at_providers not in context.images.entries.get(info.type, ()):
        return None
    obj = table.model(*own_copy(values))
    return obj if _set_images(context, info, obj) else None
