"""Opens loads, starts attempts of their instances, and closes loads.

A load has an operation instance per venue link. Instances are independent of each other, so workers share nothing but
the database. A load is loaded, partially loaded or failed. Its SQL is in `include.store.ledger`.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from include.errors import ConfigurationError
from include.models.report import SyncReport
from include.providers import provider_classes
from include.providers.base import LocalProvider
from include.store import Connection, ledger
from include.store.ledger import Instance, LoadParameters, LoadState
from include.store.providers import find_links, register_provider
from include.store.rejected import delete_open, links_with_rejections

MAX_ERRORS = 50
"""Errors that a `LoadSummary` names; the view `load_report` has all of them."""


class LoadSummary(msgspec.Struct, frozen=True):
    """The result of a closed load: the number of instances per state, and the sums of their reports."""

    catalog_id: int
    state: LoadState
    dry_run: bool
    done: int
    failed: int
    skipped: int
    counts: dict[str, float]
    """Objects by result, and seconds by step; see `ledger.COUNTS`."""
    written: dict[str, int]
    """Rows written, by table."""
    errors: dict[str, str]
    """Error per failed venue link, at most `MAX_ERRORS`."""


def register_providers(connection: Connection) -> None:
    """Insert a row for each provider class of the project, so that venues can be linked before the first run."""
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
    """Open a load and divide its instances into at most `at_most_batches` batches; returns the catalog's id.

    With a `run_id` the call can be repeated: a load of that run that is not yet loaded is reopened, and only its
    unfinished instances run again. A replay has instances only for links with open rejected records.

    Raises:
        ConfigurationError: a requested venue link does not exist or is not active, or the provider has no venues.
    """
    if parameters.venue_links and not provider_class.needs_venue:
        raise ConfigurationError(f"{provider_class.name} has one listing for all venues: leave out venue_links")
    with connection.transaction():
        provider_id = register_provider(connection, provider_class.row_name(), provider_class.name)
        operation = f"{provider_class.__module__}.{provider_class.__qualname__}"
        budget = provider_class.error_allowance, provider_class.error_share
        scheme_id, operation_id = ledger.current_scheme(
            connection, provider_id, provider_class.scheme_version, operation, budget
        )
        if run_id is not None and (catalog_id := ledger.reopen_load(connection, scheme_id, run_id)) is not None:
            return catalog_id
        catalog_id = ledger.insert_load(connection, scheme_id, run_id, parameters)
        replayable = links_with_rejections(connection, provider_id) if parameters.replay else None
        if not provider_class.needs_venue:
            if replayable is None or None in replayable:
                ledger.insert_instance(connection, catalog_id, operation_id)
            return catalog_id
        links = [link.id for link in find_links(connection, provider_id, parameters.venue_links)]
        if replayable is not None:
            links = [link for link in links if link in replayable]
        # Dealt out in turn: links with similar ids, and often similar sizes, end up in different batches.
        batches = [place % max(1, at_most_batches) for place in range(len(links))]
        ledger.insert_link_instances(connection, catalog_id, operation_id, links, batches)
        return catalog_id


def begin_attempt(
    connection: Connection, instance_id: int, provider: LocalProvider, parameters: LoadParameters
) -> tuple[Instance, SyncReport]:
    """Start the next attempt of an instance; returns the instance with its window, and the report to count on.

    An attempt that resumes from a cursor keeps its window, start time and counts. Any other starts over: with a new
    start time, and a window that begins at the watermark (or is the interval of a backfill). A replay always resumes:
    it does not read again what an earlier attempt resolved, so counts and rejected records stay. The caller holds the
    lock of the venue link.
    """
    with connection.transaction():
        instance = ledger.load_instance(connection, instance_id)
        resumes = instance.cursor is not None or parameters.replay
        report = msgspec.convert(instance.progress, SyncReport) if instance.progress else SyncReport()
        report.dry_run = parameters.dry_run
        if not resumes:
            report.start_again()
            delete_open(connection, instance_id)
            instance.since, instance.until = _window(connection, instance, provider, parameters)
        ledger.start_attempt(connection, instance, resumes=resumes)
    return instance, report


def _window(
    connection: Connection, instance: Instance, provider: LocalProvider, parameters: LoadParameters
) -> tuple[datetime | None, datetime | None]:
    """Return from when to when to read; None: no bound."""
    if parameters.full_refresh or provider.window == "none":
        return None, None
    if parameters.interval_start is not None:
        return parameters.interval_start, parameters.interval_end if provider.window == "between" else None
    watermark = ledger.watermark_of(connection, instance.place)
    return (None if watermark is None else watermark - provider.overlap), None


def close_load(connection: Connection, catalog_id: int) -> LoadSummary:
    """Close a load and sum it up. An instance that is neither done nor skipped has failed, also if its worker died."""
    with connection.transaction():
        ledger.fail_interrupted(connection, catalog_id)
        reports = ledger.instance_reports(connection, catalog_id)
        states = [report["state"] for report in reports]
        done, skipped = states.count("done"), states.count("skipped")
        failed = len(states) - done - skipped
        state: LoadState = "loaded" if not failed else "partially loaded" if done else "failed"
        ledger.set_load_state(connection, catalog_id, state)
        parameters = ledger.load_parameters(connection, catalog_id)
        written = ledger.rows_written(connection, catalog_id)
    errors = [(report["label"], report["error"]) for report in reports if report["state"] not in ("done", "skipped")]
    return LoadSummary(
        catalog_id=catalog_id,
        state=state,
        dry_run=parameters.dry_run,
        done=done,
        failed=failed,
        skipped=skipped,
        written=written,
        counts={name: sum(report[name] or 0 for report in reports) for name in ledger.COUNTS},
        errors=dict(errors[:MAX_ERRORS]),
    )
