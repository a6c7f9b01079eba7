"""Which page of a listing to ask for next, and when to stop.

A paginator makes the query of the next request from what it saw, and raises `PaginationError` when a listing would
not end or ends too early. What it remembers never grows with the listing. All are used alike; the page goes out before
`advance` judges it, so that records of a page that ends in an error are not lost::

    while not paginator.finished:
        answer = connector.get(path, paginator.params, decode=decode)
        yield Page(answer.value.stocks, answer.asked_at, paginator.page)
        paginator.advance(answer.value.stocks, total=answer.value.total)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any

from include.connectors.decoding import Rejected, raw_field
from include.errors import PaginationError

MAX_PAGES = 100_000


class _LoopDetector:
    """Notices when a sequence of cursors repeats, remembering one of them (R. P. Brent's method).

    https://en.wikipedia.org/wiki/Cycle_detection#Brent's_algorithm: a loop is noticed within about three times the
    pages that lead into it and around it once.
    """

    def __init__(self) -> None:
        self._kept: object = None
        self._steps = 0
        self._limit = 1

    def repeats(self, cursor: object) -> bool:
        if cursor == self._kept:
            return True
        self._steps += 1
        if self._steps == self._limit:
            self._kept, self._steps, self._limit = cursor, 0, self._limit * 2
        return False


class _AnnouncedTotal:
    """The total that a service announces, compared with the rows it gave.

    A listing may change while it is read. Rows that go away lower the total, so the last one announced counts; rows
    that come in may lie before the place already reached, so whatever the total grew by meanwhile may be missing.
    A total of 0 is not believed after rows were announced: a service that lost its data, or that counts the page
    instead of the listing, would otherwise pass for a complete listing.
    """

    def __init__(self) -> None:
        self.last = 0
        self._grown = 0

    def see(self, total: int | None) -> None:
        if total:
            if self.last:
                self._grown += max(0, total - self.last)
            self.last = total

    def missing_after(self, rows: int) -> int:
        return max(0, self.last - self._grown - rows)


class _Paginator:
    """Counts pages; `page` is the number of the page to ask for next, from 1 on."""

    def __init__(self, params: Mapping[str, Any] | None, max_pages: int) -> None:
        self.page = 1
        self.finished = False
        self._params = dict(params or {})
        self._max_pages = max_pages

    def _finish(self) -> None:
        self.finished = True

    def _go_on(self) -> None:
        if self.page >= self._max_pages:
            raise self._error(
                f"the listing has more than {self._max_pages:,} pages, the limit max_pages: raise it if the listing is "
                "that long, else the service repeats pages: ask the supplier"
            )
        self.page += 1

    def _error(self, message: str) -> PaginationError:
        return PaginationError(message, page=self.page)

    def _ended_early(self, rows: int, total: int) -> PaginationError:
        return self._error(
            f"page {self.page} is empty after {rows} rows, but the service announced {total}: the listing is not "
            "complete; run again, and ask the supplier if it happens again"
        )


class KeysetPaginator(_Paginator):
    """Pages that go on after the last row seen: `?limit=1000&after=<key of the last row>`. An empty page ends them.

    `key` names the attribute of the records, `raw_key` the same field in the bytes if it is called differently there:
    the key of a `Rejected` is read from its bytes, so that bad records do not end a listing. Trailing rows without a
    readable key may come again at the start of the next page.

    `start` is the key to resume after. Then the total, which is that of the whole listing, says nothing about the rest
    and is not compared; otherwise an empty page before the announced total is an error.
    """

    def __init__(
        self,
        *,
        key: str,
        raw_key: str | None = None,
        size: int,
        start: str | int | None = None,
        params: Mapping[str, Any] | None = None,
        after_param: str = "after",
        size_param: str = "limit",
        max_pages: int = MAX_PAGES,
    ) -> None:
        super().__init__({**(params or {}), size_param: size}, max_pages)
        self._key_of = attrgetter(key)
        self._raw_key = raw_key or key
        self._after_param = after_param
        self._cursor = start
        self._first: object = None
        self._loop = _LoopDetector()
        self._full_size = size
        self._longest = 0
        self._rows = 0
        self._total = _AnnouncedTotal()
        self._counts = start is None

    @property
    def params(self) -> dict[str, Any]:
        """The query of the next request."""
        return self._params if self._cursor is None else {**self._params, self._after_param: self._cursor}

    def advance(self, rows: Sequence[object], *, total: int | None = None) -> None:
        """Judge the page just read, and move on behind its last row."""
        self._rows += len(rows)
        self._total.see(total)
        missing = self._total.missing_after(self._rows) if self._counts else 0
        if not rows:
            if missing:
                raise self._ended_early(self._rows, self._total.last)
            self._finish()
            return
        last = self._key_in(reversed(rows))
        if last is None:
            self._end_without_keys(len(rows), missing)
            return
        first = self._key_in(rows)
        if last == self._cursor or first == self._first:
            raise self._error(
                f"page {self.page} contains row {last if last == self._cursor else first!r} again, although the "
                f"request was for the rows after {self._cursor!r}: the service misreads {self._after_param!r}; "
                "ask the supplier"
            )
        if self._loop.repeats(last):
            raise self._error(
                f"the listing repeats itself: page {self.page} ends with row {last!r}, like an earlier page; ask the "
                "supplier"
            )
        self._cursor, self._first = last, first
        self._longest = max(self._longest, len(rows))
        self._go_on()

    def _key_in(self, rows: Iterable[object]) -> Any:
        """The first key that can be read; None if there is none."""
        for row in rows:
            key = raw_field(row.raw, self._raw_key) if type(row) is Rejected else self._key_of(row)
            if key is not None:
                return key
        return None

    def _end_without_keys(self, count: int, missing: int) -> None:
        """Rows without a key can be the end of a listing, but nothing comes after them that could be asked for.

        A page is full when it is as long as the size asked for, or as the longest page before it, since some services
        have a limit of their own.
        """
        if missing or count >= min(self._full_size, self._longest or self._full_size):
            raise self._error(
                f"none of the {count} rows of page {self.page} has a {self._raw_key!r} that can be read, so the next "
                "page cannot be requested: the format of the source changed; look at the rejected records"
            )
        self._finish()


class CursorPaginator(_Paginator):
    """Pages that name the next one by an opaque cursor in their body. No cursor ends them, an empty page does not."""

    def __init__(
        self,
        *,
        cursor_param: str = "cursor",
        start: str | None = None,
        params: Mapping[str, Any] | None = None,
        max_pages: int = MAX_PAGES,
    ) -> None:
        super().__init__(params, max_pages)
        self._cursor_param = cursor_param
        self._cursor = start
        self._loop = _LoopDetector()

    @property
    def params(self) -> dict[str, Any]:
        """The query of the next request."""
        return self._params if self._cursor is None else {**self._params, self._cursor_param: self._cursor}

    def advance(self, cursor: str | None) -> None:
        """Move on to the page that `cursor` names; None or an empty one is the end."""
        if not cursor:
            self._finish()
            return
        if cursor == self._cursor or self._loop.repeats(cursor):
            raise self._error(
                f"the listing repeats itself: page {self.page} names {cursor[:60]!r} as the next page, like an earlier "
                "page; ask the supplier"
            )
        self._cursor = cursor
        self._go_on()


class OffsetPaginator(_Paginator):
    """Pages by number of rows to skip: `?skip=40&take=20`, until the announced total is reached.

    Rows that go away while the listing is read make those behind them move up, past the place already reached: no
    service of this kind can promise a complete listing, so treat it as one that is not.
    """

    def __init__(
        self,
        *,
        size: int,
        start: int = 0,
        params: Mapping[str, Any] | None = None,
        skip_param: str = "skip",
        size_param: str = "take",
        max_pages: int = MAX_PAGES,
    ) -> None:
        super().__init__({**(params or {}), size_param: size}, max_pages)
        self._skip_param = skip_param
        self._skip = start
        self._first: object = None
        self._total = _AnnouncedTotal()

    @property
    def params(self) -> dict[str, Any]:
        """The query of the next request."""
        return {**self._params, self._skip_param: self._skip}

    def advance(self, rows: Sequence[object], *, total: int) -> None:
        """Judge the page just read, and move on behind it."""
        if rows and not total and not self._total.last:
            raise self._error(
                f"page {self.page} has rows, but the service announces a total of 0: where the listing ends is "
                "unknown; ask the supplier"
            )
        self._total.see(total)
        if not rows:
            if self._skip < self._total.last:
                raise self._ended_early(self._skip, self._total.last)
            self._finish()
            return
        if rows[0] == self._first:
            raise self._error(
                f"page {self.page} begins with the same row as the page before it: the service ignores or misreads "
                f"{self._skip_param!r}; ask the supplier"
            )
        self._first = rows[0]
        self._skip += len(rows)
        if self._skip >= self._total.last:
            self._finish()
        else:
            self._go_on()
