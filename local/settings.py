"""`airflow_settings.yaml`: the one list of connections, variables and pools, in the form of the Astro CLI.

https://www.astronomer.io/docs/astro/cli/local-connections
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from local.checkout import LocalError

DEFAULT_POOL = "default_pool"
"""Airflow's pool of tasks that name none."""
SANDBOX_HOST = "host.docker.internal"
"""The host by which the settings name the sandbox: so do containers call the machine they run on."""

DEMO_VARIABLES: Mapping[str, Mapping[str, str]] = {
    "algolia": {"algolia_customer_dispo_dry_run": "false", "algolia_customer_dispo_dry_run_notify": "false"},
}
"""By connection: what the variables of the file are while it points to the sandbox, where nothing can be spoilt."""

DEMO_EXTRAS: Mapping[str, Mapping[str, Any]] = {"brevo_api": {"requests_per_second": 50}}
"""By connection: what is added to its extra while it points to the sandbox, which allows more than the service."""


@dataclass(frozen=True)
class Connection:
    """A connection as Airflow knows it."""

    id: str
    type: str
    description: str | None = None
    host: str | None = None
    port: int | None = None
    schema: str | None = None
    login: str | None = None
    password: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def variable(self) -> str:
        """The environment variable that overrides this connection."""
        return f"AIRFLOW_CONN_{self.id.upper()}"

    def body(self) -> dict[str, Any]:
        """As Airflow's REST API takes it."""
        return {
            "connection_id": self.id,
            "conn_type": self.type,
            "description": self.description,
            "host": self.host,
            "port": self.port,
            "schema": self.schema,
            "login": self.login,
            "password": self.password,
            "extra": json.dumps(self.extra) if self.extra else None,
        }


@dataclass(frozen=True)
class Pool:
    """A pool: how many tasks may call an outside service at once."""

    name: str
    slots: int
    description: str = ""


@dataclass(frozen=True)
class Settings:
    """All of the file."""

    connections: tuple[Connection, ...] = ()
    variables: Mapping[str, Any] = field(default_factory=dict)
    pools: tuple[Pool, ...] = ()


def read(path: Path) -> Settings:
    """Read the file; what is not right in it is named."""
    try:
        airflow = (yaml.safe_load(path.read_text(encoding="utf-8")) or {})["airflow"]
        return Settings(
            connections=tuple(_connection(entry) for entry in _filled(airflow, "connections", "conn_id")),
            variables={
                entry["variable_name"]: entry["variable_value"]
                for entry in _filled(airflow, "variables", "variable_name")
            },
            pools=tuple(
                Pool(entry["pool_name"], int(entry["pool_slot"]), entry.get("pool_description") or "")
                for entry in _filled(airflow, "pools", "pool_name")
            ),
        )
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise LocalError(f"{path.name} cannot be read: {type(error).__name__}: {error}", 2) from None


def with_demo(settings: Settings, *, database: Connection, sandbox: tuple[str, int] | None) -> Settings:
    """Put in the addresses of what the local run started, and what goes with them."""

    def demo(connection: Connection) -> Connection:
        if connection.id == database.id:
            return replace(database, description=connection.description, extra=connection.extra)
        in_demo = replace(connection, host=address(connection.host), password=address(connection.password))
        if sandbox and _is_sandbox(connection.host):
            return replace(in_demo, extra={**DEMO_EXTRAS.get(connection.id, {}), **connection.extra})
        return in_demo

    def address(text: str | None) -> str | None:
        if sandbox is None or not _is_sandbox(text):
            return text
        return urlsplit(text or "")._replace(netloc=f"{sandbox[0]}:{sandbox[1]}").geturl()

    demo_variables = {
        name: value
        for id_, variables in DEMO_VARIABLES.items()
        if sandbox and id_ in in_sandbox(settings)
        for name, value in variables.items()
        if name in settings.variables
    }
    return replace(
        settings,
        connections=tuple(map(demo, settings.connections)),
        variables={**settings.variables, **demo_variables},
    )


def without_overridden(settings: Settings, environment: Mapping[str, str]) -> tuple[Settings, list[str]]:
    """Leave out the connections and variables that the user's environment sets; returns also the connections' ids."""
    kept = tuple(connection for connection in settings.connections if connection.variable not in environment)
    variables = {
        name: value for name, value in settings.variables.items() if f"AIRFLOW_VAR_{name.upper()}" not in environment
    }
    left_out = [connection.id for connection in settings.connections if connection not in kept]
    return replace(settings, connections=kept, variables=variables), left_out


def executor_slots(settings: Settings, environment: Mapping[str, str], processors: int) -> int:
    """Return how many tasks may run at once: two per processor, at least one per pool, the default pool included.

    Raises:
        LocalError: the user's own `AIRFLOW__CORE__PARALLELISM` is not a number, or leaves a pool without a slot.
    """
    name, least = "AIRFLOW__CORE__PARALLELISM", len(settings.pools) + 1
    given = environment.get(name, "").strip()
    if not given:
        return max(2 * processors, least)
    if not given.isdecimal() or int(given) < least:
        raise LocalError(
            f"{name}={given}: give a number from {least} on, one for each pool, so that loads never keep the "
            "per-minute DAG waiting",
            2,
        )
    return int(given)


def fit_pools(settings: Settings, slots: int) -> Settings:
    """Shrink the largest pools until all pools together fit into the executor's slots.

    A task that the executor has accepted waits behind those accepted before it, whatever its weight. If the pools
    together cannot fill the executor, a slot is always free for the next task of every pool: loads that occupy all of
    theirs do not delay the per-minute DAG. One slot stays for tasks without a pool of their own.
    """
    sizes = {pool.name: pool.slots for pool in settings.pools} | {DEFAULT_POOL: 1}
    while sum(sizes.values()) > slots and (largest := max(sizes, key=lambda name: sizes[name])) and sizes[largest] > 1:
        sizes[largest] -= 1
    default = Pool(DEFAULT_POOL, 1, "Tasks without a pool of their own")
    return replace(settings, pools=(*(replace(pool, slots=sizes[pool.name]) for pool in settings.pools), default))


def in_sandbox(settings: Settings) -> list[str]:
    """The ids of the connections that point to the sandbox, by their host or by a password that is a secret URL."""
    return [
        connection.id
        for connection in settings.connections
        if _is_sandbox(connection.host) or _is_sandbox(connection.password)
    ]


def _is_sandbox(text: str | None) -> bool:
    try:
        return urlsplit(text or "").hostname == SANDBOX_HOST
    except ValueError:  # a password may be anything
        return False


def _filled(airflow: Mapping[str, Any], section: str, key: str) -> list[dict[str, Any]]:
    """The entries of a section; the Astro CLI writes a blank one into an empty section."""
    return [entry for entry in airflow.get(section) or [] if entry.get(key)]


def _connection(entry: Mapping[str, Any]) -> Connection:
    extra = entry.get("conn_extra") or {}
    return Connection(
        id=entry["conn_id"],
        type=entry["conn_type"],
        description=entry.get("conn_description") or None,
        host=entry.get("conn_host") or None,
        port=int(entry["conn_port"]) if entry.get("conn_port") else None,
        schema=entry.get("conn_schema") or None,
        login=entry.get("conn_login") or None,
        password=entry.get("conn_password") or None,
        extra=json.loads(extra) if isinstance(extra, str) else extra,
    )
