"""Airflow connections as text, and what psycopg needs of them.

Both forms of `AIRFLOW_CONN_<ID>`: a URI, or JSON.
https://airflow.apache.org/docs/apache-airflow/stable/howto/connection.html#storing-connections-in-environment-variables
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from local.checkout import LocalError


def conninfo(name: str, text: str) -> str:
    """The PostgreSQL connection string of a connection; options that libpq does not know are left out."""
    from psycopg import conninfo as libpq
    from psycopg.pq import Conninfo

    fields = _from_json(name, text) if text.lstrip().startswith("{") else _from_uri(name, text)
    extra = fields.pop("extra")
    known = {option.keyword.decode() for option in Conninfo.get_defaults()}
    options = {key: value for key, value in extra.items() if key in known and not isinstance(value, dict | list)}
    return libpq.make_conninfo(**options, **{key: value for key, value in fields.items() if value not in (None, "")})


def _from_json(name: str, text: str) -> dict[str, Any]:
    try:
        given = json.loads(text)
        extra = given.get("extra") or {}
        extra = json.loads(extra) if isinstance(extra, str) else extra
    except (json.JSONDecodeError, AttributeError) as error:
        raise LocalError(f"{name} is neither a URI nor JSON of an Airflow connection: {error}", 2) from None
    _check_type(name, str(given.get("conn_type", "postgres")))
    keys = {"host": "host", "port": "port", "login": "user", "password": "password", "schema": "dbname"}
    return {ours: given.get(theirs) for theirs, ours in keys.items()} | {"extra": extra}


def _from_uri(name: str, text: str) -> dict[str, Any]:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise LocalError(f"{name} is not a URI: {error}", 2) from None
    _check_type(name, parts.scheme)
    extra: dict[str, Any] = dict(parse_qsl(parts.query, keep_blank_values=True))
    if "__extra__" in extra:
        extra = json.loads(extra["__extra__"])
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
        raise LocalError(f"{name} is of type {conn_type or 'none'!r}: it must be of type postgres", 2)
