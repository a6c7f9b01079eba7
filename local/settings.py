"""`airflow_settings.yaml`: the connections, variables and pools, in the format of the Astro CLI.

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
"""Airflow's pool for tasks without a pool."""
SANDBOX_HOST = "host.docker.internal"
"""The sandbox's host in the settings file: the name by which containers reach their host machine."""

DEMO_VARIABLES: Mapping[str, Mapping[str, str]] = {
    "algolia": {"algolia_customer_dispo_dry_run": "false", "algolia_customer_dispo_dry_run_notify": "false"},
}
"""By connection: values of variables while the connection points to the sandbox, where no harm can be done."""

DEMO_EXTRAS: Mapping[str, Mapping[str, Any]] = {"brevo_api": {"requests_per_second": 50}}
"""By connection: additions to its extra while it points to the sandbox, which has a higher rate limit."""


@dataclass(frozen=True)
class Connection:
    """An Airflow connection."""

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
        """Return the connection in the format of Airflow's REST API."""
        fields = {"connection_id": self.id, "conn_type": self.type} | vars(self)
        del fields["id"], fields["type"]
        return fields | {"extra": json.dumps(self.extra) if self.extra else None}


@dataclass(frozen=True)
class Pool:
    """A pool: the number of tasks that may call an external service in parallel."""

    name: str
    slots: int
    description: str = ""


@dataclass(frozen=True)
class Settings:
    """The content of the file."""

    connections: tuple[Connection, ...] = ()
    variables: Mapping[str, Any] = field(default_factory=dict)
    pools: tuple[Pool, ...] = ()


def read(path: Path) -> Settings:
    """Read the file; raise `LocalError` naming the error if it is invalid."""
    try:
        airflow = (yaml.safe_load(path.read_text(encoding="utf-8")) or {})["airflow"]
        return Settings(
            connections=tuple(_connection(entry) for entry in _filled(airflow, "connections", "conn_id")),
            variables={
                each["variable_name"]: each["variable_value"] for each in _filled(airflow, "variables", "variable_name")
            },
            pools=tuple(
                Pool(entry["pool_name"], int(entry["pool_slot"]), entry.get("pool_description") or "")
                for entry in _filled(airflow, "pools", "pool_name")
            ),
        )
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise LocalError(f"{path.name} cannot be read: {type(error).__name__}: {error}", 2) from None


def with_demo(settings: Settings, *, database: Connection, sandbox: tuple[str, int] | None) -> Settings:
    """Fill in the addresses of the embedded database and of the sandbox, with the values for the demo."""

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
    """Drop the connections and variables that the environment overrides; return also the dropped connections' ids."""
    remaining = tuple(connection for connection in settings.connections if connection.variable not in environment)
    variables = {
        name: value for name, value in settings.variables.items() if f"AIRFLOW_VAR_{name.upper()}" not in environment
    }
    dropped = [connection.id for connection in settings.connections if connection not in remaining]
    return replace(settings, connections=remaining, variables=variables), dropped


def executor_slots(settings: Settings, environment: Mapping[str, str], processors: int) -> int:
    """Return how many tasks may run in parallel: two per processor, and at least one per pool including the default.

    Raises:
        LocalError: the user's own `AIRFLOW__CORE__PARALLELISM` is not a number, or leaves a pool without a slot.
    """
    name, minimum = "AIRFLOW__CORE__PARALLELISM", len(settings.pools) + 1
    given = environment.get(name, "").strip()
    if not given:
        return max(2 * processors, minimum)
    if not given.isdecimal() or int(given) < minimum:
        raise LocalError(
            f"{name}={given} is invalid: specify at least {minimum}, one slot per pool, so that loads never delay the "
            "per-minute DAG",
            2,
        )
    return int(given)


def fit_pools(settings: Settings, slots: int) -> Settings:
    """Shrink the largest pools until the executor has a slot for every slot of every pool.

    The executor starts tasks in the order in which it accepted them, whatever their weight. If all pools together
    cannot fill it, loads that occupy their whole pool never delay the per-minute DAG. One slot is reserved for tasks
    without a pool.
    """
    sizes = {pool.name: pool.slots for pool in settings.pools} | {DEFAULT_POOL: 1}
    while sum(sizes.values()) > slots and (largest := max(sizes, key=lambda name: sizes[name])) and sizes[largest] > 1:
        sizes[largest] -= 1
    default = Pool(DEFAULT_POOL, 1, "Tasks without a pool")
    return replace(settings, pools=(*(replace(pool, slots=sizes[pool.name]) for pool in settings.pools), default))


def in_sandbox(settings: Settings) -> list[str]:
    """Return the ids of the connections whose host, or whose password (a secret URL), points to the sandbox."""
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
    """Return the entries of a section, without the blank one that the Astro CLI writes into an empty section."""
    return [entry for entry in airflow.get(section) or [] if entry.get(key)]


def _connection(entry: Mapping[str, Any]) -> Connection:
    extra = entry.get("conn_extra") or {}
    return Connection(
        id=entry["conn_id"],
        type=entry["conn_type"],
        port=int(entry["conn_port"]) if entry.get("conn_port") else None,
        extra=json.loads(extra) if isinstance(extra, str) else extra,
        **{name: entry.get(f"conn_{name}") or None for name in ("description", "host", "schema", "login", "password")},
    )
