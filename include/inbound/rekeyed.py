"""Rekeyed rows: rows whose key changed at the source, because it contains something that changed.

A showtime that moves to another hour, for example, is not a new showtime. The provider is asked which unknown objects
of a record are rows that it no longer lists (`LocalProvider.match_rekeyed`); those rows take over key and values, and
keep their bookings. It is asked only while a complete listing is read from its start: a replayed payload is a part of
its record, and what an earlier attempt has read is no longer known.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

from include.errors import ConfigurationError, SkipObject
from include.inbound.context import ChunkContext, Later
from include.inbound.differences import own_copy
from include.providers.base import ProvidableInfo
from include.store.removed import named_already
from include.store.rows import find_children, is_usable_key
from include.store.tables import DATE, ID, KEY, Table

Move = tuple[Sequence[Any], ProvidableInfo]
"""A looked-up row, and the object whose key it takes over."""


def find_rekeyed(
    context: ChunkContext, table: Table, new: Sequence[ProvidableInfo], later: Later
) -> tuple[list[ProvidableInfo], list[Move]]:
    """Ask the provider which unknown objects are rows of the same parents that it no longer lists.

    Returns the objects that are really new, and the rows that take over the key of an object.
    """
    remaining = {info.id_at_providers: info for info in new}
    # An object may have a part of its record as `info.record`; what belongs together is what one step returned.
    by_record = [
        (listed, infos)
        for listed in context.lists
        if (infos := [info for info in listed if info.role == "sync" and _same_key(remaining, info) is info])
    ]
    moves: list[Move] = []
    taken: set[str] = set()
    by_parent = _unmatched_rows(context, table, [listed for listed, _ in by_record])
    for listed, infos in by_record:
        parents = _parents(context, table, listed)
        rows = {row[KEY]: row for parent in parents for row in by_parent.get(parent, ()) if row[KEY] not in taken}
        if not rows:
            continue
        context.provider.record = infos[0].record
        try:
            matches = context.provider.match_rekeyed(
                infos, [(key, table.model(*own_copy(row[ID:]))) for key, row in rows.items()]
            )
        except Exception as error:
            rejected = len(context.tally.rejections)
            for info in infos:
                del remaining[info.id_at_providers]
                for record in (info, *later.get(info.id_at_providers, ())):
                    context.tally.set_aside(record, error)
            if len(context.tally.rejections) > rejected:  # any of the rows may be one of the rejected objects
                context.kept_keys.update((table.model, key) for key in rows)
            continue
        _check_matches(context, matches, rows, infos)
        for key, info in matches.items():
            if not context.dates.row_is_newer(info, rows[key][DATE]):
                moves.append((rows[key], info))
                taken.add(key)
                del remaining[info.id_at_providers]
    return list(remaining.values()), moves


def _same_key(infos: Mapping[str, ProvidableInfo], info: ProvidableInfo) -> ProvidableInfo | None:
    """Return the object with the key of `info`, which may be an unhashable value if it was rejected."""
    return infos.get(info.id_at_providers) if isinstance(info.id_at_providers, str) else None


def _parents(context: ChunkContext, table: Table, listed: Sequence[ProvidableInfo]) -> set[int]:
    """Return the primary keys of the parents that a record names together with objects of this table."""
    assert table.model.parent is not None
    model = table.model.parent[1]
    found = set()
    for info in listed:
        if info.type is model and is_usable_key(info.id_at_providers):
            with suppress(SkipObject):
                found.add(context.known.id_of(model, info.id_at_providers))
    return found


def _unmatched_rows(
    context: ChunkContext, table: Table, lists: Sequence[Sequence[ProvidableInfo]]
) -> dict[int, list[Sequence[Any]]]:
    """Return, per parent that these records name, its rows that neither this chunk nor an earlier one names."""
    assert table.model.parent is not None
    place = ID + table.columns.index(table.model.parent[0])
    named = {info.id_at_providers for info in context.infos[table.model] if is_usable_key(info.id_at_providers)}
    parents = sorted(set().union(*[_parents(context, table, listed) for listed in lists]))
    by_parent: dict[int, list[Sequence[Any]]] = {}
    if parents:
        children = find_children(context.connection, table, context.provider_id, parents)
        if unnamed := {row[KEY] for row in children}.difference(named):
            unnamed -= named_already(context.connection, table, unnamed)
        for row in children:
            if row[KEY] in unnamed:
                by_parent.setdefault(row[place], []).append(row)
    return by_parent


def _check_matches(
    context: ChunkContext,
    matches: Mapping[str, ProvidableInfo],
    rows: Collection[str],
    infos: Sequence[ProvidableInfo],
) -> None:
    """Raise ConfigurationError if the matches contain other rows or objects than were passed, or an object twice."""
    new = {info.id_at_providers: info for info in infos}
    matched = [info for info in matches.values() if isinstance(info, ProvidableInfo) and _same_key(new, info) is info]
    keys = {info.id_at_providers for info in matched}
    if not (set(matches) <= set(rows) and len(keys) == len(matched) == len(matches)):
        raise ConfigurationError(
            f"{type(context.provider).__name__}.match_rekeyed returns a row or an object that it was not given, or an "
            "object for two keys: it must map keys of `unmatched_rows` to objects of `new`, each at most once"
        )
