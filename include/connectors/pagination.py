"""Which page of a listing to request next, and when to stop.

A paginator builds the query of the next request from the pages it has seen, and raises `PaginationError` when a listing
would not end or ended too early. Its memory does not grow with the listing. It knows the names of the fields of a page
(attributes of the decoded body), so all paginators are used in the same way: see `PagedProvider._pages`, which passes a
page on before `advance` checks it. Otherwise the records of a page that ends in an error would be lost.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any

from include.connectors.decoding import Rejected, raw_field
from include.errors import PaginationError

MAX_PAGES = 100_000


class _LoopDetector:
    """Detects that a sequence of cursors repeats, remembering one of them (R. P. Brent's method).

    https://en.wikipedia.org/wiki/Cycle_detection#Brent's_algorithm: a loop is detected within about three times the
    pages that lead into it and around it once.
    """

    def __init__(self) -> None:
        self._saved: object = None
        self._steps = 0
        self._limit = 1

    def repeats(self, cursor: object) -> bool:
        if cursor == self._saved:
            return True
        self._steps += 1
        if self._steps == self._limit:
            self._saved, self._steps, self._limit = cursor, 0, self._limit * 2
        return False


class _AnnouncedTotal:
    """The total that a service announces, compared with the rows received.

    A listing may change while it is read. Removed rows lower the total, so the latest one counts. Added rows may lie
    before the position already reached, so as many rows as the total grew by may be missing. A total of 0 after rows
    were announced is ignored: a service that lost its data, or that counts the page instead of the listing, would
    otherwise pass for a complete listing.
    """

    def __init__(self) -> None:
        self.latest = 0
        self._growth = 0

    def update(self, total: int | None) -> None:
        if total:
            if self.latest:
                self._growth += max(0, total - self.latest)
            self.latest = total

    def missing_after(self, rows: int) -> int:
        return max(0, self.latest - self._growth - rows)


class Paginator(ABC):
    """What all paginators share. `page` is the number of the page to request next, from 1.

    Args:
        records: name of the page's list of records.
        total: name of the page's count of all records in the listing; "" if the service announces none.
        params: query parameters of every request.
        size_param: query parameter for the number of records per page; "" if the service decides.
        max_pages: a listing with more pages is an error.
    """

    def __init__(
        self,
        *,
        records: str,
        total: str = "",
        params: Mapping[str, Any] | None = None,
        size_param: str = "",
        max_pages: int = MAX_PAGES,
    ) -> None:
        self.page = 1
        self.finished = False
        self._records_of = attrgetter(records)
        self._total_of = attrgetter(total) if total else None
        self._params = dict(params or {})
        self._size_param = size_param
        self._position_param = ""
        self._position: Any = None
        self._max_pages = max_pages

    @property
    def params(self) -> dict[str, Any]:
        """Query parameters of the next request."""
        return self._params if self._position is None else {**self._params, self._position_param: self._position}

    @property
    def probe_params(self) -> dict[str, Any]:
        """Query parameters of the smallest request that shows whether the listing exists."""
        return {**self.params, self._size_param: 1} if self._size_param else self.params

    def records(self, page: Any) -> Sequence[Any]:
        """Return the records of a decoded page, `Rejected` ones included."""
        records: Sequence[Any] = self._records_of(page)
        return records

    @abstractmethod
    def advance(self, page: Any) -> None:
        """Check the decoded page just read, and move on to the next one or finish.

        Raises:
            PaginationError: the listing repeats itself, ended too early, or has more than `max_pages` pages.
        """

    def _total(self, page: Any) -> int | None:
        return None if self._total_of is None else self._total_of(page)

    def _next_page(self) -> None:
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


class SinglePage(Paginator):
    """A listing that the service returns in one response. `received` names the page's count of records in it."""

    def __init__(
        self, *, records: str, total: str = "", received: str = "", params: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(records=records, total=total, params=params)
        self._received_of = attrgetter(received) if received else None

    def advance(self, page: Any) -> None:
        """Finish; raise PaginationError if the page has fewer records than it announces."""
        received = len(self.records(page)) if self._received_of is None else self._received_of(page)
        total = self._total(page)
        if total is not None and total > received:
            raise self._error(
                f"the listing has {received} records, but announces {total}: it is not complete; run again, and ask "
                "the supplier if it happens again"
            )
        self.finished = True


class KeysetPaginator(Paginator):
    """Pages that continue after the last row: `?limit=1000&after=<key of the last row>`. An empty page ends them.

    `key` names the attribute of the records, `raw_key` the same field in the bytes if its name differs there: the key
    of a `Rejected` is read from its bytes, so that bad records do not end a listing. Trailing rows without a readable
    key may come again at the start of the next page.

    `start` is the key to resume after. The total, which is that of the whole listing, is then not compared; otherwise
    an empty page before the announced total is an error.
    """

    def __init__(
        self,
        *,
        records: str,
        key: str,
        raw_key: str = "",
        size: int,
        total: str = "",
        start: str | int | None = None,
        params: Mapping[str, Any] | None = None,
        after_param: str = "after",
        size_param: str = "limit",
        max_pages: int = MAX_PAGES,
    ) -> None:
        params = {**(params or {}), size_param: size}
        super().__init__(records=records, total=total, params=params, size_param=size_param, max_pages=max_pages)
        self._position_param, self._position = after_param, start
        self._key_of = attrgetter(key)
        self._raw_key = raw_key or key
        self._first: object = None
        self._loop = _LoopDetector()
        self._full_size = size
        self._longest = 0
        self._rows = 0
        self._announced = _AnnouncedTotal()
        self._compares_total = start is None

    def advance(self, page: Any) -> None:
        """Check the page just read, and continue after its last row."""
        rows = self.records(page)
        self._rows += len(rows)
        self._announced.update(self._total(page))
        missing = self._announced.missing_after(self._rows) if self._compares_total else 0
        if not rows:
            if missing:
                raise self._ended_early(self._rows, self._announced.latest)
            self.finished = True
            return
        last = self._key_in(reversed(rows))
        if last is None:
            self._end_without_keys(len(rows), missing)
            return
        first = self._key_in(rows)
        # Only these two rows show that `after` was misread: any other row may come twice in a listing that changes.
        if last == self._position or first == self._first:
            raise self._error(
                f"page {self.page} contains row {last if last == self._position else first!r} again, although the "
                f"request was for the rows after {self._position!r}: the service misreads {self._position_param!r}; "
                "ask the supplier"
            )
        if self._loop.repeats(last):
            raise self._error(
                f"the listing repeats itself: page {self.page} ends with row {last!r}, like an earlier page; ask the "
                "supplier"
            )
        self._position, self._first = last, first
        self._longest = max(self._longest, len(rows))
        self._next_page()

    def _key_in(self, rows: Iterable[object]) -> Any:
        """Return the first readable key, or None."""
        for row in rows:
            key = raw_field(row.raw, self._raw_key) if type(row) is Rejected else self._key_of(row)
            if key is not None:
                return key
        return None

    def _end_without_keys(self, count: int, missing: int) -> None:
        """Finish after rows without a key, unless more rows must follow: no request can continue after such rows.

        A page is full if it is as long as the requested size, or as the longest page before it, since some services
        have a lower limit of their own.
        """
        if missing or count >= min(self._full_size, self._longest or self._full_size):
            raise self._error(
                f"none of the {count} rows of page {self.page} has a {self._raw_key!r} that can be read, so the next "
                "page cannot be requested: the format of the source changed; look at the rejected records"
            )
        self.finished = True


class CursorPaginator(Paginator):
    """Pages whose body contains an opaque cursor for the next one. No cursor ends them; an empty page does not.

    `cursor` names the page's field with the cursor of the next page.
    """

    def __init__(
        self,
        *,
        records: str,
        cursor: str,
        cursor_param: str = "cursor",
        start: str | None = None,
        params: Mapping[str, Any] | None = None,
        max_pages: int = MAX_PAGES,
    ) -> None:
        super().__init__(records=records, params=params, max_pages=max_pages)
        self._position_param, self._position = cursor_param, start
        self._cursor_of = attrgetter(cursor)
        self._loop = _LoopDetector()

    def advance(self, page: Any) -> None:
        """Move on to the page that the cursor names; None or "" ends the listing."""
        cursor = self._cursor_of(page)
        if not cursor:
            self.finished = True
            return
        if cursor == self._position or self._loop.repeats(cursor):
            raise self._error(
                f"the listing repeats itself: page {self.page} names {cursor[:60]!r} as the next page, like an earlier "
                "page; ask the supplier"
            )
        self._position = cursor
        self._next_page()


class OffsetPaginator(Paginator):
    """Pages by number of rows to skip: `?skip=40&take=20`, until the announced total is reached.

    When rows are removed while the listing is read, later rows move up before the position already reached. No service
    of this kind can therefore promise a complete listing.
    """

    def __init__(
        self,
        *,
        records: str,
        total: str,
        size: int,
        start: int = 0,
        params: Mapping[str, Any] | None = None,
        skip_param: str = "skip",
        size_param: str = "take",
        max_pages: int = MAX_PAGES,
    ) -> None:
        params = {**(params or {}), size_param: size}
        super().__init__(records=records, total=total, params=params, size_param=size_param, max_pages=max_pages)
        self._position_param, self._position = skip_param, start
        self._first: object = None
        self._announced = _AnnouncedTotal()

    def advance(self, page: Any) -> None:
        """Check the page just read, and skip its rows too."""
        rows, total = self.records(page), self._total(page)
        if rows and not total and not self._announced.latest:
            raise self._error(
                f"page {self.page} has rows, but the service announces a total of 0: where the listing ends is "
                "unknown; ask the supplier"
            )
        self._announced.update(total)
        if not rows:
            if self._position < self._announced.latest:
                raise self._ended_early(self._position, self._announced.latest)
            self.finished = True
            return
        if rows[0] == self._first:
            raise self._error(
                f"page {self.page} begins with the same row as the page before it: the service ignores or misreads "
                f"{self._position_param!r}; ask the supplier"
            )
        self._first = rows[0]
        self._position += len(rows)
        if self._position >= self._announced.latest:
            self.finished = True
        else:
            self._next_page()
