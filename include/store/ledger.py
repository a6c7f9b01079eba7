"""The ledger of loads: what was to be done, what is done, and where to go on.

A load is a catalog of the provider's current scheme with a sub-catalog and an operation instance per venue link.
Running picks instances, records their results, and closing tells whether the load is loaded, partially loaded or
failed. Instances are independent of each other, so that workers share nothing but the database.
"""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any, Literal

import msgspec
import psycopg
from psycopg.rows import class_row

from include.errors import ConfigurationError, LinkBusy
from include.models.report import SyncReport, storable
from include.providers import provider_classes
from include.providers.base import LocalProvider
from include.store.providers import find_links, register_provider
from include.store.rows import as_json

log = logging.getLogger(__name__)

Connection = psycopg.Connection[Any]
LoadState = Literal["loaded", "partially loaded", "failed"]
MAX_ERRORS = 50
"""Errors named when a load is closed; `load_report` has them all."""


class LoadParameters(msgspec.Struct, frozen=True):
    """What whoever starts a load can ask for."""

    venue_links: tuple[str, ...] = ()
    """Link ids or SIRETs; empty means all active links."""
    full_refresh: bool = False
    limit: int | None = None
    dry_run: bool = False
    chunk_size: int = 1000
    interval_start: datetime | None = None
    """Backfill: read this interval instead of from the marker on."""
    interval_end: datetime | None = None
    replay: bool = False
    """Read the rejected records that wait instead of the source."""
    accept_shrunk: bool = False
    """Believe a complete listing that lacks more than the provider's `max_removed_share`."""
    error_limit: int | None = None
    """Stop when more venue links than this have failed; None: what the scheme says."""


class Instance(msgspec.Struct):
    """An operation instance as a run needs it."""

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


class LoadSummary(msgspec.Struct, frozen=True):
    """What a closed load came to; counts of instances and of objects."""

    catalog_id: int
    state: LoadState
    dry_run: bool
    done: int
    failed: int
    skipped: int
    counts: dict[str, float]
    written: dict[str, int]
    """Rows written, by table."""
    errors: dict[str, str]
    """Error per failed venue link, the first fifty."""


_INSTANCE = """
    SELECT instance.id, instance.state, instance.attempts, operation.name AS operation, scheme.provider_id,
           catalog.venue_provider_id, instance.cursor, instance.progress, instance.since, instance.until,
           instance.started_at, operation.error_allowance, operation.error_share
    FROM catalog_scheme_operation_instance AS instance
    JOIN catalog_scheme_operation AS operation ON operation.id = instance.operation_id
    JOIN catalog ON catalog.id = instance.catalog_id
    JOIN catalog_scheme AS scheme ON scheme.id = catalog.catalog_scheme_id
"""


def register_providers(connection: Connection) -> None:
    """Give every provider class of the project its row, so that venues can be linked before the first run."""
    with connection.transaction():
        for provider_class in provider_classes():
            register_provider(connection, provider_class.row_name(), provider_class.name)


def open_load(
    connection: Connection,
    provider_class: type[LocalProvider],
    parameters: LoadParameters,
    *,
    run_id: str | None = None,
    at_most_batches: int = 1,
) -> int:
    """Open a load and schedule its instances in at most so many batches; returns the catalog's id.

    With a `run_id` the call can be repeated: a load of that run which is not yet loaded is opened again, and only
    what is left in it will be done. A replay has instances only where rejected records wait.

    Raises:
        ConfigurationError: a venue link asked for does not exist or is not active.
    """
    with connection.transaction():
        provider_id = register_provider(connection, provider_class.row_name(), provider_class.name)
        scheme_id, operation_id = _current_scheme(connection, provider_id, provider_class)
        if run_id is not None and (catalog_id := _reopen(connection, scheme_id, run_id)) is not None:
            return catalog_id
        root = connection.execute(
            "INSERT INTO catalog (catalog_scheme_id, run_id, parameters) VALUES (%s, %s, %s) RETURNING id",
            (scheme_id, run_id, as_json(parameters)),
        ).fetchone()
        assert root is not None
        catalog_id = int(root[0])
        waiting = links_with_rejections(connection, provider_id) if parameters.replay else None
        if not provider_class.needs_venue:
            if waiting is None or None in waiting:
                connection.execute(
                    "INSERT INTO catalog_scheme_operation_instance (operation_id, catalog_id) VALUES (%s, %s)",
                    (operation_id, catalog_id),
                )
            return catalog_id
        links = [link.id for link in find_links(connection, provider_id, parameters.venue_links)]
        if waiting is not None:
            links = [link for link in links if link in waiting]
        connection.execute(
            """
            WITH links AS (
                SELECT id, row_number() OVER (ORDER BY place) - 1 AS place
                FROM unnest(%(links)s::bigint[]) WITH ORDINALITY AS wanted (id, place)
            ), sub_catalogs AS (
                INSERT INTO catalog (catalog_scheme_id, parent_id, venue_provider_id, run_id)
                SELECT %(scheme)s, %(root)s, id, %(run)s FROM links ORDER BY place
                RETURNING id, venue_provider_id
            )
            INSERT INTO catalog_scheme_operation_instance (operation_id, catalog_id, batch)
            SELECT %(operation)s, sub_catalogs.id, links.place %% %(batches)s
            FROM sub_catalogs JOIN links ON links.id = sub_catalogs.venue_provider_id ORDER BY links.place
            """,
            {
                "links": links,
                "scheme": scheme_id,
                "root": catalog_id,
                "run": run_id,
                "operation": operation_id,
                "batches": max(1, min(len(links), at_most_batches)),
            },
        )
        return catalog_id


