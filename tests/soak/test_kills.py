"""The kill tests and the outage, in small: nothing is lost, and what is wrong is noticed."""

import time
from types import SimpleNamespace

import pytest

from bench.measuring import WrongResult
from bench.outbound import server as target_server
from bench.search import server as search_server
from soak import kill, outbound_kills
from soak.outbound_kills import OutboundKills
from soak.outbound_outage import outage
from soak.search_kills import SearchKills


@pytest.fixture
def target():
    with target_server.running() as service:
        yield service


def test_killed_workers_lose_nothing(target, running, capsys, monkeypatch):
    monkeypatch.setattr(outbound_kills, "MAX_LIFE", 0.2)
    OutboundKills(running, target, 1500, seed=3).run(2)
    output = capsys.readouterr().out
    assert "2 processes killed" in output
    assert "All 4,500 objects" in output


def test_a_parked_order_is_noticed_after_the_kills(target, running, monkeypatch):
    test = OutboundKills(running, target, 5, seed=3)
    test.begin()
    running.connection.execute("UPDATE outbound_queue SET need_manual_retry = 'timeout'")
    monkeypatch.setattr(test, "let_finish", lambda *_: kill.Ended(False, 0.1, "", ""))
    with pytest.raises(WrongResult, match="timeout"):
        test.finish()


class _KilledWhenSaved(SearchKills):
    """Kills a process as soon as it has saved its position; the indexer does nothing meanwhile."""

    def begin(self):
        self.arguments = (self.database.conninfo, self.service.url)
        self.random = SimpleNamespace(random=lambda: 0.5, uniform=lambda *_: 0.0)

    def wait(self, seconds):
        while not self.database.value("SELECT count(*) FROM search_pass WHERE state = 'open' AND mark IS NOT NULL"):
            time.sleep(0.01)


def test_killed_patches_are_resumed(running, capsys):
    with search_server.running(8000, 80, algolia_task_ms=200.0, algolia_log_entries=1000) as service:
        test = _KilledWhenSaved(running, service, 8000, seed=1)
        test.run(1)
    assert (test.killed, test.resumed, test.generation) == (1, 1, 1)
    assert "all 8,000 records are right" in capsys.readouterr().out


def test_a_record_that_a_patch_leaves_wrong_is_noticed(running, monkeypatch):
    with search_server.running(1000) as service:
        test = SearchKills(running, service, 1000, seed=5)
        monkeypatch.setattr(test, "let_finish", lambda *_: kill.Ended(False, 0.1, "Nothing to do", ""))
        with pytest.raises(WrongResult):
            test.run(0)


def test_an_outage_loses_nothing(target, running):
    assert "all 1,800 objects were sent once, no order is parked" in outage(target, running, 600, 3)
