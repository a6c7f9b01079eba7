"""The table of a model: its columns, and its statements, which are composed once per process."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache, cached_property
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec
from psycopg import sql

from include.errors import ConfigurationError
from include.models import Providable

KEY, DATE, OVERRIDES, ID = 0, 1, 2, 3
"""Positions in a looked-up row; the columns of the model begin at ID."""


class Table:
    """The columns and the statements of a table.

    A looked-up row is a tuple: `id_at_providers`; the last date of the provider, in seconds since 1970, or None; the
    names of the columns with a manual override, or None; and the columns of the model.
    """

    def __init__(self, model: type[Providable]) -> None:
        self.model = model
        self.name = model.table_name
        self.identifier = sql.Identifier(self.name)
        self._contested = sql.Identifier("pg_temp", f"new_{self.name}")
        self._changes = sql.Identifier("pg_temp", f"changes_{self.name}")
        self.columns: tuple[str, ...] = tuple(field.name for field in msgspec.structs.fields(model))
        if self.columns[:1] != ("id",) or self.columns[len(self.columns) - len(model.read_only) :] != model.read_only:
            raise ConfigurationError(f"{model.__name__}: `id` comes first and the read-only columns come last")
        self.writable = self.columns[1 : len(self.columns) - len(model.read_only)]
        self.documents = frozenset(
            field.name for field in msgspec.structs.fields(model) if _may_hold_document(field.type)
        )

    def _own_date(self, provider_id: int) -> sql.Composable:
        """Expression for the date up to which this provider has written a row, in seconds since 1970.

        NULL for a removed row: a record that names it again changes it whatever the record's date.
        """
        if self.model.is_shared:
            date = sql.SQL("date_part('epoch', (provider_dates ->> {})::timestamptz)").format(str(provider_id))
            return sql.SQL("CASE WHEN gone_since IS NULL THEN {} END").format(date) if self.model.can_be_gone else date
        return sql.SQL(
            "CASE WHEN last_provider_id = {}{} THEN date_part('epoch', date_modified_at_last_provider) END"
        ).format(provider_id, sql.SQL(" AND gone_since IS NULL" if self.model.can_be_gone else ""))

    def is_ahead(self, alias: str) -> sql.Composable:
        """Further condition of WHERE: the row is not yet in the past, by the database's clock."""
        if not self.model.passes_at:
            return sql.SQL("")
        return sql.SQL(" AND coalesce({} > now(), true)").format(sql.Identifier(alias, self.model.passes_at))

    def _select(self, provider_id: int, columns: Sequence[str], conditions: sql.Composable) -> sql.Composed:
        """Select rows in the form that the class describes."""
        return sql.SQL(
            "SELECT id_at_providers, {}, nullif(fields_updated, '{{}}'), {} FROM {} AS stored WHERE {}"
        ).format(self._own_date(provider_id), _list(columns), self.identifier, conditions)

    @cache  # noqa: B019 - tables live as long as the process
    def select(self, provider_id: int, *, columns: Sequence[str]) -> sql.Composed:
        """Look up rows by an array of keys; only with their id, for example, which is all that dated records need."""
        return self._select(provider_id, columns, sql.SQL("id_at_providers = ANY(%s::text[])"))

    @cache  # noqa: B019
    def select_for_update(self, provider_id: int, *, with_key: bool = False) -> sql.Composed:
        """Like `select`, by primary key and with all columns; locked in a fixed order, so that runs do not deadlock.

        A change of the key needs the stronger lock `with_key`: taken later, it could deadlock with a booking.
        """
        strength = "UPDATE" if with_key else "NO KEY UPDATE"
        return self._select(provider_id, self.columns, sql.SQL(f"id = ANY(%s) ORDER BY id FOR {strength}"))

    @cache  # noqa: B019
    def select_children(self, provider_id: int) -> sql.Composed:
        """Like `select`, by an array of parents: this provider's rows that are neither removed nor in the past."""
        assert self.model.parent is not None
        conditions = sql.SQL("{} = ANY(%s) AND last_provider_id = {}{}{} ORDER BY id").format(
            sql.Identifier(self.model.parent[0]),
            provider_id,
            sql.SQL(" AND gone_since IS NULL" if self.model.can_be_gone else ""),
            self.is_ahead("stored"),
        )
        return self._select(provider_id, self.columns, conditions)

    @cached_property
    def rename(self) -> sql.Composed:
        """Change keys: arrays of primary keys, new keys, and references within the venue (empty: unchanged)."""
        reference = ", id_at_provider = coalesce(nullif(renamed.reference, ''), stored.id_at_provider)"
        return sql.SQL(
            "UPDATE {} AS stored SET id_at_providers = renamed.key{}"
            " FROM unnest(%s::bigint[], %s::text[], %s::text[]) AS renamed (id, key, reference)"
            " WHERE stored.id = renamed.id"
        ).format(self.identifier, sql.SQL(reference if self.model.has_venue_reference else ""))

    @cache  # noqa: B019
    def mark_removed(self, columns: Sequence[str]) -> sql.Composed:
        """Apply the changes in the temporary table, and set `gone_since` of rows that have none."""
        assignments = [sql.SQL("{0} = changes.{0}").format(sql.Identifier(name)) for name in columns]
        return sql.SQL("UPDATE {} AS stored SET {} FROM {} AS changes WHERE stored.id = changes.id").format(
            self.identifier,
            sql.SQL(", ").join([*assignments, sql.SQL("gone_since = coalesce(stored.gone_since, now())")]),
            self._changes,
        )

    def _new_names(self, *, with_id: bool) -> sql.Composed:
        names = ["id"] if with_id else []
        names += ["id_at_providers", "last_provider_id", "date_modified_at_last_provider"]
        names += ["provider_dates"] if self.model.is_shared else []
        names += ["id_at_provider"] if self.model.has_venue_reference else []
        return _list((*names, *self.writable))

    @cache  # noqa: B019
    def copy_new(self, *, with_id: bool) -> sql.Composed:
        """COPY new rows: the sync columns, then the writable ones."""
        return sql.SQL("COPY {} ({}) FROM STDIN").format(self.identifier, self._new_names(with_id=with_id))

    @cached_property
    def create_contested(self) -> sql.Composed:
        """Create the temporary table for new rows that other sessions may insert too; each commit empties it."""
        return sql.SQL(
            "CREATE TEMPORARY TABLE IF NOT EXISTS {} ON COMMIT DELETE ROWS AS SELECT {} FROM {} WITH NO DATA"
        ).format(sql.Identifier(f"new_{self.name}"), self._new_names(with_id=True), self.identifier)

    @cached_property
    def clear_contested(self) -> sql.Composed:
        """Empty that table before its second use in a transaction."""
        return sql.SQL("DELETE FROM {}").format(self._contested)

    @cached_property
    def copy_contested(self) -> sql.Composed:
        """COPY new rows with their ids into that table."""
        return sql.SQL("COPY {} ({}) FROM STDIN").format(self._contested, self._new_names(with_id=True))

    @cached_property
    def take_contested(self) -> sql.Composed:
        """Insert its rows, except those whose key exists by now; in a fixed order, so that runs do not deadlock."""
        return sql.SQL(
            "INSERT INTO {} ({names}) SELECT {names} FROM {} ORDER BY id_at_providers"
            " ON CONFLICT (id_at_providers) DO NOTHING RETURNING id_at_providers"
        ).format(self.identifier, self._contested, names=self._new_names(with_id=True))

    @cached_property
    def next_ids(self) -> sql.Composed:
        """Reserve primary keys; the parameter is their number."""
        return sql.SQL(
            "SELECT nextval(sequence) FROM (SELECT pg_get_serial_sequence({}, 'id')::regclass AS sequence OFFSET 0)"
            " AS found, generate_series(1, %s)"
        ).format(self.name)

    @cached_property
    def create_changes(self) -> sql.Composed:
        """Create the temporary table for updates; each commit empties it."""
        return sql.SQL(
            "CREATE TEMPORARY TABLE IF NOT EXISTS {changes} ON COMMIT DELETE ROWS AS"
            " SELECT id, date_modified_at_last_provider, true AS must_write, {columns} FROM {table} WITH NO DATA"
        ).format(
            changes=sql.Identifier(f"changes_{self.name}"),
            columns=_list(self.writable),
            table=self.identifier,
        )

    @cached_property
    def clear_changes(self) -> sql.Composed:
        """Empty the temporary table before a second update in a transaction."""
        return sql.SQL("DELETE FROM {}").format(self._changes)

    @cache  # noqa: B019
    def copy_changes(self, columns: Sequence[str]) -> sql.Composed:
        """COPY into the temporary table: id, date, whether to write equal rows too, and the changed columns."""
        names = _list(("id", "date_modified_at_last_provider", "must_write", *columns))
        return sql.SQL("COPY {} ({}) FROM STDIN").format(self._changes, names)

    @cache  # noqa: B019
    def update(self, provider_id: int, columns: Sequence[str], *, as_json: bool = False) -> sql.Composed:
        """Apply changes, except to rows that have a later date by now, or equal values after PostgreSQL's casts.

        The changes are in the temporary table, or (`as_json`) in two parameters: the rows as a JSON array, and the ids
        of rows that are written even if their values are equal. `include.inbound.dates` explains the rule of dates.
        """
        assignments = [
            sql.SQL("{0} = changes.{0}").format(sql.Identifier(name))
            for name in (*columns, "date_modified_at_last_provider")
        ]
        assignments.append(sql.SQL("last_provider_id = {}").format(provider_id))
        if self.model.can_be_gone:
            assignments.append(sql.Composed([sql.SQL("gone_since = NULL")]))
        if self.model.is_shared:
            assignments.append(
                sql.SQL(
                    "provider_dates = stored.provider_dates || jsonb_build_object({},"
                    " changes.date_modified_at_last_provider)"
                ).format(str(provider_id))
            )
            date = sql.SQL("(stored.provider_dates ->> {})::timestamptz").format(str(provider_id))
        else:
            date = sql.SQL(
                "CASE WHEN stored.last_provider_id = {} THEN stored.date_modified_at_last_provider END"
            ).format(provider_id)
        if self.model.can_be_gone:
            date = sql.SQL("CASE WHEN stored.gone_since IS NULL THEN {} END").format(date)
        return sql.SQL(
            "UPDATE {table} AS stored SET {assignments} FROM {changes} AS changes WHERE stored.id = changes.id"
            " AND coalesce({date} <= changes.date_modified_at_last_provider, true)"
            " AND ({must_write} OR ROW({before}) IS DISTINCT FROM ROW({after}))"
        ).format(
            table=self.identifier,
            assignments=sql.SQL(", ").join(assignments),
            changes=sql.SQL("json_populate_recordset(NULL::{}, %s::json)").format(self.identifier)
            if as_json
            else self._changes,
            must_write=sql.SQL("changes.id = ANY(%s::bigint[])" if as_json else "changes.must_write"),
            date=date,
            before=sql.SQL(", ").join(sql.Identifier("stored", name) for name in columns),
            after=sql.SQL(", ").join(sql.Identifier("changes", name) for name in columns),
        )


def _list(columns: Iterable[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, columns))


def _may_hold_document(annotation: Any) -> bool:
    """Whether a field of this type may have a dictionary or a list, which can be changed in place."""
    kind = get_origin(annotation) or annotation
    if kind is Annotated or kind is Union or kind is UnionType:
        return any(_may_hold_document(part) for part in get_args(annotation))
    return kind is Any or kind in (dict, list)


@cache
def table_of(model: type[Providable]) -> Table:
    """Return the table of a model."""
    return Table(model)