def links_with_rejections(connection: Connection, provider_id: int) -> set[int | None]:
    """The venue links of a provider (None for one without) of which rejected records wait to be replayed."""
    return {
        row[0]
        for row in connection.execute(
            "SELECT DISTINCT venue_provider_id FROM rejected_record"
            " WHERE provider_id = %s AND resolved_at IS NULL AND payload IS NOT NULL",
            (provider_id,),
        )
    }


def _current_scheme(connection: Connection, provider_id: int, provider_class: type[LocalProvider]) -> tuple[int, int]:
    """Ids of the scheme and the operation of a provider class; both are made if this version has none yet.

    A new one takes its limits over from the version before it: what a person set there holds on.
    """
    named = {
        "provider": provider_id,
        "version": provider_class.scheme_version,
        "name": _path(provider_class),
        "allowance": provider_class.error_allowance,
        "share": provider_class.error_share,
    }
    connection.execute(
        "INSERT INTO catalog_scheme (provider_id, version, error_limit) SELECT %(provider)s, %(version)s, ("
        " SELECT error_limit FROM catalog_scheme WHERE provider_id = %(provider)s AND version < %(version)s"
        " ORDER BY version DESC LIMIT 1) ON CONFLICT DO NOTHING",
        named,
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
        named,
    )
    row = connection.execute(
        "SELECT scheme.id, operation.id FROM catalog_scheme AS scheme"
        " JOIN catalog_scheme_operation AS operation ON operation.catalog_scheme_id = scheme.id"
        " WHERE scheme.provider_id = %s AND scheme.version = %s AND operation.name = %s",
        (provider_id, provider_class.scheme_version, _path(provider_class)),
    ).fetchone()
    if row is None:
        raise ConfigurationError(f"The scheme of {provider_class.__name__} vanished while it was read")
    return row[0], row[1]


def _path(provider_class: type[LocalProvider]) -> str:
    return f"{provider_class.__module__}.{provider_class.__qualname__}"


def was_opened(connection: Connection, run_id: str) -> bool:
    """Whether a run has opened a load."""
    found = connection.execute("SELECT FROM catalog WHERE run_id = %s AND parent_id IS NULL LIMIT 1", (run_id,))
    return found.fetchone() is not None


def _reopen(connection: Connection, scheme_id: int, run_id: str) -> int | None:
    """Open the load of a run again. What failed in it no longer counts against its error limit."""
    row = connection.execute(
        "UPDATE catalog SET state = 'open', closed_at = NULL WHERE id = ("
        "SELECT id FROM catalog WHERE run_id = %s AND catalog_scheme_id = %s AND parent_id IS NULL"
        " ORDER BY id DESC LIMIT 1) AND state <> 'loaded' RETURNING id",
        (run_id, scheme_id),
    ).fetchone()
    if row is None:
        return None
    connection.execute(
        "UPDATE catalog_scheme_operation_instance SET state = 'new' WHERE state = 'failed' AND catalog_id IN"
        " (SELECT id FROM catalog WHERE id = %(load)s OR parent_id = %(load)s)",
        {"load": row[0]},
    )
    return int(row[0])


def load_parameters(connection: Connection, catalog_id: int) -> LoadParameters:
    """The parameters with which a load was opened."""
    row = connection.execute("SELECT parameters::text FROM catalog WHERE id = %s", (catalog_id,)).fetchone()
    if row is None:
        raise ConfigurationError(f"There is no load {catalog_id} in the ledger")
    return msgspec.json.decode(row[0], type=LoadParameters)


