"""A process killed with SIGKILL in the middle of a sync: the next try ends as if nothing had happened."""

import pytest

from bench import soak_kills


@pytest.fixture(scope="module")
def arenas(postgres):
    with soak_kills.shop(books=3000, page=100, latency_ms=10) as (world, url):
        first = soak_kills.first_arena(postgres, url, world)
        yield lambda name: first if name == "first" else soak_kills.second_arena(first, world)


@pytest.mark.parametrize(("name", "seeds"), [("first", (6, 15)), ("second", (7, 10))])
def test_a_killed_sync_ends_as_an_undisturbed_one(arenas, name, seeds):
    arena = arenas(name)
    counts = dict(zip(soak_kills.COUNTS, arena.expected.counts[-1][3:], strict=True))
    assert min(counts["created"], counts["rejected"], counts["skipped"]) > 0
    assert arena.expected.is_marked
    results = [arena.kill(seed) for seed in seeds]
    assert any("killed after" in one for one in results), results
