from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterable

import msgspec
import pytest

from include.connectors.decoding import Rejected
from include.connectors.pagination import CursorPaginator, KeysetPaginator, OffsetPaginator, Paginator, SinglePage
from include.errors import PaginationError


class Stock(msgspec.Struct):
    ref: str


class Page(msgspec.Struct):
    """A decoded page, as a service of any kind sends it."""

    rows: list = []
    total: int | None = None
    cursor: str | None = None


def stocks(*refs: str) -> list[Stock | Rejected]:
    """One row per word; `!x` is a rejected row with key x, `?` one whose key cannot be read."""
    return [
        Rejected(b'{"oops":1}', "no key")
        if ref == "?"
        else Rejected(b'{"ref":"%s","available":-1}' % ref[1:].encode(), "bad")
        if ref[0] == "!"
        else Stock(ref)
        for ref in refs
    ]


def key_of(row: Stock | Rejected) -> str | None:
    if isinstance(row, Stock):
        return row.ref
    return msgspec.json.decode(row.raw).get("ref")


class StockService:
    """A stock provider over a list of rows: pages of rows after the one with the key `after`."""

    def __init__(self, *refs: str, cap: int = 1000) -> None:
        self.rows = stocks(*refs)
        self.cap = cap
        self.asked: list[dict[str, object]] = []

    def __call__(self, params: dict[str, object]) -> tuple[list[Stock | Rejected], int]:
        self.asked.append(params)
        begin = 0
        if "after" in params:
            begin = [key_of(row) for row in self.rows].index(params["after"]) + 1
        return self.rows[begin : begin + min(int(params["limit"]), self.cap)], len(self.rows)


def read(paginator: KeysetPaginator, ask: Callable, *, with_total: bool = True) -> list[Stock | Rejected]:
    seen = []
    while not paginator.finished:
        rows, total = ask(paginator.params)
        seen += rows
        paginator.advance(Page(rows, total=total if with_total else None))
    return seen


def advance(paginator: Paginator, pages: Iterable[Page]) -> None:
    for page in pages:
        paginator.advance(page)


def keyset(size: int = 2, **options: object) -> KeysetPaginator:
    return KeysetPaginator(records="rows", total="total", key="ref", size=size, **options)


# ---------------------------------------------------------------- keyset


def test_keyset_reads_until_an_empty_page():
    service = StockService("a", "b", "c", "d")
    paginator = keyset(params={"modifiedSince": "2020"})
    assert read(paginator, service) == service.rows
    first = {"modifiedSince": "2020", "limit": 2}
    assert service.asked == [first, {**first, "after": "b"}, {**first, "after": "d"}]
    assert paginator.page == 3


def test_keyset_resumes_after_a_key_and_does_not_compare_the_total():
    service = StockService("a", "b", "c", "d", "e")
    assert read(keyset(start="c"), service) == stocks("d", "e")
    assert service.asked[0] == {"limit": 2, "after": "c"}


def test_keyset_goes_on_after_short_pages():
    service = StockService("a", "b", "c", "d", "e", cap=2)
    assert read(keyset(size=1000), service) == service.rows


@pytest.mark.parametrize(
    "rows",
    [
        ("a", "!b", "c", "!d"),
        ("!a", "!b", "!c", "!d", "!e"),
        ("?", "b", "?", "d", "e"),
        ("a", "?"),
        ("a", "b", "?"),
        ("?",),
        ("a", "?", "c", "?"),
    ],
)
@pytest.mark.parametrize("with_total", [True, False])
def test_keyset_gets_past_bad_rows(rows, with_total):
    service = StockService(*rows)
    seen = read(keyset(), service, with_total=with_total)
    good_and_bad = [row for row in service.rows if row in seen]
    assert good_and_bad == service.rows
    assert [row for row in seen if isinstance(row, Stock)] == [r for r in service.rows if isinstance(r, Stock)]


