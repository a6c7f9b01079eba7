"""The stand-in for the suppliers' stock interfaces, which are one: `GET /<venue>?limit=1000&after=&modifiedSince=`.

Nothing was modified since any time that it is asked for.
"""

from __future__ import annotations

import sys
from bisect import bisect_right
from contextlib import AbstractContextManager
from urllib.parse import parse_qsl

from bench.light import Answer, serve
from bench.serving import serving
from bench.venues.data import PAGE_SIZE, Shops


def running(shops: Shops) -> AbstractContextManager[str]:
    """Start the stand-in, and stop it in the end; gives its address."""
    return serving("bench.venues.standin", shops.venues, shops.books)


def answers(shops: Shops) -> Answer:
    """What is answered to a path with its query."""
    records = list(shops.records())
    refs = [record.ref for record in records]
    rendered = [f'{{"ref":"{one.ref}","available":{one.available},"price":{one.price}}}'.encode() for one in records]

    def answer(path: str) -> bytes:
        place, _, query = path.partition("?")
        asked = dict(parse_qsl(query))
        limit = min(int(asked.get("limit", PAGE_SIZE)), PAGE_SIZE)
        if "modifiedSince" in asked:
            return b'{"total":0,"limit":%d,"offset":0,"stocks":[]}' % limit
        first = shops.first_book(int(place[2:]))
        begin = bisect_right(refs, asked["after"]) if "after" in asked else first
        page = b",".join(rendered[begin : min(begin + limit, first + shops.books)])
        return b'{"total":%d,"limit":%d,"offset":0,"stocks":[%b]}' % (shops.books, limit, page)

    return answer


if __name__ == "__main__":
    serve(answers(Shops(int(sys.argv[1]), int(sys.argv[2]))))
