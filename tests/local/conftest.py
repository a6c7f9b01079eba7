"""A checkout with a command's context, whose output the tests read."""

import io
import os
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from local.checkout import Checkout
from local.console import Screen
from local.context import Local
from local.lock import CheckoutLock
from local.signals import Signals

ROOT = Path(__file__).parents[2]


@pytest.fixture
def screen():
    return Screen(Console(file=io.StringIO(), highlight=False, soft_wrap=True))


@pytest.fixture
def printed(screen):
    """A function that returns the printed lines."""
    return lambda: screen.console.file.getvalue().splitlines()


@pytest.fixture
def make_local(tmp_path, screen):
    """A function that returns the context of a command in an empty checkout with one DAG, with more variables set."""

    def make(**variables):
        shutil.copy(ROOT / "airflow_settings.yaml", tmp_path)
        (tmp_path / "dags").mkdir(exist_ok=True)
        (tmp_path / "dags" / "a.py").touch()
        env = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_CONN_")}
        return Local(Checkout(tmp_path), screen, Signals(), env | {"PYTHONPATH": str(ROOT)} | variables)

    return make


@pytest.fixture
def local(make_local):
    found = make_local()
    with found.cleanup:
        yield found


@pytest.fixture
def up_lock(local):
    """The lock, held as by `make up` in another process."""
    lock = CheckoutLock(local.checkout.state / "lock")
    lock.acquire("up")
    yield lock
    lock.release()
