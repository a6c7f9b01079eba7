"""This project: an ordinary provider, with connector, prefetched pages, typed decoding and ledger."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal
from typing import ClassVar

import msgspec
import psycopg

from bench.inbound.listing import PAGE_SIZE
from bench.measuring import Task, main
from include.connectors.decoding import PageDecoder, Rejected
from include.connectors.http import HttpConnector
from include.connectors.pagination import KeysetPaginator
from include.connectors.records import Page, RecordStream
from include.inbound.sync import sync_provider
from include.models import Providable
from include.providers.base import LocalProvider, ProvidableInfo


class DatedStock(Providable):
    """A row of the dated listing."""

    table_name: ClassVar[str] = "dated_stock"

    quantity: int | None = None
    price: Decimal | None = None
    title: str | None = None
    author: str | None = None
    publisher: str | None = None


class DatelessStock(DatedStock):
    """A row of the listing without dates."""

    table_name: ClassVar[str] = "dateless_stock"


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


class BenchStocks(LocalProvider):
    """Dated stocks without a venue or a watermark: every run reads everything."""

    name: ClassVar[str] = "Bench stocks"
    can_create: ClassVar[bool] = True
    needs_venue: ClassVar[bool] = False
    model: ClassVar[type[Providable]] = DatedStock

    record: Record

    def open(self) -> None:
        """Start to read, after the last saved reference."""
        self.records: RecordStream[Record] = RecordStream(self._pages())

    def _pages(self) -> Iterator[Page[Record]]:
        decode = PageDecoder(ListingPage, Record, "stocks")
        paginator = KeysetPaginator(records="stocks", total="total", key="ref", size=PAGE_SIZE, start=self.resume_from)
        while not paginator.finished:
            response = self.connector.get("", paginator.params, decode=decode)
            yield Page(paginator.records(response.value), response.requested_at, paginator.page)
            paginator.advance(response.value)

    def __next__(self) -> list[ProvidableInfo]:
        """Return the one stock of the next record."""
        self.record = record = next(self.records)
        return [self.create_providable_info(self.model, record.ref, record.modified)]

    @property
    def cursor(self) -> str | None:
        """The reference after which the listing can be resumed."""
        return self.record.ref if self.record is not None else None

    def fill_object_attributes(self, obj: Providable) -> None:
        """Copy the fields of the record."""
        assert isinstance(obj, DatedStock)
        record = self.record
        obj.quantity = record.available
        obj.price = record.price
        obj.title = record.title
        obj.author = record.author
        obj.publisher = record.publisher


class BenchDatelessStocks(BenchStocks):
    """The same for records without dates, which are compared by their content."""

    name: ClassVar[str] = "Bench stocks without dates"
    model: ClassVar[type[Providable]] = DatelessStock


def prepare(task: Task) -> Callable[[], object]:
    """Connect; the work is one sync, from opening its load to closing it."""
    connection = psycopg.connect(task.conninfo, autocommit=True)
    kind = BenchStocks if task.options["dated"] else BenchDatelessStocks

    def work() -> None:
        with HttpConnector(task.url) as connector:
            report = sync_provider(kind(connector=connector), connection)
        print(report.summary(), file=sys.stderr)

    return work


if __name__ == "__main__":
    main(prepare)
