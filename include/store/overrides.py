"""Fields that a person edited, given back to the providers: `table.id` or `table.id.field`, say `stock.123.price`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import sql

from include.errors import ConfigurationError
from include.models import Offer, Product, Stock
from include.store.tables import table_of

WRITABLE = {model.table_name: table_of(model).writable for model in (Product, Offer, Stock)}
"""By table: the fields that providers write, and a person may therefore have edited."""
MAX_ID = 2**63 - 1


def release(
    connection: psycopg.Connection[Any], wanted: Sequence[str], *, dry_run: bool = False
) -> dict[str, list[str]]:
    """Give fields back, in the caller's transaction; returns per entry of `wanted` those that were held back until now.

    A dry run only looks.

    Raises:
        ConfigurationError: something in `wanted` makes no sense or is not there; the message lists it all.
    """
    released: dict[str, list[str]] = {}
    wrong: list[str] = []
    parsed: list[tuple[str, str, int, list[str]]] = []
    for entry in dict.fromkeys(wanted):
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
        raise ConfigurationError("release_fields cannot be done, nothing was: " + "; ".join(wrong))
    if not dry_run:
        for entry, table, number, fields in parsed:
            row = connection.execute(
                "SELECT release_fields(%s, %s, VARIADIC %s::text[])", (table, number, fields)
            ).fetchone()
            released[entry] = row[0] if row else []
    return released
