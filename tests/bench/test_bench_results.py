"""Medians, ratios and targets; and when the soak fails."""

from contextlib import contextmanager

import pytest

from bench import soak, tables
from bench.entries import chosen
from bench.measuring import Measured
from bench.results import Latency, Results, part
from bench.rounds import Outcome, WrongRows


def outcomes(name, phase, *seconds, growth=3.0, wal=0.5):
    return [Outcome(name, phase, 1000, Measured(each, each, 50, growth), wal) for each in seconds]


def test_medians_are_compared_with_the_yardstick():
    measured = [
        *outcomes("yardstick", "first", 1.0, 2.0, 9.0),
        *outcomes("yardstick", "unchanged", 1.0, 1.0, 1.0),
        *outcomes("engine", "first", 3.0, 2.5, 2.0),
        *outcomes("engine", "unchanged", 1.5, 1.5, 1.5),
    ]
    results = Results(chosen(["yardstick", "engine"]), measured, "18.1")
    page = part(results, Latency(answers=11, milliseconds=100, seconds=1.15))
    assert "3 rounds" in page
    assert "PostgreSQL 18.1" in page
    reached = {told: (round(value, 2), is_reached) for told, value, _, is_reached in results.targets()}
    assert reached["this project, dated records: first load ÷ the yardstick's first load"] == (1.25, True)
    assert reached["this project, dated records: unchanged ÷ the yardstick's unchanged"] == (1.5, False)
    assert "| 11 answers of 100 ms: seconds ÷ what the service takes | 1.045 | ≤ 1.1 | yes |" in page


def test_each_part_of_the_page_is_written_by_itself(tmp_path):
    page = tmp_path / "results.md"
    tables.put(page, "# Benchmarks\n\nold\n")
    tables.put(page, "## Patching a search index\n\nold\n")
    tables.put(page, "# Benchmarks\n\nnew\n")
    assert page.read_text() == "# Benchmarks\n\nnew\n\n## Patching a search index\n\nold\n"
    tables.put(page, "## Patching a search index\n\nnew\n")
    assert page.read_text() == "# Benchmarks\n\nnew\n\n## Patching a search index\n\nnew\n"


def test_the_search_part_can_come_first(tmp_path):
    tables.put(tmp_path / "results.md", "## Patching a search index\n\nfirst\n")
    tables.put(tmp_path / "results.md", "# Benchmarks\n\nthen\n")
    assert (tmp_path / "results.md").read_text().startswith("# Benchmarks\n\nthen\n\n## Patching")


class Ring:
    """Stands for the arena: says what memory did, or that the rows are wrong."""

    def __init__(self, *growths):
        self.growths = iter(growths)

    def play(self, contender, records, tell):
        growth = next(self.growths, None)
        if growth is None:
            raise WrongRows("engine, first: 1 row is missing")
        played = [one for phase in contender.phases for one in outcomes(contender.name, phase, 1.0, growth=growth)]
        for each in played:
            tell(each)
        return played


@pytest.mark.parametrize(
    ("growths", "status", "told"),
    [((3, 4, 5, 6), 0, "Memory is flat"), ((3, 4, 5, 31), 1, "Memory is NOT flat"), ((3, 4), 1, "1 row is missing")],
)
def test_the_soak_fails_when_memory_grows_or_rows_are_wrong(monkeypatch, capsys, growths, status, told):
    @contextmanager
    def arena(_):
        yield Ring(*growths)

    monkeypatch.setattr(soak, "arena", arena)
    assert soak.main(["sizes", "--records", "1000", "2000"]) == status
    assert told in capsys.readouterr().out
