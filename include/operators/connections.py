"""Creates what the engines need from Airflow connections: psycopg connections and HTTP connectors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowNotFoundException

from include.errors import ConfigurationError, DatabaseUnavailable

if TYPE_CHECKING:
    import psycopg

    from include.connectors.http import HttpConnector
    from include.providers.base import LocalProvider
    from include.targets.base import OutboundSyncProvider

SYNC_DB = "sync_db"
OWN_EXTRAS = (
    "requests_per_second",
    "connect_timeout",
    "read_timeout",
    "attempts",
    "longest_sleep",
    "allow_private_networks",
)
"""Settings of this project in the extra of an `http` connection; other entries are headers or settings of Airflow.

`allow_private_networks: true` allows URLs in the service's responses to point to private networks.
"""


@contextmanager
def database(conn_id: str = SYNC_DB) -> Iterator[psycopg.Connection[Any]]:
    """Connect to the database of an Airflow connection of type `postgres`; closes the connection at the end.

    Raises:
        ConfigurationError: the Airflow connection does not exist, or the tables are not those of this version.
        DatabaseUnavailable: PostgreSQL cannot be reached.
    """
    import psycopg
    from airflow.providers.postgres.hooks.postgres import PostgresHook

    from include.store import failure_reason

    try:
        connection = PostgresHook(postgres_conn_id=conn_id).get_conn()
    except AirflowNotFoundException:
        raise ConfigurationError(
            f"There is no Airflow connection {conn_id!r}: add it, or set AIRFLOW_CONN_{conn_id.upper()}"
        ) from None
    except psycopg.OperationalError as error:
        reason = failure_reason(error)
        raise DatabaseUnavailable(f"PostgreSQL of connection {conn_id!r} cannot be reached: {reason}") from None
    if not isinstance(connection, psycopg.Connection):
        raise ConfigurationError(
            "psycopg 3 is required: install `psycopg[binary]` in addition to the Postgres provider"
        )
    try:
        yield connection
    except (
        psycopg.errors.UndefinedTable,
        psycopg.errors.UndefinedColumn,
        psycopg.errors.InsufficientPrivilege,
    ) as error:
        raise ConfigurationError(
            f"The database of connection {conn_id!r} is not up to date: {error.diag.message_primary}. "
            "Run `make migrate`, or grant the missing privilege"
        ) from error
    finally:
        connection.close()


@contextmanager
def connector_for(provider_class: type[LocalProvider] | type[OutboundSyncProvider]) -> Iterator[HttpConnector | None]:
    """Connect to the service of a provider or target, rate-limited across all workers; None if it has no connection.

    Address, credentials and headers come from its Airflow connection, through Airflow's HTTP hook.

    Raises:
        ConfigurationError: the Airflow connection does not exist, or a setting in its extra is invalid.
    """
    if not provider_class.conn_id:
        yield None
        return
    from airflow.providers.http.hooks.http import HttpHook

    from include.connectors.http import HttpConnector
    from include.store.rate_limit import PostgresRateLimiter

    hook = HttpHook(method="GET", http_conn_id=provider_class.conn_id, tcp_keep_alive=False)
    try:
        connection = hook.get_connection(provider_class.conn_id)
    except AirflowNotFoundException:
        raise ConfigurationError(
            f"There is no Airflow connection {provider_class.conn_id!r}: add it with the address of the service, "
            f"or set AIRFLOW_CONN_{provider_class.conn_id.upper()}"
        ) from None
    settings = own_settings(provider_class.conn_id, connection.extra_dejson)
    try:
        session = hook.get_conn()
    except ValueError as error:
        raise ConfigurationError(f"Connection {provider_class.conn_id!r} cannot be used: {error}") from None
    for name in OWN_EXTRAS:
        session.headers.pop(name, None)
    rate = settings.pop("requests_per_second", provider_class.requests_per_second)
    timeout = hook.merged_extra.get("timeout")
    if timeout is not None:
        settings.setdefault("read_timeout", float(timeout))
    headers = connection.extra_dejson
    secrets = [str(value) for name, value in headers.items() if name not in OWN_EXTRAS and isinstance(value, str)]
    if connection.password:
        secrets.append(connection.password)
    with database() as limiter_connection:
        limiter_connection.autocommit = True
        connector = HttpConnector(
            hook.base_url,
            conn_id=provider_class.conn_id,
            session=session,
            rate_limiter=PostgresRateLimiter(limiter_connection, provider_class.conn_id, rate),
            secrets=secrets,
            **settings,
        )
        try:
            yield connector
        finally:
            connector.close()


def own_settings(conn_id: str, extra: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of `OWN_EXTRAS` in the extra of a connection, converted.

    Raises:
        ConfigurationError: a value is not a number above 0, not a whole number, or neither true nor false.
    """
    settings: dict[str, Any] = {}
    for name in OWN_EXTRAS:
        value = extra.get(name)
        if value is None:
            continue
        setting = f"The extra of connection {conn_id!r} has {name}={value!r}"
        if name == "allow_private_networks":
            if str(value).lower() not in ("true", "false"):
                raise ConfigurationError(f"{setting}: expected true or false")
            settings[name] = str(value).lower() == "true"
            continue
        try:
            number = float("" if isinstance(value, bool) else value)
        except (TypeError, ValueError, OverflowError):
            raise ConfigurationError(f"{setting}: expected a number") from None
        if not 0 < number < inf:
            raise ConfigurationError(f"{setting}: it must be above 0")
        if name == "attempts" and number != int(number):
            raise ConfigurationError(f"{setting}: expected a whole number")
        settings[name] = int(number) if name == "attempts" else number
    return settings
