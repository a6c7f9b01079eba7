"""The theatres in the benchmarks: every contender leaves what is listed, or it is noticed."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from bench.__main__ import NAMES, PARTS, arguments
from bench.database import attached
from bench.measuring import Measured
from bench.rounds import WrongRows
from bench.theatres import rounds, standin
from bench.theatres.data import CHANGED, FIRST, Programme, theatre_id
from bench.theatres.results import TheatreResults, part
from bench.theatres.rounds import CONTENDERS, Arena, Outcome
from bench.theatres.task import ALL, NONE, SOME
from include.providers.allocine_listing import Edge, decode_listing

SMALL = Programme(4, 12, datetime.now(UTC).date() + timedelta(days=2))
PLACE = Arena(4, 12, 5.0, 3)


@pytest.fixture(scope="module")
def url():
    with standin.running(SMALL) as address:
        yield address


@pytest.fixture
def held(postgres, database):
    with attached(database) as attached_to:
        yield attached_to


def play(url, held, tmp_path, *, names=(), phases=(ALL, NONE, SOME)):
    chosen = [replace(each, phases=phases) for each in CONTENDERS if not names or each.name in names]
    return rounds.play(url, held, chosen, PLACE, SMALL, folder=tmp_path, tell=lambda _: None)


def test_every_contender_leaves_what_is_listed(url, held, tmp_path):
    told = play(url, held, tmp_path, phases=(ALL, NONE))
    assert [(each.contender, each.phase) for each in told] == [
        (each.name, phase) for each in CONTENDERS for phase in (ALL, NONE)
    ]
    assert all(each.measured.seconds >= PLACE.latency_ms / 1000 for each in told)
    states = held.connection.execute("SELECT DISTINCT state FROM catalog").fetchall()
    assert states in ([], [("loaded",)])


def test_the_plain_loop_takes_off_sale_what_moved(url, held, tmp_path):
    play(url, held, tmp_path, names={rounds.PLAIN})
    assert held.connection.execute("SELECT count(*) FROM stock WHERE is_soft_deleted").fetchone() > (0,)


def test_this_project_takes_off_sale_what_moved(url, held, tmp_path):
    play(url, held, tmp_path, names={rounds.BATCHES})


def test_rows_that_are_wrong_are_noticed(url, held, tmp_path, monkeypatch):
    monkeypatch.setattr(rounds, "measure", lambda *_: Measured(0.1, 0.1, 10, 1))
    with pytest.raises(WrongRows, match="theatres-plain, first"):
        play(url, held, tmp_path, names={rounds.PLAIN})


def test_one_showtime_in_a_hundred_changes():
    large = replace(SMALL, theatres=40)
    moved = sum(
        before.at != after.at
        for theatre in range(40)
        for movie in large.movies_of(theatre)
        for before, after in zip(
            large.showtimes(theatre, movie, FIRST), large.showtimes(theatre, movie, CHANGED), strict=True
        )
    )
    assert moved == pytest.approx(large.sums(FIRST).stocks / 100, rel=0.5)
    assert large.sums(FIRST)[:4] == large.sums(CHANGED)[:4]
    assert large.sums(FIRST).stock_checksum != large.sums(CHANGED).stock_checksum


def test_listings_are_those_of_the_service():
    body = standin.answers(SMALL)(f"/{FIRST}/movieShowtimeList?theater={theatre_id(1)}")
    found = decode_listing(body)
    assert (len(found.edges), found.total_count, json.loads(body)["movieShowtimeList"]["totalCount"]) == (12, 12, 12)
    assert all(isinstance(edge, Edge) for edge in found.edges)
    assert sum(one.is_plain for edge in found.edges for one in edge.node.showtimes) == 12 * 9


def outcome(name, phase, seconds):
    return Outcome(Arena(80, 60, 50.0, 8), name, phase, Measured(seconds, seconds, 70, 5), seconds / 2)


def test_medians_are_compared_with_the_plain_loop_and_the_service():
    measured = [
        *(outcome(rounds.BATCHES, phase, seconds) for phase in (ALL, NONE, SOME) for seconds in (1.0, 2.0, 9.0)),
        *(outcome(rounds.PLAIN, phase, 8.0) for phase in (ALL, NONE, SOME)),
    ]
    page = part(TheatreResults(measured), "18.1")
    assert page.startswith("## Showtimes of many theatres")
    assert "3 rounds" in page
    assert (
        "| 80 theatres of 60 movies, 50 ms an answer | this project, 8 processes | 2.00 | 2.00 | 2.00 |"
        " 40.0 / 40.0 / 40.0 | 4.00 / 4.00 / 4.00 | 4.00 / 4.00 / 4.00 |"
    ) in page
    assert "| 10.0 / 10.0 / 10.0 | 2.00 / 2.00 / 2.00 | 1.00 / 1.00 / 1.00 |" in page


def test_the_part_can_be_chosen():
    options = arguments(["theatres", "--theatres", "4", "--movies", "12", "--at-once", "2"])
    assert (options.what, options.theatres, options.at_once) == (["theatres"], 4, 2)
    assert "theatres" in PARTS
    assert not NAMES["theatres"] & (NAMES["inbound"] | NAMES["search"] | NAMES["outbound"])