def batch_labels(connection: Connection, catalog_id: int) -> dict[int, str]:
    """Return the names of a load's batches, after their venues: `La Plume et le Hibou and 9 more`."""
    rows = connection.execute(
        """
        SELECT instance.batch, min(coalesce(venue.name, provider.name)), count(*)
        FROM catalog_scheme_operation_instance AS instance
        JOIN catalog ON catalog.id = instance.catalog_id
        JOIN catalog_scheme ON catalog_scheme.id = catalog.catalog_scheme_id
        JOIN provider ON provider.id = catalog_scheme.provider_id
        LEFT JOIN venue_provider ON venue_provider.id = catalog.venue_provider_id
        LEFT JOIN venue ON venue.id = venue_provider.venue_id
        WHERE catalog.id = %(load)s OR catalog.parent_id = %(load)s
        GROUP BY instance.batch ORDER BY instance.batch
        """,
        {"load": catalog_id},
    )
    return {batch: f"{name} and {count - 1} more" if count > 1 else name for batch, name, count in rows}


def pending_instances(connection: Connection, catalog_id: int, batch: int) -> list[Instance]:
    """What is left to do in a batch, oldest first."""
    with connection.cursor(row_factory=class_row(Instance)) as cursor:
        return cursor.execute(
            _INSTANCE  # noqa: S608 - constants
            + " WHERE catalog.id IN (SELECT id FROM catalog WHERE id = %(load)s OR parent_id = %(load)s)"
            " AND instance.batch = %(batch)s AND instance.state NOT IN ('done', 'skipped') ORDER BY instance.id",
            {"load": catalog_id, "batch": batch},
        ).fetchall()


def past_error_limit(connection: Connection, catalog_id: int) -> bool:
    """Whether more operations of a load have failed than its parameters or its scheme allow, so that it is to stop."""
    row = connection.execute(
        """
        SELECT count(*) > min(coalesce((root.parameters ->> 'error_limit')::int, scheme.error_limit))
        FROM catalog_scheme_operation_instance AS instance
        JOIN catalog ON catalog.id = instance.catalog_id
        JOIN catalog AS root ON root.id = coalesce(catalog.parent_id, catalog.id)
        JOIN catalog_scheme AS scheme ON scheme.id = catalog.catalog_scheme_id
        WHERE instance.state = 'failed' AND (catalog.id = %(load)s OR catalog.parent_id = %(load)s)
        """,
        {"load": catalog_id},
    ).fetchone()
    return bool(row and row[0])


def single_instance(connection: Connection, catalog_id: int) -> int:
    """The id of the only instance of a load opened for one link."""
    row = connection.execute(
        "SELECT id FROM catalog_scheme_operation_instance WHERE catalog_id IN"
        " (SELECT id FROM catalog WHERE id = %(load)s OR parent_id = %(load)s)",
        {"load": catalog_id},
    ).fetchone()
    if row is None:
        raise ConfigurationError(f"Load {catalog_id} has nothing to do")
    return int(row[0])


def begin_attempt(
    connection: Connection, instance_id: int, provider: LocalProvider, parameters: LoadParameters
) -> tuple[Instance, SyncReport]:
    """Start or continue an instance; the caller holds the link's lock.

    A try that can go on from a cursor keeps its window, its start time and its counts. Any other starts over: with a
    new start time, and with a window that reads from the marker (or from the interval of a backfill). A replay always
    goes on: what its earlier tries resolved is not read again, so their counts and rejected records stay.
    """
    with connection.transaction():
        instance = load_instance(connection, instance_id)
        goes_on = instance.cursor is not None or parameters.replay
        report = msgspec.convert(instance.progress, SyncReport) if instance.progress else SyncReport()
        report.dry_run = parameters.dry_run
        if not goes_on:
            report.start_again()
            connection.execute(
                "DELETE FROM rejected_record WHERE instance_id = %s AND resolved_at IS NULL", (instance_id,)
            )
            instance.since, instance.until = _window(connection, instance, provider, parameters)
        started = connection.execute(
            "UPDATE catalog_scheme_operation_instance SET state = 'running', attempts = attempts + 1, error = NULL,"
            " finished_at = NULL, since = %s, until = %s,"
            " started_at = coalesce(CASE WHEN %s THEN started_at END, clock_timestamp())"
            " WHERE id = %s RETURNING attempts, started_at",
            (instance.since, instance.until, goes_on, instance_id),
        ).fetchone()
        assert started is not None
        instance.attempts, instance.started_at = started
        _event(connection, instance, "SyncStart", f"attempt {instance.attempts}")
    return instance, report


