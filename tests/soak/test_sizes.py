"""The soaks of large amounts pass when memory is flat and the results are right, and fail otherwise."""

from contextlib import nullcontext

import pytest

from bench import frame
from bench.inbound.benchmark import Inbound
from bench.measuring import Usage
from soak import __main__ as command
from soak import sizes


@pytest.fixture
def soak(running, tmp_path, monkeypatch):
    monkeypatch.setattr(sizes.database, "running", lambda _: nullcontext(running))
    return lambda *options: command.main([*options, "--folder", str(tmp_path)])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["sizes", "--records", "1000", "2000"], "engine-dateless, unchanged, 2,000"),
        (["search-size", "--offers", "2000"], "watch, forced, 2,000"),
        (["outbound-size", "--orders", "300", "600"], "drain, none, 600"),
    ],
)
def test_memory_is_flat_and_the_results_are_right(soak, capsys, options, words):
    assert soak(*options) == 0
    output = capsys.readouterr().out
    assert "Memory is flat" in output
    assert words in output


@pytest.mark.parametrize(
    ("usages", "status"),
    [
        ([(80, 3), (80, 4), (81, 5), (82, 6)], 0),
        ([(80, 3), (80, 3), (80, 3), (80, 31)], 1),
        ([(80, 3), (80, 3), (80, 3), (95, 3)], 1),
    ],
)
def test_memory_that_grows_fails(soak, capsys, monkeypatch, usages, status):
    remaining = iter(usages)
    monkeypatch.setattr(frame, "measure", lambda *_, **__: Usage(1, 1, *next(remaining)))
    monkeypatch.setattr(Inbound, "check", lambda *_: {})
    monkeypatch.setitem(sizes.SIZES, Inbound, {"engine": ("first", "unchanged")})
    assert soak("sizes", "--records", "1000", "2000") == status
    assert f"Memory is {'NOT flat' if status else 'flat'}" in capsys.readouterr().out


def test_wrong_results_fail(soak, capsys, monkeypatch):
    monkeypatch.setattr(frame, "measure", lambda *_, **__: Usage(1, 1, 80, 3))
    assert soak("sizes", "--records", "1000") == 1
    monkeypatch.undo()


def test_wrong_objects_fail(soak, capsys, monkeypatch):
    monkeypatch.setattr(sizes.data, "checksum", lambda _: 1)
    assert soak("outbound-size", "--orders", "10") == 1
    assert "WRONG: drain, all: exit status 1" in capsys.readouterr().out
