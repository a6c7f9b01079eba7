"""What a complete listing named, and which rows it lacks; kept in temporary tables, so that memory stays flat.

They belong to the session: `listed` has the keys that were named per table, and under no table what the keys of
records begin with that could not be used; `gone` the rows that are lacking.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from psycopg import sql
from psycopg.rows import TupleRow

from include.errors import ConfigurationError
from include.models import Providable
from include.store.rows import Connection, copy_changes, text_array
from include.store.tables import Table, table_of

_LISTED = sql.Identifier("pg_temp", "listed")
_GONE = sql.Identifier("pg_temp", "gone")
_REFERENCES = ""


class Scope(NamedTuple):
    """Whose rows a listing should name: those of a provider, and of one venue unless it is None.

    Of these, with `marks`, those whose key contains one of them and none of `other_marks`.
    Rows with a date later than `started_at` were written since the listing began, and are nobody's business here.
    """

    provider_id: int
    venue_id: int | None
    started_at: datetime
    marks: tuple[str, ...] = ()
    other_marks: tuple[str, ...] = ()


class Missing(NamedTuple):
    """How many live rows there are and how many of them are lacking; `known_` counts those that are not new.

    `gone_before` are lacking as before and not off sale yet: they are live no more. `is_named`: the listing named some.
    """

    gone: int
    live: int
    known_gone: int
    known_live: int
    gone_before: int
    is_named: bool


def begin_listing(connection: Connection) -> None:
    """Make the temporary tables, once per session, and empty them."""
    connection.execute(
        'CREATE TEMPORARY TABLE IF NOT EXISTS listed (table_name text, id_at_providers text COLLATE "C")'
    )
    connection.execute(
        "CREATE TEMPORARY TABLE IF NOT EXISTS gone (table_name text, id bigint,"
        ' id_at_providers text COLLATE "C", is_new boolean,'
        " PRIMARY KEY (table_name, id), UNIQUE (id_at_providers, table_name))"
    )
    end_listing(connection)


def end_listing(connection: Connection) -> None:
    """Empty the temporary tables."""
    connection.execute("TRUNCATE pg_temp.listed, pg_temp.gone")


def note_keys(connection: Connection, table: Table, keys: Collection[str]) -> None:
    """Note that the listing named these rows."""
    _note(connection, table.name, keys)


def note_references(connection: Connection, references: Collection[str]) -> None:
    """Note what the keys of records begin with that could not be used: their rows are not taken for gone."""
    _note(connection, _REFERENCES, references)


def named_already(connection: Connection, table: Table, keys: Collection[str]) -> set[str]:
    """Those of the keys that were noted before."""
    found = connection.execute(
        sql.SQL("SELECT id_at_providers FROM {} WHERE table_name = %s AND id_at_providers = ANY(%s::text[])").format(
            _LISTED
        ),
        (table.name, text_array([*keys])),
    )
    return {row[0] for row in found}


def _note(connection: Connection, name: str, texts: Collection[str]) -> None:
    connection.execute(
        sql.SQL("INSERT INTO {} SELECT %s, unnest(%s::text[])").format(_LISTED), (name, text_array([*texts]))
    )


def find_gone(connection: Connection, table: Table, scope: Scope, known_up_to: int) -> Missing:
    """Find the rows that the listing should have named and did not; `next_gone` gives them.

    Among them are those that were gone before and are not off sale yet, since they have bookings say.
    Rows with primary keys up to `known_up_to` are counted apart.

    Raises:
        ConfigurationError: the model does not tell to which venue its rows belong.
    """
    connection.execute(sql.SQL("ANALYZE {}").format(_LISTED))
    found = connection.execute(
        sql.SQL(
            "INSERT INTO {gone} SELECT {name}, held.id, held.id_at_providers, held.gone_since IS NULL FROM {unsettled}"
            " AND NOT EXISTS (SELECT FROM {listed} AS listed"
            " WHERE listed.table_name = {name} AND listed.id_at_providers = held.id_at_providers)"
        ).format(gone=_GONE, listed=_LISTED, name=table.name, unsettled=_rows(table, scope, with_gone=True))
    ).rowcount
    if not found:
        return Missing(0, 0, 0, 0, 0, is_named=True)
    # With the bounds an index serves; in this collation nothing that begins so is behind the highest character.
    connection.execute(
        sql.SQL(
            "DELETE FROM {gone} AS gone USING {listed} AS reference WHERE reference.table_name = {references}"
            " AND gone.table_name = {name} AND gone.id_at_providers >= reference.id_at_providers"
            " AND gone.id_at_providers < reference.id_at_providers || chr(1114111)"
            " AND starts_with(gone.id_at_providers, reference.id_at_providers)"
        ).format(gone=_GONE, listed=_LISTED, name=table.name, references=_REFERENCES)
    )
    row = connection.execute(
        sql.SQL(
            "SELECT gone.rows, live.rows, gone.known, live.known, gone.before,"
            " EXISTS (SELECT FROM {listed} AS listed WHERE listed.table_name = {name}) FROM"
            " (SELECT count(*) FILTER (WHERE is_new) AS rows,"
            "  count(*) FILTER (WHERE is_new AND id <= {known}) AS known,"
            "  count(*) FILTER (WHERE NOT is_new) AS before FROM {gone} WHERE table_name = {name}) AS gone,"
            " (SELECT count(*) AS rows, count(*) FILTER (WHERE held.id <= {known}) AS known FROM {live}) AS live"
        ).format(
            gone=_GONE,
            listed=_LISTED,
            name=table.name,
            known=known_up_to,
            live=_rows(table, scope, with_gone=False),
        )
    ).fetchone()
    assert row is not None
    return Missing(*row)


def next_gone(connection: Connection, table: Table, after: int, size: int) -> list[int]:
    """The next primary keys of rows that are gone, in order."""
    return [
        row[0]
        for row in connection.execute(
            sql.SQL("SELECT id FROM {} WHERE table_name = %s AND id > %s ORDER BY id LIMIT %s").format(_GONE),
            (table.name, after, size),
        )
    ]


def lock_gone(connection: Connection, table: Table, scope: Scope, ids: list[int]) -> list[TupleRow]:
    """Those of the rows that may be marked still, as `lock_rows` gives them: locked, in the same order.

    In the place of the date is since when they are gone.
    """
    with connection.cursor(binary=True) as cursor:
        cursor.execute(
            sql.SQL(
                "SELECT held.id_at_providers, held.gone_since, nullif(held.fields_updated, '{{}}'), {columns}"
                " FROM {table} AS held WHERE {conditions} AND held.id = ANY({ids}) ORDER BY held.id FOR NO KEY UPDATE"
            ).format(
                columns=sql.SQL(", ").join(sql.Identifier("held", name) for name in table.columns),
                table=table.identifier,
                conditions=_conditions(table, scope, with_gone=True),
                ids=ids,  # no parameter: with one, a per cent sign in a mark would be taken for a placeholder
            )
        )
        return cursor.fetchall()


def mark_rows(connection: Connection, table: Table, rows: Sequence[Sequence[Any]], columns: tuple[str, ...]) -> None:
    """Write `(id, *columns)` of locked rows, and from when on they are gone if they were not before."""
    copy_changes(connection, table, [(row[0], None, True, *row[1:]) for row in rows], columns)
    connection.execute(table.mark_gone(columns))


def highest_id(connection: Connection, table: Table) -> int:
    """The highest primary key of a table, 0 when it is empty."""
    row = connection.execute(sql.SQL("SELECT coalesce(max(id), 0) FROM {}").format(table.identifier)).fetchone()
    return int(row[0]) if row else 0


def other_links(connection: Connection, provider_id: int, venue_id: int, venue_provider_id: int) -> list[str]:
    """The venue's ids in its other links of this provider, active or not: rows of a paused one stay as they are."""
    found = connection.execute(
        "SELECT venue_id_at_offer_provider FROM venue_provider WHERE provider_id = %s AND venue_id = %s AND id <> %s",
        (provider_id, venue_id, venue_provider_id),
    )
    return [row[0] for row in found]


