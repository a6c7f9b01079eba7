"""`make problems`: what is failing or needs action, with the reason and the next step."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from local import database
from local.checkout import Checkout, LocalError
from local.dag_files import named
from local.status import Scope, ago, check_format, nothing_yet, print_json, scope_of, targets_of, venue_of

if TYPE_CHECKING:
    import psycopg

    from include.store.problems import Incident, OffSale, Rejections, SearchProblem, UnsentOrder
    from include.store.status import LinkStatus, TargetStatus
    from local.context import Local

T = TypeVar("T")
MAX_ENTRIES = 20
"""Maximum number of printed entries per section; its view has all of them."""


@dataclass(frozen=True)
class Problems:
    """The problems that were found, by kind."""

    incidents: Sequence[Incident]
    loads: Sequence[LinkStatus]
    rejections: Sequence[Rejections]
    down: Sequence[TargetStatus]
    unsent: Sequence[UnsentOrder]
    search: Sequence[SearchProblem]
    off_sale: Sequence[OffSale]
    overrides: int
    """Number of manually edited fields. They are not a problem, but worth knowing."""

    @property
    def is_empty(self) -> bool:
        """True if nothing is failing and no action is needed."""
        found = (self.incidents, self.loads, self.rejections, self.down, self.unsent, self.search, self.off_sale)
        return not any(found)


def problems(local: Local, dag_id: str, output: str) -> int:
    """Print the problems; return 1 if there are any, otherwise 0.

    Raises:
        LocalError: the check itself failed. Its exit status is 2, which scripts can distinguish from 1.
    """
    try:
        check_format(output)
        scope = scope_of(local.checkout, dag_id)
        with database.reachable(local, "problems") as conninfo:
            if conninfo is None:
                nothing_yet(local.screen, output)
                return 0
            with database.reading(conninfo) as connection:
                found = find(connection, scope, targets_of(local.checkout))
    except LocalError as error:
        raise LocalError(str(error), 2) from error
    if output == "json":
        print_json(found)
    else:
        for line in lines(found, dags_by_name(local.checkout), datetime.now(UTC)):
            local.screen.say(line)
    return 0 if found.is_empty else 1


def find(connection: psycopg.Connection[Any], scope: Scope, targets: Sequence[str]) -> Problems:
    """Find the problems within a scope."""
    from include.store import problems as store
    from include.store import status

    loads = status.link_statuses(connection, scope.providers)
    names = targets if scope.targets is None else scope.targets
    outbound = status.target_statuses(connection, names, only_these=scope.targets is not None)
    return Problems(
        incidents=store.incidents(connection, scope.dag_id),
        loads=[row for row in loads if row.is_active and (row.state == "failed" or row.is_abandoned)],
        rejections=store.rejections(connection, scope.providers),
        down=[row for row in outbound if row.down],
        unsent=store.unsent_orders(connection, scope.targets),
        search=store.search_problems(connection, scope.dag_id),
        off_sale=store.off_sale(connection, scope.providers),
        overrides=store.count_overrides(connection),
    )


def dags_by_name(checkout: Checkout) -> dict[str, str]:
    """Return the DAG ids by provider name and by target identifier, as the DAG files define them."""
    from include.errors import ConfigurationError
    from include.providers import load_provider
    from include.targets import load_target

    found: dict[str, str] = {}
    for file in sorted(checkout.dags.glob("*.py")):
        try:
            names = [load_provider(path).row_name() for path in named(file, "provider")]
            names += [load_target(path).identifier for path in named(file, "target")]
        except ConfigurationError:
            continue
        found |= dict.fromkeys(names, file.stem)
    return found


def lines(found: Problems, dags: Mapping[str, str], now: datetime) -> Iterator[str]:
    """Yield the lines to print, most severe first: each problem with its next step."""
    if found.is_empty:
        yield "No problems."
    yield from _section("Failing", "failure_episode", found.incidents, lambda row: _incident(row, now))
    yield from _section("Venues not read", _LOADS, found.loads, lambda row: _load(row, dags, now))
    yield from _section("Targets that are down", "outbound_report", found.down, lambda row: _down(row, dags))
    yield from _section("Orders not sent", "outbound_problems", found.unsent, lambda row: _unsent(row, dags, now))
    yield from _section("Search indices", "search_report", found.search, lambda row: _search(row, now))
    yield from _section("Rejected records", _REJECTED, found.rejections, lambda row: _rejection(row, dags, now))
    yield from _section("Booked, but no longer listed", "gone_with_bookings", found.off_sale, _off_sale)
    if found.overrides:
        yield f"{found.overrides:,} manually edited fields are protected from providers: see the view fields_held_back"


def _section(title: str, view: str, rows: Sequence[T], describe: Callable[[T], list[str]]) -> Iterator[str]:
    if not rows:
        return
    yield f"{title} ({len(rows)})"
    for row in rows[:MAX_ENTRIES]:
        first, *more = describe(row)
        yield f"  {first}"
        yield from (f"      {line}" for line in more)
    if len(rows) > MAX_ENTRIES:
        yield f"  and {len(rows) - MAX_ENTRIES} more: make psql SQL='SELECT * FROM {view}'"
    yield ""


_LOADS = "load_report WHERE error IS NOT NULL ORDER BY instance_id DESC"
_REJECTED = "rejected_report WHERE resolution IS NULL"


def _incident(row: Incident, now: datetime) -> list[str]:
    times = {0: "late", 1: "failed once"}.get(row.failures, f"failed {row.failures} times")
    return [
        f"{row.subject}: {times} since {row.began_at.astimezone():%Y-%m-%d %H:%M}, last {ago(row.last_at, now)}",
        *row.error.splitlines(),
    ]


def _load(row: LinkStatus, dags: Mapping[str, str], now: datetime) -> list[str]:
    what = row.state
    if row.is_abandoned:
        what = "not started before the load was stopped" if row.state == "new" else "interrupted"
    entry = [f"{row.provider}, {venue_of(row)}: {what}{_ago(row.finished_at or row.started_at, now)}"]
    entry += (row.error or "").splitlines()
    entry.append(f"last complete read: {ago(row.read_at, now)}")
    dag_id = dags.get(row.local_class) or (row.run_id or "").partition("/")[0]
    if dag_id:
        links = {} if row.venue_provider_id is None else {"venue_links": [str(row.venue_provider_id)]}
        entry.append(f"the next run of {dag_id} retries it; to retry now: {_sync(dag_id, links)}")
    return entry


def _ago(at: datetime | None, now: datetime) -> str:
    return f" {ago(at, now)}" if at else ""


def _rejection(row: Rejections, dags: Mapping[str, str], now: datetime) -> list[str]:
    many = f"{row.count:,} record" + ("s" if row.count > 1 else "")
    first, *more = row.reason.splitlines() or [""]
    reference = f" ({row.reference})" if row.reference else ""
    entry = [f"{row.provider}, {row.venue}: {many}: {first}", *more]
    entry.append(f"for example id {row.example_id}{reference} in rejected_report; oldest: {ago(row.since, now)}")
    if row.replayable == 0:
        return [*entry, "their payloads were purged: only a full refresh reads them again"]
    dag_id = dags.get(row.local_class) or (row.run_id or "").partition("/")[0]
    return [*entry, f"correct the record or the parser, then run: make replay DAG={dag_id}"]


def _down(row: TargetStatus, dags: Mapping[str, str]) -> list[str]:
    waiting = row.queued + row.to_retry
    entry = [f"{row.target}: {waiting:,} orders stay queued", *(row.down or "").splitlines()]
    return [*entry, f"the next run of {dags.get(row.target, 'its DAG')} retries them"]


def _unsent(row: UnsentOrder, dags: Mapping[str, str], now: datetime) -> list[str]:
    order = f"{row.target}, {row.code}" + (f" of {row.event}" if row.event else "")
    attempts = f"{row.failed_attempts} failed attempt" + ("" if row.failed_attempts == 1 else "s")
    if row.reason is None:
        return [f"{order}: retried {_until(row.next_try_at, now)}, after {attempts}", *row.messages]
    entry = [f"{order}: parked ({row.reason}) after {attempts}", *row.messages]
    if dag_id := dags.get(row.target):
        entry.append(f"correct it, then run: {_sync(dag_id, {'retry': True})}")
    return entry


def _search(row: SearchProblem, now: datetime) -> list[str]:
    if row.error:
        return [
            f"{row.index_name}: the pass of {ago(row.at, now)} is incomplete; the next run resumes it",
            *row.error.splitlines(),
        ]
    entry = [f"{row.index_name}: {row.refused:,} records could not be patched {ago(row.at, now)}; all others were"]
    return entry + [f"{object_id}: {reason}" for object_id, reason in list(row.refusals.items())[:3]]


def _off_sale(row: OffSale) -> list[str]:
    many = "1 stock" if row.stocks == 1 else f"{row.stocks:,} stocks"
    return [
        f"{row.provider or 'no provider'}, {row.venue}: {many}, {row.booked:,} booked",
        f"for example stock {row.example_id} ({row.example}): ask the venue, then cancel the bookings or fix the stock",
    ]


def _sync(dag_id: str, conf: Mapping[str, Any]) -> str:
    return f"make sync DAG={dag_id}" + (f" CONF='{json.dumps(conf)}'" if conf else "")


def _until(at: datetime | None, now: datetime) -> str:
    """Return when that will be, in words."""
    seconds = 0 if at is None else int((at - now).total_seconds())
    if seconds <= 0:
        return "with the next run"
    for unit, size in (("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"in {seconds // size} {unit}"
    return f"in {seconds} s"
