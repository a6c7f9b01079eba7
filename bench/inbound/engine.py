"""This project: an ordinary provider, with connector, prefetched pages, typed decoding and ledger."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import ClassVar

import msgspec
import psycopg

from bench.inbound.listing import PAGE_SIZE
from bench.inbound.tables import NAME
from bench.measuring import Task, main
from include.connectors.decoding import PageDecoder, Rejected
from include.connectors.http import HttpConnector
from include.connectors.pagination import KeysetPaginator, Paginator
from include.inbound.sync import sync_provider
from include.models import Providable
from include.providers.base import ProvidableInfo
from include.providers.paged import PagedProvider


class Stock(Providable):
    """A row of the table."""

    table_name: ClassVar[str] = NAME

    available: int | None = None
    price: Decimal | None = None
    title: str | None = None
    author: str | None = None
    publisher: str | None = None


class Record(msgspec.Struct):
    """A record of the listing."""

    ref: str
    available: int
    price: Decimal
    title: str
    author: str
    publisher: str
    modified: datetime | None = None


class ListingPage(msgspec.Struct):
    """A page of the listing."""

    stocks: list[Record | Rejected]
    total: int | None = None


class BenchStocks(PagedProvider[Record]):
    """Stocks without a venue or a watermark: every run reads everything."""

    name = "Bench stocks"
    can_create = True
    needs_venue = False
    decode = PageDecoder(ListingPage, Record, "stocks")
    key_field = cursor_field = "ref"
    path = ""

    def paginator(self) -> Paginator:
        """Return the paginator, which begins after the last saved reference."""
        return KeysetPaginator(records="stocks", total="total", key="ref", size=PAGE_SIZE, start=self.resume_from)

    def describe(self, record: Record) -> list[ProvidableInfo]:
        """Return the one stock of a record."""
        return [self.create_providable_info(Stock, record.ref, record.modified)]

    def fill_object_attributes(self, obj: Providable) -> None:
        """Copy the fields of the record."""
        assert isinstance(obj, Stock)
        record = self.record
        obj.available = record.available
        obj.price = record.price
        obj.title = record.title
        obj.author = record.author
        obj.publisher = record.publisher


def prepare(task: Task) -> Callable[[], object]:
    """Connect; the work is one sync, from opening its load to closing it."""
    connection = psycopg.connect(task.conninfo, autocommit=True)

    def work() -> None:
        with HttpConnector(task.url) as connector:
            sync_provider(BenchStocks(connector=connector), connection)

    return work


if __name__ == "__main__":
    main(prepare)
