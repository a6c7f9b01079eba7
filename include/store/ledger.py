"""SQL of the ledger of loads: which loads there are, what is done of them, and where each instance resumes.

A load is a catalog with a sub-catalog and an operation instance per venue link; a provider without venues has one
instance on the load itself. `include.inbound.loads` opens and closes loads.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple

import msgspec
import psycopg
from psycopg import sql
from psycopg.rows import class_row, dict_row

from include.errors import ConfigurationError, LinkBusy
from include.models.report import SyncReport, storable
from include.store import Connection
from include.store.rows import as_json

LoadState = Literal["loaded", "partially loaded", "failed"]
COUNTS = ("records", "checked", "created", "updated", "unchanged", "skipped", "rejected", "gone", "held_back",
          "fetch_seconds", "iterate_seconds", "diff_seconds", "upsert_seconds", "seconds")  # fmt: skip
"""Columns of the view `load_report` that can be summed up."""

_INSTANCES_OF_LOAD = sql.SQL(
    "instance.catalog_id IN (SELECT id FROM catalog WHERE id = %(load)s OR parent_id = %(load)s)"
)
_INSTANCE = """
    SELECT instance.id, instance.state, instance.attempts, operation.name AS operation, scheme.provider_id,
           catalog.venue_provider_id, instance.cursor, instance.progress, instance.since, instance.until,
           instance.started_at, operation.error_allowance, operation.error_share
    FROM catalog_scheme_operation_instance AS instance
    JOIN catalog_scheme_operation AS operation ON operation.id = instance.operation_id
    JOIN catalog ON catalog.id = instance.catalog_id
    JOIN catalog_scheme AS scheme ON scheme.id = catalog.catalog_scheme_id
"""


def _execute(connection: Connection, statement: str, catalog_id: int) -> psycopg.Cursor[Any]:
    """Execute a statement that has `{}` for the condition that an instance belongs to a load."""
    return connection.execute(sql.SQL(statement).format(_INSTANCES_OF_LOAD), {"load": catalog_id})


class LoadParameters(msgspec.Struct, frozen=True):
    """The options of a load, stored with it."""

    venue_links: tuple[str, ...] = ()
    """Link ids or SIRETs; empty means all active links."""
    full_refresh: bool = False
    limit: int | None = None
    dry_run: bool = False
    chunk_size: int = 1000
    interval_start: datetime | None = None
    """Backfill: read this interval instead of everything since the watermark."""
    interval_end: datetime | None = None
    replay: bool = False
    """Read the open rejected records instead of the source."""
    accept_shrunk: bool = False
    """Accept a complete listing even if it lacks more rows than the provider's `max_removed_share` allows."""
    error_limit: int | None = None
    """Stop when more venue links than this have failed; None: the limit of the scheme applies."""


class Place(NamedTuple):
    """What a watermark, a lock or a rejected record belongs to: a provider, and one of its venue links (or None)."""

    provider_id: int
    link_id: int | None

    @property
    def row(self) -> tuple[sql.Identifier, int]:
        """Table and primary key of the row that stores the watermark: that of the link, or else of the provider."""
        table, row_id = ("provider", self.provider_id) if self.link_id is None else ("venue_provider", self.link_id)
        return sql.Identifier(table), row_id

    def of_link(self, alias: str) -> sql.Composed:
        """The condition that a row of `alias` is of this link; indexes do not support IS NOT DISTINCT FROM."""
        link = sql.SQL("IS NULL") if self.link_id is None else sql.SQL("= {}").format(self.link_id)
        return sql.SQL("{} {}").format(sql.Identifier(alias, "venue_provider_id"), link)


class Instance(msgspec.Struct):
    """An operation instance: one provider and venue link of a load."""

    id: int
    state: str
    attempts: int
    operation: str
    provider_id: int
    venue_provider_id: int | None
    cursor: str | None
    progress: dict[str, Any]
    since: datetime | None
    until: datetime | None
    started_at: datetime | None
    error_allowance: int
    error_share: float

    @property
    def place(self) -> Place:
        """The provider and venue link that it synchronises."""
        return Place(self.provider_id, self.venue_provider_id)


# Opening a load


