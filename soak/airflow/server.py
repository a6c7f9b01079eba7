"""The stand-in for the stock interface of the suppliers: `GET /<venue>?limit=1000&after=&modifiedSince=`.

With `modifiedSince` it returns no records: nothing was modified since any time.
"""

from __future__ import annotations

import sys
from bisect import bisect_right
from contextlib import AbstractContextManager
from urllib.parse import parse_qsl

from bench.raw_http import Handler, serve, serving
from soak.airflow.shops import PAGE_SIZE, Shops


def running(shops: Shops) -> AbstractContextManager[str]:
    """Start the stand-in, and stop it in the end; yields its address."""
    return serving("soak.airflow.server", shops.venues, shops.books)


def handler(shops: Shops) -> Handler:
    """Return the handler of the requests."""
    records = list(shops.records())
    refs = [record.ref for record in records]
    rendered = [f'{{"ref":"{one.ref}","available":{one.available},"price":{one.price}}}'.encode() for one in records]

    def handle(_: str, path: str, __: bytes) -> bytes:
        place, _, query = path.partition("?")
        parameters = dict(parse_qsl(query))
        limit = min(int(parameters.get("limit", PAGE_SIZE)), PAGE_SIZE)
        if "modifiedSince" in parameters:
            return b'{"total":0,"limit":%d,"offset":0,"stocks":[]}' % limit
        first = shops.first_book(int(place[2:]))
        begin = bisect_right(refs, parameters["after"]) if "after" in parameters else first
        page = b",".join(rendered[begin : min(begin + limit, first + shops.books)])
        return b'{"total":%d,"limit":%d,"offset":0,"stocks":[%b]}' % (shops.books, limit, page)

    return handle


if __name__ == "__main__":
    serve(handler(Shops(int(sys.argv[1]), int(sys.argv[2]))))
