"""The server of the listings: `GET <Listing.path>?after=<ref>` returns the page after a reference."""

from __future__ import annotations

from bench.inbound.listing import Listing
from bench.raw_http import serve


def page(method: str, path: str, _: bytes) -> bytes:
    """Return a page of the listing of a path."""
    if method != "GET":
        raise ValueError(method)
    path, _, query = path.partition("?")
    _, records, generation, form, _ = path.split("/")
    after = dict(field.split("=", 1) for field in query.split("&") if field).get("after", "")
    return Listing(int(records), int(generation), form == "dated").page_after(after)


if __name__ == "__main__":
    serve(page)
