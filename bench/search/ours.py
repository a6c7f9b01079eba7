"""This project, as each minute's task goes about it: connect, look into the log, and patch if there was a move."""

from __future__ import annotations

from collections.abc import Callable

import psycopg

from bench.measuring import main
from bench.search.task import APPLICATION, FIRST, FORCED, PATCHING_KEY, QUIET, SearchTask
from include.connectors.algolia import AlgoliaIndex
from include.patches.customer_dispo import CUSTOMER_DISPO
from include.search.watch import Settings, watch_index
from sandbox.offers import INDEX

REASONS = {QUIET: "", FIRST: "first run", FORCED: "forced"}
"""Why there is a pass, by phase; in all others because of a move."""


def prepare(task: SearchTask) -> Callable[[], object]:
    """Nothing is prepared: the work is one run, from its connections to its end."""

    def work() -> None:
        with (
            psycopg.connect(task.conninfo, autocommit=True) as connection,
            AlgoliaIndex(APPLICATION, PATCHING_KEY, INDEX, hosts=[task.url]) as index,
        ):
            done = watch_index(index, connection, [CUSTOMER_DISPO], Settings(force=task.phase == FORCED))
        if done.reason != REASONS.get(task.phase, "move") or not done.is_finished:
            raise RuntimeError(f"{task.phase}: {done.summary}")

    return work


if __name__ == "__main__":
    main(prepare, SearchTask)
