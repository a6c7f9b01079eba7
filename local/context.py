"""What every command needs: the checkout, its settings, its lock and its processes."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from dotenv import dotenv_values

from local import connections, settings, storage
from local.checkout import Checkout
from local.console import Screen
from local.lock import CheckoutLock
from local.postgres import Server
from local.processes import Processes
from local.signals import Signals
from local.waiting import Wait

DATABASE, ALGOLIA, TEAMS, BREVO = "sync_db", "algolia", "teams", "brevo_api"
"""Connection ids of `airflow_settings.yaml`."""


@dataclass
class Local:
    """The context of a command."""

    checkout: Checkout
    screen: Screen
    signals: Signals
    user_env: dict[str, str]
    """The user's environment, including `.env`."""
    cleanup: ExitStack = field(default_factory=ExitStack)
    """Undone when the command ends, last in, first out."""

    def __post_init__(self) -> None:
        self.lock = CheckoutLock(self.checkout.state / "lock")
        self.processes = Processes(self.checkout.state / "processes.json")
        self.settings = settings.read(self.checkout.root / "airflow_settings.yaml")
        self.own_database = f"AIRFLOW_CONN_{DATABASE.upper()}" in self.user_env

    def wait(self, what: str) -> Wait:
        """Return a wait that prints its progress."""
        return Wait(what, self.screen.say)

    @property
    def slots(self) -> int:
        """Maximum number of tasks that Airflow runs in parallel."""
        return settings.executor_slots(self.settings, self.user_env, os.cpu_count() or 1)

    @property
    def data(self) -> Path:
        """Data folder of the embedded PostgreSQL server."""
        return self.checkout.state / "postgres"

    def conninfo(self, server: Server | None) -> str:
        """Return the connection string of the database to sync: the user's own, or the one of the embedded server."""
        name = f"AIRFLOW_CONN_{DATABASE.upper()}"
        if self.own_database:
            return connections.conninfo(name, self.user_env[name])
        if server is None:
            raise RuntimeError("the embedded server is not running")
        return server.conninfo("sync")


def user_environment(root: Path) -> dict[str, str]:
    """Return the environment variables; those that are not set come from the checkout's `.env` file."""
    from_file = {name: value for name, value in dotenv_values(root / ".env").items() if value is not None}
    return from_file | dict(os.environ)


def claim(local: Local, command: str) -> None:
    """Take the checkout's lock until the command ends, and end processes that a killed command left running.

    Raises:
        Busy: another command is running in this checkout.
    """
    local.lock.acquire(command)
    local.cleanup.callback(local.lock.release)
    storage.make_private(local.checkout.state)
    if found := local.processes.end_leftovers():
        local.screen.say(f"Stopped processes that a killed command had left running: {', '.join(found)}")
