"""One run on a search index: detect whether it was rebuilt, and if so, patch it.

All state is in PostgreSQL, so any worker can do the next run, which resumes what a killed run left open. The state
only advances after a complete pass: until then, each run finds the same reasons again.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec

from include.connectors.algolia import MAX_RECORDS, AlgoliaIndex
from include.errors import FatalError, ProviderSyncError, Unreachable
from include.patches.base import Patch, requested_attributes
from include.search.moves import LOG_RETENTION, OVERLAP, LogExcerpt, Move, read_log
from include.search.report import PassReport
from include.search.run_pass import run_pass
from include.search.stored_pass import StoredPass, to_json
from include.store import Connection, database_failures
from include.store import search as store
from include.store.locks import index_lock

log = logging.getLogger(__name__)

SAMPLE_PAGES = 10
"""Pages read when the log may have lost a move. A rebuild removes the attribute from every record, so a sample shows
it."""
MIN_COMPARE_EVERY, MAX_COMPARE_EVERY = 15, 1440
RUNS_PER_PAGE = 1.5
"""Default number of runs between two comparisons, for each page of 1000 records: about forty requests an hour at one
run a minute. That is every 15 runs for 5,000 records, and every 1440 (once a day) for 1,000,000."""
COMPARE_NEXT = 1_000_000_000
"""A value of `runs_since_comparison` that makes the next run compare, whatever `compare_every` is."""
RETENTION_DAYS = 90


@dataclass(frozen=True)
class Settings:
    """Settings of a run.

    :param force: patch even if the index was not rebuilt.
    :param dry_run: only read; the checkpoint does not move.
    :param is_manual: a person triggered the run. A manual dry run always reads the index; a scheduled one reads it once
        per move.
    :param compare_every: after this many runs without a rebuild, compare the whole index with the patches; None: by
        the size of the index, 0: never.
    :param max_restarts: how often a run starts from scratch because the index was rebuilt during its pass.
    """

    force: bool = False
    dry_run: bool = False
    is_manual: bool = False
    compare_every: int | None = None
    max_restarts: int = 3


@dataclass
class RunReport:
    """Result of a run.

    :param summary: one line for people.
    :param reason: why the index was read; empty if it was not.
    :param moves: new moves onto the index, oldest first.
    :param report: counts of the pass; None if there was nothing to do.
    :param restarts: how often the pass started from scratch.
    :param is_finished: False if the index is rebuilt faster than it can be patched; the next run continues.
    """

    summary: str
    reason: str = ""
    moves: list[Move] = field(default_factory=list)
    report: PassReport | None = None
    dry_run: bool = False
    restarts: int = 0
    is_finished: bool = True
    finished_at: datetime = field(default_factory=lambda: datetime.now(UTC))


def watch_index(
    index: AlgoliaIndex,
    connection: Connection,
    patches: Sequence[Patch],
    settings: Settings = Settings(),
    *,
    run_id: str = "",
) -> RunReport:
    """Check the index once, and patch it if there is a reason. `connection` is in autocommit mode.

    Raises:
        IndexBusy: another run is working on the index.
        ProviderSyncError: a request to Algolia or PostgreSQL failed; the next run resumes the open pass.
    """
    requested_attributes(patches)  # refuses unusable patches before the first request
    with database_failures(connection), index_lock(connection, index.application_id, index.name):
        return _Run(index, connection, patches, settings, run_id).run()


class _Run:
    """One run, under the lock of the index."""

    def __init__(
        self,
        index: AlgoliaIndex,
        connection: Connection,
        patches: Sequence[Patch],
        settings: Settings,
        run_id: str,
    ) -> None:
        self.index = index
        self.connection = connection
        self.patches = patches
        self.settings = settings
        self.run_id = run_id
        self.key = (index.application_id, index.name)
        self.state = store.load_state(connection, *self.key)
        self.handled = {str(move["id"]) for move in self.state.handled_moves}
        self.stored_pass = StoredPass(connection, index, patches)

    def run(self) -> RunReport:
        state = self.state
        excerpt = read_log(self.index, state.checkpoint_at)
        store.record_check(self.connection, *self.key)
        moves = self._new_moves(excerpt)
        has_gap = state.checkpoint_at is not None and not excerpt.reaches(state.checkpoint_at)
        open_pass = self.stored_pass.find()
        state.runs_since_comparison += 1
        reason, nothing_to_do = self._find_reason(excerpt, moves, has_gap, open_pass)
        if self.settings.dry_run:
            return self._dry_run(reason, moves, nothing_to_do, has_open_pass=open_pass is not None)
        if not reason:
            self._advance(excerpt)
            return RunReport(nothing_to_do)
        self._log_reason(reason, moves)
        # After a gap in the log, the index may have been rebuilt since the open pass: it must not be resumed.
        return self._patch(excerpt, reason, moves, may_resume=open_pass is not None and not has_gap)

    def _new_moves(self, excerpt: LogExcerpt) -> list[Move]:
        since = self.state.checkpoint_at
        return [m for m in excerpt.moves if m.id not in self.handled and (since is None or m.at >= since - OVERLAP)]

    def _find_reason(
        self, excerpt: LogExcerpt, moves: Sequence[Move], has_gap: bool, open_pass: store.OpenPass | None
    ) -> tuple[str, str]:
        """Return why the index must be patched and "", or "" and the summary of a run without anything to do."""
        since = self.state.checkpoint_at
        due_in = self._runs_until_comparison()
        reasons = (
            ("forced", self.settings.force),
            ("first run", since is None),
            ("move", bool(moves)),
            (open_pass.reason if open_pass else "", open_pass is not None),
            ("comparison", due_in <= 0),
        )
        if reason := next((reason for reason, applies in reasons if applies), ""):
            return reason, ""
        checked = f"no move onto {self.index.name} in {excerpt.entries} log entries since {_time(since)}"
        if has_gap:
            sample, _ = run_pass(self.index, self.patches, dry_run=True, max_pages=SAMPLE_PAGES)
            if sample.changed:
                log.warning("Algolia's log no longer reaches back to %s, and the index was rebuilt", _time(since))
                return "a move missing in the log", ""
            checked = (
                f"Algolia's log no longer reaches back to {_time(since)}, so a move may be missing; but the "
                f"{sample.read:,} records read from {self.index.name} are up to date"
            )
        compare = f"next comparison of the whole index in {due_in:.0f} runs" if due_in != math.inf else "no comparisons"
        return "", f"Nothing to do: {checked}; {compare}"

    def _runs_until_comparison(self) -> float:
        every = self.settings.compare_every
        if every == 0:
            return math.inf
        if every is None:
            every = default_compare_every(self.state.records)
        return every - self.state.runs_since_comparison

    def _dry_run(self, reason: str, moves: list[Move], summary: str, *, has_open_pass: bool) -> RunReport:
        """Read the whole index if a person triggered the run, or if no scheduled dry run has shown this reason yet."""
        state, settings = self.state, self.settings
        to_show = [move.id for move in moves]
        # A comparison is shown whenever it is due, since reading resets its count. Other reasons stay until a real run.
        if not to_show and reason and (has_open_pass or reason != "comparison"):
            to_show = [reason]
        was_shown = bool(to_show) and set(to_show) <= set(state.dry_runs_shown)
        report = None
        if settings.is_manual or (reason and not was_shown):
            reason = reason or "manual"
            self._log_reason(reason, moves)
            report, _ = run_pass(self.index, self.patches, dry_run=True)
            if not settings.is_manual:
                state.records, state.runs_since_comparison, state.dry_runs_shown = report.read, 0, to_show
            store.record_dry_run(
                self.connection,
                *self.key,
                reason=reason,
                patches=[patch.name for patch in self.patches],
                report=msgspec.to_builtins(report),
                run_id=self.run_id,
            )
            summary = f"Dry run ({reason}): {_counts(report)}; nothing was written"
        elif was_shown:
            summary = f"Nothing to do: an earlier dry run has shown what would change ({reason})"
        store.save_state(self.connection, *self.key, state)
        return RunReport(summary, reason, moves, report, dry_run=True)

    def _patch(self, excerpt: LogExcerpt, reason: str, moves: list[Move], *, may_resume: bool) -> RunReport:
        """Run a pass, again from scratch if the index is rebuilt meanwhile, and advance the checkpoint."""
        since = self.state.checkpoint_at
        self.stored_pass.start(reason, moves, run_id=self.run_id, may_resume=may_resume)
        handled = {*self.handled, *(move.id for move in moves)}
        restarts = 0
        try:
            while True:
                self._wait_for_moves(moves)
                report, is_complete = self.stored_pass.run(since or excerpt.newest, handled)
                excerpt = read_log(self.index, since)
                newer = [move for move in self._new_moves(excerpt) if move.id not in handled]
                is_finished = is_complete and not newer
                if is_finished or restarts == self.settings.max_restarts:
                    break
                restarts += 1
                reason, moves = "move", [*moves, *newer]
                handled |= {move.id for move in newer}
                log.info("The index was rebuilt during the pass: starting from scratch (restart %s)", restarts)
                self.stored_pass.restart(reason, moves)
        except ProviderSyncError as error:
            self.stored_pass.fail(error)
            raise
        if is_complete:
            self.state.records = report.read
        self.state.runs_since_comparison = COMPARE_NEXT if self._may_have_missed(reason, report) else 0
        # First the state, then the pass: a run killed in between leaves an open pass with nothing left to change.
        self._advance(excerpt, moves, newer)
        self.stored_pass.finish(report, "done" if is_finished else "superseded")
        store.purge_passes(self.connection, RETENTION_DAYS)
        if report.refused_count:
            raise FatalError(_refusals(report))
        summary = self._summary(reason, moves, report)
        if not is_finished:
            summary = (
                f"The index is rebuilt faster than it can be patched: a move interrupted {restarts + 1} passes; the "
                f"next run continues. So far: {_counts(report)}"
            )
            log.warning("%s", summary)
        return RunReport(summary, reason, moves, report, restarts=restarts, is_finished=is_finished)

    def _may_have_missed(self, reason: str, report: PassReport) -> bool:
        """Return whether changes to the index may have moved records from one page to another while it was read."""
        if reason == "comparison" or report.total is None or report.read >= report.total:
            return False
        log.info("Read %s of %s records: the next run compares the index again", report.read, report.total)
        return True

    def _wait_for_moves(self, moves: Sequence[Move]) -> None:
        """Wait until the last move is published. Its task may be one of the moved index or one of ours."""
        for move in moves[-1:]:
            if move.task_id is None:
                log.warning("Not waiting for the move from %s: the log does not name its task", move.source)
                continue
            for name in (move.source, self.index.name):
                try:
                    self.index.wait_until_published(move.task_id, index=name)
                    break
                except Unreachable:
                    raise
                except FatalError as error:  # the key is for our index only, or the index no longer exists
                    log.info("Task %s cannot be looked up at index %s: %s", move.task_id, name, error)

    def _advance(self, excerpt: LogExcerpt, handled: Sequence[Move] = (), unhandled: Sequence[Move] = ()) -> None:
        """Move the checkpoint to the newest log entry, but not past a move that is still unhandled."""
        state = self.state
        now = datetime.now(UTC)
        reached = now - LOG_RETENTION  # with an empty log, any entry that appears later is new
        if excerpt.newest:  # limited to now: an entry from the future must not hide those that follow
            reached = min(max(state.checkpoint_at or excerpt.newest, excerpt.newest), now)
        reached = min([reached, *(move.at for move in unhandled)])
        open_ids = {move.id for move in unhandled}
        seen = to_json([*handled, *excerpt.moves])
        known = {str(move["id"]): move for move in [*state.handled_moves, *seen]}
        state.handled_moves = [
            move
            for id_, move in known.items()
            if id_ not in open_ids and datetime.fromisoformat(move["at"]) >= reached - OVERLAP
        ]
        state.checkpoint_at = reached
        state.dry_runs_shown = []
        store.save_state(self.connection, *self.key, state)

    def _log_reason(self, reason: str, moves: Sequence[Move]) -> None:
        log.info("Reading all of %s. Reason: %s", self.index.name, reason)
        for move in moves:
            log.info("%s was moved onto %s at %s", move.source, self.index.name, _time(move.at))

    def _summary(self, reason: str, moves: Sequence[Move], report: PassReport) -> str:
        delay = f", {(datetime.now(UTC) - moves[-1].at).total_seconds():.0f} s after the move" if moves else ""
        return f"Patched {self.index.name} ({reason}): {_counts(report)}{delay}"


def default_compare_every(records: int | None) -> int:
    """Return the default number of runs between two comparisons of an index with this many records."""
    pages = math.ceil((records or 0) / MAX_RECORDS)
    return min(MAX_COMPARE_EVERY, max(MIN_COMPARE_EVERY, math.ceil(pages * RUNS_PER_PAGE)))


def _counts(report: PassReport) -> str:
    patches = "; ".join(
        f"{name}: {counts.changed:,} to change, {counts.left_alone:,} left alone"
        for name, counts in report.patches.items()
    )
    return f"{report.read:,} records read, {report.changed:,} differed in {report.seconds:.1f} s ({patches})"


def _refusals(report: PassReport) -> str:
    examples = "; ".join(f"{object_id}: {reason}" for object_id, reason in list(report.refused.items())[:5])
    return f"{report.refused_count} records could not be patched, all others were: {examples}"


def _time(at: datetime | None) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if at else "the beginning"
