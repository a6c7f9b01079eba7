"""A process killed with SIGKILL in the middle of a patch: the next run resumes it."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.search.conftest import OFFERS
from tests.search.killed import PAGE

ROOT = Path(__file__).parents[2]
PAGES = OFFERS // PAGE


def kill(site, database, *moment):
    command = [sys.executable, "-m", "tests.search.killed", database, site.url, *moment]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.fixture
def pages(set_page):
    set_page(PAGE)


def records_before_checkpoint(connection):
    """What the killed process left: the number of records before its checkpoint."""
    ((marked, read),) = connection.execute(
        "SELECT mark IS NOT NULL, (mark #>> '{report,read}')::int FROM search_pass WHERE state = 'open'"
    ).fetchall()
    return read if marked else 0


@pytest.mark.parametrize(
    "moment", [("browse", "11", "before"), ("patch", "11", "after"), ("save_checkpoint", "12", "after")], ids=" ".join
)
def test_a_killed_run_is_resumed_from_its_checkpoint(pages, site, look, database, connection, passes, moment):
    site.rebuild()
    kill(site, database, *moment)
    read = records_before_checkpoint(connection)
    deleted = list(site.expected())[50::120]
    site.delete(*deleted)
    index = site.index()
    done = look(site, index=index)
    assert index.pages == PAGES - read // PAGE
    assert index.pages < PAGES or moment[0] != "save_checkpoint"
    assert (done.reason, done.is_finished) == ("first run", True)
    assert OFFERS - len(deleted) <= done.report.read <= OFFERS
    assert site.is_right(without=deleted)
    assert passes() == [("first run", "done", None)]


def test_killed_once_more(pages, site, look, database, connection):
    """Each resumes where the last one stopped."""
    stood = []
    for _ in range(2):
        kill(site, database, "save_checkpoint", "3", "after")
        stood.append(records_before_checkpoint(connection))
    assert 0 < stood[0] < stood[1]
    done = look(site)
    assert done.report.read == OFFERS
    assert site.is_right()


def test_a_rebuild_after_the_kill_restarts_it(pages, site, look, database):
    kill(site, database, "patch", "9", "after")
    site.rebuild()
    index = site.index()
    assert look(site, index=index).report.read == OFFERS
    assert index.pages == PAGES
    assert site.is_right()


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_when_all_was_done(pages, site, look, database, passes, when):
    """The state of the index is stored before the pass is closed: nothing is left but to say so."""
    kill(site, database, "finish_pass", "1", when)
    assert site.is_right()
    index = site.index()
    look(site, index=index)
    assert not index.batches
    assert {state for _, state, _ in passes()} == {"done"}
    assert site.is_right()