@pytest.mark.parametrize("start", [None, "z"])
def test_keyset_with_a_full_page_without_keys_cannot_go_on(start):
    paginator = keyset(start=start)
    with pytest.raises(PaginationError, match="none of the 2 rows of page 1 has a 'ref' that can be read"):
        paginator.advance(Page(stocks("?", "?"), total=9))
    assert not paginator.finished


def test_keyset_takes_a_page_as_long_as_the_longest_for_full():
    paginator = keyset(size=1000)
    paginator.advance(Page(stocks("a", "b")))
    with pytest.raises(PaginationError, match="page 2 has a 'ref'"):
        paginator.advance(Page(stocks("?", "?")))


def test_keyset_with_a_short_page_without_keys_before_the_total_cannot_go_on():
    paginator = keyset(size=10)
    with pytest.raises(PaginationError, match="that can be read"):
        paginator.advance(Page(stocks("?"), total=5))


@pytest.mark.parametrize("start", [None, "0"])
@pytest.mark.parametrize(
    "second",
    [
        ("a", "b", "c"),  # `after` ignored
        ("!a", "b", "c"),
        ("a", "b", "d"),  # a row came in meanwhile
        ("b", "c"),
    ],
)
def test_keyset_notices_a_service_that_misreads_after(second, start):
    paginator = keyset(size=3, start=start)
    paginator.advance(Page(stocks("a", "b", "c")))
    with pytest.raises(PaginationError, match=r"page 2 contains row '.' again, .* after 'c': .* 'after'") as looped:
        paginator.advance(Page(stocks(*second)))
    assert looped.value.where == {"page": 2}
    assert not paginator.finished


@pytest.mark.parametrize("second", [("c", "d", "e"), ("b", "c", "d"), ("d", "e", "b", "f")])
def test_keyset_goes_on_behind_rows_that_come_again(second):
    """A service that takes `after` for "from", or lists a row twice: the rows met again change nothing."""
    paginator = keyset(size=3)
    paginator.advance(Page(stocks("a", "b", "c")))
    paginator.advance(Page(stocks(*second)))
    assert paginator.params["after"] == second[-1]


@pytest.mark.parametrize("lead", [0, 1, 20, 50])
@pytest.mark.parametrize("around", [2, 3, 5, 7, 64, 100])
@pytest.mark.parametrize("kind", ["keyset", "cursor"])
def test_a_circle_of_any_length_is_noticed(kind, lead, around):
    paginator = keyset(size=1) if kind == "keyset" else CursorPaginator(records="rows", cursor="cursor")
    words = [str(number) for number in range(lead)] + [f"c{number}" for number in range(around)] * (3 * lead + 4)
    with pytest.raises(PaginationError, match="the listing repeats itself"):
        advance(paginator, (Page(stocks(word), cursor=word) for word in words))
    assert paginator.page <= 3 * (lead + around) + 3


def test_keyset_remembers_one_page_at_most():
    paginator = keyset(size=100, max_pages=10**9)

    def rows_of(pages: range) -> Iterable[Page]:
        return (Page([Stock(f"{page:06d}{row:04d}") for row in range(100)]) for page in pages)

    advance(paginator, rows_of(range(20)))
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    advance(paginator, rows_of(range(20, 500)))
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 30_000


def test_keyset_empty_page_before_the_total_is_an_error():
    paginator = keyset()
    paginator.advance(Page(stocks("a", "b"), total=5))
    with pytest.raises(PaginationError, match=r"page 2 is empty after 2 rows, but the service announced 5") as early:
        paginator.advance(Page([], total=5))
    assert early.value.where == {"page": 2}
    assert not paginator.finished
    with pytest.raises(PaginationError, match="page 1 is empty after 0 rows"):
        keyset().advance(Page([], total=3))


