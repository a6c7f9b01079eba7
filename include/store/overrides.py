"""Releases manual overrides: providers may then write the fields again."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from include.errors import ConfigurationError
from include.models import Offer, Product, Stock
from include.store import Connection
from include.store.tables import table_of

WRITABLE = {model.table_name: table_of(model).writable for model in (Product, Offer, Stock)}
"""The fields that providers write, by table; only these can have overrides that matter."""
MAX_ID = 2**63 - 1


def release(connection: Connection, requested: Sequence[str], *, dry_run: bool = False) -> dict[str, list[str]]:
    """Release overrides, in the caller's transaction; returns, per entry, the fields whose override is released.

    An entry is `table.id` (all fields) or `table.id.field`, for example `stock.123.price`. ConfigurationError lists
    all entries that are malformed, or whose row does not exist.
    """
    released: dict[str, list[str]] = {}
    wrong: list[str] = []
    parsed: list[tuple[str, str, int, list[str]]] = []
    for entry in dict.fromkeys(requested):
        table, _, rest = entry.partition(".")
        row_id, dot, field = rest.partition(".")
        if not (row_id.isascii() and row_id.isdigit()) or int(row_id) > MAX_ID or (dot and not field):
            wrong.append(f"{entry!r} is not of the form table.id or table.id.field, such as stock.123.price")
        elif table not in WRITABLE:
            wrong.append(f"{entry!r}: there is no table {table!r}, only {', '.join(WRITABLE)}")
        elif field and field not in WRITABLE[table]:
            wrong.append(f"{entry!r}: {table} has no field {field!r} that providers write")
        else:
            parsed.append((entry, table, int(row_id), [field] if field else []))
    for entry, table, number, fields in parsed:
        found = connection.execute(
            sql.SQL("SELECT fields_updated FROM {} WHERE id = %s").format(sql.Identifier(table)), (number,)
        ).fetchone()
        if found is None:
            wrong.append(f"{entry!r}: there is no {table} {number}")
        else:
            released[entry] = [name for name in found[0] if not fields or name in fields]
    if wrong:
        raise ConfigurationError("No override was released: " + "; ".join(wrong))
    if not dry_run:
        for entry, table, number, fields in parsed:
            row = connection.execute(
                "SELECT release_fields(%s, %s, VARIADIC %s::text[])", (table, number, fields)
            ).fetchone()
            released[entry] = row[0] if row else []
    return released