def load_instance(connection: Connection, instance_id: int) -> Instance:
    """An operation instance as it stands."""
    with connection.cursor(row_factory=class_row(Instance)) as cursor:
        instance = cursor.execute(_INSTANCE + " WHERE instance.id = %s", (instance_id,)).fetchone()
    if instance is None:
        raise ConfigurationError(f"There is no operation instance {instance_id} in the ledger")
    return instance


def _window(
    connection: Connection, instance: Instance, provider: LocalProvider, parameters: LoadParameters
) -> tuple[datetime | None, datetime | None]:
    if parameters.full_refresh or provider.window == "none":
        return None, None
    if parameters.interval_start is not None:
        return parameters.interval_start, parameters.interval_end if provider.window == "between" else None
    marker = marker_of(connection, instance.provider_id, instance.venue_provider_id)
    return (None if marker is None else marker - provider.overlap), None


def marker_of(connection: Connection, provider_id: int, venue_provider_id: int | None) -> datetime | None:
    """Start of the last run that was complete, unlimited, not dry and not failed; None when there was none."""
    row = connection.execute(
        "SELECT last_sync_date FROM venue_provider WHERE id = %s"
        if venue_provider_id is not None
        else "SELECT last_sync_date FROM provider WHERE id = %s",
        (venue_provider_id if venue_provider_id is not None else provider_id,),
    ).fetchone()
    return row[0] if row else None


def known_up_to(connection: Connection, instance: Instance) -> dict[str, int]:
    """`SyncReport.known_up_to` as the link's last complete listing left it; empty when there was none."""
    row = connection.execute(
        """
        SELECT instance.progress -> 'known_up_to'
        FROM catalog_scheme_operation_instance AS instance
        JOIN catalog ON catalog.id = instance.catalog_id
        JOIN catalog_scheme AS scheme ON scheme.id = catalog.catalog_scheme_id
        WHERE scheme.provider_id = %(provider)s AND instance.progress -> 'known_up_to' <> '{}'
        AND (catalog.venue_provider_id = %(link)s OR %(link)s::bigint IS NULL AND catalog.venue_provider_id IS NULL)
        ORDER BY instance.id DESC LIMIT 1
        """,
        {"provider": instance.provider_id, "link": instance.venue_provider_id},
    ).fetchone()
    return dict(row[0]) if row else {}


def save_progress(connection: Connection, instance: Instance, report: SyncReport, cursor: str | None) -> None:
    """Note how far a try has come, in the transaction of its chunk.

    Raises:
        LinkBusy: a later try has taken the instance over, so this one must write nothing more.
    """
    updated = connection.execute(
        "UPDATE catalog_scheme_operation_instance SET cursor = %s, progress = %s"
        " WHERE id = %s AND state = 'running' AND attempts = %s",
        (cursor, as_json(report.saved()), instance.id, instance.attempts),
    )
    _check_is_ours(updated.rowcount, instance)


def _check_is_ours(updated: int, instance: Instance) -> None:
    if updated != 1:
        raise LinkBusy(f"Operation instance {instance.id} was taken over by another try", retry_after=60)


def finish(connection: Connection, instance: Instance, report: SyncReport, *, marker: datetime | None) -> None:
    """Mark an instance as done; with a `marker`, the link's moves on to it, never back.

    Raises:
        LinkBusy: a later try has taken the instance over.
    """
    updated = connection.execute(
        "UPDATE catalog_scheme_operation_instance SET state = 'done', finished_at = clock_timestamp(), error = NULL,"
        " cursor = NULL, progress = %s WHERE id = %s AND state = 'running' AND attempts = %s",
        (as_json(report.saved()), instance.id, instance.attempts),
    )
    _check_is_ours(updated.rowcount, instance)
    if marker is not None:
        connection.execute(
            "UPDATE venue_provider SET last_sync_date = greatest(last_sync_date, %s) WHERE id = %s"
            if instance.venue_provider_id is not None
            else "UPDATE provider SET last_sync_date = greatest(last_sync_date, %s) WHERE id = %s",
            (marker, instance.venue_provider_id if instance.venue_provider_id is not None else instance.provider_id),
        )
    _result(connection, instance, report, "done")
    _event(connection, instance, "SyncEnd", report.summary())


