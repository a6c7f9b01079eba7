"""The demo data: rows that match what the sandbox lists, demo orders, and the demo index."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from local.checkout import Checkout, LocalError
from local.settings import Connection

VENUE_COLUMNS = ("name", "siret", "departement_code", "booking_email")
PRODUCT_COLUMNS = (
    "id_at_providers",
    "name",
    "description",
    "extra_data",
    "subcategory_id",
    "is_gcu_compatible",
    "is_synchronization_compatible",
)
REFERENCES = {
    "event_id": "event",
    "sub_event_id": "sub_event",
    "product_id": "ticket_product",
    "order_id": "customer_order",
    "position_id": "order_position",
    "parent_id": "order_position",
    "question_id": "question",
    "list_id": "checkin_list",
}
"""The tables of an event that foreign key columns refer to."""


def load(conninfo: str) -> int:
    """Insert the rows that are missing; return their number. Existing rows are not changed."""
    import psycopg

    from sandbox.orders import events
    from sandbox.world import World

    settings = _sandbox_settings()
    with psycopg.connect(conninfo) as connection:
        added = load_venues(connection, World(settings))
        for event, tables in events(settings):
            added += _add_event(connection, event, tables)
    return added


def load_venues(connection: Any, world: Any, providers: Collection[str] | None = None) -> int:
    """Insert the venues of a sandbox's world, their products, and their links to the project's providers.

    `providers` limits the links to those of some provider classes. Returns the number of new rows.
    """
    from sandbox.demo import products, venues
    from sandbox.suppliers import find_suppliers

    suppliers = [one for one in find_suppliers(world) if providers is None or one.provider in providers]
    linked = [link.venue for supplier in suppliers for link in supplier.links]
    added = _add(connection, "venue", VENUE_COLUMNS, [*venues(world.settings), *linked])
    added += _add(connection, "product", PRODUCT_COLUMNS, products(world.settings))
    for supplier in suppliers:
        for link in supplier.links:
            added += _add_link(connection, supplier.provider, link)
    return added


def advance(state: Path, percent: float) -> None:
    """Change `percent` of the sandbox's data while no sandbox runs. The next sandbox reads the change from `state`.

    Raises:
        ValueError: `percent` is not above 0 and at most 100.
    """
    from sandbox.world import World

    World(replace(_sandbox_settings(), state=str(state))).advance(percent)


def rebuild(checkout: Checkout, env: Mapping[str, str], url: str, index: Connection) -> None:
    """Rebuild the demo index in a separate process over HTTP, as an external indexer does."""
    settings, name = _sandbox_settings(), str(index.extra["index"])
    options = {
        "url": url,
        "application-id": index.login,
        "index": name,
        "temporary": f"{name}_tmp",
        "records": settings.offers,
        "seed": settings.seed,
    }
    command = [sys.executable, "-m", "sandbox.indexer", *(f"--{name}={value}" for name, value in options.items())]
    done = subprocess.run(
        command, env=dict(env), cwd=checkout.root, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        raise LocalError(f"the demo index could not be rebuilt: {reason}")


def _sandbox_settings() -> Any:
    """Return the sandbox's settings, which it reads from `SANDBOX_<NAME>`."""
    from sandbox.__main__ import arguments
    from sandbox.world import Settings

    options = arguments([])
    return Settings(**{each.name: getattr(options, each.name) for each in fields(Settings)})


def _add(connection: Any, table: str, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> int:
    from psycopg import sql

    names = {
        "table": sql.Identifier(table),
        "draft": sql.Identifier(f"demo_{table}"),
        "columns": sql.SQL(", ").join(map(sql.Identifier, columns)),
    }
    with connection.cursor() as cursor:
        cursor.execute(
            sql.SQL("CREATE TEMP TABLE {draft} ON COMMIT DROP AS SELECT {columns} FROM {table} WITH NO DATA").format(
                **names
            )
        )
        _copy(connection, f"demo_{table}", columns, rows)
        cursor.execute(
            sql.SQL("INSERT INTO {table} ({columns}) SELECT {columns} FROM {draft} ON CONFLICT DO NOTHING").format(
                **names
            )
        )
        return int(cursor.rowcount)


def _add_link(connection: Any, provider: str, link: Any) -> int:
    """Link a venue to a provider, unless it is linked or the project has no such provider class."""
    from psycopg.types.json import Jsonb

    values = {
        "provider": provider,
        "siret": link.venue["siret"],
        "id": link.id_at_provider,
        "settings": Jsonb(dict(link.settings)),
        "internal_id": link.internal_id,
    }
    pair = " FROM venue, provider WHERE siret = %(siret)s AND local_class = %(provider)s ON CONFLICT DO NOTHING"
    added = connection.execute(
        "INSERT INTO venue_provider (venue_id, provider_id, venue_id_at_offer_provider, settings)"
        f" SELECT venue.id, provider.id, %(id)s, %(settings)s {pair}",
        values,
    ).rowcount
    if link.internal_id is not None:
        added += connection.execute(
            "INSERT INTO provider_pivot (venue_id, provider_id, id_at_provider, internal_id)"
            f" SELECT venue.id, provider.id, %(id)s, %(internal_id)s {pair}",
            values,
        ).rowcount
    return int(added)


def _copy(connection: Any, table: str, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    from psycopg import sql
    from psycopg.types.json import Jsonb

    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            values = (row.get(column) for column in columns)
            copy.write_row([Jsonb(value) if isinstance(value, dict) else value for value in values])


def _add_event(connection: Any, event: Mapping[str, Any], tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> int:
    """Insert an event and its dependent rows with free ids, unless an event with that slug exists."""
    from psycopg import sql

    columns = [column for column in event if column != "id"]
    row = connection.execute(
        sql.SQL("INSERT INTO event ({}) VALUES ({}) ON CONFLICT (slug) DO NOTHING RETURNING id").format(
            sql.SQL(", ").join(map(sql.Identifier, columns)), sql.SQL(", ").join(map(sql.Placeholder, columns))
        ),
        event,
    ).fetchone()
    if row is None:
        return 0
    ids = {"event": [row[0]]}
    for table, rows in tables.items():
        if not rows:
            continue
        if "id" in rows[0]:
            ids[table] = _free_ids(connection, table, len(rows))
        _copy(connection, table, list(rows[0]), (_with_ids(each, table, ids) for each in rows))
    return 1 + sum(map(len, tables.values()))


def _free_ids(connection: Any, table: str, count: int) -> list[int]:
    rows = connection.execute(
        "SELECT nextval(pg_get_serial_sequence(%s, 'id')) FROM generate_series(1, %s)", (table, count)
    )
    return [row[0] for row in rows]


def _with_ids(row: Mapping[str, Any], table: str, ids: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """Replace the ids of a row, which count from 1, by those in the database."""
    return {
        column: ids[REFERENCES.get(column, table)][value - 1]
        if value is not None and (column == "id" or column in REFERENCES)
        else value
        for column, value in row.items()
    }
