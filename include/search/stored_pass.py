"""A pass over an index with its state in PostgreSQL, so that a later run can resume it."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

import msgspec
import psycopg

from include.connectors.algolia import AlgoliaIndex
from include.errors import ConfigurationError, RequestRefused, Unreachable
from include.patches.base import Patch
from include.search.moves import OVERLAP, Move, read_log
from include.search.report import PassReport
from include.search.run_pass import Checkpoint, run_pass
from include.store import search as store

log = logging.getLogger(__name__)

LOG_CHECK_SECONDS = 15.0
"""Time between two checks of Algolia's log while a pass runs."""


class StoredPass:
    """The open pass of an index. `find` and `start` come before `run`; `finish` closes it."""

    def __init__(self, connection: psycopg.Connection[Any], index: AlgoliaIndex, patches: Sequence[Patch]) -> None:
        self._connection = connection
        self._index = index
        self._patches = patches
        self._names = [patch.name for patch in patches]
        self._id = 0
        self._checkpoint: Checkpoint | None = None

    def find(self) -> store.OpenPass | None:
        """Return the pass that an earlier run left open."""
        return store.find_open_pass(self._connection, self._index.application_id, self._index.name)

    def start(self, reason: str, moves: Sequence[Move], *, run_id: str, may_resume: bool) -> None:
        """Open a pass, or take over the open one.

        That one is resumed from its checkpoint if the index cannot have been rebuilt since (`may_resume`), there is no
        move that it does not know, and the patches are the same. Otherwise it starts from scratch, but still waits for
        the tasks of the earlier run.
        """
        found = self.find()
        if found is None:
            self._id = store.open_pass(
                self._connection,
                self._index.application_id,
                self._index.name,
                reason=reason,
                moves=to_json(moves),
                patches=self._names,
                run_id=run_id,
            )
            return
        self._id = found.id
        store.resume_pass(self._connection, self._id, run_id)
        known = {str(move["id"]) for move in found.moves}
        checkpoint = msgspec.convert(found.checkpoint, Checkpoint) if found.checkpoint else None
        if may_resume and found.patches == self._names and known >= {move.id for move in moves}:
            self._checkpoint = checkpoint
            where = f" after {checkpoint.report.read:,} records" if checkpoint else " from the beginning"
            log.info("Resuming a pass that an earlier run left open%s", where)
        else:
            self.restart(reason, moves)
            self._checkpoint = Checkpoint(None, checkpoint.tasks, PassReport()) if checkpoint else None

    def restart(self, reason: str, moves: Sequence[Move]) -> None:
        """Start from scratch, for these moves."""
        store.restart_pass(self._connection, self._id, reason=reason, moves=to_json(moves), patches=self._names)
        self._checkpoint = None

    def run(self, since: datetime | None, handled: Collection[str]) -> tuple[PassReport, bool]:
        """Read and patch the index; returns the report, and whether the pass is complete.

        It stops early when Algolia's log has a move after `since` whose id is not in `handled`.
        """
        checked_at = time.monotonic()

        def is_superseded() -> bool:
            nonlocal checked_at
            if time.monotonic() - checked_at < LOG_CHECK_SECONDS:
                return False
            moves = read_log(self._index, since).moves
            checked_at = time.monotonic()
            return any(move.id not in handled and (since is None or move.at >= since - OVERLAP) for move in moves)

        def save(checkpoint: Checkpoint) -> None:
            store.save_checkpoint(self._connection, self._id, msgspec.to_builtins(checkpoint))

        def run_from(checkpoint: Checkpoint | None) -> tuple[PassReport, bool]:
            return run_pass(
                self._index,
                self._patches,
                checkpoint=checkpoint,
                save_checkpoint=save,
                is_superseded=is_superseded,
            )

        try:
            return run_from(self._checkpoint)
        except Unreachable:
            raise
        except (RequestRefused, ConfigurationError) as error:  # Algolia forgets cursors and tasks after a while
            if self._checkpoint is None:
                raise
            log.warning("Algolia cannot resume the earlier pass, starting from scratch: %s", error)
            return run_from(None)

    def fail(self, error: Exception) -> None:
        """Store why the pass failed; it stays open."""
        store.record_error(self._connection, self._id, str(error))

    def finish(self, report: PassReport, state: str) -> None:
        """Close the pass as `done` or `superseded`."""
        store.finish_pass(self._connection, self._id, msgspec.to_builtins(report), state)


def to_json(moves: Sequence[Move]) -> list[dict[str, Any]]:
    """Return moves as JSON objects, as the store keeps them."""
    objects: list[dict[str, Any]] = msgspec.to_builtins(list(moves))
    return objects
