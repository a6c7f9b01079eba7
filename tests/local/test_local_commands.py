"""What the commands refuse, and what they say when `make up` goes away."""

import io
import os
import shutil
import threading
import time
from pathlib import Path

import pytest
from rich.console import Console

from local import commands
from local.checkout import Checkout, LocalError
from local.console import Screen
from local.lock import CheckoutLock
from local.signals import Signals

ROOT = Path(__file__).parents[2]


@pytest.fixture
def local(tmp_path):
    shutil.copy(ROOT / "airflow_settings.yaml", tmp_path)
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "a.py").touch()
    screen = Screen(Console(file=io.StringIO(), highlight=False, soft_wrap=True))
    found = commands.Local(Checkout(tmp_path), screen, Signals(), dict(os.environ))
    with found.stack:
        yield found


@pytest.mark.parametrize("percent", [0, -1, 101, float("nan")])
def test_a_share_that_is_none_is_refused_in_a_sentence(local, percent):
    with pytest.raises(LocalError, match=r"^PERCENT=\S+ is not a share: give a number above 0 and at most 100$"):
        commands.advance(local, percent)


def test_a_sync_without_a_dag_says_how_to_call_it(local):
    with pytest.raises(LocalError, match=r"^say which DAG: `make sync DAG=<name>`; the DAGs are: a$") as raised:
        commands.sync(local, "", "")
    assert raised.value.status == 2


def test_a_sync_beside_an_up_that_goes_away_says_so(local):
    holder = CheckoutLock(local.checkout.state / "lock")
    holder.acquire("up")
    holder.tell(url="http://127.0.0.1:9", sandbox=None, conninfo="")
    gone = threading.Timer(1, holder.release)
    gone.start()
    begin = time.monotonic()
    with pytest.raises(LocalError, match=r"^`make up` \(process \d+\) has ended, and the run of a with it$"):
        commands.sync(local, "a", "")
    assert time.monotonic() - begin < 60
    gone.join()


def test_the_state_of_an_earlier_version_becomes_private_with_the_first_command(local):
    (local.checkout.state / "logs").mkdir(parents=True)
    local.checkout.state.chmod(0o755)
    (local.checkout.state / "logs").chmod(0o755)
    commands.claim(local, "stop")
    assert local.checkout.state.stat().st_mode & 0o777 == 0o700
    assert (local.checkout.state / "logs").stat().st_mode & 0o777 == 0o700
