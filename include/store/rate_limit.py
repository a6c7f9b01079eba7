"""The rate of a service for the whole installation, kept in `service_pace`."""

from __future__ import annotations

from math import inf
from typing import Any

import psycopg


class PostgresRateLimiter:
    """Hands out the moments at which requests may be sent, one every `1 / requests_per_second` seconds.

    The connection is its own and in autocommit: a slot is reserved in a transaction of a fraction of a millisecond,
    and the clock is the database's, so that all workers share one. Commits are not waited for: what a crash of the
    server loses is the last slots, not rows. Without a rate nothing is reserved, and only waits that a service asked
    for are looked at.
    """

    def __init__(self, connection: psycopg.Connection[Any], service: str, requests_per_second: float | None) -> None:
        self._connection = connection
        self._service = service
        self._interval = 1 / requests_per_second if requests_per_second else 0.0
        connection.execute("SET synchronous_commit = off")
        connection.execute("INSERT INTO service_pace (service) VALUES (%s) ON CONFLICT DO NOTHING", (service,))

    def acquire(self, longest: float = inf) -> float:
        """Reserve the next slot, unless it begins in more than `longest` seconds; returns the seconds until then."""
        if not self._interval:
            row = self._connection.execute(
                "SELECT greatest(0, extract(epoch FROM greatest(next_at, now()) - clock_timestamp()))::float8"
                " FROM service_pace WHERE service = %s",
                (self._service,),
            ).fetchone()
            return float(row[0]) if row else 0.0
        row = self._connection.execute(
            """
            WITH slot AS (
                SELECT service, greatest(next_at, clock_timestamp()) AS begins_at
                FROM service_pace WHERE service = %(service)s FOR UPDATE
            ), timed AS (
                SELECT service, begins_at,
                       greatest(0, extract(epoch FROM begins_at - clock_timestamp()))::float8 AS wait
                FROM slot
            ), reserved AS (
                UPDATE service_pace SET next_at = timed.begins_at + make_interval(secs => %(interval)s)
                FROM timed WHERE service_pace.service = timed.service AND timed.wait <= %(longest)s
            )
            SELECT wait FROM timed
            """,
            {"service": self._service, "interval": self._interval, "longest": longest},
        ).fetchone()
        return float(row[0]) if row else 0.0

    def pause(self, seconds: float) -> None:
        """Let nobody send a request for so many seconds: the service asked for it."""
        self._connection.execute(
            "UPDATE service_pace SET next_at = greatest(next_at, clock_timestamp() + make_interval(secs => %s))"
            " WHERE service = %s",
            (seconds, self._service),
        )
