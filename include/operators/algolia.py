"""An Airflow hook for an Algolia index."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from include.errors import ConfigurationError
from include.operators.connections import own_settings

if TYPE_CHECKING:
    from include.connectors.algolia import AlgoliaIndex


class AlgoliaHook(BaseHook):
    """Connects to the index of an Airflow connection.

    The connection has the application id as login, the API key as password and `{"index": …}` as extra. Its host is
    empty for Algolia's own servers, or has base URLs separated by commas. The extra may also set `connect_timeout`,
    `read_timeout`, `attempts` and `longest_sleep`.
    """

    conn_name_attr = "algolia_conn_id"
    default_conn_name = "algolia"

    def __init__(self, algolia_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.algolia_conn_id = algolia_conn_id

    def get_conn(self) -> AlgoliaIndex:
        """Return the index; the caller closes it.

        Raises:
            ConfigurationError: the connection does not exist or is incomplete.
        """
        from include.connectors.algolia import AlgoliaIndex

        name = self.algolia_conn_id
        try:
            connection = self.get_connection(name)
        except AirflowNotFoundException:
            raise ConfigurationError(
                f"There is no Airflow connection {name!r}: add it with the application id as login, the API key as "
                f"password and the index in its extra, or set AIRFLOW_CONN_{name.upper()}"
            ) from None
        extra = connection.extra_dejson
        index = extra.get("index")
        given = {"login (application id)": connection.login, "password (API key)": connection.password}
        given["`index` in its extra"] = index
        if missing := [what for what, value in given.items() if not value]:
            raise ConfigurationError(f"Connection {name!r} lacks {', '.join(missing)}")
        settings = own_settings(name, extra)
        settings.pop("requests_per_second", None)
        settings.setdefault("read_timeout", 30.0)
        return AlgoliaIndex(
            str(connection.login),
            str(connection.password),
            str(index),
            hosts=_hosts(connection.host, connection.port, connection.schema),
            conn_id=name,
            **settings,
        )


def _hosts(host: str | None, port: int | None, scheme: str | None) -> list[str]:
    """Return the base URLs; a bare host gets the port of the connection, and its schema as URL scheme."""
    hosts = [part.strip() for part in (host or "").split(",") if part.strip()]
    end = f":{port}" if port else ""
    return [part if "://" in part else f"{scheme or 'https'}://{part}{end}" for part in hosts]
