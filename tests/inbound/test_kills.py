"""A process killed with SIGKILL in the middle of a sync: the next attempt ends as if nothing had happened."""

import pytest

from bench.database import attached
from soak.inbound_kills import COUNTS, InboundKills, shop


@pytest.fixture(scope="module")
def kills(postgres, new_database):
    with shop(books=3000, page=100, latency_ms=10) as service, attached(new_database()) as running:
        test = InboundKills(running, service, 3000, seed=0)
        test.begin()
        yield test


@pytest.mark.parametrize(("run_id", "seeds"), [("first", (6, 15)), ("second", (7, 10))])
def test_a_killed_sync_ends_as_an_undisturbed_one(kills, run_id, seeds):
    if run_id != kills.run_id:
        kills.move_on()
    counts = dict(zip(COUNTS, kills.expected["counts"][-1][3:], strict=True))
    assert min(counts["created"], counts["rejected"], counts["skipped"]) > 0
    assert kills.expected["watermark"] == [(True,)]
    summaries = []
    for seed in seeds:
        kills.random.seed(seed)
        summaries.append(kills.step())
    assert any("killed after" in summary for summary in summaries), summaries
