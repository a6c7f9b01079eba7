"""The rate limit of a service for the whole installation, stored in `service_pace`."""

from __future__ import annotations

from math import inf

from include.store import Connection


class PostgresRateLimiter:
    """Assigns each request of any worker a time slot, one every `1 / requests_per_second` seconds.

    Needs a connection of its own in autocommit mode: reserving a slot is a transaction of a fraction of a millisecond.
    The clock is the database's, so that all workers share one. Commits are asynchronous: a crash of the server loses
    the last slots, not rows. Without a rate no slot is reserved, and only waits requested by the service are obeyed.
    """

    def __init__(self, connection: Connection, service: str, requests_per_second: float | None) -> None:
        self._connection = connection
        self._service = service
        self._interval = 1 / requests_per_second if requests_per_second else 0.0
        connection.execute("SET synchronous_commit = off")
        connection.execute("INSERT INTO service_pace (service) VALUES (%s) ON CONFLICT DO NOTHING", (service,))

    def acquire(self, longest: float = inf) -> float:
        """Reserve the next free slot, unless it is more than `longest` seconds away; return the seconds until then."""
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
        """Assign no slot in the next `seconds`: the service asked all clients to wait."""
        self._connection.execute(
            "UPDATE service_pace SET next_at = greatest(next_at, clock_timestamp() + make_interval(secs => %s))"
            " WHERE service = %s",
            (seconds, self._service),
        )
