"""`make status`: when each venue, search index and target was last synced, and with what result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.markup import escape

from local import console, database
from local.checkout import Checkout, LocalError
from local.console import Screen
from local.dag_files import named

if TYPE_CHECKING:
    from include.store.status import IndexStatus, LinkStatus, TargetStatus
    from local.context import Local

FORMATS = ("text", "json")


@dataclass(frozen=True)
class Scope:
    """What a command reports on: everything (`dag_id` None), or what one DAG reads, patches or sends."""

    dag_id: str | None = None
    providers: list[str] | None = None
    """Values of `provider.name`; None: all."""
    targets: list[str] | None = None


def status(local: Local, dag_id: str, output: str) -> int:
    """Print the status of everything, or of what one DAG works on; return the exit status."""
    from include.store import status as store

    check_format(output)
    scope = scope_of(local.checkout, dag_id)
    with database.reachable(local, "status") as conninfo:
        if conninfo is None:
            nothing_yet(local.screen, output)
            return 0
        with database.reading(conninfo) as connection:
            links = store.link_statuses(connection, scope.providers)
            indices = [] if scope.providers or scope.targets else store.index_statuses(connection, scope.dag_id)
            names = targets_of(local.checkout) if scope.targets is None else scope.targets
            targets = store.target_statuses(connection, names, only_these=scope.targets is not None)
    if output == "json":
        print_json({"links": links, "indices": indices, "targets": targets})
        return 0
    now = datetime.now(UTC)
    show_links(local.screen, links, now)
    show_indices(local.screen, indices, now)
    show_targets(local.screen, targets, now)
    if not (links or indices or targets):
        local.screen.say(f"{dag_id} has read, patched or sent nothing yet" if dag_id else database.NOTHING_YET)
    return 0


def scope_of(checkout: Checkout, dag_id: str) -> Scope:
    """Return what a DAG works on, according to its file; "" means everything.

    Raises:
        LocalError: there is no such DAG, or its file names no valid provider or target.
    """
    from include.errors import ConfigurationError
    from include.providers import load_provider
    from include.targets import load_target

    if not dag_id:
        return Scope()
    if dag_id not in checkout.dag_ids():
        raise LocalError(f"DAG={dag_id} is not a DAG of this project; the DAGs are: {', '.join(checkout.dag_ids())}", 2)
    file = checkout.dags / f"{dag_id}.py"
    try:
        providers = [load_provider(path).row_name() for path in named(file, "provider")]
        targets = [load_target(path).identifier for path in named(file, "target")]
    except ConfigurationError as error:
        raise LocalError(f"{file.name}: {error}", 2) from None
    return Scope(dag_id, providers, targets)


def targets_of(checkout: Checkout) -> list[str]:
    """Return the identifiers of the outbound targets in the DAG files, including those that never ran."""
    from local import outbound

    return [target.identifier for target in outbound.targets(checkout.dags).values()]


def check_format(output: str) -> None:
    """Raise `LocalError` if the format is unknown."""
    if output not in FORMATS:
        raise LocalError(f"FORMAT={output} is unknown: specify {' or '.join(FORMATS)}", 2)


def nothing_yet(screen: Screen, output: str) -> None:
    """Print that nothing has run yet, and what to do."""
    if output == "json":
        print_json({})
    else:
        screen.say(database.NOTHING_YET)


def print_json(found: object) -> None:
    """Print JSON for scripts. Messages for people go to standard error then."""
    import msgspec

    print(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())


def show_links(screen: Screen, rows: Sequence[LinkStatus], now: datetime) -> None:
    """Print a line per venue link."""
    if not rows:
        return
    counted = ("checked", "created", "updated", "rejected")
    table = console.table(("provider", "venue", "last complete read", "", "last load"), counted)
    for row in rows:
        read_at = "" if row.read_at is None else f"{row.read_at.astimezone():%Y-%m-%d %H:%M}"
        table.add_row(
            escape(row.provider),
            escape(venue_of(row)),
            read_at,
            ago(row.read_at, now),
            _load_of(row, now),
            *(console.count(getattr(row, name)) for name in counted),
        )
    screen.print_wide(table)
    if failed := sum(row.state == "failed" or row.is_abandoned for row in rows):
        screen.say(f"{failed} of {len(rows)} failed or were interrupted: `make problems` shows why")
    screen.say()


def show_indices(screen: Screen, rows: Sequence[IndexStatus], now: datetime) -> None:
    """Print a line per search index."""
    if not rows:
        return
    table = console.table(("index", "last check", "last rebuild found", "last patch"), ("changed", "records"))
    for row in rows:
        moments = (ago(at, now) for at in (row.checked_at, row.rebuilt_at, row.patched_at))
        table.add_row(escape(row.index_name), *moments, console.count(row.changed), console.count(row.records))
    screen.print_wide(table)
    screen.say()


def show_targets(screen: Screen, rows: Sequence[TargetStatus], now: datetime) -> None:
    """Print a line per outbound target."""
    if not rows:
        return
    table = console.table(("target", "last run"), ("sent", "queued", "in flight", "to retry", "parked"))
    for row in rows:
        counts = (row.sent, row.queued, row.sending, row.to_retry, row.parked)
        ran = ago(row.ran_at, now) + (", target is down" if row.down else "")
        table.add_row(escape(row.target), ran, *map(console.count, counts))
    screen.print_wide(table)
    screen.say()


def venue_of(row: LinkStatus) -> str:
    """Return the venue's name with the link's id, which distinguishes several links of a venue."""
    if row.venue_provider_id is not None:
        return f"{row.venue} (link {row.venue_provider_id})"
    return "-" if row.read_at or row.state else "(no venue is linked)"


def ago(at: datetime | None, now: datetime) -> str:
    """Return how long ago that was, in words."""
    if at is None:
        return "never"
    seconds = max(0, int((now - at).total_seconds()))
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"


def _load_of(row: LinkStatus, now: datetime) -> str:
    if row.state is None:
        return "none yet" if row.is_active else "inactive"
    words = {"done": "loaded", "new": "waiting", "running": "running"}
    if row.is_abandoned:
        words |= {"new": "not started", "running": "interrupted"}
    state = words.get(row.state, row.state)
    if row.state == "done" and row.rejected:
        state = "loaded, some rejected"
    at = row.finished_at or row.started_at
    return ("" if row.is_active else "inactive; ") + (f"{state} {ago(at, now)}" if at else state)