@pytest.mark.parametrize(
    ("totals", "is_fine"),
    [
        ((4, 4, 4), True),
        ((4, 4, None), True),
        ((5, 5, None), False),
        ((9, 9, 4), True),  # five rows went away meanwhile
        ((9, 9, 5), False),
        ((4, 6, 6), True),  # two rows came in, perhaps behind the place reached
        ((4, 6, 7), True),
        ((5, 6, 6), False),
        ((4, 2, 3), True),
        ((4, 4, 0), True),  # some services count the page
        ((9, 9, 0), False),  # a service that lost its data
        ((9, 9, 1), True),
        ((1, 1, 1), True),
    ],
)
def test_keyset_total_of_a_listing_that_changes(totals, is_fine):
    paginator = keyset()
    paginator.advance(Page(stocks("a", "b"), total=totals[0]))
    paginator.advance(Page(stocks("c", "d"), total=totals[1]))
    if is_fine:
        paginator.advance(Page([], total=totals[2]))
        assert paginator.finished
    else:
        with pytest.raises(PaginationError, match="not complete"):
            paginator.advance(Page([], total=totals[2]))


def test_raw_key_may_be_called_differently():
    paginator = KeysetPaginator(records="rows", total="total", key="ref", raw_key="articleRef", size=1)
    paginator.advance(Page([Rejected(b'{"articleRef":"x1","ref":"no"}', "bad")]))
    assert paginator.params["after"] == "x1"


def test_other_attribute_errors_are_not_hidden():
    class Row(msgspec.Struct):
        other: str

    with pytest.raises(AttributeError):
        keyset().advance(Page([Row("a")]))


# ---------------------------------------------------------------- the limit of pages


def test_too_many_pages_is_an_error_of_all_paginators():
    by_key = keyset(size=1, max_pages=3)
    by_cursor = CursorPaginator(records="rows", cursor="cursor", max_pages=3)
    by_offset = OffsetPaginator(records="rows", total="total", size=1, max_pages=3)
    steps: list[Callable[[int], None]] = [
        lambda n: by_key.advance(Page(stocks(f"r{n}"))),
        lambda n: by_cursor.advance(Page(cursor=f"c{n}")),
        lambda n: by_offset.advance(Page([n], total=99)),
    ]
    for step in steps:
        step(1)
        step(2)
        with pytest.raises(PaginationError, match="more than 3 pages, the limit max_pages") as too_many:
            step(3)
        assert too_many.value.where == {"page": 3}


def test_limit_of_pages_may_be_reached():
    paginator = keyset(size=1, max_pages=2)
    paginator.advance(Page(stocks("a")))
    paginator.advance(Page([]))
    assert paginator.finished


# ---------------------------------------------------------------- cursor


@pytest.mark.parametrize("end", [None, ""])
def test_cursor_goes_on_until_there_is_none(end):
    paginator = CursorPaginator(records="rows", cursor="cursor", params={"pageSize": 10}, cursor_param="offset")
    seen = [paginator.params]
    for cursor in ("x", "y", end):
        assert not paginator.finished
        paginator.advance(Page(cursor=cursor))
        seen.append(paginator.params)
    assert paginator.finished
    first = {"pageSize": 10}
    assert seen[:3] == [first, {**first, "offset": "x"}, {**first, "offset": "y"}]


def test_cursor_resumes():
    assert CursorPaginator(records="rows", cursor="cursor", start="x").params == {"cursor": "x"}


@pytest.mark.parametrize("start", [None, "a"])
def test_cursor_that_names_itself_is_an_error(start):
    paginator = CursorPaginator(records="rows", cursor="cursor", start=start)
    with pytest.raises(PaginationError, match="names 'a' as the next page"):
        advance(paginator, [Page(cursor="a")] * 2)
    assert paginator.page <= 2


def test_long_cursor_is_cut_in_the_message():
    paginator = CursorPaginator(records="rows", cursor="cursor", start="x" * 5000)
    with pytest.raises(PaginationError) as looped:
        paginator.advance(Page(cursor="x" * 5000))
    assert len(str(looped.value)) < 300


# ---------------------------------------------------------------- offset


def test_offset_reads_up_to_the_total_whatever_the_size_of_pages():
    rows = list(range(7))
    paginator = OffsetPaginator(records="rows", total="total", size=5, params={"house": 1})
    seen: list[int] = []
    asked = []
    while not paginator.finished:
        asked.append(paginator.params)
        page = rows[paginator.params["skip"] :][:3]
        seen += page
        paginator.advance(Page(page, total=7))
    assert seen == rows
    assert asked == [{"house": 1, "take": 5, "skip": skip} for skip in (0, 3, 6)]


