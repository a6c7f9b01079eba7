"""The step *compare*: which objects of a chunk are new, which may change their row, and which are unchanged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from msgspec.structs import astuple

from include.inbound.context import ChunkContext, Later
from include.inbound.differences import changes, own_copy
from include.providers.base import ProvidableInfo
from include.store.rows import is_usable_key
from include.store.tables import DATE, ID, OVERRIDES, Table


class Plan(NamedTuple):
    """What is to be done with the objects of a table."""

    new: list[ProvidableInfo]
    changed: list[tuple[int, list[ProvidableInfo]]]
    """Primary key of a row, and the records that may change it, in the order of the listing."""
    unchanged: int


def compare(
    context: ChunkContext,
    table: Table,
    firsts: Mapping[str, ProvidableInfo],
    later: Later,
    rows: Mapping[str, Sequence[Any]],
) -> Plan:
    """Compare the first record of each key with its row, which has all columns if a record has no date.

    Every record of a listing comes here, most of them unchanged: `Dates.may_change` is inlined, calls are avoided.
    """
    new: list[ProvidableInfo] = []
    changed: list[tuple[int, list[ProvidableInfo]]] = []
    unchanged = 0
    find, provider, model, tally = rows.get, context.provider, table.model, context.tally
    fill, has_documents = provider.fill_object_attributes, table.documents
    undated_time, undated_is_old = context.dates.undated_time, context.dates.undated_is_old
    images = context.images.entries.get(model, {})
    for key, info in firsts.items():
        row = find(key)
        if row is None:
            new.append(info)
            continue
        stored = row[DATE]
        if later and key in later:  # each of them has to be applied to what the one before it left
            changed.append((row[ID], [info, *later[key]]))
        elif info.role == "create only":
            unchanged += 1
        elif (images and key in images) or (
            (date := info.date_modified_at_provider) is not None and (stored is None or stored < date.timestamp())
        ):
            changed.append((row[ID], [info]))
        elif date is not None or undated_is_old or (stored is not None and stored > undated_time):
            unchanged += 1
        else:  # no date: fill a copy of the row and compare contents
            values = row[ID:]
            obj = model(*(own_copy(values) if has_documents else values))
            provider.record, provider.key = info.record, key
            try:
                fill(obj)
            except Exception as error:
                tally.set_aside(info, error)
                continue
            after = astuple(obj)
            try:
                is_same = after == values
            except ArithmeticError:  # a signalling NaN
                is_same = False
            if is_same and stored is not None:
                unchanged += 1
            elif (
                stored is not None
                and (overrides := row[OVERRIDES])
                and set(names := changes(table.columns, after, values)).issubset(overrides)
            ):
                unchanged += 1
                tally.count_overrides(table, names)
            else:
                changed.append((row[ID], [info]))
    return Plan(new, changed, unchanged)


def by_key(infos: Sequence[ProvidableInfo]) -> tuple[dict[str, ProvidableInfo], dict[str, list[ProvidableInfo]]]:
    """Return the first record of each key, in the order of the listing (in which indexes grow best), and the later
    ones of keys that come more than once."""
    firsts = {info.id_at_providers: info for info in infos}
    later: dict[str, list[ProvidableInfo]] = {}
    if len(firsts) < len(infos):
        firsts = {}
        for info in infos:
            if firsts.setdefault(info.id_at_providers, info) is not info:
                later.setdefault(info.id_at_providers, []).append(info)
    return firsts, later


def with_good_keys(context: ChunkContext, infos: list[ProvidableInfo]) -> list[ProvidableInfo]:
    """Return the objects whose key PostgreSQL can look up; reject the others."""
    try:
        if "".join([info.id_at_providers for info in infos]).isprintable():
            return infos
    except TypeError:
        pass
    good = []
    for info in infos:
        if is_usable_key(info.id_at_providers):
            good.append(info)
        else:
            context.tally.reject(info, f"the key {info.id_at_providers!r:.100} is not a usable text")
    return good


def with_good_dates(context: ChunkContext, infos: list[ProvidableInfo]) -> list[ProvidableInfo]:
    """Reject objects whose date has no time zone; remove dates in the future, so that the content decides."""
    latest = context.dates.latest
    try:
        dates = [date for info in infos if (date := info.date_modified_at_provider) is not None]
        if max(dates, default=latest) <= latest:
            return infos
    except TypeError:
        pass
    good = []
    for info in infos:
        date = info.date_modified_at_provider
        if date is not None and not (isinstance(date, datetime) and date.tzinfo is not None):
            context.tally.reject(info, f"the date {date!r:.100} is not a time with a time zone")
            continue
        if date is not None and date > latest:
            info.date_modified_at_provider = None
        good.append(info)
    return good
