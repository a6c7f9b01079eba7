"""Moves in Algolia's log, and entries that only look like one."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from include.errors import PaginationError
from include.search.moves import OVERLAP, parse_move, read_log

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
MISSING = ...  # its name in the ids of tests is the same in every process


def stamp(seconds=0.0):
    return (NOON + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def entry(at=0.0, *, body=MISSING, **changes):
    """A move of `offers_tmp` onto `offers` as the log has it."""
    body = {"operation": "move", "destination": "offers"} if body is MISSING else body
    logged = {
        "timestamp": stamp(at),
        "method": "POST",
        "url": "/1/indexes/offers_tmp/operation",
        "query_body": body if isinstance(body, str) else json.dumps(body),
        "answer": '{"taskID": 42, "updatedAt": "2026-06-01T12:00:00.000Z"}',
        "answer_code": "200",
        "sha1": f"sha1 of {at}",
    }
    return {name: value for name, value in (logged | changes).items() if value is not MISSING}


def write(at):
    return entry(at, url="/1/indexes/offers_tmp/batch", body={"requests": []}, sha1=f"write {at}")


class Log:
    """Gives a log, newest first, as the service does; `between` happens before each page but the first."""

    name = "offers"

    def __init__(self, *entries, between=lambda log: None):
        self.entries = list(entries)
        self.between = between
        self.asked = []

    def logs(self, offset, length):
        if self.asked:
            self.between(self)
        self.asked.append((offset, length))
        return self.entries[offset : offset + length]


def read(*entries, since=None):
    return read_log(Log(*entries), since)


# What a move is


def each(**values):
    """One change per value of each field."""
    return [{name: value} for name, found in values.items() for value in found]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        *each(
            body=[
                {"destination": "offers", "operation": "move"},
                '{\n  "destination" :\t"offers" ,\r\n  "operation":"move"}',
                {"operation": "move", "destination": "offers", "scope": None},
                '{"operation":"move","destination":"\\u006fffers"}',
            ],
            url=[
                "/1/indexes/offers_tmp/operation?x-algolia-agent=some%2Fthing",
                "https://app.algolia.net/1/indexes/offers_tmp/operation",
                "//[/1/indexes/offers_tmp/operation",
            ],
            answer_code=[200, "201", MISSING, None],
            method=[MISSING],
            timestamp=["2026-06-01T12:00:00.000Z", "2026-06-01T14:00:00+02:00", "2026-06-01T12:00:00"],
        ),
    ],
    ids=str,
)
def test_a_move(changes):
    move = parse_move(entry(**changes), "offers")
    assert (move.source, move.at, move.task_id) == ("offers_tmp", NOON, 42)


@pytest.mark.parametrize(
    ("index", "encoded", "source"),
    [
        ("my offers", "my%20offers_tmp", "my offers_tmp"),
        ("offers/é", "offers%2F%C3%A9%20tmp", "offers/é tmp"),
        ("オファー", "%E3%82%AA%E3%83%95%E3%82%A1%E3%83%BC_tmp", "オファー_tmp"),
        ("operation", "operation", "operation"),
        ("a+b", "a+b%2Btmp", "a+b+tmp"),
        ("100%", "100%25_tmp", "100%_tmp"),
        ("indexes", "indexes", "indexes"),
    ],
)
@pytest.mark.parametrize("ascii_only", [True, False])
def test_names_of_any_letters(index, encoded, source, ascii_only):
    body = json.dumps({"operation": "move", "destination": index}, ensure_ascii=ascii_only)
    logged = entry(url=f"/1/indexes/{encoded}/operation", body=body)
    assert parse_move(logged, index).source == source
    assert parse_move(logged, f"{index}_other") is None


@pytest.mark.parametrize(
    "changes",
    each(
        body=[
            {"operation": "copy", "destination": "offers"},
            {"operation": "copy", "destination": "offers", "scope": ["settings"]},
            {"operation": "move", "destination": "offers_old"},
            {"operation": "move", "destination": "Offers"},
            {"operation": "move"},
            {"operation": ["move"], "destination": ["offers"]},
            {"destination": "offers"},
            '{"operation": "move", "destination": "off',
            '[{"operation": "move", "destination": "offers"}]',
            *("offers", ""),
        ],
        query_body=[None, 7, MISSING, '{"operation": "move", "destination": "off\ud83d'],
        url=[
            *(f"/1/indexes/offers_tmp{end}" for end in ("/settings", "/batch", "")),
            *("/operation", "/1/other/offers_tmp/operation", "", None, MISSING),
        ],
        answer_code=["400", "403", 404, "429", "500"],
        timestamp=[MISSING, None, "yesterday", "", 1780315200],
    ),
    ids=ascii,
)
def test_no_move(changes):
    assert parse_move(entry(**changes), "offers") is None


@pytest.mark.parametrize(
    "answer", [MISSING, None, "", "{", '{"taskID": 4', '{"taskID": "42"}', '{"taskID": null}', "[42]", "42"], ids=repr
)
def test_a_move_whose_task_is_not_named(answer):
    move = parse_move(entry(answer=answer), "offers")
    assert (move.source, move.task_id) == ("offers_tmp", None)


@pytest.mark.parametrize("sha1", ["the same", MISSING, None, "", 7], ids=repr)
def test_a_move_is_identified_by_its_content_too(sha1):
    """Each rebuild sends the same request, so a sha1 of the request is the same for all moves."""
    ids = [parse_move(entry(sha1=sha1, **changes), "offers").id for changes in ({}, {}, {"at": 1}, {"answer": "{}"})]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3


# The log


def test_a_whole_log_is_read_on_the_first_run():
    log = Log(
        entry(90, url="/1/indexes/new/operation"),
        *[write(80 - n) for n in range(40)],
        entry(-50, url="/1/indexes/old/operation"),
    )
    reading = read_log(log, None)
    assert [move.source for move in reading.moves] == ["old", "new"]
    assert (reading.entries, reading.unreadable) == (42, 0)
    assert (reading.newest, reading.oldest) == (NOON + timedelta(seconds=90), NOON - timedelta(seconds=50))
    assert log.asked == [(0, 1000), (42, 1000)]


def test_a_later_run_reads_back_to_five_minutes_before_the_last():
    entries = [write(-n) for n in range(1, 1200)]
    log = Log(entry(0), *entries)
    reading = read_log(log, NOON - timedelta(seconds=30))
    assert log.asked == [(0, 100), (100, 1000)]
    assert reading.oldest <= NOON - timedelta(seconds=30) - OVERLAP
    assert read_log(quiet := Log(entry(0), *entries), NOON + timedelta(minutes=10)).entries == 100
    assert quiet.asked == [(0, 100)]


def test_new_entries_that_come_while_it_is_read_hide_nothing():
    def more(log):
        log.entries[:0] = [write(1000 * len(log.asked) + n) for n in range(7)]

    old = [write(200 - n) for n in range(98)]
    log = Log(
        *old,
        entry(50, url="/1/indexes/a/operation"),
        entry(49, url="/1/indexes/b/operation"),
        entry(48, url="/1/indexes/c/operation"),
        entry(-1, url="/1/indexes/d/operation"),
        between=more,
    )
    reading = read_log(log, NOON)
    assert [move.source for move in reading.moves] == ["d", "c", "b", "a"]
    assert (reading.entries, len(log.asked)) == (102, 3)


def test_a_move_that_comes_while_it_is_read_is_left_for_the_next_time():
    def move(log):
        if len(log.asked) == 1:
            log.entries.insert(0, entry(70, url="/1/indexes/late/operation"))

    log = Log(*[write(60 - n / 1000) for n in range(100)], write(0), between=move)
    first = read_log(log, NOON)
    assert (first.moves, first.newest) == ([], NOON + timedelta(seconds=60))
    assert [move.source for move in read_log(log, first.newest).moves] == ["late"]


@pytest.mark.parametrize("since", [None, NOON - timedelta(hours=1)])
def test_two_moves_in_one_second_stay_in_their_order(since):
    """The log is newest first, and has whole seconds."""
    reading = read(
        entry(5, url="/1/indexes/third/operation"),
        entry(5, url="/1/indexes/second/operation"),
        entry(4, url="/1/indexes/first/operation"),
        since=since,
    )
    assert [move.source for move in reading.moves] == ["first", "second", "third"]


def test_a_move_that_is_listed_twice_counts_once():
    assert len(read(entry(5), entry(5), write(3), entry(5)).moves) == 1


def test_entries_that_cannot_be_read_are_counted_and_logged_only(caplog):
    odd = [None, "text", 7, [], {}, entry(timestamp="soon"), entry(timestamp=None)]
    reading = read(entry(9), *odd, write(3), since=NOON)
    assert (len(reading.moves), reading.entries, reading.unreadable) == (1, 2, 7)
    assert "Ignored 7 Algolia log entries without a valid timestamp" in caplog.text


def test_a_log_that_does_not_end():
    class Endless(Log):
        def logs(self, offset, length):
            self.asked.append(offset)
            return [write(60 + offset)]

    with pytest.raises(PaginationError, match="does not end after 100 pages"):
        read_log(Endless(), NOON)


def test_a_log_that_repeats_itself_is_not_read_on():
    class Same(Log):
        def logs(self, offset, length):
            self.asked.append(offset)
            return [write(60), entry(59)]

    reading = read_log(log := Same(), NOON)
    assert (reading.entries, len(reading.moves), log.asked) == (2, 1, [0, 2])


def test_whether_the_log_reaches_back():
    reading = read(write(60), write(0))
    assert reading.reaches(NOON)
    assert reading.reaches(NOON + timedelta(seconds=1))
    assert not reading.reaches(NOON - timedelta(seconds=1))


def test_an_empty_log_reaches_back_as_long_as_it_is_kept():
    now = datetime.now(UTC)
    assert read().reaches(now - timedelta(days=7, minutes=1))
    assert not read().reaches(now - timedelta(days=6, hours=23))
    assert not read({"timestamp": "never"}).reaches(now - timedelta(days=8))


def test_the_log_of_the_stand_in(site):
    site.rebuild()
    site.call("POST", "/1/indexes/offers/operation", {"operation": "copy", "destination": "other"})
    site.write([{"objectID": "1"}], "tmp é/1")
    site.move("tmp é/1", "another")
    site.write([{"objectID": "1"}], "tmp é/1")
    site.move("tmp é/1")
    reading = read_log(site.index(), None)
    assert [move.source for move in reading.moves] == ["offers_1", "tmp é/1"]
    assert all(move.task_id for move in reading.moves)
    assert reading.entries == 9