def test_offset_resumes():
    paginator = OffsetPaginator(
        records="rows", total="total", size=5, start=10, skip_param="offset", size_param="limit"
    )
    assert paginator.params == {"offset": 10, "limit": 5}
    paginator.advance(Page([1, 2], total=12))
    assert paginator.finished


@pytest.mark.parametrize("total", [20, 0])
def test_offset_empty_page_before_the_total_is_an_error(total):
    paginator = OffsetPaginator(records="rows", total="total", size=5)
    paginator.advance(Page([1, 2, 3, 4, 5], total=20))
    with pytest.raises(PaginationError, match=r"page 2 is empty after 5 rows, but the service announced 20"):
        paginator.advance(Page([], total=total))


@pytest.mark.parametrize(
    ("pages", "finished"),
    [
        ([Page([], total=0)], True),
        ([Page([1, 2], total=20), Page([], total=2)], True),  # it shrank to what was read
        ([Page([1, 2], total=4), Page([3, 4], total=5)], False),  # it grew
    ],
)
def test_offset_listing_that_changes_is_followed(pages, finished):
    paginator = OffsetPaginator(records="rows", total="total", size=2)
    advance(paginator, pages)
    assert paginator.finished is finished


def test_offset_notices_that_skip_is_ignored():
    paginator = OffsetPaginator(records="rows", total="total", size=2)
    paginator.advance(Page([Stock("a"), Stock("b")], total=6))
    with pytest.raises(PaginationError, match=r"page 2 begins with the same row .* 'skip'"):
        paginator.advance(Page([Stock("a"), Stock("b")], total=6))


# ---------------------------------------------------------------- one page


def test_single_page_is_one_request():
    paginator = SinglePage(records="rows", params={"theater": "P1"})
    assert paginator.params == paginator.probe_params == {"theater": "P1"}
    paginator.advance(Page(stocks("a", "b")))
    assert paginator.finished


@pytest.mark.parametrize("total", [None, 0, 1, 2])
def test_single_page_with_all_that_it_announces_is_complete(total):
    paginator = SinglePage(records="rows", total="total")
    paginator.advance(Page(stocks("a", "b"), total))
    assert paginator.finished


def test_single_page_with_less_than_it_announces_is_an_error():
    paginator = SinglePage(records="rows", total="total")
    with pytest.raises(PaginationError, match="the listing has 2 records, but announces 3: it is not complete"):
        paginator.advance(Page(stocks("a", "b"), 3))
    assert not paginator.finished


# ---------------------------------------------------------------- the common interface


PAGES = [Page(stocks("a", "!b"), 2, "next"), Page([], 2)]


@pytest.mark.parametrize(
    ("paginator", "pages", "probe"),
    [
        (SinglePage(records="rows", total="total", params={"n": 2}), PAGES[:1], {"n": 2}),
        (KeysetPaginator(records="rows", total="total", key="ref", size=2), PAGES, {"limit": 1}),
        (KeysetPaginator(records="rows", total="total", key="ref", size=2), [Page([], 0)], {"limit": 1}),
        (KeysetPaginator(records="rows", total="total", key="ref", size=2), [Page([])], {"limit": 1}),
        (CursorPaginator(records="rows", cursor="cursor", params={"n": 2}), PAGES, {"n": 2}),
        (OffsetPaginator(records="rows", total="total", size=2), PAGES[:1], {"take": 1, "skip": 0}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Paginator) else "",
)
def test_all_paginators_are_used_alike(paginator, pages, probe):
    assert paginator.probe_params == probe
    seen: list[object] = []
    for page in pages:
        assert not paginator.finished
        assert isinstance(paginator.params, dict)
        seen += paginator.records(page)
        paginator.advance(page)
    assert paginator.finished
    assert seen == pages[0].rows