def current_scheme(
    connection: Connection, provider_id: int, version: int, operation: str, budget: tuple[int, float]
) -> tuple[int, int]:
    """Return the ids of a provider's scheme and operation; create them if they do not exist, in a transaction.

    A new one copies its limits from the version before it, so that limits that a person set there stay in force. The
    first has those of `budget`: error allowance (a number of records) and share (0 to 1).
    """
    allowance, share = budget
    values = {"provider": provider_id, "version": version, "name": operation, "allowance": allowance, "share": share}
    connection.execute(
        "INSERT INTO catalog_scheme (provider_id, version, error_limit) SELECT %(provider)s, %(version)s, ("
        " SELECT error_limit FROM catalog_scheme WHERE provider_id = %(provider)s AND version < %(version)s"
        " ORDER BY version DESC LIMIT 1) ON CONFLICT DO NOTHING",
        values,
    )
    connection.execute(
        """
        WITH previous AS (
            SELECT error_allowance, error_share
            FROM catalog_scheme_operation AS operation JOIN catalog_scheme AS scheme ON scheme.id = catalog_scheme_id
            WHERE scheme.provider_id = %(provider)s AND scheme.version <= %(version)s
            ORDER BY scheme.version DESC, operation.id DESC LIMIT 1
        )
        INSERT INTO catalog_scheme_operation (catalog_scheme_id, name, error_allowance, error_share)
        SELECT scheme.id, %(name)s, coalesce(error_allowance, %(allowance)s), coalesce(error_share, %(share)s)
        FROM catalog_scheme AS scheme LEFT JOIN previous ON true
        WHERE scheme.provider_id = %(provider)s AND scheme.version = %(version)s ON CONFLICT DO NOTHING
        """,
        values,
    )
    row = connection.execute(
        "SELECT scheme.id, operation.id FROM catalog_scheme AS scheme"
        " JOIN catalog_scheme_operation AS operation ON operation.catalog_scheme_id = scheme.id"
        " WHERE scheme.provider_id = %(provider)s AND scheme.version = %(version)s AND operation.name = %(name)s",
        values,
    ).fetchone()
    if row is None:
        raise ConfigurationError(f"The scheme of {operation} was deleted while its load was opened")
    return row[0], row[1]


def reopen_load(connection: Connection, scheme_id: int, run_id: str) -> int | None:
    """Reopen the load of a run unless it is loaded, with its failed instances as new ones; returns its id, or None."""
    row = connection.execute(
        "UPDATE catalog SET state = 'open', closed_at = NULL WHERE id = ("
        "SELECT id FROM catalog WHERE run_id = %s AND catalog_scheme_id = %s AND parent_id IS NULL"
        " ORDER BY id DESC LIMIT 1) AND state <> 'loaded' RETURNING id",
        (run_id, scheme_id),
    ).fetchone()
    if row is None:
        return None
    reopen = "UPDATE catalog_scheme_operation_instance AS instance SET state = 'new' WHERE state = 'failed' AND {}"
    _execute(connection, reopen, row[0])
    return int(row[0])


def insert_load(connection: Connection, scheme_id: int, run_id: str | None, parameters: LoadParameters) -> int:
    """Insert a load without instances; returns its id."""
    row = connection.execute(
        "INSERT INTO catalog (catalog_scheme_id, run_id, parameters) VALUES (%s, %s, %s) RETURNING id",
        (scheme_id, run_id, as_json(parameters)),
    ).fetchone()
    assert row is not None
    return int(row[0])


def insert_instance(connection: Connection, catalog_id: int, operation_id: int) -> None:
    """Insert the only instance of a load without venue links."""
    connection.execute(
        "INSERT INTO catalog_scheme_operation_instance (operation_id, catalog_id) VALUES (%s, %s)",
        (operation_id, catalog_id),
    )


def insert_link_instances(
    connection: Connection, catalog_id: int, operation_id: int, links: Sequence[int], batches: Sequence[int]
) -> None:
    """Insert a sub-catalog and an instance per venue link, each into its batch, in the order of `links`."""
    connection.execute(
        """
        WITH links AS (
            SELECT id, batch, place
            FROM unnest(%(links)s::bigint[], %(batches)s::int[]) WITH ORDINALITY AS requested (id, batch, place)
        ), sub_catalogs AS (
            INSERT INTO catalog (catalog_scheme_id, parent_id, venue_provider_id, run_id)
            SELECT root.catalog_scheme_id, root.id, links.id, root.run_id
            FROM links JOIN catalog AS root ON root.id = %(load)s ORDER BY links.place
            RETURNING id, venue_provider_id
        )
        INSERT INTO catalog_scheme_operation_instance (operation_id, catalog_id, batch)
        SELECT %(operation)s, sub_catalogs.id, links.batch
        FROM sub_catalogs JOIN links ON links.id = sub_catalogs.venue_provider_id ORDER BY links.place
        """,
        {"links": [*links], "batches": [*batches], "load": catalog_id, "operation": operation_id},
    )


