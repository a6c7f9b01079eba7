"""The patching of a search index in the benchmarks: every contender leaves what the rule says, or it is noticed."""

import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import psycopg
import pytest

from bench import soak
from bench.__main__ import NAMES, PARTS, arguments
from bench.database import attached
from bench.measuring import Measured
from bench.search import rounds, soak_kills, soak_size, standin
from bench.search.results import SearchResults, part
from bench.search.rounds import CONTENDERS, Arena, Outcome
from bench.search.standin import WrongRecords
from bench.search.task import ALL, NONE, QUIET, SOME


@pytest.fixture(scope="module")
def service():
    with standin.running(2000) as running:
        yield running


@pytest.fixture
def held(postgres, database):
    with attached(database) as attached_to:
        yield attached_to


def test_every_contender_leaves_what_the_rule_says(service, held, tmp_path):
    told = []
    rounds.play(service, held, CONTENDERS, 2000, folder=tmp_path, tell=told.append)
    figures = {(each.contender, each.phase): each for each in told}
    assert len(figures) == len(told) == 10
    changing = sum("customerDispo" in record for record in standin.expected(2000, 1))
    assert 1900 < changing < 2000
    for name in ("watch", "helper-differing"):
        assert [figures[name, phase].sent for phase in (ALL, SOME, NONE)] == [changing, -(-changing // 100), 0]
    assert [figures["helper-all", phase].sent for phase in (ALL, SOME, NONE)] == [changing] * 3
    assert figures["watch", QUIET].sent == 0
    assert figures["watch", QUIET].requests <= 3
    assert figures["helper-differing", NONE].requests == 2
    assert all(each.measured.seconds > 0 and each.arena == Arena(2000, 0) for each in told)


def test_a_wrong_record_is_noticed(service):
    service.rebuild(2000, NONE)
    service.check(2000)
    service.write("offers", [{"objectID": "1000000007", "customerDispo": "?"}])
    with pytest.raises(WrongRecords, match="1000000007"):
        service.check(2000)


def test_a_new_record_is_noticed(service):
    service.rebuild(2000, NONE)
    service.ask("PUT", "/1/indexes/offers/new", {"customerDispo": "disponible"})
    with pytest.raises(WrongRecords, match="'new'"):
        service.check(2000)


def test_a_record_that_is_gone_is_noticed(service):
    service.rebuild(2000, NONE)
    service.ask("DELETE", "/1/indexes/offers/1000001999")
    with pytest.raises(WrongRecords, match="1999 records instead of 2000"):
        service.check(2000)


def test_what_a_move_overtook_may_stay_where_the_rule_says_nothing(service):
    service.rebuild(2000, NONE)
    silent = [record["objectID"] for record in standin.expected(2000, 1) if "customerDispo" not in record]
    service.write("offers", [{"objectID": each, "customerDispo": "en stock"} for each in silent[:2]])
    assert service.check(2000, was_overtaken=True) == 2
    with pytest.raises(WrongRecords):
        service.check(2000)
    service.write("offers", [{"objectID": silent[0], "price": 1}])
    with pytest.raises(WrongRecords):
        service.check(2000, was_overtaken=True)


def test_a_run_that_does_nothing_is_noticed(service, held, tmp_path, monkeypatch):
    monkeypatch.setattr(rounds, "measure", lambda *_: Measured(0.1, 0.1, 10, 1))
    with pytest.raises(WrongRecords):
        rounds.play(service, held, CONTENDERS[:1], 2000, folder=tmp_path, tell=lambda _: None)


def outcome(name, phase, seconds, records=100_000, latency=0.0):
    return Outcome(Arena(records, latency), name, phase, Measured(seconds, seconds, 80, 3), 300, 99_000)


def test_medians_are_compared_with_this_project():
    measured = [
        *(outcome("watch", phase, seconds) for phase in (ALL, SOME, NONE) for seconds in (1.0, 2.0, 9.0)),
        outcome("watch", QUIET, 0.2),
        *(outcome("helper-all", phase, 3.0) for phase in (ALL, SOME, NONE)),
        *(outcome("helper-differing", phase, 4.0) for phase in (ALL, SOME, NONE)),
    ]
    results = SearchResults(measured)
    page = part(results, "18.1")
    assert page.startswith("## Patching a search index")
    assert "3 rounds" in page
    assert "| 100,000 offers, at once | this project | 2.00 | 2.00 | 2.00 | 0.20 | 1.00 / 1.00 / 1.00 |" in page
    assert "sending all | 3.00 | 3.00 | 3.00 |  | 1.50 / 1.50 / 1.50 |" in page
    reached = {told: is_reached for told, _, _, is_reached in results.aims()}
    before = "100,000 offers, at once"
    assert reached == {
        f"{before}, all change: the client's helpers, sending what differs ÷ this project": True,
        f"{before}, all change: the client's helpers, sending all ÷ this project": False,
        f"{before}: seconds of a quiet minute": True,
    }


def test_a_slow_quiet_minute_is_told():
    (_, _, _, is_reached), *_ = SearchResults([outcome("watch", QUIET, 0.4, latency=50.0)]).aims()
    assert not is_reached


@pytest.mark.parametrize("what", [[], ["search"], ["inbound"], ["inbound", "search"]])
def test_parts_can_be_chosen(what):
    assert arguments(what).what == what
    assert set(what) <= set(PARTS)


def test_names_tell_the_parts_apart():
    assert not NAMES["inbound"] & NAMES["search"]


def test_the_soak_of_sizes_looks_at_memory_and_records(tmp_path, capsys, monkeypatch, held):
    monkeypatch.setattr(soak_size.database, "running", lambda _: _Given(held))
    assert soak.main(["search-size", "--offers", "2000", "--folder", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "Memory is flat" in told
    assert "2,000 records: the client's helpers, all change" in told


class _Given:
    """A context manager around what is there already."""

    def __init__(self, value):
        self.value = value

    def __enter__(self):
        return self.value

    def __exit__(self, *_):
        return None


def test_the_soak_of_sizes_fails_when_memory_grows(tmp_path, capsys, monkeypatch, held):
    peaks = iter([80, 80, 80, 95])
    monkeypatch.setattr(soak_size.database, "running", lambda _: _Given(held))
    monkeypatch.setattr(soak_size, "_beside", lambda *_: None)
    monkeypatch.setattr(soak_size, "_pass", lambda *_: Measured(1, 1, next(peaks), 3))
    assert soak.main(["search-size", "--offers", "1000", "2000", "--folder", str(tmp_path)]) == 1
    assert "Memory is NOT flat" in capsys.readouterr().out


class _KilledWhenMarked(soak_kills.Soak):
    """Kills as soon as a process has noted how far it is; the indexer does nothing meanwhile."""

    draw = SimpleNamespace(random=lambda: 0.5, uniform=lambda *_: 0.0)

    def __init__(self, *given):
        super().__init__(*given, seed=1)
        del self.__dict__["draw"]

    def wait(self, seconds):
        marked = "SELECT FROM search_pass WHERE state = 'open' AND mark IS NOT NULL"
        while self.held.connection.execute(marked).fetchone() is None:
            time.sleep(0.01)


def test_killed_runs_are_taken_up(held):
    with standin.running(8000, 80, algolia_task_ms=200.0, algolia_log_entries=1000) as service:
        soaked = _KilledWhenMarked(service, held, 8000)
        with ThreadPoolExecutor(1) as indexing:
            soaked.step(indexing)
        soaked.let_through("the next one")
        service.check(8000, generation=1)
    assert (soaked.killed, soaked.taken_up, soaked.moved) == (1, 1, 1)


def test_a_pass_of_the_soak_that_leaves_something_is_noticed(held, monkeypatch):
    with standin.running(1000) as service:
        soaked = soak_kills.Soak(service, held, 1000, seed=5)
        monkeypatch.setattr(soaked, "let_through", lambda _: "Nothing to do")
        with pytest.raises(WrongRecords):
            soaked.run(0)


def test_forgetting_leaves_nothing(held):
    held.connection.execute("INSERT INTO search_index (application_id, index_name) VALUES ('a', 'b')")
    rounds.forget_all(held.connection)
    with psycopg.connect(held.conninfo) as connection:
        assert connection.execute("SELECT FROM search_index").fetchall() == []