def skip(connection: Connection, instance: Instance, why: str) -> None:
    """Mark an instance as skipped: its provider or venue link is not active any more. No event is written."""
    with connection.transaction():
        connection.execute(
            "UPDATE catalog_scheme_operation_instance SET state = 'skipped', finished_at = clock_timestamp(),"
            " error = %s WHERE id = %s",
            (why, instance.id),
        )
        _result(connection, instance, SyncReport(state="skipped"), "skipped")


def fail(connection: Connection, instance: Instance, report: SyncReport, error: str, *, start_over: bool) -> None:
    """Mark an instance as failed; the next try goes on from the cursor, or starts over."""
    error = storable(error)
    with connection.transaction():
        connection.execute(
            "UPDATE catalog_scheme_operation_instance SET state = 'failed', finished_at = clock_timestamp(),"
            " error = %s, cursor = CASE WHEN %s THEN NULL ELSE cursor END WHERE id = %s AND attempts = %s",
            (error, start_over, instance.id, instance.attempts),
        )
        _result(connection, instance, report, "failed")
        _event(connection, instance, "SyncError", error)


def _result(connection: Connection, instance: Instance, report: SyncReport, state: str) -> None:
    connection.execute(
        "INSERT INTO catalog_operation_instance_result (instance_id, attempt, state, report) VALUES (%s, %s, %s, %s)",
        (instance.id, instance.attempts, state, as_json(report.saved())),
    )


def _event(connection: Connection, instance: Instance, event: str, payload: str) -> None:
    connection.execute(
        "INSERT INTO local_provider_event (provider_id, venue_provider_id, instance_id, type, payload)"
        " VALUES (%s, %s, %s, %s, %s)",
        (instance.provider_id, instance.venue_provider_id, instance.id, event, payload),
    )


def close_load(connection: Connection, catalog_id: int) -> LoadSummary:
    """Close a load as loaded, partially loaded or failed, and add it up.

    An instance that is neither done nor skipped has failed, also one whose worker died.
    """
    with connection.transaction():
        connection.execute(
            "UPDATE catalog_scheme_operation_instance SET state = 'failed', finished_at = clock_timestamp(),"
            " error = 'its task ended before it did' WHERE state = 'running' AND catalog_id IN"
            " (SELECT id FROM catalog WHERE id = %(load)s OR parent_id = %(load)s)",
            {"load": catalog_id},
        )
        rows = connection.execute(
            "SELECT instance_id, state, venue || coalesce(format(' (link %%s)', venue_provider_id), ''),"
            " coalesce(error, 'not started'), records, checked, created, updated,"
            " unchanged, skipped, rejected, fetch_seconds, iterate_seconds, diff_seconds, upsert_seconds, seconds,"
            " gone, held_back FROM load_report WHERE catalog_id = %s ORDER BY instance_id",
            (catalog_id,),
        ).fetchall()
        states = [row[1] for row in rows]
        done, skipped = states.count("done"), states.count("skipped")
        failed = len(states) - done - skipped
        state: LoadState = "loaded" if not failed else "partially loaded" if done else "failed"
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
        parameters = load_parameters(connection, catalog_id)
        written = connection.execute(
            """
            SELECT written.key, sum(written.value::bigint)::bigint
            FROM catalog_scheme_operation_instance AS instance
            JOIN catalog ON catalog.id = instance.catalog_id
            CROSS JOIN LATERAL jsonb_each_text(instance.progress -> 'written') AS written
            WHERE catalog.id = %(load)s OR catalog.parent_id = %(load)s
            GROUP BY written.key ORDER BY written.key
            """,
            {"load": catalog_id},
        ).fetchall()
    names = ("records", "checked", "created", "updated", "unchanged", "skipped", "rejected", "fetch_seconds",
             "iterate_seconds", "diff_seconds", "upsert_seconds", "seconds", "gone", "held_back")  # fmt: skip
    return LoadSummary(
        catalog_id=catalog_id,
        state=state,
        dry_run=parameters.dry_run,
        done=done,
        failed=failed,
        skipped=skipped,
        written=dict(written),
        counts={name: sum(row[place] or 0 for row in rows) for place, name in enumerate(names, start=4)},
        errors=dict([(row[2], row[3]) for row in rows if row[1] not in ("done", "skipped")][:MAX_ERRORS]),
    )


def purge(connection: Connection, retention_days: int) -> int:
    """Clear what is older than so many days: payloads kept for diagnosis, closed loads, events.

    Returns how many payloads were cleared. The reasons of rejected records stay; those that still wait are given up,
    since nothing can be replayed of them.
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
