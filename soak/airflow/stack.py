"""A whole Airflow, like that of `make up`, in a copy of the project."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from include.providers import load_provider
from local import airflow
from local.checkout import Checkout
from local.console import Screen
from local.context import Local, claim
from local.signals import Interrupted, Signals
from local.stack import Stack, running_stack
from soak.airflow.shops import PROVIDERS

ROOT = Path(__file__).parents[2]
IGNORED = shutil.ignore_patterns(".*", "__pycache__", "logs", "tests")


def connections(url: str, requests_per_second: float) -> dict[str, str]:
    """Return the Airflow connections of the suppliers, all at one address, as environment variables."""
    body = json.dumps({"conn_type": "http", "host": url, "extra": {"requests_per_second": requests_per_second}})
    classes = (load_provider(f"include.providers.{dag_id}.{name}") for dag_id, name in PROVIDERS.items())
    return {f"AIRFLOW_CONN_{each.conn_id.upper()}": body for each in classes}


@contextmanager
def running(environment: dict[str, str], dag_ids: Iterable[str], *, schedules: bool) -> Iterator[tuple[Local, Stack]]:
    """Start everything that `make up` starts, wait until the DAGs are parsed, and stop everything in the end.

    The connections of the user's environment are left out, so that only the sandbox and the embedded database are used.
    """
    inherited = {name: text for name, text in os.environ.items() if not name.startswith(("AIRFLOW_", "SANDBOX_"))}
    signals = Signals()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    signals.install()
    with tempfile.TemporaryDirectory(prefix="provider-sync-soak-") as folder:
        root = Path(folder) / "copy"
        shutil.copytree(ROOT, root, ignore=IGNORED)
        local = Local(Checkout(root), Screen(), signals, inherited | environment)
        try:
            with local.cleanup:
                claim(local, "run")
                with running_stack(local, airflow.free_port(), schedules=schedules) as started:
                    since = datetime.fromtimestamp(0, UTC)
                    airflow.wait_until_parsed(started.api, dag_ids, since=since, check=started.check)
                    yield local, started
        except Interrupted as interrupted:
            raise KeyboardInterrupt(str(interrupted)) from None
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
