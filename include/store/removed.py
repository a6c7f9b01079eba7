"""SQL of removal detection: the keys that a complete listing names, and the rows that it lacks.

Both are in temporary tables of the session, so that memory stays flat. `listed` has the named keys by table and, with
an empty table name, the key prefixes of unusable records; `gone` has the missing rows.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from psycopg import sql
from psycopg.rows import TupleRow

from include.errors import ConfigurationError
from include.store import Connection
from include.store.rows import copy_changes, text_array
from include.store.tables import DATE, Table, table_of

_LISTED = sql.Identifier("pg_temp", "listed")
_GONE = sql.Identifier("pg_temp", "gone")
REFERENCES = ""
"""In place of a table's name: key prefixes of unusable records, whose rows do not count as removed."""
REMOVED_SINCE = DATE
"""Position of `gone_since` in a row of `lock_missing`, which has it in place of the date."""


class Scope(NamedTuple):
    """Which rows a listing must name: those of a provider, and of one venue unless `venue_id` is None.

    If there are `key_parts`, only rows whose key contains one of them and none of `other_key_parts`. Rows with a date
    later than `started_at` were written since the listing began; they are out of scope.
    """

    provider_id: int
    venue_id: int | None
    started_at: datetime
    key_parts: tuple[str, ...] = ()
    other_key_parts: tuple[str, ...] = ()


class Missing(NamedTuple):
    """How many rows of a table there are, and how many of them a listing lacks."""

    removed: int
    """Live rows that the listing lacks."""
    live: int
    known_removed: int
    """The same, without the rows that were created since a listing was last accepted."""
    known_live: int
    removed_before: int
    """Rows that earlier listings lacked, and that are still on sale; they are not live any more."""
    names_any: bool
    """Whether the listing names any row of the table."""


def begin_listing(connection: Connection) -> None:
    """Create the temporary tables, once per session, and empty them."""
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


def add_keys(connection: Connection, table_name: str, keys: Collection[str]) -> None:
    """Store keys that the listing names; for `REFERENCES`, the key prefixes of unusable records."""
    connection.execute(
        sql.SQL("INSERT INTO {} SELECT %s, unnest(%s::text[])").format(_LISTED), (table_name, text_array([*keys]))
    )


def named_already(connection: Connection, table: Table, keys: Collection[str]) -> set[str]:
    """Return those of the keys that the listing has named before."""
    statement = "SELECT id_at_providers FROM {} WHERE table_name = %s AND id_at_providers = ANY(%s::text[])"
    found = connection.execute(sql.SQL(statement).format(_LISTED), (table.name, text_array([*keys])))
    return {row[0] for row in found}


def find_missing(connection: Connection, table: Table, scope: Scope, known_up_to: int) -> Missing:
    """Find the rows in scope that the listing lacks, and count them; `next_missing` returns them.

    Among them are rows that earlier listings lacked and that are still on sale. `known_up_to` is the highest primary
    key when a listing was last accepted.
    """
    connection.execute(sql.SQL("ANALYZE {}").format(_LISTED))
    found = connection.execute(
        sql.SQL(
            "INSERT INTO {gone} SELECT {name}, stored.id, stored.id_at_providers, stored.gone_since IS NULL"
            " FROM {in_scope} AND NOT EXISTS (SELECT FROM {listed} AS listed"
            " WHERE listed.table_name = {name} AND listed.id_at_providers = stored.id_at_providers)"
        ).format(gone=_GONE, listed=_LISTED, name=table.name, in_scope=_rows(table, scope, with_removed=True))
    ).rowcount
    if not found:
        return Missing(0, 0, 0, 0, 0, names_any=True)
    # The bounds let an index be used: in this collation, no text with the prefix sorts after prefix + U+10FFFF.
    connection.execute(
        sql.SQL(
            "DELETE FROM {gone} AS gone USING {listed} AS reference WHERE reference.table_name = {references}"
            " AND gone.table_name = {name} AND gone.id_at_providers >= reference.id_at_providers"
            " AND gone.id_at_providers < reference.id_at_providers || chr(1114111)"
            " AND starts_with(gone.id_at_providers, reference.id_at_providers)"
        ).format(gone=_GONE, listed=_LISTED, name=table.name, references=REFERENCES)
    )
    row = connection.execute(
        sql.SQL(
            "SELECT gone.rows, live.rows, gone.known, live.known, gone.before,"
            " EXISTS (SELECT FROM {listed} AS listed WHERE listed.table_name = {name}) FROM"
            " (SELECT count(*) FILTER (WHERE is_new) AS rows,"
            "  count(*) FILTER (WHERE is_new AND id <= {known}) AS known,"
            "  count(*) FILTER (WHERE NOT is_new) AS before FROM {gone} WHERE table_name = {name}) AS gone,"
            " (SELECT count(*) AS rows, count(*) FILTER (WHERE stored.id <= {known}) AS known FROM {live}) AS live"
        ).format(
            gone=_GONE,
            listed=_LISTED,
            name=table.name,
            known=known_up_to,
            live=_rows(table, scope, with_removed=False),
        )
    ).fetchone()
    assert row is not None
    return Missing(*row)


