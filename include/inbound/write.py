"""The step *write*: COPY new rows, update changed ones, and reject the rows that PostgreSQL refuses.

The step *fill* is called from here, because updates are filled from locked rows, and new rows are filled while
PostgreSQL ingests the ones before them. `ChunkContext` explains the two modes of writing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from msgspec.structs import astuple

from include.errors import ConfigurationError
from include.inbound.compare import compare
from include.inbound.context import ChunkContext, Later
from include.inbound.differences import changes
from include.inbound.fill import Change, Filled, change_of, new_objects
from include.inbound.tally import Tally
from include.providers.base import LocalProvider, ProvidableInfo
from include.store import Connection
from include.store.rows import (
    ChunkConflict,
    find_rows,
    insert_contested_rows,
    insert_rows,
    lock_rows,
    rename_rows,
    reserve_ids,
    update_rows,
    write_or_raise,
    write_or_reject,
)
from include.store.tables import DATE, ID, KEY, Table

MAX_FILLED_AT_ONCE = 128
"""New rows that are filled and sent together; PostgreSQL ingests them while the next ones are filled."""

R = TypeVar("R", bound=tuple[Any, ...])


def create(
    context: ChunkContext, table: Table, infos: Sequence[ProvidableInfo], later: Later, *, is_parent: bool
) -> None:
    """COPY new rows. For leaf tables, fill the next batch while PostgreSQL ingests the previous one.

    Rows of a parent get their primary keys before, since objects of later tables may refer to them.
    """
    is_streamed = not (is_parent or context.is_careful)
    has_ids = is_parent or context.is_dry_run
    made: list[Filled] = []
    filled = 0
    # Fill one batch before the transaction begins: perhaps all objects are skipped.
    while filled < len(infos) and not (is_streamed and made):
        made += new_objects(context, table, infos[filled : filled + MAX_FILLED_AT_ONCE], later)
        filled += MAX_FILLED_AT_ONCE
    if not made:
        return
    context.begin()
    if has_ids:
        _give_ids(context, table, made)
    if is_streamed:
        context.known.load_references()  # nothing can be looked up while rows are copied
    existing: set[str] = set()

    def batches(rows: Sequence[Filled]) -> Iterator[list[tuple[Any, ...]]]:
        yield _lines(context, table, rows, with_id=has_ids)
        for start in range(filled, len(infos), MAX_FILLED_AT_ONCE):
            more = new_objects(context, table, infos[start : start + MAX_FILLED_AT_ONCE], later)
            if has_ids:
                _give_ids(context, table, more)
            made.extend(more)
            yield _lines(context, table, more, with_id=has_ids)

    def write(rows: Sequence[Filled]) -> None:
        if is_parent and table.model.is_shared:
            inserted = insert_contested_rows(context.connection, table, batches(rows))
            existing.update(key for info, _ in rows if (key := info.id_at_providers) not in inserted)
            return
        context.known.is_copying = is_streamed
        try:
            insert_rows(context.connection, table, batches(rows), with_id=has_ids)
        finally:
            context.known.is_copying = False

    refused = write_rows(context.connection, context.tally, table, made, write, is_careful=context.is_careful)
    left_out = refused | existing
    created = [row for row in made if row[0].id_at_providers not in left_out] if left_out else made
    _note_created(context, table, created)
    if existing:
        _compare_again(context, table, [info for info, _ in made if info.id_at_providers in existing])


def _give_ids(context: ChunkContext, table: Table, made: Sequence[Filled]) -> None:
    """Give new objects their primary keys."""
    ids = context.invented_ids if context.is_dry_run else iter(reserve_ids(context.connection, table, len(made)))
    for _, obj in made:
        obj.id = next(ids)


def _lines(context: ChunkContext, table: Table, made: Sequence[Filled], *, with_id: bool) -> list[tuple[Any, ...]]:
    """Return new rows in the order of `Table.copy_new`."""
    model, provider_id, undated = table.model, context.provider_id, context.dates.undated
    is_plain = not (model.is_shared or model.has_venue_reference or with_id)
    end = 1 + len(table.writable)
    lines: list[tuple[Any, ...]] = []
    for info, obj in made:
        values = astuple(obj)
        date = info.date_modified_at_provider or undated
        if is_plain:
            lines.append((info.id_at_providers, provider_id, date, *values[1:end]))
            continue
        line = (*values[: 1 if with_id else 0], info.id_at_providers, provider_id, date)
        if model.is_shared:
            line += ({str(provider_id): date},)
        if model.has_venue_reference:
            line += (info.new_id_at_provider or None,)
        lines.append(line + values[1:end])
    return lines


def _note_created(context: ChunkContext, table: Table, created: Sequence[Filled]) -> None:
    """Count created rows, note their primary keys for their children, and the differences of a dry run."""
    context.tally.created += len(created)
    context.tally.written[table.name] += len(created)
    known = context.known.ids.get(table.model)
    if known is not None:
        known.update({info.id_at_providers: obj.id for info, obj in created if obj.id is not None})
    if context.is_dry_run:
        defaults = astuple(table.model())
        for info, obj in created:
            context.tally.note_difference(info, obj, defaults)


def _compare_again(context: ChunkContext, table: Table, infos: Sequence[ProvidableInfo]) -> None:
    """Compare objects with the rows that another session has created since the lookup."""
    firsts = {info.id_at_providers: info for info in infos}
    rows = find_rows(context.connection, table, context.provider_id, list(firsts), columns=True)
    if len(rows) < len(firsts):
        raise ChunkConflict(f"rows of {table.name} were created and deleted by another session")
    plan = compare(context, table, firsts, {}, {row[KEY]: row for row in rows})
    context.tally.unchanged += plan.unchanged
    context.known.ids[table.model].update({row[KEY]: row[ID] for row in rows})
    if plan.changed:
        update(context, table, plan.changed, {})


def update(
    context: ChunkContext,
    table: Table,
    changed: Sequence[tuple[int, Sequence[ProvidableInfo]]],
    rekeyed: Mapping[int, str],
) -> None:
    """Lock rows, fill them from their current values, and write those that differ.

    By primary key, `changed` has the records of a row, and `rekeyed` the stored keys of rows that take over another.
    """
    pending = _changes(context, table, changed, rekeyed)
    columns: set[str] = set()
    for change in pending:
        columns.update(changes(table.columns, astuple(change.obj), change.before))
    names = written_columns(context.provider, table, columns)
    if not pending:
        return
    places = [table.columns.index(name) for name in names]
    written = 0

    def write(some: Sequence[Change]) -> None:
        nonlocal written
        lines = []
        for change in some:
            values = astuple(change.obj)
            lines.append((values[0], change.date, change.must_write, *[values[place] for place in places]))
        renamed = [
            (obj.id, info.id_at_providers, info.new_id_at_provider)
            for info, obj, *_ in some
            if obj.id is not None and obj.id in rekeyed
        ]
        if renamed:
            rename_rows(context.connection, table, renamed)
        written += update_rows(
            context.connection, table, context.provider_id, lines, names, as_json=not context.is_careful
        )

    tally = context.tally
    refused = write_rows(context.connection, tally, table, pending, write, is_careful=context.is_careful)
    # What PostgreSQL found to be the same after its casts, or newer by now, was counted as updated when it was filled.
    tally.updated -= len(pending) - written
    tally.unchanged += len(pending) - len(refused) - written
    tally.written[table.name] += written
    _note_rekeyed(context, table, pending, refused, rekeyed)
    if context.is_dry_run:
        for info, obj, _, _, before in pending:
            if info.id_at_providers not in refused:
                tally.note_difference(info, obj, before, stored_key=rekeyed.get(before[0]))


def _changes(
    context: ChunkContext,
    table: Table,
    changed: Sequence[tuple[int, Sequence[ProvidableInfo]]],
    rekeyed: Mapping[int, str],
) -> list[Change]:
    """Lock the rows and apply their records."""
    infos_by_id = dict(changed)
    pending: list[Change] = []
    context.begin()
    for row in lock_rows(context.connection, table, context.provider_id, list(infos_by_id), with_key=bool(rekeyed)):
        infos, rejected = infos_by_id.pop(row[ID]), len(context.tally.rejections)
        stored_key = rekeyed.get(row[ID])
        if stored_key is not None and (row[KEY] != stored_key or context.dates.row_is_newer(infos[0], row[DATE])):
            raise ChunkConflict(f"{stored_key} was changed before it could take over another key")
        change = change_of(context, table, row, infos, takes_over_key=stored_key is not None)
        if change is not None:
            pending.append(change)
        if stored_key is not None and len(context.tally.rejections) > rejected:
            context.kept_keys.add((table.model, stored_key))
    for infos in infos_by_id.values():  # deleted since the lookup: the next run will find them unknown
        context.tally.skipped += len(infos)
    return pending


def _note_rekeyed(
    context: ChunkContext, table: Table, pending: Sequence[Change], refused: Collection[str], rekeyed: Mapping[int, str]
) -> None:
    """Count the rows that took over another key, and note that key, by which their children look them up."""
    known = context.known.ids.get(table.model, {})
    for info, obj, *_ in pending if rekeyed else ():
        if obj.id is not None and obj.id in rekeyed:
            is_refused = info.id_at_providers in refused
            if is_refused or context.is_dry_run:
                context.kept_keys.add((table.model, rekeyed[obj.id]))
            if not is_refused:
                context.tally.rekeyed += 1
                known[info.id_at_providers] = obj.id


# Shared with the removal of rows


def written_columns(provider: LocalProvider, table: Table, columns: Collection[str]) -> tuple[str, ...]:
    """Return the columns in the order of the table; ConfigurationError for one that providers may not write."""
    if forbidden := set(columns) - set(table.writable):
        raise ConfigurationError(
            f"{type(provider).__name__} sets {', '.join(sorted(forbidden))} of {table.name}, which it may not"
        )
    return tuple(name for name in table.writable if name in columns)


def write_rows(
    connection: Connection,
    tally: Tally,
    table: Table,
    rows: Sequence[R],
    write: Callable[[Sequence[R]], object],
    *,
    is_careful: bool,
) -> set[str]:
    """Write rows, whose first item is their `ProvidableInfo`; returns the keys of those that PostgreSQL refuses.

    Unless the attempt is careful, RowsRefused is raised for the first of them.
    """
    if not is_careful:
        write_or_raise(rows, write)
        return set()
    refused = write_or_reject(connection, rows, write, key_constraint=f"{table.name}_id_at_providers_key")
    for row, reason in refused:
        tally.reject(row[0], reason)
    return {row[0].id_at_providers for row, _ in refused}
