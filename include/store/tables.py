"""What the engine must know of a model's table, and the statements composed from it once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, cached_property
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec
from psycopg import sql

from include.errors import ConfigurationError
from include.models import Providable

KEY, DATE, HELD, ID = 0, 1, 2, 3
"""Places in a looked-up row; from ID on the columns of the model."""


class Table:
    """The table of a model: its columns and its statements.

    A looked-up row is `(id_at_providers, last date as seconds since 1970 or None, protected columns or None,
    *columns)`.
    """

    def __init__(self, model: type[Providable]) -> None:
        self.model = model
        self.name = model.table_name
        self.columns: tuple[str, ...] = tuple(field.name for field in msgspec.structs.fields(model))
        if self.columns[:1] != ("id",) or self.columns[len(self.columns) - len(model.read_only) :] != model.read_only:
            raise ConfigurationError(f"{model.__name__}: `id` comes first and the read-only columns come last")
        self.writable = self.columns[1 : len(self.columns) - len(model.read_only)]
        self.documents = frozenset(
            field.name for field in msgspec.structs.fields(model) if _may_hold_document(field.type)
        )

    @cached_property
    def identifier(self) -> sql.Identifier:
        """The table's name, quoted."""
        return sql.Identifier(self.name)

    def _own_date(self, provider_id: int) -> sql.Composable:
        """The date up to which this provider has fed a row, as seconds since 1970.

        A row that is gone has none: a record that names it again changes it, whatever its date.
        """
        if self.model.is_shared:
            date = sql.SQL("date_part('epoch', (provider_dates ->> {})::timestamptz)").format(str(provider_id))
            return sql.SQL("CASE WHEN gone_since IS NULL THEN {} END").format(date) if self.model.can_be_gone else date
        return sql.SQL(
            "CASE WHEN last_provider_id = {}{} THEN date_part('epoch', date_modified_at_last_provider) END"
        ).format(provider_id, sql.SQL(" AND gone_since IS NULL" if self.model.can_be_gone else ""))

    def is_ahead(self, alias: str) -> sql.Composable:
        """A further condition of WHERE: the row is not history yet, by the database's clock."""
        if not self.model.passes_at:
            return sql.SQL("")
        return sql.SQL(" AND coalesce({} > now(), true)").format(sql.Identifier(alias, self.model.passes_at))

    @cache  # noqa: B019 - tables live as long as the process
    def select(self, provider_id: int, *, columns: bool) -> sql.Composed:
        """Rows of an array of keys; without `columns` only the key, dates and id, which is all a dated record needs."""
        wanted = self.columns if columns else ("id",)
        return sql.SQL(
            "SELECT id_at_providers, {date}, nullif(fields_updated, '{{}}'), {columns} FROM {table}"
            " WHERE id_at_providers = ANY(%s::text[])"
        ).format(
            date=self._own_date(provider_id),
            columns=sql.SQL(", ").join(map(sql.Identifier, wanted)),
            table=self.identifier,
        )

    @cache  # noqa: B019
    def select_thumbs(self, provider_id: int) -> sql.Composed:
        """As `select`, with `thumbs` as the only column."""
        return sql.SQL(
            "SELECT id_at_providers, {date}, nullif(fields_updated, '{{}}'), thumbs FROM {table}"
            " WHERE id_at_providers = ANY(%s::text[])"
        ).format(date=self._own_date(provider_id), table=self.identifier)

    @cache  # noqa: B019
    def select_for_update(self, provider_id: int, *, with_key: bool = False) -> sql.Composed:
        """As `select`, by primary key and with all columns; locked in one order, so that no two runs deadlock.

        Rows that change their key are locked `with_key`: taken later, that lock could deadlock with a booking.
        """
        return sql.SQL(
            "SELECT id_at_providers, {date}, nullif(fields_updated, '{{}}'), {columns} FROM {table}"
            " WHERE id = ANY(%s) ORDER BY id FOR {strength}"
        ).format(
            strength=sql.SQL("UPDATE" if with_key else "NO KEY UPDATE"),
            date=self._own_date(provider_id),
            columns=sql.SQL(", ").join(map(sql.Identifier, self.columns)),
            table=self.identifier,
        )

    @cache  # noqa: B019
    def select_children(self, provider_id: int) -> sql.Composed:
        """As `select`: this provider's rows of an array of parents that are neither gone nor history yet."""
        assert self.model.parent is not None
        return sql.SQL(
            "SELECT id_at_providers, {date}, nullif(fields_updated, '{{}}'), {columns} FROM {table} AS held"
            " WHERE {parent} = ANY(%s) AND last_provider_id = {provider}{is_there}{is_ahead} ORDER BY id"
        ).format(
            date=self._own_date(provider_id),
            columns=sql.SQL(", ").join(map(sql.Identifier, self.columns)),
            table=self.identifier,
            parent=sql.Identifier(self.model.parent[0]),
            provider=provider_id,
            is_there=sql.SQL(" AND gone_since IS NULL" if self.model.can_be_gone else ""),
            is_ahead=self.is_ahead("held"),
        )

    @cached_property
    def rename(self) -> sql.Composed:
        """Changes keys: takes arrays of primary keys, new keys, and references within the venue (empty: as it is)."""
        reference = ", id_at_provider = coalesce(nullif(renamed.reference, ''), held.id_at_provider)"
        return sql.SQL(
            "UPDATE {} AS held SET id_at_providers = renamed.key{}"
            " FROM unnest(%s::bigint[], %s::text[], %s::text[]) AS renamed (id, key, reference)"
            " WHERE held.id = renamed.id"
        ).format(self.identifier, sql.SQL(reference if self.model.has_venue_reference else ""))

    @cache  # noqa: B019
    def mark_gone(self, columns: Sequence[str]) -> sql.Composed:
        """Takes the changes of the temporary table over, and marks the rows as gone that are not yet."""
        assignments = [sql.SQL("{0} = changes.{0}").format(sql.Identifier(name)) for name in columns]
        return sql.SQL("UPDATE {} AS held SET {} FROM {} AS changes WHERE held.id = changes.id").format(
            self.identifier,
            sql.SQL(", ").join([*assignments, sql.SQL("gone_since = coalesce(held.gone_since, now())")]),
            self._changes,
        )

    def _new_names(self, *, with_id: bool) -> sql.Composed:
        names = ["id"] if with_id else []
        names += ["id_at_providers", "last_provider_id", "date_modified_at_last_provider"]
        names += ["provider_dates"] if self.model.is_shared else []
        names += ["id_at_provider"] if self.model.has_venue_reference else []
        return sql.SQL(", ").join(map(sql.Identifier, (*names, *self.writable)))

    @cache  # noqa: B019
    def copy_new(self, *, with_id: bool) -> sql.Composed:
        """COPY of new rows: sync columns, then the writable ones."""
        return sql.SQL("COPY {} ({}) FROM STDIN").format(self.identifier, self._new_names(with_id=with_id))

    @cached_property
    def _contested(self) -> sql.Identifier:
        return sql.Identifier("pg_temp", f"new_{self.name}")

    @cached_property
    def create_contested(self) -> sql.Composed:
        """The temporary table for new rows that others may create too, once per connection; a commit empties it."""
        return sql.SQL(
            "CREATE TEMPORARY TABLE IF NOT EXISTS {} ON COMMIT DELETE ROWS AS SELECT {} FROM {} WITH NO DATA"
        ).format(sql.Identifier(f"new_{self.name}"), self._new_names(with_id=True), self.identifier)

    @cached_property
    def clear_contested(self) -> sql.Composed:
        """Empties that table before it is used a second time in the same transaction."""
        return sql.SQL("DELETE FROM {}").format(self._contested)

    @cached_property
    def copy_contested(self) -> sql.Composed:
        """COPY of new rows with their ids into that table."""
        return sql.SQL("COPY {} ({}) FROM STDIN").format(self._contested, self._new_names(with_id=True))

    @cached_property
    def take_contested(self) -> sql.Composed:
        """Takes its rows over, but those whose key exists by now; in one order, so that no two runs deadlock."""
        return sql.SQL(
            "INSERT INTO {} ({names}) SELECT {names} FROM {} ORDER BY id_at_providers"
            " ON CONFLICT (id_at_providers) DO NOTHING RETURNING id_at_providers"
        ).format(self.identifier, self._contested, names=self._new_names(with_id=True))

    @cached_property
    def next_ids(self) -> sql.Composed:
        """Reserves primary keys: as many as the parameter says."""
        return sql.SQL(
            "SELECT nextval(sequence) FROM (SELECT pg_get_serial_sequence({}, 'id')::regclass AS sequence OFFSET 0)"
            " AS found, generate_series(1, %s)"
        ).format(self.name)

    @cached_property
    def _changes(self) -> sql.Identifier:
        return sql.Identifier("pg_temp", f"changes_{self.name}")

    @cached_property
    def create_changes(self) -> sql.Composed:
        """The temporary table through which updates go, once per connection; empty in every transaction."""
        return sql.SQL(
            "CREATE TEMPORARY TABLE IF NOT EXISTS {changes} ON COMMIT DELETE ROWS AS"
            " SELECT id, date_modified_at_last_provider, true AS must_write, {columns} FROM {table} WITH NO DATA"
        ).format(
            changes=sql.Identifier(f"changes_{self.name}"),
            columns=sql.SQL(", ").join(map(sql.Identifier, self.writable)),
            table=self.identifier,
        )

    @cached_property
    def clear_changes(self) -> sql.Composed:
        """Empties the temporary table before a second update in the same transaction."""
        return sql.SQL("DELETE FROM {}").format(self._changes)

    @cache  # noqa: B019
    def copy_changes(self, columns: Sequence[str]) -> sql.Composed:
        """COPY into the temporary table: id, date, whether to write equal rows too, and the columns that changed."""
        return sql.SQL("COPY {} ({}) FROM STDIN").format(
            self._changes,
            sql.SQL(", ").join(map(sql.Identifier, ("id", "date_modified_at_last_provider", "must_write", *columns))),
        )

    @cache  # noqa: B019
    def update(self, provider_id: int, columns: Sequence[str], *, as_json: bool = False) -> sql.Composed:
        """Takes the changes over, unless the row has a later date by now or holds the same after PostgreSQL's casts.

        The changes are those of the temporary table, or two parameters: rows as a JSON array, and the ids of those
        that are written even if they hold the same.
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
                    "provider_dates = held.provider_dates || jsonb_build_object({},"
                    " changes.date_modified_at_last_provider)"
                ).format(str(provider_id))
            )
            date = sql.SQL("(held.provider_dates ->> {})::timestamptz").format(str(provider_id))
        else:
            date = sql.SQL("CASE WHEN held.last_provider_id = {} THEN held.date_modified_at_last_provider END").format(
                provider_id
            )
        if self.model.can_be_gone:
            date = sql.SQL("CASE WHEN held.gone_since IS NULL THEN {} END").format(date)
        return sql.SQL(
            "UPDATE {table} AS held SET {assignments} FROM {changes} AS changes WHERE held.id = changes.id"
            " AND coalesce({date} <= changes.date_modified_at_last_provider, true)"
            " AND ({must_write} OR ROW({before}) IS DISTINCT FROM ROW({wanted}))"
        ).format(
            table=self.identifier,
            assignments=sql.SQL(", ").join(assignments),
            changes=sql.SQL("json_populate_recordset(NULL::{}, %s::json)").format(self.identifier)
            if as_json
            else self._changes,
            must_write=sql.SQL("changes.id = ANY(%s::bigint[])" if as_json else "changes.must_write"),
            date=date,
            before=sql.SQL(", ").join(sql.Identifier("held", name) for name in columns),
            wanted=sql.SQL(", ").join(sql.Identifier("changes", name) for name in columns),
        )


def _may_hold_document(annotation: Any) -> bool:
    """Whether a field of this type may hold a dictionary or a list, which are changed in place."""
    kind = get_origin(annotation) or annotation
    if kind is Annotated or kind is Union or kind is UnionType:
        return any(_may_hold_document(part) for part in get_args(annotation))
    return kind is Any or kind in (dict, list)


@cache
def table_of(model: type[Providable]) -> Table:
    """The table of a model."""
    return Table(model)
