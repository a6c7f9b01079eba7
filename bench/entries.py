"""Who is compared, and where the rows of each lie."""

from __future__ import annotations

from dataclasses import dataclass

from bench.database import ENGINE_TABLE, PLAIN_TABLE, Columns

_PLAIN = Columns()
_OURS = Columns("id_at_providers", "quantity", "price", "date_modified_at_last_provider")


@dataclass(frozen=True)
class Contender:
    """A way to load the listing, and where its rows lie."""

    name: str
    title: str
    module: str
    table: str
    create: str = ""
    """How the table is made; empty for a peer that makes its own, in the schema of `table`."""
    columns: Columns = _PLAIN
    dated: bool = True
    at_most: int | None = None
    """Records; less than the others get, for who would take too long."""
    wants_file: bool = False
    is_installed_apart: bool = False
    """A peer of `.bench/venv`."""
    phases: tuple[str, ...] = ("first", "changed", "unchanged")
    """What a round consists of: an empty table, one record in a hundred changed, nothing changed."""


YARDSTICK = "yardstick"

CONTENDERS = (
    Contender(
        YARDSTICK,
        "psql: COPY to a temp table, ON CONFLICT; no HTTP, no JSON",
        "yardstick",
        "yardstick_stock",
        PLAIN_TABLE,
        wants_file=True,
    ),
    Contender(
        "yardstick-ours",
        "the same, into a table with this project's key and sync columns",
        "yardstick",
        "yardstick_ours_stock",
        ENGINE_TABLE,
        _OURS,
        wants_file=True,
    ),
    Contender("engine", "this project, dated records", "engine", "dated_stock", ENGINE_TABLE, _OURS),
    Contender(
        "engine-dateless",
        "this project, records without a date",
        "engine",
        "dateless_stock",
        ENGINE_TABLE,
        _OURS,
        dated=False,
    ),
    Contender("plain", "requests, json, COPY to a temp table, ON CONFLICT", "plain", "plain_stock", PLAIN_TABLE),
    Contender("hook", "Airflow's PostgresHook, insert_rows(replace=True)", "postgres_hook", "hook_stock", PLAIN_TABLE),
    Contender(
        "dlt-best",
        "dlt, merge with upsert, pyarrow pages, csv",
        "dlt_merge",
        "dlt_best.stock",
        is_installed_apart=True,
    ),
    Contender("dlt", "dlt, merge with upsert", "dlt_merge", "dlt_plain.stock", is_installed_apart=True),
    Contender("orm", "SQLAlchemy ORM, a SELECT per object", "orm_loop", "orm_stock", PLAIN_TABLE, at_most=20_000),
)


def chosen(names: list[str]) -> list[Contender]:
    """The contenders of these names, in their usual order; all of them for no names."""
    known = [contender.name for contender in CONTENDERS]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"no contender {', '.join(unknown)}; there are {', '.join(known)}")
    return [contender for contender in CONTENDERS if not names or contender.name in names]
