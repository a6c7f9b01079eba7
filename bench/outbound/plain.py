"""A hand-written script: one order at a time, one request per object, one commit per result.

It stores what it sent as well, and does not send it again unchanged. It has no locks, no retries and no log.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import psycopg
import requests
from psycopg.types.json import Jsonb

from bench.measuring import Task, main
from bench.outbound.data import ATTENDEE, BUYER, TARGET

TABLE = """
    CREATE TABLE IF NOT EXISTS plain_result (
        kind text, id text, fields jsonb NOT NULL, link text, sent_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (kind, id)
    )
"""


def prepare(task: Task) -> Callable[[], object]:
    """Prepare nothing; the work is the whole queue."""

    def work() -> None:
        with psycopg.connect(task.conninfo) as connection, requests.Session() as session:
            rows = connection.execute(
                "SELECT id, source_id FROM outbound_queue WHERE target = %s ORDER BY not_before, id", (TARGET,)
            ).fetchall()
            for row, order in rows:
                for kind, id_, fields in _objects(connection, order):
                    _send(connection, session, f"{task.url}/{kind}/{id_}", (kind, id_), fields)
                connection.execute("DELETE FROM outbound_queue WHERE id = %s", (row,))
                connection.commit()

    return work


def _objects(connection: psycopg.Connection[Any], order_id: int) -> list[tuple[str, str, dict[str, Any]]]:
    order = connection.execute(
        "SELECT customer_order.code, email, total, status, event.name FROM customer_order"
        " JOIN event ON event.id = event_id WHERE customer_order.id = %s",
        (order_id,),
    ).fetchone()
    assert order is not None
    code, email, total, status, event = order
    found = [(BUYER, code, {"EMAIL": email, "TOTAL": f"{total:.2f}", "STATUS": status, "EVENT": event})]
    positions = connection.execute(
        "SELECT number, attendee_name_parts, attendee_email, ticket_product.name, price FROM order_position"
        " JOIN ticket_product ON ticket_product.id = product_id WHERE order_id = %s ORDER BY number",
        (order_id,),
    )
    for number, parts, address, product, price in positions:
        name = f"{parts['given_name']} {parts['family_name']}"
        fields = {"NAME": name, "EMAIL": address, "TICKET": product, "PRICE": f"{price:.2f}"}
        found.append((ATTENDEE, f"{code}-{number}", fields))
    return found


def _send(
    connection: psycopg.Connection[Any], session: requests.Session, url: str, key: tuple[str, str], fields: Any
) -> None:
    stored = connection.execute("SELECT fields FROM plain_result WHERE kind = %s AND id = %s", key).fetchone()
    if stored is not None and stored[0] == fields:
        return
    response = session.post(url, data=json.dumps(fields), headers={"Content-Type": "application/json"}, timeout=60)
    response.raise_for_status()
    connection.execute(
        "INSERT INTO plain_result (kind, id, fields, link) VALUES (%s, %s, %s, %s)"
        " ON CONFLICT (kind, id) DO UPDATE SET fields = excluded.fields, link = excluded.link, sent_at = now()",
        (*key, Jsonb(fields), f"https://target.example/{key[1]}"),
    )
    connection.commit()


if __name__ == "__main__":
    main(prepare)
