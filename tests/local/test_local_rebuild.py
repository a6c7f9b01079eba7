"""`make rebuild`: the demo index of the sandbox that runs, and of no other."""

import io
import os
import shutil
from pathlib import Path

import httpx
import pytest
from rich.console import Console

from local import airflow, commands
from local.checkout import Checkout, LocalError
from local.console import Screen
from local.lock import CheckoutLock
from local.signals import Signals
from sandbox.testing import serving
from sandbox.world import Settings, World

ROOT = Path(__file__).parents[2]


@pytest.fixture
def local(tmp_path):
    shutil.copy(ROOT / "airflow_settings.yaml", tmp_path)
    screen = Screen(Console(file=io.StringIO(), highlight=False, soft_wrap=True))
    with_code = dict(os.environ) | {"PYTHONPATH": str(ROOT)}
    found = commands.Local(Checkout(tmp_path), screen, Signals(), with_code)
    with found.stack:
        yield found


@pytest.fixture
def holder(local):
    """What holds the lock, as `make up` does from another process."""
    lock = CheckoutLock(local.checkout.state / "lock")
    lock.acquire("up")
    yield lock
    lock.release()


def test_what_runs_gets_its_index_rebuilt_while_it_runs(local, holder):
    with serving(World(Settings(offers=20))) as url:
        holder.tell(sandbox=url, stand_ins=["algolia"])
        assert commands.rebuild(local) == 0
        asked = httpx.get(f"{url}/sandbox/requests", trust_env=False).json()
    assert {"method": "POST", "path": "/1/indexes/offers_tmp/operation", "status": 200}.items() <= asked[-2].items()
    assert "✓ Rebuilding the demo index" in local.screen.console.file.getvalue()


@pytest.mark.parametrize(
    ("told", "error"),
    [
        ({}, "`make up` has no sandbox, or it is not ready yet: try again"),
        ({"sandbox": "http://127.0.0.1:1", "stand_ins": ["teams"]}, "algolia does not point to the sandbox"),
        ({"sandbox": "http://127.0.0.1:1", "stand_ins": ["algolia"]}, "the demo index could not be rebuilt: .+"),
    ],
)
def test_what_cannot_be_rebuilt_is_told_in_a_line(local, holder, told, error):
    holder.tell(**told)
    with pytest.raises(LocalError, match=error) as raised:
        commands.rebuild(local)
    assert "\n" not in str(raised.value)


def test_without_anything_that_runs_there_is_no_index(local):
    with pytest.raises(LocalError, match="start `make up` first"):
        commands.rebuild(local)


def test_what_runs_here_is_reached_past_the_proxy():
    assert airflow.past_proxies({"no_proxy": "intra"})["no_proxy"] == "intra,127.0.0.1,localhost,::1"
