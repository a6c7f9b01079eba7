"""The stand-in for the showtimes service. It renders all responses before it serves.

`GET /<generation>/movieShowtimeList?theater=<id>` returns the listing of a theatre.
"""

from __future__ import annotations

import sys
from datetime import date

from bench.raw_http import Handler, serve
from bench.theatres.data import CHANGED, FIRST, Schedule, theatre_id


def handler(schedule: Schedule) -> Handler:
    """Return the handler of the requests."""
    listings = {
        f"/{generation}/movieShowtimeList?theater={theatre_id(theatre)}": list(schedule.edges(theatre, generation))
        for theatre in range(schedule.theatres)
        for generation in (FIRST, CHANGED)
    }

    def handle(_: str, path: str, __: bytes) -> bytes:
        edges = listings[path]
        body = b",".join([movie + showtimes for movie, showtimes in edges])
        return b'{"movieShowtimeList":{"totalCount":%d,"edges":[%b]}}' % (len(edges), body)

    return handle


if __name__ == "__main__":
    serve(handler(Schedule(int(sys.argv[1]), int(sys.argv[2]), date.fromisoformat(sys.argv[3]))))