def next_missing(connection: Connection, table: Table, after: int, size: int) -> list[int]:
    """Return the next `size` primary keys of missing rows after `after`, in order."""
    statement = sql.SQL("SELECT id FROM {} WHERE table_name = %s AND id > %s ORDER BY id LIMIT %s").format(_GONE)
    return [row[0] for row in connection.execute(statement, (table.name, after, size))]


def lock_missing(connection: Connection, table: Table, scope: Scope, ids: list[int]) -> list[TupleRow]:
    """Lock those of the rows that are still in scope, and return them like `lock_rows`; see also `REMOVED_SINCE`."""
    statement = sql.SQL(
        "SELECT stored.id_at_providers, stored.gone_since, nullif(stored.fields_updated, '{{}}'), {columns}"
        " FROM {table} AS stored WHERE {conditions} AND stored.id = ANY({ids}) ORDER BY stored.id FOR NO KEY UPDATE"
    ).format(
        columns=sql.SQL(", ").join(sql.Identifier("stored", name) for name in table.columns),
        table=table.identifier,
        conditions=_conditions(table, scope, with_removed=True),
        ids=ids,  # not a parameter: a per cent sign in a key part would then look like a placeholder
    )
    with connection.cursor(binary=True) as cursor:
        return cursor.execute(statement).fetchall()


def mark_rows(connection: Connection, table: Table, rows: Sequence[Sequence[Any]], columns: tuple[str, ...]) -> None:
    """Write `(id, *columns)` of locked rows, and set `gone_since` of those that have none."""
    copy_changes(connection, table, [(row[0], None, True, *row[1:]) for row in rows], columns)
    connection.execute(table.mark_removed(columns))


def highest_id(connection: Connection, table: Table) -> int:
    """Return the highest primary key of a table; 0 if it is empty."""
    row = connection.execute(sql.SQL("SELECT coalesce(max(id), 0) FROM {}").format(table.identifier)).fetchone()
    return int(row[0]) if row else 0


def other_links(connection: Connection, provider_id: int, venue_id: int, venue_provider_id: int) -> list[str]:
    """Return the venue's ids in its other links to this provider, also inactive ones, whose rows must not change."""
    found = connection.execute(
        "SELECT venue_id_at_offer_provider FROM venue_provider WHERE provider_id = %s AND venue_id = %s AND id <> %s",
        (provider_id, venue_id, venue_provider_id),
    )
    return [row[0] for row in found]


def _rows(table: Table, scope: Scope, *, with_removed: bool) -> sql.Composed:
    """FROM and WHERE of the rows in scope, under the alias `stored`; live rows only, unless `with_removed`."""
    joins: list[sql.Composable] = []
    of_venue: sql.Composable = sql.SQL("")
    if scope.venue_id is not None:
        alias, model = "stored", table.model
        while "venue_id" not in model.__struct_fields__:
            if model.parent is None:
                raise ConfigurationError(
                    f"{table.model.__name__} cannot have complete listings per venue: {model.__name__} has neither a "
                    "venue_id nor a parent"
                )
            column, parent = model.parent
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
    return sql.SQL("{} AS stored{} WHERE {}{}").format(
        table.identifier, sql.Composed(joins), _conditions(table, scope, with_removed=with_removed), of_venue
    )


def _conditions(table: Table, scope: Scope, *, with_removed: bool) -> sql.Composed:
    """Conditions of the rows in scope that are not in the past; `with_removed` includes removed rows still on sale."""
    is_open: sql.Composable = sql.SQL("stored.gone_since IS NULL")
    if with_removed and (off_sale := table.model.off_sale):
        is_open = sql.SQL("(stored.gone_since IS NULL OR NOT {})").format(sql.Identifier("stored", off_sale))
    return sql.SQL(
        "stored.last_provider_id = {} AND {}"
        " AND coalesce(stored.date_modified_at_last_provider <= {}::timestamptz, true){}{}"
    ).format(scope.provider_id, is_open, scope.started_at.isoformat(), table.is_ahead("stored"), _of_link(scope))


def _of_link(scope: Scope) -> sql.Composable:
    """Further condition of WHERE: the key is one of the link's."""
    if not scope.key_parts:
        return sql.SQL("")

    def any_of(parts: Sequence[str]) -> sql.Composed:
        return sql.SQL(" OR ").join(sql.SQL("strpos(stored.id_at_providers, {}) > 0").format(part) for part in parts)

    condition = sql.SQL(" AND ({})").format(any_of(scope.key_parts))
    if scope.other_key_parts:
        condition += sql.SQL(" AND NOT ({})").format(any_of(scope.other_key_parts))
    return condition
