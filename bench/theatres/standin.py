"""The stand-in for the service that knows what theatres show; all that it answers is made before it serves.

`GET /<generation>/movieShowtimeList?theater=<id>`; `/wait/<milliseconds>` before it lets the answer take that long.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from datetime import date

from bench.light import Answer, serve
from bench.serving import serving
from bench.theatres.data import CHANGED, FIRST, Programme, theatre_id


def running(programme: Programme) -> AbstractContextManager[str]:
    """Start the stand-in, and stop it in the end; gives its address."""
    return serving("bench.theatres.standin", programme.theatres, programme.movies, programme.day)


def answers(programme: Programme) -> Answer:
    """What is answered to a path with its query."""
    listings = {
        f"/{generation}/movieShowtimeList?theater={theatre_id(theatre)}": list(programme.edges(theatre, generation))
        for theatre in range(programme.theatres)
        for generation in (FIRST, CHANGED)
    }

    def answer(path: str) -> bytes:
        edges = listings[path]
        body = b",".join([movie + showtimes for movie, showtimes in edges])
        return b'{"movieShowtimeList":{"totalCount":%d,"edges":[%b]}}' % (len(edges), body)

    return answer


if __name__ == "__main__":
    serve(answers(Programme(int(sys.argv[1]), int(sys.argv[2]), date.fromisoformat(sys.argv[3]))))
