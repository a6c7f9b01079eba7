"""A hand-written script: requests, json, COPY to temporary tables, ON CONFLICT per table, a transaction per theatre.

It writes every listed row and takes all others off sale. It has no modification dates, no ledger and no locks. It
overwrites manual edits, and treats a moved showtime as a new one, so that its bookings stay with the old one. It fails
on a movie without its required fields.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from html import unescape
from typing import Any

import psycopg
import requests
from psycopg.types.json import Jsonb

from bench.measuring import Task, main
from bench.theatres.data import ZONES

VERSIONS = {"ORIGINAL": "VO", "LOCAL": "VF", "DUBBED": "VF"}
SHARED = "name, description, extra_data, subcategory_id"
OFFER = f"id_at_providers, venue_id, {SHARED}, booking_email, is_duo"
STOCK = "id_at_providers, price, quantity, beginning_datetime, booking_limit_datetime, is_soft_deleted"
SET_UP = f"""
    CREATE TEMPORARY TABLE product_in ON COMMIT DELETE ROWS AS
        SELECT id_at_providers, {SHARED}, duration_minutes FROM product WITH NO DATA;
    CREATE TEMPORARY TABLE offer_in ON COMMIT DELETE ROWS AS
        SELECT {OFFER}, NULL::text AS product_key FROM offer WITH NO DATA;
    CREATE TEMPORARY TABLE stock_in ON COMMIT DELETE ROWS AS
        SELECT {STOCK}, NULL::text AS offer_key FROM stock WITH NO DATA;
"""


def _upsert(table: str, columns: str, source: str, more: str = "") -> str:
    names = [name.strip() for name in columns.split(",")]
    return (
        f"INSERT INTO {table} ({columns}{f', {more}' if more else ''}) {source}"
        f" ON CONFLICT (id_at_providers) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in names[1:])}"
    )


PRODUCTS = _upsert(
    "product", f"id_at_providers, {SHARED}, duration_minutes", "SELECT * FROM product_in ORDER BY id_at_providers"
)
OFFERS = _upsert(
    "offer",
    f"{OFFER}, product_id",
    f"SELECT {', '.join(f'offer_in.{name}' for name in OFFER.split(', '))}, product.id, offer_in.id_at_providers"
    " FROM offer_in JOIN product ON product.id_at_providers = product_key",
    "id_at_provider",
)
STOCKS = _upsert(
    "stock",
    f"{STOCK}, offer_id",
    f"SELECT {', '.join(f'stock_in.{name}' for name in STOCK.split(', '))}, offer.id"
    " FROM stock_in JOIN offer ON offer.id_at_providers = offer_key",
)
REMOVED = (
    "UPDATE stock SET is_soft_deleted = true FROM offer WHERE offer.id = offer_id AND offer.venue_id = %s"
    " AND NOT is_soft_deleted AND beginning_datetime > now()"
    " AND NOT EXISTS (SELECT FROM stock_in WHERE stock_in.id_at_providers = stock.id_at_providers)"
)
LINKS = (
    "SELECT venue.id, venue_id_at_offer_provider, departement_code, booking_email, settings FROM venue_provider"
    " JOIN venue ON venue.id = venue_id WHERE is_active ORDER BY venue_provider.id"
)


def prepare(task: Task) -> Callable[[], object]:
    """Prepare nothing; the work is all theatres."""

    def work() -> None:
        with psycopg.connect(task.conninfo) as connection, requests.Session() as session:
            connection.execute("SET provider_sync.writer = 'sync'")
            connection.execute(SET_UP)  # type: ignore[arg-type]
            links = connection.execute(LINKS).fetchall()
            connection.commit()
            for link in links:
                response = session.get(f"{task.url}/movieShowtimeList", params={"theater": link[1]}, timeout=60)
                response.raise_for_status()
                _write(connection, link[0], *_rows(json.loads(response.content)["movieShowtimeList"], link))
                connection.commit()

    return work


def _rows(listing: dict[str, Any], link: tuple[Any, ...]) -> tuple[list[Any], list[Any], list[Any]]:
    venue_id, theatre, departement, email, settings = link
    zone = ZONES[departement]
    products, offers, stocks = [], [], []
    for edge in listing["edges"]:
        movie = edge["node"]["movie"]
        name, extra = unescape(movie["title"]), Jsonb(_extra(movie))
        description = f"{unescape(movie['synopsis'])}\n{movie['backlink']['label']}: {movie['backlink']['url']}"
        products.append((movie["id"], name[:140], description, extra, "SEANCE_CINE", _minutes(movie["runtime"])))
        versions = set()
        for showtime in edge["node"]["showtimes"]:
            if showtime["projection"] != ["DIGITAL"] or showtime["experience"] is not None:
                continue
            version = VERSIONS[showtime["diffusionVersion"]]
            versions.add(version)
            starts_at = datetime.fromisoformat(showtime["startsAt"])
            at = starts_at.replace(tzinfo=zone).astimezone(UTC)
            price = next(
                Decimal(str(rule["price"])) for rule in settings["prices"] if rule.get("version") in (None, version)
            )
            prefix = f"{movie['id']}%{theatre}"
            key, offer = f"{prefix}#{version}/{showtime['startsAt']}", f"{prefix}-{version}"
            stocks.append((key, price, settings["quantity"], at, at, False, offer))
        for version in versions:
            key = f"{movie['id']}%{theatre}-{version}"
            named = f"{name[:135]} - {version}"
            row = (key, venue_id, named, description, extra, "SEANCE_CINE", email, settings["is_duo"], movie["id"])
            offers.append(row)
    return products, offers, stocks


def _extra(movie: dict[str, Any]) -> dict[str, Any]:
    release = movie["releases"][0]
    countries = movie["countries"]
    return {
        "genres": movie["genres"],
        "type": movie["type"],
        "companies": movie["companies"],
        "visa": release["data"]["visa_number"],
        "releaseDate": release["releaseDate"]["date"],
        "stageDirector": _name(movie["credits"]["edges"][0]["node"]["person"]),
        "cast": [_name(edge["node"]["actor"]) for edge in movie["cast"]["edges"]],
        "countries": [country["name"] for country in countries] if isinstance(countries, list) else [],
    }


def _name(person: dict[str, str]) -> str:
    return f"{person['firstName']} {person['lastName']}"


def _minutes(runtime: str) -> int:
    hours, _, rest = runtime.removeprefix("PT").partition("H")
    return 60 * int(hours) + int(rest.partition("M")[0])


def _write(
    connection: psycopg.Connection[Any], venue_id: int, products: list[Any], offers: list[Any], stocks: list[Any]
) -> None:
    with connection.cursor() as cursor:
        for table, rows in (("product_in", products), ("offer_in", offers), ("stock_in", stocks)):
            with cursor.copy(f"COPY {table} FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)
        for statement in (PRODUCTS, OFFERS, STOCKS):
            cursor.execute(statement)  # type: ignore[arg-type]
        cursor.execute(REMOVED, (venue_id,))


if __name__ == "__main__":
    main(prepare)
