"""A run in a separate process that is killed with SIGKILL at a given moment: `python -m tests.search.killed`."""

import os
import signal
import sys
import threading
from itertools import count

import psycopg

import include.connectors.algolia
from include.connectors.algolia import AlgoliaIndex
from include.patches.customer_dispo import CUSTOMER_DISPO
from include.search import run_pass
from include.search.watch import watch_index
from include.store import search as store

PAGE = 30


def kill_at(owner, name, number, *, after):
    """End the process with the n-th call of a function, before or after it."""
    real, calls, lock = getattr(owner, name), count(1), threading.Lock()

    def calling(*args, **options):
        with lock:
            is_last = next(calls) == number
        if is_last and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        value = real(*args, **options)
        if is_last:
            os.kill(os.getpid(), signal.SIGKILL)
        return value

    setattr(owner, name, calling)


def main(conninfo, url, what, number, after):
    run_pass.CHECKPOINT_SECONDS = run_pass.MAX_BUFFERED_SECONDS = 0
    run_pass.MAX_RECORDS = include.connectors.algolia.MAX_RECORDS = PAGE
    owners = {"browse": AlgoliaIndex, "patch": AlgoliaIndex, "save_checkpoint": store, "finish_pass": store}
    kill_at(owners[what], what, int(number), after=after == "after")
    index = AlgoliaIndex("SANDBOX", "patch", "offers", hosts=[url])
    with psycopg.connect(conninfo, autocommit=True) as connection:
        watch_index(index, connection, [CUSTOMER_DISPO])


if __name__ == "__main__":
    main(*sys.argv[1:])
