"""One look at a search index: was it rebuilt, and if so, patch it.

Nothing is remembered but what PostgreSQL keeps, so any worker may do the next run, and a run that was killed is taken
up by the next one. The state only moves on when a pass went to its end: whatever happens before, the next run finds
the same reasons again.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec
import psycopg

from include.connectors.algolia import MAX_RECORDS, AlgoliaIndex
from include.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    FatalError,
    ProviderSyncError,
    RequestRefused,
    Unreachable,
)
from include.patches.base import Patch, attributes_of
from include.search.moves import KEPT, OVERLAP, Move, Reading, read_log
from include.search.report import PassReport
from include.search.run_pass import Mark, run_pass
from include.store import search as store
from include.store.locks import index_lock

log = logging.getLogger(__name__)

LOOK_SECONDS = 15.0
"""Between two looks at the log while a pass is on."""
SAMPLE_PAGES = 10
"""Read when a move may have been missed: a rebuild loses the attribute on every record, so these show it."""
OFTENEST, RAREST = 15, 1440
RUNS_PER_PAGE = 1.5
"""By default a comparison comes so many runs after the last for each page of 1000 records: about forty requests an
hour. Every 15 runs for 5,000 records, every 1440 (a day) for 1,000,000."""
COMPARE_NEXT = 1_000_000_000
"""As many runs without a comparison that one is due, however rarely they come."""
RETENTION_DAYS = 90


@dataclass(frozen=True)
class Settings:
    """How a run is to go about it.

    - `force`: patch without a move. `dry_run`: read only; the checkpoint stays where it is.
    - `is_manual`: somebody asked for this run; a dry run then always reads, a scheduled one once per move.
    - `compare_every`: every so many runs without a move the index is compared with the rule; None: by its size,
      0: never.
    - `most_restarts`: of one run, when a move comes while a pass is on.
    """

    force: bool = False
    dry_run: bool = False
    is_manual: bool = False
    compare_every: int | None = None
    most_restarts: int = 3


@dataclass
class RunReport:
    """What a run looked at and did. `summary` is one line for people; `report` is None when there was nothing to do."""

    summary: str
    reason: str = ""
    moves: list[Move] = field(default_factory=list)
    report: PassReport | None = None
    dry_run: bool = False
    restarts: int = 0
    is_finished: bool = True
    """False when moves came faster than they could be followed: the next run goes on."""
    finished_at: datetime = field(default_factory=lambda: datetime.now(UTC))


def watch_index(
    index: AlgoliaIndex,
    connection: psycopg.Connection[Any],
    patches: Sequence[Patch],
    settings: Settings = Settings(),
    *,
    run_id: str = "",
) -> RunReport:
    """Look once, and patch if there is a reason. `connection` is in autocommit.

    Raises:
        IndexBusy: another run is at work on the index.
        ProviderSyncError: Algolia or PostgreSQL failed; the next run takes up what is open.
    """
    attributes_of(patches)
    try:
        with index_lock(connection, index.application_id, index.name):
            return _Run(index, connection, patches, settings, run_id).look()
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        reason = str(error).strip().partition("\n")[0]
        what = "The connection to PostgreSQL was lost" if connection.closed else "PostgreSQL gave up"
        raise DatabaseUnavailable(f"{what}: {reason}", retry_after=10) from error


class _Run:
    """One run, which holds the lock of the index."""

    def __init__(
        self,
        index: AlgoliaIndex,
        connection: psycopg.Connection[Any],
        patches: Sequence[Patch],
        settings: Settings,
        run_id: str,
    ) -> None:
        self.index = index
        self.connection = connection
        self.patches = patches
        self.names = [patch.name for patch in patches]
        self.settings = settings
        self.run_id = run_id
        self.where = (index.application_id, index.name)
        self.state = store.load_state(connection, *self.where)
        self.handled = {str(move["id"]) for move in self.state.handled_moves}

    def look(self) -> RunReport:
        state, settings = self.state, self.settings
        reading = read_log(self.index, state.checkpoint_at)
        store.note_look(self.connection, *self.where)
        moves = self._new(reading)
        is_lost = state.checkpoint_at is not None and not reading.reaches(state.checkpoint_at)
        left_open = store.find_open_pass(self.connection, *self.where)
        state.runs_since_comparison += 1
        reason, told = self._reason(reading, moves, is_lost, left_open)
        if settings.dry_run:
            return self._look_dry(reason, moves, told, is_open=left_open is not None)
        if not reason:
            self._move_on(reading)
            return RunReport(told)
        self._log_reason(reason, moves)
        return self._patch(reading, reason, moves, None if is_lost else left_open)

    def _new(self, reading: Reading) -> list[Move]:
        """The moves that were not handled yet, oldest first."""
        since = self.state.checkpoint_at
        return [m for m in reading.moves if m.id not in self.handled and (since is None or m.at >= since - OVERLAP)]

    def _reason(
        self, reading: Reading, moves: Sequence[Move], is_lost: bool, left_open: store.OpenPass | None
    ) -> tuple[str, str]:
        """Why the index has to be patched, or "" and what was looked at instead."""
        since = self.state.checkpoint_at
        due = self._runs_until_comparison()
        reasons = (
            ("forced", self.settings.force),
            ("first run", since is None),
            ("move", bool(moves)),
            (left_open.reason if left_open else "", left_open is not None),
            ("comparison", due <= 0),
        )
        if reason := next((reason for reason, holds in reasons if holds), ""):
            return reason, ""
        looked = f"no move onto {self.index.name} in {reading.entries} log entries since {_moment(since)}"
        if is_lost:
            sample, _ = run_pass(self.index, self.patches, dry_run=True, most_pages=SAMPLE_PAGES)
            if sample.changed:
                log.warning("Algolia's log no longer reaches back to %s, and the index was rebuilt", _moment(since))
                return "a move missing in the log", ""
            looked = (
                f"Algolia's log no longer reaches back to {_moment(since)}, so a move may have been missed; but "
                f"{sample.read:,} records read from {self.index.name} are as they should be"
            )
        compared = f"next comparison with the rule in {due:.0f} runs" if due != math.inf else "comparisons are off"
        return "", f"Nothing to do: {looked}; {compared}"

    def _runs_until_comparison(self) -> float:
        every = self.settings.compare_every
        if every == 0:
            return math.inf
        if every is None:
            every = default_compare_every(self.state.records)
        return every - self.state.runs_since_comparison

    def _look_dry(self, reason: str, moves: Sequence[Move], told: str, *, is_open: bool) -> RunReport:
        """Read everything if somebody asked, or if this reason was not shown yet."""
        state, settings = self.state, self.settings
        shown = [move.id for move in moves]
        if not shown and reason and (is_open or reason != "comparison"):  # one that is due is due but once
            shown = [reason]
        is_shown = bool(shown) and set(shown) <= set(state.dry_runs_shown)
        report = None
        if settings.is_manual or (reason and not is_shown):
            reason = reason or "asked for"
            self._log_reason(reason, moves)
            report, _ = run_pass(self.index, self.patches, dry_run=True)
            if not settings.is_manual:
                state.records, state.runs_since_comparison, state.dry_runs_shown = report.read, 0, shown
            store.note_dry_run(
                self.connection,
                *self.where,
                reason=reason,
                patches=self.names,
                report=msgspec.to_builtins(report),
                run_id=self.run_id,
            )
            told = f"Dry run ({reason}): {_counts(report)}; nothing was written"
        elif is_shown:
            told = f"Nothing to do: an earlier dry run has shown what this one would ({reason}); it writes nothing"
        store.save_state(self.connection, *self.where, state)
        return RunReport(told, reason, list(moves), report, dry_run=True)

    def _patch(self, reading: Reading, reason: str, moves: list[Move], left_open: store.OpenPass | None) -> RunReport:
        pass_id, mark = self._begin(reason, moves, left_open)
        handled = {*self.handled, *(move.id for move in moves)}
        restarts = 0
        try:
            while True:
                self._wait_for_moves(moves)
                report, is_whole = self._pass(pass_id, mark, handled, reading)
                reading = read_log(self.index, self.state.checkpoint_at)
                newer = [move for move in self._new(reading) if move.id not in handled]
                is_finished = is_whole and not newer
                if is_finished or restarts == self.settings.most_restarts:
                    break
                restarts += 1
                reason, mark = "move", None
                moves = [*moves, *newer]
                handled |= {move.id for move in newer}
                log.info("The index was rebuilt again while it was patched: beginning anew (%s)", restarts)
                store.restart_pass(self.connection, pass_id, reason=reason, moves=_builtins(moves), patches=self.names)
        except ProviderSyncError as error:
            store.note_error(self.connection, pass_id, str(error))
            raise
        if is_whole:
            self.state.records = report.read
        self.state.runs_since_comparison = COMPARE_NEXT if self._may_have_missed(reason, report) else 0
        self._move_on(reading, moves, newer)
        state = "done" if is_finished else "superseded"
        store.finish_pass(self.connection, pass_id, msgspec.to_builtins(report), state)
        store.purge_passes(self.connection, RETENTION_DAYS)
        if report.refused_count:
            raise FatalError(
                f"{report.refused_count} records could not be patched, all others are: "
                + "; ".join(f"{object_id}: {why}" for object_id, why in list(report.refused.items())[:5])
            )
        told = self._told(reason, moves, report)
        if not is_finished:
            told = (
                f"The index is rebuilt faster than it can be patched: {restarts + 1} passes were overtaken by a move; "
                f"the next run goes on. Up to here: {_counts(report)}"
            )
            log.warning("%s", told)
        return RunReport(told, reason, moves, report, restarts=restarts, is_finished=is_finished)

    def _may_have_missed(self, reason: str, report: PassReport) -> bool:
        """Whether records may have slipped through between two pages, as the index changed while it was read."""
        if reason == "comparison" or report.total is None or report.read >= report.total:
            return False
        log.info("%s of %s records were read: the next run compares the index once more", report.read, report.total)
        return True

    def _begin(self, reason: str, moves: list[Move], left_open: store.OpenPass | None) -> tuple[int, Mark | None]:
        """Open a pass, or take up the one that was left, from its mark on if nothing happened to the index since."""
        found = left_open or store.find_open_pass(self.connection, *self.where)
        builtins = _builtins(moves)
        if found is None:
            pass_id = store.open_pass(
                self.connection,
                *self.where,
                reason=reason,
                moves=builtins,
                patches=self.names,
                run_id=self.run_id,
            )
            return pass_id, None
        store.take_up_pass(self.connection, found.id, self.run_id)
        known = {str(move["id"]) for move in found.moves}
        is_same = left_open is not None and found.patches == self.names and known >= {move.id for move in moves}
        mark = msgspec.convert(found.mark, Mark) if found.mark else None
        if not is_same:
            store.restart_pass(self.connection, found.id, reason=reason, moves=builtins, patches=self.names)
            return found.id, Mark(None, mark.tasks, PassReport()) if mark else None
        behind = f", behind {mark.report.read:,} records" if mark else ""
        log.info("Taking up an earlier run that was cut off%s", behind)
        return found.id, mark

    def _pass(self, pass_id: int, mark: Mark | None, handled: set[str], reading: Reading) -> tuple[PassReport, bool]:
        """Read and patch until the end, or until the log tells of a move that is not among those handled."""
        looked_at = time.monotonic()
        since = self.state.checkpoint_at or reading.newest

        def superseded() -> bool:
            nonlocal looked_at
            if time.monotonic() - looked_at < LOOK_SECONDS:
                return False
            moves = read_log(self.index, since).moves
            looked_at = time.monotonic()
            return any(move.id not in handled and (since is None or move.at >= since - OVERLAP) for move in moves)

        def keep(place: Mark) -> None:
            store.keep_mark(self.connection, pass_id, msgspec.to_builtins(place))

        try:
            return run_pass(self.index, self.patches, resume=mark, keep=keep, superseded=superseded)
        except Unreachable:
            raise
        except (RequestRefused, ConfigurationError) as error:  # it knows neither cursors nor tasks for ever
            if mark is None:
                raise
            log.warning("Algolia does not go on where the earlier run stood, beginning anew: %s", error)
            return run_pass(self.index, self.patches, keep=keep, superseded=superseded)

    def _wait_for_moves(self, moves: Sequence[Move]) -> None:
        """Wait until the last move is published; it is a task of the index that was moved."""
        for move in moves[-1:]:
            if move.task_id is None:
                log.warning("The log does not name the task of the move from %s: not waited for", move.source)
                continue
            for name in (move.source, self.index.name):
                try:
                    self.index.wait_until_published(move.task_id, index=name)
                    break
                except Unreachable:
                    raise
                except FatalError as error:  # a key for our index only, or an index that is no more
                    log.info("Task %s cannot be looked up at index %s: %s", move.task_id, name, error)

    def _move_on(self, reading: Reading, handled: Sequence[Move] = (), unhandled: Sequence[Move] = ()) -> None:
        """Move the checkpoint to the newest entry that was read, but not past a move that is still to be handled."""
        state = self.state
        now = datetime.now(UTC)
        reached = now - KEPT  # the log is empty: whatever comes into it is new
        if reading.newest:  # a stamp from the future must not hide what comes until then
            reached = min(max(state.checkpoint_at or reading.newest, reading.newest), now)
        reached = min([reached, *(move.at for move in unhandled)])
        left = {move.id for move in unhandled}
        seen = _builtins([*handled, *reading.moves])
        known = {str(move["id"]): move for move in [*state.handled_moves, *seen]}
        state.handled_moves = [
            move
            for id_, move in known.items()
            if id_ not in left and datetime.fromisoformat(move["at"]) >= reached - OVERLAP
        ]
        state.checkpoint_at = reached
        state.dry_runs_shown = []
        store.save_state(self.connection, *self.where, state)

    def _log_reason(self, reason: str, moves: Sequence[Move]) -> None:
        log.info("Reading all of %s, because: %s", self.index.name, reason)
        for move in moves:
            log.info("%s was moved onto %s at %s", move.source, self.index.name, _moment(move.at))

    def _told(self, reason: str, moves: Sequence[Move], report: PassReport) -> str:
        since = f", {(datetime.now(UTC) - moves[-1].at).total_seconds():.0f} s after the move" if moves else ""
        return f"Patched {self.index.name} ({reason}): {_counts(report)}{since}"


def default_compare_every(records: int | None) -> int:
    """After how many runs without a move an index of so many records is compared with the rule."""
    pages = math.ceil((records or 0) / MAX_RECORDS)
    return min(RAREST, max(OFTENEST, math.ceil(pages * RUNS_PER_PAGE)))


def _counts(report: PassReport) -> str:
    patches = "; ".join(
        f"{name}: {counts.changed:,} to change, {counts.left_alone:,} left alone"
        for name, counts in report.patches.items()
    )
    return f"{report.read:,} records read, {report.changed:,} differed in {report.seconds:.1f} s ({patches})"


def _moment(at: datetime | None) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if at else "the beginning"


def _builtins(moves: Sequence[Move]) -> list[dict[str, Any]]:
    built: list[dict[str, Any]] = msgspec.to_builtins(list(moves))
    return built