def _rows(table: Table, scope: Scope, *, with_gone: bool) -> sql.Composed:
    """FROM and WHERE of the rows that a complete listing names: as `held`, whatever their parents are called.

    Without those that are gone they are the live ones.
    """
    joins: list[sql.Composable] = []
    of_venue: sql.Composable = sql.SQL("")
    if scope.venue_id is not None:
        alias, model = "held", table.model
        while "venue_id" not in model.__struct_fields__:
            column, parent = _parent_of(model, table)
            upper = f"parent_{len(joins) + 1}"
            joins.append(
                sql.SQL(" JOIN {} AS {} ON {} = {}").format(
                    table_of(parent).identifier,
                    sql.Identifier(upper),
                    sql.Identifier(upper, "id"),
                    sql.Identifier(alias, column),
                )
            )
            alias, model = upper, parent
        of_venue = sql.SQL(" AND {} = {}").format(sql.Identifier(alias, "venue_id"), scope.venue_id)
    return sql.SQL("{} AS held{} WHERE {}{}").format(
        table.identifier, sql.Composed(joins), _conditions(table, scope, with_gone=with_gone), of_venue
    )


def _parent_of(model: type[Providable], table: Table) -> tuple[str, type[Providable]]:
    if model.parent is None:
        raise ConfigurationError(
            f"{table.model.__name__} cannot be listed completely per venue: {model.__name__} has neither a venue_id nor"
            " a parent"
        )
    return model.parent


def _conditions(table: Table, scope: Scope, *, with_gone: bool) -> sql.Composed:
    """Fed by this provider and link, not since the listing began; not gone yet, or not off sale; not history."""
    is_open: sql.Composable = sql.SQL("held.gone_since IS NULL")
    if with_gone and (off_sale := table.model.off_sale):
        is_open = sql.SQL("(held.gone_since IS NULL OR NOT {})").format(sql.Identifier("held", off_sale))
    return sql.SQL(
        "held.last_provider_id = {} AND {}"
        " AND coalesce(held.date_modified_at_last_provider <= {}::timestamptz, true){}{}"
    ).format(scope.provider_id, is_open, scope.started_at.isoformat(), table.is_ahead("held"), _of_link(scope))


def _of_link(scope: Scope) -> sql.Composable:
    """A further condition of WHERE: the key has a mark of the link."""
    if not scope.marks:
        return sql.SQL("")

    def any_of(marks: Sequence[str]) -> sql.Composed:
        return sql.SQL(" OR ").join(sql.SQL("strpos(held.id_at_providers, {}) > 0").format(mark) for mark in marks)

    condition = sql.SQL(" AND ({})").format(any_of(scope.marks))
    return condition + sql.SQL(" AND NOT ({})").format(any_of(scope.other_marks)) if scope.other_marks else condition
