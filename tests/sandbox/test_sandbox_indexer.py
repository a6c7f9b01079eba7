"""The indexer replaces the offers by those of a new generation."""

import re
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sandbox.indexer import connect, rebuild
from sandbox.offers import offers
from sandbox.testing import serving
from sandbox.world import Settings, World

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("generation", [0, 1, 7, 99])
def test_a_generation_drops_adds_and_changes_some(generation):
    settings = Settings(offers=5000)
    old, new = ({offer["objectID"]: offer for offer in offers(settings, g)} for g in (generation, generation + 1))
    assert list(offers(Settings(offers=200), generation)) == list(old.values())[:200]
    assert len(old) == len(new) == 5000
    dropped, added = old.keys() - new.keys(), new.keys() - old.keys()
    changed = [name for name in old.keys() & new.keys() if old[name] != new[name]]
    assert 50 < len(dropped) == len(added) < 200
    assert 250 < len(changed) < 750
    assert all(old[name]["title"] == new[name]["title"] for name in changed)


def test_a_dropped_offer_never_comes_back():
    settings = Settings(offers=300)
    seen, before = set(), set()
    for generation in range(120):
        names = {offer["objectID"] for offer in offers(settings, generation)}
        assert not (names - before) & seen
        seen |= names
        before = names


def test_the_offers_have_the_irregularities_of_real_ones():
    found = list(offers(Settings(offers=20_000)))
    natures = Counter(repr(offer.get("nature", "missing")) for offer in found)
    assert sum(natures[str(n)] for n in range(1, 6)) > 0.9 * len(found)
    assert min(natures[str(n)] for n in range(1, 6)) > 2000
    assert min(natures["'5'"], natures["5.0"], natures["None"], natures["'missing'"], natures["'occasion'"]) > 10
    availabilities = Counter(offer.get("disponibiliteForFO", "missing") for offer in found)
    assert availabilities.most_common(1)[0][0] == "en stock"
    assert 0.5 < availabilities["en stock"] / len(found) < 0.9
    assert min(availabilities["sur commande"], availabilities["en arrivage"], availabilities["réservé"]) > 500
    assert min(availabilities[odd] for odd in ("En stock", " en stock ", None, "missing")) > 10
    assert all("customerDispo" not in offer for offer in found)
    assert all(offer["title"] and offer["brand"] and offer["price"] > 0 and offer["city"] for offer in found)


@pytest.fixture
def url():
    with serving(World(Settings(books=10, offers=20))) as url:
        yield url


@pytest.fixture
def client(url):
    with connect(url, "SANDBOX", "sandbox-admin") as client:
        yield client


def indexed(client, index="offers"):
    return {hit.object_id: hit.to_dict() for hit in client.browse(index, {}).hits}


def test_a_rebuild_uses_the_temporary_index(url, client):
    client.set_settings("offers", {"customRanking": ["desc(price)"]})
    client.save_objects("offers_tmp", [{"objectID": "left over"}])
    before = datetime.now(UTC)
    moved = rebuild(url, records=50, generation=4, batch_size=20)
    assert before <= moved <= datetime.now(UTC)
    assert list(indexed(client)) == [offer["objectID"] for offer in offers(Settings(offers=50), 4)]
    assert client.get_settings("offers").custom_ranking == ["desc(price)"]
    assert not client.index_exists("offers_tmp")
    written = [entry.url for entry in reversed(client.get_logs(type="build", length=1000).logs)]
    batch = "/1/indexes/offers_tmp/batch"
    assert written[2:] == [
        "/1/indexes/offers_tmp",
        "/1/indexes/offers/operation",
        *[batch] * 3,
        "/1/indexes/offers_tmp/operation",
    ]


def test_a_rebuild_creates_a_missing_index(url, client):
    rebuild(url, index="cars", temporary="cars_tmp", records=10, generation=0)
    assert [hit["title"] for hit in indexed(client, "cars").values()] == [
        offer["title"] for offer in offers(Settings(offers=10))
    ]


def test_a_rebuild_waits_until_the_move_takes_effect():
    with serving(World(Settings(books=10, offers=20, algolia_task_ms=50))) as url:
        rebuild(url, records=30, generation=1)
        with connect(url, "SANDBOX", "sandbox-admin") as client:
            assert len(indexed(client)) == 30


def test_the_command_prints_the_time_of_the_move(url, client):
    command = [sys.executable, "-m", "sandbox.indexer", "--url", url, "--records", "30", "--generation", "6"]
    before = datetime.now(UTC)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    found = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00) moved, \d+\.\d s\n", done.stdout)
    assert before.replace(microsecond=0) <= datetime.fromisoformat(found[1]) <= datetime.now(UTC)
    assert list(indexed(client)) == [offer["objectID"] for offer in offers(Settings(offers=30), 6)]
