"""The rate of a service for the whole installation, kept in `service_pace`."""

from __future__ import annotations

from typing import Any

import psycopg


class PostgresPace:
    """Hands out the moments at which requests may be sent, one every `1 / requests_per_second` seconds.

    The connection is its own and in autocommit: a slot is reserved in a transaction of a fraction of a millisecond,
    and the clock is the database's, so that all workers share one.
    """

    def __init__(self, connection: psycopg.Connection[Any], service: str, requests_per_second: float | None) -> None:
        self._connection = connection
        self._service = service
        self._interval = 1 / requests_per_second if requests_per_second else 0.0
        connection.execute("INSERT INTO service_pace (service) VALUES (%s) ON CONFLICT DO NOTHING", (service,))

    def reserve(self) -> float:
        """Reserve the next slot; returns the seconds until it begins."""
        row = self._connection.execute(
            "UPDATE service_pace"
            " SET next_at = greatest(next_at, clock_timestamp()) + make_interval(secs => %(interval)s)"
            " WHERE service = %(service)s"
            " RETURNING extract(epoch FROM next_at - clock_timestamp())::float8 - %(interval)s",
            {"service": self._service, "interval": self._interval},
        ).fetchone()
        return max(0.0, row[0]) if row else 0.0

    def hold(self, seconds: float) -> None:
        """Let nobody send a request for so many seconds: the service asked for it."""
        self._connection.execute(
            "UPDATE service_pace SET next_at = greatest(next_at, clock_timestamp() + make_interval(secs => %s))"
            " WHERE service = %s",
            (seconds, self._service),
        )
