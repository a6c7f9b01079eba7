from __future__ import annotations

import contextlib
import contextvars
import gc
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from include.connectors import cancellation
from include.connectors.decoding import Rejected
from include.connectors.records import AHEAD, Page, RecordStream
from include.errors import RateLimited, RejectRecord

START = datetime(2024, 1, 1, tzinfo=UTC)


def page(number: int, *records: object) -> Page:
    return Page(list(records), START + timedelta(seconds=number), number)


def numbered(count: int, asked: list[int] | None = None, pause: float = 0) -> Iterator[Page]:
    """Pages whose only record is their number; notes them in `asked` when they are requested."""
    for number in range(count):
        if asked is not None:
            asked.append(number)
        time.sleep(pause)
        yield page(number, number)


def wait_until(condition, seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.002)


def fetchers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "fetch pages"]


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    yield
    wait_until(lambda: not fetchers())


def test_records_of_all_pages_in_order():
    stream = RecordStream(iter([page(1, "a", "b"), page(2), page(3), page(4, "c")]))
    assert list(stream) == ["a", "b", "c"]
    assert next(stream, "over") == "over"


def test_many_empty_pages_are_no_depth_of_calls():
    pages = [page(number) for number in range(5000)]
    assert list(RecordStream(iter([*pages, page(5000, "a")]))) == ["a"]


def test_what_was_read_goes_with_the_stream():
    class Record:
        pass

    stream = RecordStream(iter([page(1, Record()), page(2, Record())]))
    kept = [weakref.ref(stream)]
    gc.disable()
    try:
        with contextlib.suppress(StopIteration):  # not a loop over the stream: that keeps no traceback
            while True:
                kept.append(weakref.ref(next(stream)))
        stream.close()
        del stream
        wait_until(lambda: not fetchers())
        assert [one() for one in kept] == [None] * 3
    finally:
        gc.enable()


def test_attributes_tell_of_the_page_of_the_current_record():
    stream = RecordStream(iter([page(1, "a", "b"), page(2, "c")]))
    assert stream.page_number == 0
    seen = [(record, stream.page_number, stream.requested_at) for record in stream]
    later = [START + timedelta(seconds=number) for number in (1, 2)]
    assert seen == [("a", 1, later[0]), ("b", 1, later[0]), ("c", 2, later[1])]


def test_bad_records_are_raised_in_their_place_and_the_stream_goes_on():
    stream = RecordStream(iter([page(1, Rejected(b"x", "bad x"), "a"), page(2, Rejected(b"y", "bad y")), page(3, "b")]))
    seen: list[object] = []
    while True:
        try:
            seen.append(next(stream))
        except RejectRecord as rejected:
            seen.append((str(rejected), rejected.payload, rejected.where))
        except StopIteration:
            break
    assert seen == [
        ("bad x [page 1]", b"x", {"page": 1}),
        "a",
        ("bad y [page 2]", b"y", {"page": 2}),
        "b",
    ]


def test_none_and_false_are_records():
    assert list(RecordStream(iter([page(1, None, 0, "")]))) == [None, 0, ""]


def test_error_comes_after_the_records_before_it_and_again_each_time():
    def pages() -> Iterator[Page]:
        yield page(1, "a", "b")
        raise RateLimited("slow down", retry_after=99)

    stream = RecordStream(pages())
    assert [next(stream), next(stream)] == ["a", "b"]
    for _ in range(3):
        with pytest.raises(RateLimited, match="slow down") as limited:
            next(stream)
        assert limited.value.retry_after == 99


def test_exit_in_the_thread_is_not_lost():
    def pages() -> Iterator[Page]:
        yield page(1, "a")
        raise SystemExit(3)

    stream = RecordStream(pages())
    next(stream)
    with pytest.raises(SystemExit):
        next(stream)


def test_nothing_is_asked_before_the_first_record_is_wanted():
    asked: list[int] = []
    stream = RecordStream(numbered(1, asked))
    time.sleep(0.03)
    assert asked == []
    assert list(stream) == [0]


def test_next_pages_are_fetched_meanwhile_and_never_too_many():
    """Fetching and working overlap."""
    asked: list[int] = []
    stream = RecordStream(numbered(9, asked))
    for number in range(4):
        assert next(stream) == number
        wait_until(lambda: len(asked) > number + AHEAD)  # noqa: B023
        time.sleep(0.02)
        assert asked[-1] == number + AHEAD
    stream.close()


def test_waited_is_the_time_without_pages():
    stream = RecordStream(numbered(3, pause=0.05))
    list(stream)
    assert 0.13 < stream.waited < 1


