"""Corrupt rows of a stock listing: the kinds of the fault `bad_records`, and the fault `duplicates`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from sandbox.faults import Rule
from sandbox.suppliers.corrupt_records import bad_kind


class Row(NamedTuple):
    """A row of a stock listing."""

    ref: str
    available: int
    price: int | Decimal | None
    """In the unit of the listing: cents at TiteLive, euros elsewhere."""
    valid_until: str | None
    modified: datetime


def _with(row: Row, **values: object) -> bytes:
    """Return the row as JSON with other values; Ellipsis leaves a key out."""
    record = {"ref": row.ref, "available": row.available, "price": row.price} | values
    return json.dumps({key: value for key, value in record.items() if value is not ...}, default=float).encode()


BAD_RECORDS: dict[str, Callable[[Row], bytes]] = {
    "missing_ref": lambda row: _with(row, ref=...),
    "missing_available": lambda row: _with(row, available=...),
    "missing_price": lambda row: _with(row, price=...),
    "null_ref": lambda row: _with(row, ref=None),
    "null_available": lambda row: _with(row, available=None),
    "null_price": lambda row: _with(row, price=None),
    "number_ref": lambda row: _with(row, ref=int(row.ref)),
    "list_available": lambda row: _with(row, available=[row.available]),
    "text_available": lambda row: _with(row, available="plenty"),
    "text_price": lambda row: _with(row, price="free"),
    "negative_available": lambda row: _with(row, available=-1 - row.available),
    "negative_price": lambda row: _with(row, price=-1 - (row.price or 0)),
    "huge_available": lambda row: _with(row, available=10**30),
    "huge_price": lambda row: _with(row, price=10**30),
    "nul_in_ref": lambda row: _with(row, ref=row.ref + "\0"),
    "lone_surrogate": lambda row: _with(row, ref=row.ref + "\ud800"),
    "invalid_utf8": lambda row: _with(row, ref=row.ref + "?").replace(b"?", b"\xff"),
    "huge_string": lambda row: _with(row, ref=row.ref + "9" * 10_000_000),
    "not_an_object": lambda row: row.ref.encode(),
}


def corrupt(seed: int, page: Iterable[tuple[Row, str]], rule: Rule) -> list[bytes]:
    """Return the rows of a page as JSON, corrupted as the rule says. Each row comes with its JSON."""
    rendered, huge = [], 0
    for row, text in page:
        kind = bad_kind(seed, row.ref, rule.kinds, rule.share)
        huge += kind == "huge_string"
        if kind is None or (kind == "huge_string" and huge > 1):  # one string of 10 MB per page is enough
            rendered.append(text.encode())
        else:
            rendered.append(BAD_RECORDS[kind](row))
    return rendered


def duplicate(page: Sequence[Row], count: int) -> list[Row]:
    """Return the page with its first `count` rows listed twice, the second time with one more available."""
    copies = [copy for row in page[:count] for copy in (row, row._replace(available=row.available + 1))]
    return [*copies, *page[count:]]