# Reading a load


def was_opened(connection: Connection, run_id: str) -> bool:
    """Whether a run has opened a load."""
    found = connection.execute("SELECT FROM catalog WHERE run_id = %s AND parent_id IS NULL LIMIT 1", (run_id,))
    return found.fetchone() is not None


def load_parameters(connection: Connection, catalog_id: int) -> LoadParameters:
    """Return the parameters with which a load was opened."""
    row = connection.execute("SELECT parameters::text FROM catalog WHERE id = %s", (catalog_id,)).fetchone()
    if row is None:
        raise ConfigurationError(f"There is no load {catalog_id} in the ledger")
    return msgspec.json.decode(row[0], type=LoadParameters)


def batch_labels(connection: Connection, catalog_id: int) -> dict[int, str]:
    """Return the names of a load's batches, after their venues: `La Plume et le Hibou and 9 more`."""
    statement = """
        SELECT instance.batch, min(coalesce(venue.name, provider.name)), count(*)
        FROM catalog_scheme_operation_instance AS instance
        JOIN catalog ON catalog.id = instance.catalog_id
        JOIN catalog_scheme ON catalog_scheme.id = catalog.catalog_scheme_id
        JOIN provider ON provider.id = catalog_scheme.provider_id
        LEFT JOIN venue_provider ON venue_provider.id = catalog.venue_provider_id
        LEFT JOIN venue ON venue.id = venue_provider.venue_id
        WHERE {} GROUP BY instance.batch ORDER BY instance.batch
    """
    rows = _execute(connection, statement, catalog_id)
    return {batch: f"{name} and {count - 1} more" if count > 1 else name for batch, name, count in rows}


def pending_instances(connection: Connection, catalog_id: int, batch: int) -> list[Instance]:
    """Return the instances of a batch that are neither done nor skipped, oldest first."""
    statement = sql.SQL(
        _INSTANCE + "WHERE {} AND instance.batch = %(batch)s AND instance.state NOT IN ('done', 'skipped')"
        " ORDER BY instance.id"
    ).format(_INSTANCES_OF_LOAD)
    with connection.cursor(row_factory=class_row(Instance)) as cursor:
        return cursor.execute(statement, {"load": catalog_id, "batch": batch}).fetchall()


def past_error_limit(connection: Connection, catalog_id: int) -> bool:
    """Whether more instances of a load have failed than its parameters or its scheme allow, so that it must stop."""
    statement = """
        SELECT count(*) > min(coalesce((root.parameters ->> 'error_limit')::int, scheme.error_limit))
        FROM catalog_scheme_operation_instance AS instance
        JOIN catalog ON catalog.id = instance.catalog_id
        JOIN catalog AS root ON root.id = coalesce(catalog.parent_id, catalog.id)
        JOIN catalog_scheme AS scheme ON scheme.id = catalog.catalog_scheme_id
        WHERE instance.state = 'failed' AND {}
    """
    row = _execute(connection, statement, catalog_id).fetchone()
    return bool(row and row[0])


def single_instance(connection: Connection, catalog_id: int) -> int:
    """Return the id of the only instance of a load that was opened for one link."""
    statement = "SELECT id FROM catalog_scheme_operation_instance AS instance WHERE {}"
    row = _execute(connection, statement, catalog_id).fetchone()
    if row is None:
        raise ConfigurationError(f"Load {catalog_id} has nothing to do")
    return int(row[0])


def load_instance(connection: Connection, instance_id: int) -> Instance:
    """Return an operation instance."""
    with connection.cursor(row_factory=class_row(Instance)) as cursor:
        instance = cursor.execute(_INSTANCE + " WHERE instance.id = %s", (instance_id,)).fetchone()
    if instance is None:
        raise ConfigurationError(f"There is no operation instance {instance_id} in the ledger")
    return instance


