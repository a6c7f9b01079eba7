"""Convert an `AIRFLOW_CONN_<ID>` variable, a URI or JSON, to a connection string for psycopg.

https://airflow.apache.org/docs/apache-airflow/stable/howto/connection.html#storing-connections-in-environment-variables
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from local.checkout import LocalError


def conninfo(name: str, text: str) -> str:
    """Return the connection string of an Airflow connection. Options that libpq does not know are dropped."""
    from psycopg import conninfo as libpq
    from psycopg.pq import Conninfo

    fields = _from_json(name, text) if text.lstrip().startswith("{") else _from_uri(name, text)
    extra = fields.pop("extra")
    if not isinstance(extra, dict):
        raise LocalError(f"the extra of {name} must be a JSON object", 2)
    known = {option.keyword.decode() for option in Conninfo.get_defaults()}
    options = {key: value for key, value in extra.items() if key in known and not isinstance(value, dict | list)}
    return libpq.make_conninfo(**options, **{key: value for key, value in fields.items() if value not in (None, "")})


def _from_json(name: str, text: str) -> dict[str, Any]:
    try:
        given = json.loads(text)
        extra = given.get("extra") or {}
        extra = json.loads(extra) if isinstance(extra, str) else extra
    except (json.JSONDecodeError, AttributeError) as error:
        raise LocalError(f"{name} is neither a URI nor the JSON of an Airflow connection: {error}", 2) from None
    _check_type(name, str(given.get("conn_type", "postgres")))
    keys = {"host": "host", "port": "port", "login": "user", "password": "password", "schema": "dbname"}
    return {ours: given.get(theirs) for theirs, ours in keys.items()} | {"extra": extra}


def _from_uri(name: str, text: str) -> dict[str, Any]:
    try:
        parts = urlsplit(text)
        port = parts.port
        extra: Any = dict(parse_qsl(parts.query, keep_blank_values=True))
        if "__extra__" in extra:
            extra = json.loads(extra["__extra__"])
    except ValueError as error:
        raise LocalError(f"{name} is not a valid URI: {error}", 2) from None
    _check_type(name, parts.scheme)
    host = parts.netloc.rpartition("@")[2]
    host = host.rpartition(":")[0] if port is not None else host.rstrip(":")
    return {
        "host": unquote(host).strip("[]"),
        "port": port,
        "user": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "dbname": unquote(parts.path.removeprefix("/")),
        "extra": extra,
    }


def _check_type(name: str, conn_type: str) -> None:
    if conn_type not in ("postgres", "postgresql"):
        raise LocalError(f"{name} has the connection type {conn_type or 'none'!r}: it must be postgres", 2)
