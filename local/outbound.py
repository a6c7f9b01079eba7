"""The outbound targets in the local run. By default it sends demo orders to the sandbox, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from local.checkout import LocalError
from local.dag_files import named

if TYPE_CHECKING:
    from include.targets.base import OutboundSyncProvider

    Targets = Mapping[str, type[OutboundSyncProvider]]
    """Targets by DAG id."""

CANCEL_ONE = """
    WITH canceled AS (
        UPDATE customer_order SET status = 'c' WHERE id = (
            SELECT id FROM customer_order WHERE status = 'p' AND email IS NOT NULL ORDER BY id DESC LIMIT 1
        ) RETURNING id, code
    ), tickets AS (
        UPDATE order_position SET is_canceled = true WHERE order_id IN (SELECT id FROM canceled)
    )
    SELECT 'order ' || code || ' is canceled' FROM canceled
"""
PAY_ONE = """
    WITH paid AS (
        UPDATE customer_order SET status = 'p' WHERE id = (
            SELECT id FROM customer_order WHERE status = 'n' AND email IS NOT NULL ORDER BY id LIMIT 1
        ) RETURNING id, code
    ), payments AS (
        UPDATE payment SET paid_at = now() WHERE order_id IN (SELECT id FROM paid)
    )
    SELECT 'order ' || code || ' is paid' FROM paid
"""
RENAME_ONE = """
    WITH renamed AS (
        UPDATE order_position
        SET attendee_name_parts = attendee_name_parts || jsonb_build_object(
            'family_name', (attendee_name_parts ->> 'family_name') || '-Valmory')
        WHERE id = (
            SELECT position.id FROM order_position AS position JOIN customer_order AS placed ON placed.id = order_id
            WHERE status = 'p' AND NOT is_canceled AND attendee_email IS NOT NULL
              AND attendee_name_parts ->> 'family_name' NOT LIKE '%-Valmory'
            ORDER BY position.id LIMIT 1
        ) RETURNING order_id, attendee_name_parts
    )
    SELECT 'an attendee of order ' || code || ' is now called ' || (attendee_name_parts ->> 'family_name')
    FROM renamed JOIN customer_order ON customer_order.id = order_id
"""


def targets(dags: Path) -> Targets:
    """Return the targets that the DAG files name as `TARGET = "…"` or `target="…"`."""
    from include.errors import ConfigurationError
    from include.targets import load_target

    found = {}
    for file in sorted(dags.glob("*.py")):
        for path in named(file, "target"):
            try:
                found[file.stem] = load_target(path)
            except ConfigurationError as error:
                raise LocalError(f"{file.name}: {error}") from error
    return found


def live(targets: Targets, *, own_database: bool, stand_ins: Iterable[str]) -> dict[str, str]:
    """Return the DAGs that would send real data, with the reason. They run only when the user starts them."""
    reasons = {}
    for dag_id, target in targets.items():
        if target.conn_id not in stand_ins:
            reasons[dag_id] = "its connection points to a live service"
        elif own_database:
            reasons[dag_id] = "it sends the orders of your own database"
    return reasons


def subscribe(conninfo: str, targets: Iterable[type[OutboundSyncProvider]]) -> None:
    """Subscribe targets to the change feed, as their first run would."""
    import psycopg

    from include.outbound.feed import CONSUMER
    from include.store import change_feed

    with psycopg.connect(conninfo, autocommit=True) as connection:
        for target in targets:
            change_feed.subscribe(connection, CONSUMER + target.identifier, target.source)


def change_orders(conninfo: str) -> list[str]:
    """Cancel an order, pay one and rename an attendee; return a description of each change that was possible."""
    import psycopg

    with psycopg.connect(conninfo) as connection:
        if connection.execute("SELECT to_regclass('customer_order')").fetchone() == (None,):
            return []
        done = [connection.execute(each).fetchone() for each in (CANCEL_ONE, PAY_ONE, RENAME_ONE)]
    return [row[0] for row in done if row]