def test_thread_does_not_wait_long_for_its_turn():
    usual = sys.getswitchinterval()
    sys.setswitchinterval(0.005)
    try:
        list(RecordStream(iter([page(1, "a")])))
        assert sys.getswitchinterval() == pytest.approx(0.0005, abs=2e-6)
        sys.setswitchinterval(0.0001)
        list(RecordStream(iter([page(1, "a")])))
        assert sys.getswitchinterval() == pytest.approx(0.0001, abs=2e-6)
    finally:
        sys.setswitchinterval(usual)


def test_context_of_the_caller_reaches_the_thread():
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    variable.set("mine")
    stream = RecordStream(page(1, variable.get()) for _ in range(1))
    assert list(stream) == ["mine"]


# ---------------------------------------------------------------- close


def test_closed_stream_does_not_look_like_one_that_ended():
    stream = RecordStream(iter([page(1, "a", "b")]))
    next(stream)
    stream.close()
    stream.close()
    with pytest.raises(ValueError, match="closed"):
        next(stream)


def test_close_before_the_first_record():
    stream = RecordStream(iter([page(1, "a")]))
    stream.close()
    with pytest.raises(ValueError, match="closed"):
        next(stream)
    assert not fetchers()


def test_close_ends_the_thread_and_closes_the_pages():
    closed = threading.Event()

    def pages() -> Iterator[Page]:
        try:
            yield from numbered(100)
        finally:
            closed.set()

    stream = RecordStream(pages())
    next(stream)
    stream.close()
    assert closed.wait(5)


def test_stream_that_is_dropped_ends_its_thread():
    stream = RecordStream(numbered(100))
    next(stream)
    assert fetchers()
    del stream
    gc.collect()
    wait_until(lambda: not fetchers())


def test_close_returns_at_once_while_a_request_is_under_way(service, connect):
    service.answers(b"[1]").hangs()
    connector = connect(read_timeout=20)

    def pages() -> Iterator[Page]:
        for number in range(100):
            response = connector.get(decode=bytes)
            yield Page([response.value], response.requested_at, number)

    stream = RecordStream(pages())
    next(stream)
    wait_until(lambda: len(service.asked) == 2)
    began = time.perf_counter()
    stream.close()
    assert time.perf_counter() - began < 0.1
    service.over.set()
    wait_until(lambda: not fetchers())
    assert len(service.asked) == 2


@pytest.mark.parametrize("fault", ["status", "hangs"])
def test_no_request_follows_after_close_not_even_a_retry(service, connect, fault):
    """The request under way fails, and the connector would ask again: it must not."""
    service.answers(b"[1]")
    service.answers(status=500) if fault == "status" else service.hangs()
    connector = connect(read_timeout=0.1, sleep=cancellation.sleep, jitter=lambda: 0.2)

    def pages() -> Iterator[Page]:
        for number in range(100):
            yield Page([connector.get(decode=bytes).value], START, number)

    stream = RecordStream(pages())
    next(stream)
    wait_until(lambda: len(service.asked) == 2)
    stream.close()
    wait_until(lambda: not fetchers())
    time.sleep(0.25)
    assert len(service.asked) == 2


def test_close_wakes_a_connector_that_sleeps(service, connect):
    service.answers(status=429, headers={"Retry-After": "30"})
    connector = connect(sleep=cancellation.sleep)
    stream = RecordStream(Page([connector.get(decode=bytes)], START, number) for number in range(3))
    seen: list[object] = []

    def read() -> None:
        try:
            seen.append(next(stream))
        except ValueError as error:
            seen.append(str(error))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    wait_until(lambda: len(service.asked) == 1)
    stream.close()
    wait_until(lambda: not fetchers())
    reader.join(5)
    assert seen == ["the stream of records is closed"]
    assert len(service.asked) == 1


def test_sleep_outside_of_a_stream_is_a_sleep():
    began = time.perf_counter()
    cancellation.sleep(0.03)
    cancellation.raise_if_cancelled()
    assert time.perf_counter() - began >= 0.03


def test_interpreter_ends_with_a_request_under_way():
    program = """
import time
from include.connectors.records import AHEAD, Page, RecordStream

def pages():
    yield Page([1], None, 1)
    time.sleep(60)

stream = RecordStream(pages())
print(next(stream))
time.sleep(0.05)
"""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], check=True, capture_output=True, text=True, timeout=30
    )
    assert (done.stdout, done.stderr) == ("1\n", "")
    assert time.perf_counter() - began < 20