def watermark_of(connection: Connection, place: Place) -> datetime | None:
    """Return the start of the last run that was complete, unlimited, not dry and not failed; None if there is none."""
    row = connection.execute(sql.SQL("SELECT last_sync_date FROM {} WHERE id = {}").format(*place.row)).fetchone()
    return row[0] if row else None


def known_up_to(connection: Connection, place: Place) -> dict[str, int]:
    """Return `SyncReport.known_up_to` of the place's last complete listing; empty if there was none."""
    row = connection.execute(
        sql.SQL(
            """
            SELECT instance.progress -> 'known_up_to'
            FROM catalog_scheme_operation_instance AS instance
            JOIN catalog ON catalog.id = instance.catalog_id
            JOIN catalog_scheme AS scheme ON scheme.id = catalog.catalog_scheme_id
            WHERE scheme.provider_id = {} AND {} AND instance.progress -> 'known_up_to' <> '{{}}'
            ORDER BY instance.id DESC LIMIT 1
            """
        ).format(place.provider_id, place.of_link("catalog"))
    ).fetchone()
    return dict(row[0]) if row else {}


# Running an instance


def start_attempt(connection: Connection, instance: Instance, *, resumes: bool) -> None:
    """Start the next attempt of an instance with its window; one that resumes keeps its start time."""
    row = connection.execute(
        "UPDATE catalog_scheme_operation_instance SET state = 'running', attempts = attempts + 1, error = NULL,"
        " finished_at = NULL, since = %s, until = %s,"
        " started_at = coalesce(CASE WHEN %s THEN started_at END, clock_timestamp())"
        " WHERE id = %s RETURNING attempts, started_at",
        (instance.since, instance.until, resumes, instance.id),
    ).fetchone()
    assert row is not None
    instance.attempts, instance.started_at = row
    _log_event(connection, instance, "SyncStart", f"attempt {instance.attempts}")


def save_progress(connection: Connection, instance: Instance, report: SyncReport, cursor: str | None) -> None:
    """Save the cursor and the counts of an attempt, in the transaction of its chunk; LinkBusy if a later one began."""
    updated = connection.execute(
        "UPDATE catalog_scheme_operation_instance SET cursor = %s, progress = %s"
        " WHERE id = %s AND state = 'running' AND attempts = %s",
        (cursor, as_json(report.saved()), instance.id, instance.attempts),
    )
    _check_is_current(updated.rowcount, instance)


def _check_is_current(updated: int, instance: Instance) -> None:
    if updated != 1:
        raise LinkBusy(f"Operation instance {instance.id} was taken over by a later attempt", retry_after=60)


def finish(connection: Connection, instance: Instance, report: SyncReport, *, watermark: datetime | None) -> None:
    """Mark an instance as done, as `save_progress` does; move its watermark forward to `watermark`, never back."""
    updated = connection.execute(
        "UPDATE catalog_scheme_operation_instance SET state = 'done', finished_at = clock_timestamp(), error = NULL,"
        " cursor = NULL, progress = %s WHERE id = %s AND state = 'running' AND attempts = %s",
        (as_json(report.saved()), instance.id, instance.attempts),
    )
    _check_is_current(updated.rowcount, instance)
    if watermark is not None:
        statement = sql.SQL("UPDATE {} SET last_sync_date = greatest(last_sync_date, %s) WHERE id = {}")
        connection.execute(statement.format(*instance.place.row), (watermark,))
    _insert_result(connection, instance, report, "done")
    _log_event(connection, instance, "SyncEnd", report.summary())


def skip(connection: Connection, instance: Instance, reason: str) -> None:
    """Mark an instance as skipped: its provider or venue link is not active any more. No event is logged."""
    with connection.transaction():
        connection.execute(
            "UPDATE catalog_scheme_operation_instance SET state = 'skipped', finished_at = clock_timestamp(),"
            " error = %s WHERE id = %s",
            (reason, instance.id),
        )
        _insert_result(connection, instance, SyncReport(state="skipped"), "skipped")


