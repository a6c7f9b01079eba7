"""Kill the process that patches an index at random moments, and rebuild the index every now and then.

Each process is killed between its start and a bit after its end; the next one resumes its work. One time in five the
index is rebuilt before the next process starts, one time in ten while it works. A rebuild removes two offers in a
hundred and adds others. In the end one process may finish: every record must be right, none new and none missing.
"""

from __future__ import annotations

import logging
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from datetime import datetime
from functools import partial

from bench.measuring import WrongResult
from bench.search import server
from bench.search.ours import run_once
from bench.search.server import StandIn
from sandbox import indexer
from soak import kill

LATENCY_MS = 40
TASK_MS = 300.0
"""From accepting a batch to publishing it: long enough for some batches to be open at any time."""
RESUMED = ("Resuming a pass", "Taking up")
"""What the log of a run may begin with that resumes an earlier one."""


class SearchKills(kill.KillTest):
    """Kills the patching of an index."""

    module = "soak.search_kills"
    unit = "records"
    usual_size = 40_000
    service: StandIn
    generation = resumed = 0
    seconds = 0.0
    """Of an undisturbed run."""

    @classmethod
    def serving(cls, size: int) -> AbstractContextManager[StandIn]:
        """Start the search service."""
        return server.running(size, LATENCY_MS, algolia_task_ms=TASK_MS, algolia_log_entries=1000)

    def begin(self) -> None:
        """Patch the index twice, since only the second run finds a move: its seconds limit the random moments."""
        self.arguments = (self.database.conninfo, self.service.url)
        for name in ("first run", "undisturbed"):
            self.rebuild()
            self.patch(name)

    def step(self) -> str:
        """Kill a process, perhaps after a rebuild or during one."""
        events = []
        if not self.has_open_pass() or self.random.random() < 0.2:
            events.append(f"moved at {self.rebuild():%H:%M:%S}")
        with ThreadPoolExecutor(1) as indexing:
            rebuilding: list[Future[datetime]] = []
            if self.random.random() < 0.1:
                rebuilding.append(indexing.submit(self.rebuild))
            ended = self.kill(1.1 * self.seconds, *self.arguments)
            events += [f"moved meanwhile at {each.result():%H:%M:%S}" for each in rebuilding]
        if _has_resumed(ended):
            self.resumed += 1
            events.append("resumed the one before")
        how = f"killed after {ended.seconds:.2f} s, {self.left_behind()}"
        return "; ".join([*events, how if ended.was_killed else "ended before it was killed"])

    def finish(self) -> str:
        """Patch the index once more; check every record."""
        self.patch("last run")
        if not self.patch("one more").startswith("Nothing to do"):
            raise WrongResult("after the last run there was still something to do")
        left = self.service.check(self.size, self.generation, was_overtaken=True)
        return (
            f"{self.killed} processes killed, {self.resumed} runs resumed, {self.generation} rebuilds: all "
            f"{self.size:,} records are right, none is new; {left} kept a value from before a move"
        )

    def rebuild(self) -> datetime:
        """Let the indexer put the next generation of the offers in place; returns when."""
        self.generation += 1
        return indexer.rebuild(self.service.url, records=self.size, generation=self.generation)

    def patch(self, name: str) -> str:
        """Let a process finish; returns its summary."""
        ended = self.let_finish(*self.arguments)
        self.seconds = ended.seconds
        self.resumed += _has_resumed(ended)
        print(f"     {name}: {ended.output.strip()} ({ended.seconds:.2f} s)", flush=True)
        return ended.output

    def has_open_pass(self) -> bool:
        """Return whether a pass is open, once PostgreSQL has noticed the death of the last process."""
        self.database.wait_until_alone()
        return bool(self.database.value("SELECT count(*) FROM search_pass WHERE state = 'open'"))

    def left_behind(self) -> str:
        """Return what the killed process had saved of its pass."""
        if not self.has_open_pass():
            return "no pass is open"
        row = self.database.connection.execute(
            "SELECT mark -> 'report' ->> 'read', jsonb_array_length(mark -> 'tasks') FROM search_pass"
            " WHERE state = 'open'"
        ).fetchone()
        return f"saved {int(row[0]):,} records and {row[1]} open tasks" if row and row[0] else "nothing saved"


def _has_resumed(ended: kill.Ended) -> bool:
    return any(words in ended.log for words in RESUMED)


def work(conninfo: str, url: str) -> None:
    """Do what the task of a minute does."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    print(run_once(conninfo, url, ready=kill.ready).summary, flush=True)


run = partial(kill.run, SearchKills)
"""Kill a number of processes, with a seed or a random one; returns whether everything is right."""

if __name__ == "__main__":
    kill.worker(work)
