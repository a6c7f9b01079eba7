"""This project, as the task of each minute does it: connect, read the log, and patch if the index was moved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg

from bench.measuring import Task, main
from bench.search import APPLICATION, PATCHING_KEY
from include.connectors.algolia import AlgoliaIndex
from include.patches.customer_dispo import CUSTOMER_DISPO
from include.search.watch import Settings, watch_index
from sandbox.offers import INDEX

REASONS = {"quiet": "", "first": "first run", "forced": "forced"}
"""Why the index is patched, by phase; in all other phases because of a move."""


def run_once(conninfo: str, url: str, *, force: bool = False, ready: Callable[[], object] = lambda: None) -> Any:
    """Do what the task of a minute does, and return its report. `ready` is called after connecting."""
    with (
        psycopg.connect(conninfo, autocommit=True) as connection,
        AlgoliaIndex(APPLICATION, PATCHING_KEY, INDEX, hosts=[url]) as index,
    ):
        ready()
        return watch_index(index, connection, [CUSTOMER_DISPO], Settings(force=force))


def prepare(task: Task) -> Callable[[], object]:
    """Prepare nothing; the work is one run, from its connections to its end."""

    def work() -> None:
        done = run_once(task.conninfo, task.url, force=task.phase == "forced")
        if done.reason != REASONS.get(task.phase, "move") or not done.is_finished:
            raise RuntimeError(f"{task.phase}: {done.summary}")

    return work


if __name__ == "__main__":
    main(prepare)