def fail(connection: Connection, instance: Instance, report: SyncReport, error: str, *, start_over: bool) -> None:
    """Mark an instance as failed; the next attempt resumes from the cursor, or starts over."""
    error = storable(error)
    with connection.transaction():
        connection.execute(
            "UPDATE catalog_scheme_operation_instance SET state = 'failed', finished_at = clock_timestamp(),"
            " error = %s, cursor = CASE WHEN %s THEN NULL ELSE cursor END WHERE id = %s AND attempts = %s",
            (error, start_over, instance.id, instance.attempts),
        )
        _insert_result(connection, instance, report, "failed")
        _log_event(connection, instance, "SyncError", error)


def _insert_result(connection: Connection, instance: Instance, report: SyncReport, state: str) -> None:
    connection.execute(
        "INSERT INTO catalog_operation_instance_result (instance_id, attempt, state, report) VALUES (%s, %s, %s, %s)",
        (instance.id, instance.attempts, state, as_json(report.saved())),
    )


def _log_event(connection: Connection, instance: Instance, event: str, payload: str) -> None:
    connection.execute(
        "INSERT INTO local_provider_event (provider_id, venue_provider_id, instance_id, type, payload)"
        " VALUES (%s, %s, %s, %s, %s)",
        (instance.provider_id, instance.venue_provider_id, instance.id, event, payload),
    )


# Closing a load


def fail_interrupted(connection: Connection, catalog_id: int) -> None:
    """Mark the instances of a load that are still running as failed: their worker died."""
    statement = (
        "UPDATE catalog_scheme_operation_instance AS instance SET state = 'failed',"
        " finished_at = clock_timestamp(), error = 'its task ended before it did' WHERE state = 'running' AND {}"
    )
    _execute(connection, statement, catalog_id)


def instance_reports(connection: Connection, catalog_id: int) -> list[dict[str, Any]]:
    """Return per instance of a load its `state`, `label`, `error` and the `COUNTS`, oldest first."""
    statement = sql.SQL(
        "SELECT state, venue || coalesce(format(' (link %%s)', venue_provider_id), '') AS label,"
        " coalesce(error, 'not started') AS error, {} FROM load_report WHERE catalog_id = %s ORDER BY instance_id"
    ).format(sql.SQL(", ").join(map(sql.Identifier, COUNTS)))
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(statement, (catalog_id,)).fetchall()


def rows_written(connection: Connection, catalog_id: int) -> dict[str, int]:
    """Return how many rows a load wrote, by table."""
    statement = """
        SELECT written.key, sum(written.value::bigint)::bigint
        FROM catalog_scheme_operation_instance AS instance
        CROSS JOIN LATERAL jsonb_each_text(instance.progress -> 'written') AS written
        WHERE {} GROUP BY written.key ORDER BY written.key
    """
    return dict(_execute(connection, statement, catalog_id).fetchall())


def set_load_state(connection: Connection, catalog_id: int, state: LoadState) -> None:
    """Close a load in this state, and each of its sub-catalogs as loaded or failed."""
    connection.execute(
        """
        UPDATE catalog SET closed_at = clock_timestamp(), state = CASE
            WHEN id = %(load)s THEN %(state)s
            WHEN EXISTS (SELECT FROM catalog_scheme_operation_instance AS instance
                         WHERE instance.catalog_id = catalog.id AND instance.state NOT IN ('done', 'skipped'))
            THEN 'failed' ELSE 'loaded' END
        WHERE id = %(load)s OR parent_id = %(load)s
        """,
        {"load": catalog_id, "state": state},
    )


def purge(connection: Connection, retention_days: int) -> int:
    """Delete loads and events older than the retention time; clear the payloads of rejected records, return how many.

    Open records are given up, since they cannot be replayed without a payload.
    """
    with connection.transaction():
        connection.execute(
            "DELETE FROM catalog WHERE parent_id IS NULL AND closed_at < now() - make_interval(days => %s)",
            (retention_days,),
        )
        connection.execute(
            "DELETE FROM local_provider_event WHERE date < now() - make_interval(days => %s)", (retention_days,)
        )
        return connection.execute(
            "UPDATE rejected_record SET payload = NULL, resolved_at = coalesce(resolved_at, clock_timestamp()),"
            " resolution = coalesce(resolution, 'given up')"
            " WHERE payload IS NOT NULL AND created_at < now() - make_interval(days => %s)",
            (retention_days,),
        ).rowcount
