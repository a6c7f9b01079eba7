"""Every competitor leaves what it should, or the benchmark fails; medians, ratios, goals and the page."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from bench import __main__ as command
from bench import database, frame, peers
from bench.__main__ import COMPETITORS, parse
from bench.frame import Line, Result
from bench.inbound.benchmark import SLOW, Inbound
from bench.measuring import Usage, WrongResult
from bench.outbound.benchmark import Outbound
from bench.search.benchmark import Search
from bench.search.server import expected
from bench.theatres.benchmark import Theatres
from bench.theatres.data import CHANGED, FIRST, Schedule
from soak.sizes import chosen

SMALL = ["--records", "2000", "--theatres", "3", "--movies", "12", "--offers", "2000", "--orders", "100", "100"]
VENV = Path(__file__).parents[2] / ".bench" / "venv"
CASES = [(Inbound, each.name) for each in Inbound.competitors] + [(Theatres, ""), (Search, ""), (Outbound, "")]


@pytest.fixture
def make(running, tmp_path):
    return lambda kind, *options: kind(running, tmp_path, parse([*SMALL, *options]))


def run(benchmark, *competitors):
    scenario = benchmark.scenarios()[0]
    with benchmark.serving(scenario):
        for competitor in competitors or benchmark.competitors:
            benchmark.run_competitor(competitor, scenario)
    return benchmark.results


@pytest.mark.parametrize(("kind", "name"), CASES, ids=lambda value: value if isinstance(value, str) else value.name)
def test_every_competitor_leaves_what_it_should(make, running, tmp_path, kind, name):
    if VENV.is_dir():
        (tmp_path / "venv").symlink_to(VENV)
    benchmark = make(kind)
    competitors = [each for each in kind.competitors if name in ("", each.name)]
    if competitors[0].is_peer and not peers.are_installed(tmp_path):
        pytest.skip("installed by the first `make bench`")
    if name == "hook":  # its process takes seconds to start
        competitors = [replace(competitors[0], phases=("first",))]
    results = run(benchmark, *competitors)
    assert [(each.competitor, each.phase) for each in results] == [
        (each.name, phase) for each in competitors for phase in each.phases
    ]
    assert all(each.figures["seconds"] > 0 and each.figures["database_seconds"] >= 0 for each in results)
    assert {each.size for each in results} == ({100, 20} if kind is Outbound else {benchmark.scenarios()[0].size})
    if kind is Theatres:
        assert all(each.figures["seconds"] >= 0.05 for each in results)
        assert running.connection.execute("SELECT DISTINCT state FROM catalog").fetchall() in ([], [("loaded",)])
        assert running.value("SELECT count(*) FROM stock WHERE is_soft_deleted") > 0  # the script's moved showtimes
    if kind is Search:
        assert_only_what_differs_was_sent({(each.competitor, each.phase): each.figures for each in results})


def assert_only_what_differs_was_sent(figures):
    changing = sum("customerDispo" in record for record in expected(2000, 1))
    assert 1900 < changing < 2000
    sent = {key: each["records_sent"] for key, each in figures.items()}
    for name in ("watch", "helper-differing"):
        assert [sent[name, phase] for phase in ("all", "some", "none")] == [changing, -(-changing // 100), 0]
    assert sent["watch", "quiet"] == 0
    assert figures["watch", "quiet"]["requests"] <= 3
    assert figures["helper-differing", "none"]["requests"] == 2


@pytest.mark.parametrize(
    ("kind", "name", "words"),
    [
        (Inbound, "yardstick", "yardstick, first"),
        (Theatres, "theatres-plain", "theatres-plain, first"),
        (Search, "watch", "the index has"),
        (Outbound, "drain", "the target has"),
    ],
)
def test_a_competitor_that_does_nothing_is_noticed(make, monkeypatch, kind, name, words):
    monkeypatch.setattr(frame, "measure", lambda *_, **__: Usage(0.1, 0.1, 10, 1))
    benchmark = make(kind)
    with pytest.raises(WrongResult, match=words):
        run(benchmark, *[each for each in benchmark.competitors if each.name == name])


def test_a_competitor_that_fails_is_named(make):
    benchmark = make(Inbound)
    broken = replace(chosen(benchmark, "engine", ("first",)), module="no_such_module")
    with pytest.raises(RuntimeError, match=r"engine, first: exit status 1[\s\S]*no_such_module"):
        run(benchmark, broken)


def test_one_showtime_in_a_hundred_changes():
    schedule = Schedule(40, 12, frame.datetime.now(frame.UTC).date())
    first, changed = schedule.tables(FIRST), schedule.tables(CHANGED)
    assert (first["product"], first["offer"]) == (changed["product"], changed["offer"])
    assert len(first["stock"] - changed["stock"]) == pytest.approx(len(first["stock"]) / 100, rel=0.5)


def figures(seconds, **others):
    return {
        **{"seconds": seconds, "cpu_seconds": seconds, "peak": 50, "growth": 3, "wal": 0.5},
        **{"database_seconds": seconds / 2, "requests": 300, "records_sent": 99_000, **others},
    }


DATED, BEFORE = "this project, dated records", "100,000 offers, no latency"
TABLES = [
    (
        Inbound,
        "--records 1000",
        "yardstick first 1 2 9; yardstick unchanged 1; engine first 3 2.5 2; engine unchanged 1.5",
        [f"| 1,000 records, no latency | {DATED} | 2.50 |  | 1.50 |", "| 1.25 | 1.50 |"],
        [
            (f"{DATED}: first load ÷ the yardstick's first load", 1.25, True),
            (f"{DATED}: unchanged ÷ the yardstick's unchanged", 1.5, False),
            (f"{DATED}: WAL MB when nothing changed", 0.5, True),
            (f"{DATED}: memory growth, MiB", 3, True),
        ],
    ),
    (
        Theatres,
        "--theatres 80 --movies 60",
        "theatres-batches * 1 2 9; theatres-plain * 8",
        [
            "| 80 theatres of 60 movies, 50 ms a response | this project, several processes | 8 | 2.00 | 2.00 | 2.00 |"
            " 40.0 / 40.0 / 40.0 | 4.00 / 4.00 / 4.00 | 4.00 / 4.00 / 4.00 |",
            "| 10.0 / 10.0 / 10.0 | 2.00 / 2.00 / 2.00 | 1.00 / 1.00 / 1.00 |",
        ],
        [],
    ),
    (
        Search,
        "--offers 100000",
        "watch all 1 2 9; watch some 2; watch none 2; watch quiet 0.4; helper-differing * 3",
        [
            f"| {BEFORE} | this project | 2.00 | 2.00 | 2.00 | 0.40 | 1.00 / 1.00 / 1.00 |",
            "sending what differs | 3.00 | 3.00 | 3.00 |  | 1.50 / 1.50 / 1.50 |",
        ],
        [
            (f"{BEFORE}, all change: the client's helpers, sending what differs ÷ this project", 1.5, False),
            (f"{BEFORE}: seconds of a quiet minute", 0.4, False),
        ],
    ),
    (
        Outbound,
        "--orders 1000 1000",
        "drain * 1 2 9; plain-loop * 1.8",
        [
            "| 1,000 orders, no latency | this project | 500 | 500 | 4.50 / 4.50 | 2.00 / 2.00 | 1.00 / 1.00 |",
            "a script (200 orders) | 111 | 111 | 1.00 / 1.00 |",
        ],
        [("1,000 orders, no latency: orders/s of this project ÷ the script's", 4.5, True)],
    ),
]


@pytest.mark.parametrize(("kind", "options", "measured", "rows", "goals"), TABLES)
def test_medians_are_compared_and_judged(make, kind, options, measured, rows, goals):
    benchmark = make(kind, *options.split())
    scenario = benchmark.scenarios()[0]
    for name, phase, *rounds in map(str.split, measured.split(";")):
        competitor = chosen(benchmark, name, ())
        phases = next(each for each in kind.competitors if each.name == name).phases if phase == "*" else [phase]
        size = benchmark.size(competitor, scenario)
        benchmark.results += [
            Result(scenario, name, each, size, figures(float(seconds))) for each in phases for seconds in rounds
        ]
    page = benchmark.measured()
    assert "medians of 3 rounds" in page
    assert f"PostgreSQL {benchmark.database.value('SHOW server_version')}" in page
    assert [row for row in rows if row not in page] == []
    judged = [(goal.text, goal.figure, goal.is_reached) for goal in benchmark.goals()]
    assert judged == [(text, pytest.approx(figure), is_reached) for text, figure, is_reached in goals]


@pytest.mark.parametrize(("orders_per_second", "is_reached"), [(9, False), (10, True)])
def test_the_limit_of_a_goal_depends_on_the_latency(make, orders_per_second, is_reached):
    benchmark = make(Outbound)
    _, slow = benchmark.scenarios()
    for name, rate in (("drain", orders_per_second), ("plain-loop", 1)):
        benchmark.results.append(Result(slow, name, "all", 10, figures(10 / rate)))
    assert [goal.is_reached for goal in benchmark.goals()] == [is_reached]


def test_the_slow_listing_is_compared_with_what_the_service_takes(make):
    benchmark = make(Inbound)
    ran = {each.name: benchmark.phases(each, SLOW) for each in benchmark.competitors}
    assert ran == {**dict.fromkeys(ran, ()), "engine": ("first",)}
    benchmark.results.append(Result(SLOW, "engine", "first", 100_000, figures(10.6)))
    assert isinstance(benchmark.line(SLOW, "engine"), Line)
    assert "| 101 responses of 100 ms: seconds ÷ what the service takes | 1.05 | ≤ 1.1 | yes |" in benchmark.measured()


def test_the_figures_of_a_section_are_replaced_and_its_text_stays(tmp_path):
    page = tmp_path / "page.md"
    old, new = "`make bench` on 2026-01-01: 5", "`make bench` on 2026-02-02: 7"
    page.write_text(f"# Benchmarks\n\nWhat.\n\n{old}\n\n| a |\n\n## Orders\n\nHow.\n\n{old}\n")
    frame.write(page, "# Benchmarks", f"{new}\n")
    frame.write(page, "## Orders", f"{new}\n\n| b |\n")
    assert page.read_text() == f"# Benchmarks\n\nWhat.\n\n{new}\n\n## Orders\n\nHow.\n\n{new}\n\n| b |\n"
    with pytest.raises(ValueError, match="no figures below"):
        frame.write(page, "## Other", new)


def test_names_and_options_are_unique_and_wrong_ones_are_rejected(capsys):
    assert len({*COMPETITORS}) == len(COMPETITORS)
    assert parse(["search", "inbound"]).what == ["search", "inbound"]
    assert parse([]).what == []
    with pytest.raises(SystemExit):
        parse(["--only", "dtl"])
    assert "'yardstick'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changed", "is_right", "words"),
    [([], True, "Written to"), (SMALL, True, "| 2,000 records"), ([], False, "Wrong result")],
)
def test_the_command_writes_the_page_unless_a_size_is_changed(
    monkeypatch, capsys, running, tmp_path, changed, is_right, words
):
    """The competitors run on a listing of one page, though nothing was changed."""
    monkeypatch.setattr(database, "running", lambda _: nullcontext(running))
    monkeypatch.setattr(Inbound, "competitors", Inbound.competitors[:1])
    monkeypatch.setattr(Inbound, "scenarios", lambda _: [frame.Scenario(2000, "records")])
    page = tmp_path / "page.md"
    page.write_text("# Benchmarks\n\n`make bench` on no day\n")
    monkeypatch.setattr(frame, "PAGE", page)
    if not is_right:
        monkeypatch.setattr(frame, "measure", lambda *_, **__: Usage(0.1, 0.1, 10, 1))
    assert command.main(["inbound", "--rounds", "1", "--folder", str(tmp_path), *changed]) == (not is_right)
    assert words in capsys.readouterr().out
    assert ("2,000 records" in page.read_text()) is (words == "Written to")
