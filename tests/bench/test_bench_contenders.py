"""Every contender leaves the rows that were listed, and the harness notices when one does not."""

from dataclasses import replace
from pathlib import Path

import pytest

from bench import database, peers, rounds
from bench.entries import CONTENDERS, chosen
from bench.measuring import Measured
from bench.rounds import Arena, WrongRows
from bench.serving import serving

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def ring(postgres, new_database, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    if (ROOT / ".bench" / "venv").is_dir():
        (folder / "venv").symlink_to(ROOT / ".bench" / "venv")
    with database.attached(new_database()) as held, serving("bench.server") as url:
        yield Arena(folder, held, url)


@pytest.mark.parametrize("contender", CONTENDERS, ids=lambda contender: contender.name)
def test_a_contender_leaves_what_was_listed(ring, contender):
    if contender.is_installed_apart and not peers.are_installed(ring.folder):
        pytest.skip("installed by the first `make bench`")
    told = []
    phases = ("first",) if contender.name == "hook" else ("first", "changed")  # its process takes seconds to begin
    ring.play(replace(contender, phases=phases), 2000, told.append)
    assert tuple(outcome.phase for outcome in told) == phases
    assert all(outcome.measured.seconds > 0 and outcome.records == 2000 for outcome in told)


def test_rows_that_are_not_there_are_noticed(ring, monkeypatch):
    monkeypatch.setattr(rounds, "run", lambda *_: Measured(0.1, 0.1, 10, 1))
    with pytest.raises(WrongRows, match="yardstick, first"):
        ring.play(*chosen(["yardstick"]), 1000, lambda _: None)


def test_a_contender_that_fails_is_named(ring):
    broken = replace(*chosen(["engine"]), module="no_such_module")
    with pytest.raises(RuntimeError, match=r"engine, first: exit status 1[\s\S]*no_such_module"):
        ring.play(broken, 1000, lambda _: None)


def test_an_unknown_name_is_told():
    with pytest.raises(ValueError, match="no contender dtl; there are yardstick, "):
        chosen(["dtl"])
