"""Rows that come under another key, because their key holds something that changed: a showtime that moved, say.

The provider is asked which of the unknown objects of a record are rows that it lists no more (`match_rekeyed`). Those
rows take over key and values, and keep what hangs on them. It is asked in whole listings only: a replayed payload holds
a part of its record, and what an earlier try has read is not known any more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from include.errors import ConfigurationError, SkipObject
from include.inbound.differences import own_copy
from include.providers.base import ProvidableInfo
from include.store.removed import named_already
from include.store.rows import find_children, is_usable_key
from include.store.tables import DATE, ID, KEY, Table

if TYPE_CHECKING:
    from include.inbound.chunk import Outcome

Move = tuple[Sequence[Any], ProvidableInfo]
"""A looked-up row, and the info that it turned out to be."""


def find_moves(
    outcome: Outcome, table: Table, new: list[ProvidableInfo], later: Mapping[str, list[ProvidableInfo]]
) -> tuple[list[ProvidableInfo], list[Move]]:
    """Ask the provider which unknown objects are rows of the same parents that it lists no more.

    Returns the infos that remain unknown, and the rows with the infos that take them over.
    """
    remaining = {id(info): info for info in new}
    by_record = [  # what one step of the provider gave; an info may have a part of it as its own record
        (listed, infos)
        for listed in outcome.chunk.lists
        if (infos := [info for info in listed if id(info) in remaining and info.role == "sync"])
    ]
    moves: list[Move] = []
    taken: set[str] = set()
    by_parent = _unlisted(outcome, table, [listed for listed, _ in by_record])
    for listed, infos in by_record:
        parents = _parents(outcome, table, listed)
        rows = {row[KEY]: row for parent in parents for row in by_parent.get(parent, ()) if row[KEY] not in taken}
        if not rows:
            continue
        outcome.provider.record = infos[0].record
        try:
            answer = outcome.provider.match_rekeyed(
                infos, [(key, table.model(*own_copy(row[ID:]))) for key, row in rows.items()]
            )
        except Exception as error:
            rejected = len(outcome.rejections)
            for info in infos:
                del remaining[id(info)]
                for one in (info, *later.get(info.id_at_providers, ())):
                    outcome.put_aside(one, error)
            if len(outcome.rejections) > rejected:
                outcome.chunk.kept_keys.update((table.model, key) for key in rows)
            continue
        _check_answer(outcome, answer, rows, infos)
        for key, info in answer.items():
            if not row_is_newer(outcome, rows[key][DATE], info):
                moves.append((rows[key], info))
                taken.add(key)
                del remaining[id(info)]
    return list(remaining.values()), moves


def _parents(outcome: Outcome, table: Table, listed: Sequence[ProvidableInfo]) -> set[int]:
    """Primary keys of the parents that are named together with objects of this table."""
    assert table.model.parent is not None
    model = table.model.parent[1]
    found = set()
    for info in listed:
        if info.type is model and is_usable_key(info.id_at_providers):
            with suppress(SkipObject):
                found.add(outcome.id_of(model, info.id_at_providers))
    return found


def _unlisted(
    outcome: Outcome, table: Table, lists: Sequence[Sequence[ProvidableInfo]]
) -> dict[int, list[Sequence[Any]]]:
    """Per parent that these lists name, the rows of ours that neither this chunk nor one before it names."""
    assert table.model.parent is not None
    place = ID + table.columns.index(table.model.parent[0])
    named = {info.id_at_providers for info in outcome.chunk.infos[table.model] if is_usable_key(info.id_at_providers)}
    wanted = sorted(set().union(*[_parents(outcome, table, listed) for listed in lists]))
    by_parent: dict[int, list[Sequence[Any]]] = {}
    if wanted:
        children = find_children(outcome.connection, table, outcome.chunk.provider_id, wanted)
        if not_here := {row[KEY] for row in children}.difference(named):
            not_here -= named_already(outcome.connection, table, not_here)
        for row in children:
            if row[KEY] in not_here:
                by_parent.setdefault(row[place], []).append(row)
    return by_parent


def _check_answer(
    outcome: Outcome, answer: Mapping[str, ProvidableInfo], rows: Mapping[str, Any], infos: list[ProvidableInfo]
) -> None:
    """Refuse an answer of `match_rekeyed` that names what it was not asked about, or one object twice."""
    asked = {id(info) for info in infos}
    told = [id(info) for info in answer.values()]
    if not (answer.keys() <= rows.keys() and asked.issuperset(told) and len({*told}) == len(told)):
        raise ConfigurationError(
            f"{type(outcome.provider).__name__}.match_rekeyed returns what it was not asked about, or an object for "
            "two keys: it maps keys of `unmatched_rows` to objects of `new`, each at most once"
        )


def row_is_newer(outcome: Outcome, held: float | None, info: ProvidableInfo) -> bool:
    """Whether a row with this date is newer than a record that would take it over."""
    return held is not None and held > (info.date_modified_at_provider or outcome.guard_date).timestamp()
