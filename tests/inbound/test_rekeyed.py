"""Rekeyed rows: the provider matches them, and they keep their bookings."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from include.errors import ConfigurationError, RejectRecord, RetryableError, SkipObject
from include.inbound.run import sync_provider
from include.models.report import SyncReport
from include.operators.step_log import log_steps
from tests.inbound.items import day
from tests.inbound.shows import Numbered, Shows, film, hour

DATED = pytest.mark.parametrize("dates", [(None, None), (day(1), day(2)), (day(1), day(1))])


class Moving(Shows):
    """Recognises shows of a film in the order of their hours."""

    def match_rekeyed(self, new, unmatched_rows):
        self.asked = [
            *getattr(self, "asked", ()),
            ([info.id_at_providers for info in new], [key for key, _ in unmatched_rows]),
        ]
        stored = sorted(unmatched_rows, key=lambda pair: pair[1].beginning_datetime)
        return {key: info for (key, _), info in zip(stored, new, strict=False)}


@pytest.fixture
def listed(sync, cinema):
    return lambda *films, provider_class=Moving, **options: sync(provider_class(films, cinema), **options)


@DATED
@pytest.mark.parametrize("chunk_size", [1, 1000])
def test_a_booked_show_moves_to_another_hour(listed, stocks, book, connection, dates, chunk_size):
    listed(film("a", 1, 2, date=dates[0]), film("b", 1, date=dates[0]))
    book("a#2", 4)
    before = stocks("id")
    report = listed(film("a", 1, 3, date=dates[1]), film("b", 1, date=dates[1]), chunk_size=chunk_size)
    assert (report.created, report.skipped, report.rejected, report.gone) == (0, 0, 0, 0)
    assert report.updated == (3 if dates[1] == day(2) else 1)
    assert report.moved == 1
    assert "updated, 1 moved to another key, " in report.summary()
    assert stocks("id") == {"a#1": before["a#1"], "a#3": before["a#2"], "b#1": before["b#1"]}
    assert stocks("beginning_datetime", "booked_quantity", "gone_since")["a#3"] == (hour(3), 4, None)
    assert connection.execute("SELECT stock_id, quantity FROM booking").fetchall() == [(before["a#2"], 4)]
    again = listed(film("a", 1, 3, date=dates[1]), film("b", 1, date=dates[1]), chunk_size=chunk_size)
    assert (again.created, again.updated, again.moved, again.gone) == (0, 0, 0, 0)
    assert "moved" not in again.summary()


@pytest.mark.parametrize(("number", "logged"), [(0, False), (1200, True)])
def test_the_task_log_has_the_number_of_rekeyed_rows(caplog, number, logged):
    caplog.set_level("INFO")
    log_steps(SyncReport(updated=number, moved=number), None)
    line = "1,200 rekeyed: the provider changed their keys; their rows and bookings were kept"
    assert (line in caplog.text, " rekeyed" in caplog.text) == (logged, logged)


def test_what_is_asked(listed, stocks, sync, cinema):
    listed(film("a", -30, 1, 2, 3), film("b", 1, 2))
    provider = Moving([film("a", 1, 4), film("b", 2), film("c", 1)], cinema)
    report = sync(provider)
    assert provider.asked == [(["a#4"], ["a#2", "a#3"])]
    assert (report.created, report.updated, report.gone) == (3, 1, 2)
    assert set(stocks("id")) == {"a#-30", "a#1", "a#4", "a#3", "b#1", "b#2", "c#1"}


def test_one_that_is_gone_already_is_not_asked_about(sync, cinema, listed, stocks, book):
    """An old one next to it would keep a show from being recognised by a provider that counts."""
    listed(film("a", 1, 2, 3))
    book("a#2", 4), book("a#3", 5)
    before = stocks("id")
    listed(film("a", 1, 3))
    provider = Moving([film("a", 1, 4)], cinema)
    sync(provider)
    assert provider.asked == [(["a#4"], ["a#3"])]
    assert stocks("id") == {"a#1": before["a#1"], "a#2": before["a#2"], "a#4": before["a#3"]}
    assert stocks("gone_since", "booked_quantity")["a#4"] == (None, 5)


@pytest.mark.parametrize("chunk_size", [1, 1000])
def test_what_was_named_before_is_not_asked_about(sync, cinema, listed, stocks, book, chunk_size):
    """Two records of one film, one chunk after the other."""
    listed(film("a", 1, 2))
    book("a#1", 4)
    before = stocks("id")
    provider = Moving([film("a", 1), film("b", 1), film("a", 3)], cinema)
    sync(provider, chunk_size=chunk_size)
    assert provider.asked == [(["a#3"], ["a#2"])]
    assert {key: stocks("id")[key] for key in ("a#1", "a#3")} == {"a#1": before["a#1"], "a#3": before["a#2"]}


class TestListingsOfAPart:
    """What is not listed there may be listed elsewhere: nobody is asked."""

    @pytest.fixture(autouse=True)
    def _first(self, listed):
        listed(film("a", 1, 2), film("b", 1))

    def test_a_replay(self, sync, cinema, listed, stocks, book):
        class Kept(Moving):
            def decode_record(self, raw):
                return film("a", 3)

        book("a#1", 4), book("a#2", 4)
        films = [RejectRecord("bad", payload={"film": "a", "shows": [3]}, reference="a#"), film("b", 1)]
        assert listed(*films, provider_class=Kept).rejected == 1
        provider = Kept([], cinema)
        report = sync(provider, replay=True)
        assert (report.created, report.updated, report.gone) == (1, 0, 0)
        assert not hasattr(provider, "asked")
        assert set(stocks("id")) == {"a#1", "a#2", "a#3", "b#1"}

    def test_a_limit(self, sync, cinema, stocks):
        provider = Moving([film("a", 3), film("b", 1)], cinema)
        assert sync(provider, limit=1).created == 1
        assert not hasattr(provider, "asked")
        assert set(stocks("id")) == {"a#1", "a#2", "a#3", "b#1"}

    def test_a_try_that_goes_on_from_a_cursor(self, sync, opened, cinema, stocks):
        class NumberedMoving(Numbered, Moving):
            pass

        options = {"instance_id": opened(NumberedMoving)[1], "chunk_size": 1}
        films = [film("a", 1), RetryableError("made up"), film("a", 3)]
        with pytest.raises(RetryableError):
            sync(NumberedMoving(films, cinema), **options)
        films[1] = film("c", 1)
        provider = NumberedMoving(films, cinema)
        sync(provider, **options)
        assert not hasattr(provider, "asked")
        assert set(stocks("id")) == {"a#1", "a#2", "a#3", "b#1", "c#1"}


def test_a_row_is_taken_over_once_and_not_by_older_records(listed, stocks):
    """Two records of one film: the second cannot have what the first took."""
    listed(film("a", 1), film("old", 1, date=day(5)))
    report = listed(film("a", 2), film("a", 3), film("old", 2, date=day(4)))
    assert (report.created, report.updated) == (2, 1)
    assert set(stocks("id")) == {"a#2", "a#3", "old#1", "old#2"}


def test_a_key_that_comes_twice_at_once(listed, stocks):
    listed(film("a", 1))
    report = listed(film("a", 2, price=11), film("a", 2, price=12))
    assert (report.created, report.updated, report.moved) == (0, 2, 1)
    assert stocks("price") == {"a#2": 12}


def test_protected_fields_stay(listed, stocks, connection):
    listed(film("a", 1))
    connection.execute("UPDATE stock SET price = 5")
    report = listed(film("a", 2, price=11))
    assert stocks("price", "beginning_datetime") == {"a#2": (5, hour(2))}
    assert report.held_back_fields == {"stock.price": 1}


def test_a_dry_run_shows_it(listed, versions):
    listed(film("a", 1))
    before = versions("stock")
    report = listed(film("a", 2), dry_run=True)
    (difference,) = report.differences
    assert (difference["key"], difference["change"]) == ("a#2", "update")
    assert difference["fields"]["id_at_providers"] == ["a#1", "a#2"]
    assert set(difference["fields"]) == {"id_at_providers", "beginning_datetime"}
    assert versions("stock") == before
    assert (report.moved, report.gone) == (1, 0)


class TestMistakes:
    @pytest.mark.parametrize("answer", [
        lambda new, unmatched_rows: {"a#9": new[0]},
        lambda new, unmatched_rows: {unmatched_rows[0][0]: object()},
        lambda new, unmatched_rows: {unmatched_rows[0][0]: new[0], unmatched_rows[1][0]: new[0]},
    ])  # fmt: skip
    def test_an_answer_to_another_question(self, listed, stocks, answer):
        class Wrong(Moving):
            def match_rekeyed(self, new, unmatched_rows):
                return answer(new, unmatched_rows)

        listed(film("a", 1, 2))
        with pytest.raises(ConfigurationError, match="match_rekeyed returns a row or an object that it was not given"):
            listed(film("a", 3), provider_class=Wrong)
        assert set(stocks("id")) == {"a#1", "a#2"}

    @pytest.mark.parametrize(
        ("error", "counts", "gone"),
        [(RejectRecord("bad"), (1, 0), 0), (KeyError("x"), (1, 0), 0), (SkipObject("no"), (0, 1), 1)],
    )
    def test_an_error_concerns_the_new_objects_of_the_record(self, listed, stocks, error, counts, gone):
        class Failing(Moving):
            def match_rekeyed(self, new, unmatched_rows):
                if new[0].id_at_providers.startswith("a"):
                    raise error
                return super().match_rekeyed(new, unmatched_rows)

        listed(film("a", 1), film("b", 1))
        report = listed(film("a", 2), film("b", 2), provider_class=Failing)
        assert ((report.rejected, report.skipped), report.updated, report.gone) == (counts, 1, gone)
        assert set(stocks("id")) == {"a#1", "b#2"}

    @pytest.mark.parametrize("price", [-1, ValueError("made up")])
    def test_a_move_that_is_rejected_leaves_the_row_on_sale(self, listed, stocks, price):
        class Picky(Moving):
            def fill_stock(self, stock):
                super().fill_stock(stock)
                if isinstance(stock.price, Exception):
                    raise stock.price

        listed(film("a", 1), film("b", 1))
        report = listed(film("a", 2, price=price), film("b", 2), provider_class=Picky)
        assert (report.rejected, report.updated, report.moved, report.gone) == (1, 1, 1, 0)
        assert stocks("gone_since", "is_soft_deleted") == {"a#1": (None, False), "b#2": (None, False)}


class TestAtTheSameTime:
    @pytest.mark.parametrize("statement", [
        "INSERT INTO stock (offer_id, price, id_at_providers) SELECT offer_id, 1, 'a#2' FROM stock",
        "UPDATE stock SET id_at_providers = 'a#7', booked_quantity = 0",
        "UPDATE stock SET date_modified_at_last_provider = now() + interval '1 hour'",
        "DELETE FROM stock",
    ])  # fmt: skip
    def test_somebody_changes_the_rows_meanwhile(self, cinema, connection, connect, stocks, listed, statement):
        statements = [statement]

        class Meddled(Moving):
            def match_rekeyed(self, new, unmatched_rows):
                if statements:
                    connect().execute(statements.pop())
                return super().match_rekeyed(new, unmatched_rows)

        listed(film("a", 1))
        sync_provider(Meddled([film("a", 2)], cinema), connection)
        found = stocks("price", "beginning_datetime")
        if statement.startswith("DELETE"):
            assert found == {}
            listed(film("a", 2))
            found = stocks("price", "beginning_datetime")
        assert found["a#2"] == (10, hour(2))
        assert len(found) == (2 if "INSERT" in statement or "now()" in statement else 1)

    def test_a_booking_waits_and_is_kept(self, cinema, connection, connect, stocks, listed):
        """Its foreign key asks for a lock that a change of the key excludes: neither may end in a deadlock."""
        listed(film("a", 1))
        other = connect()
        row_id = stocks("id")["a#1"]
        booking = []

        class Booked(Moving):
            def fill_stock(self, stock):
                if stock.id is not None and not booking:
                    insert = "INSERT INTO booking (stock_id, quantity) VALUES (%s, 3)"
                    booking.append(pool.submit(other.execute, insert, (row_id,)))
                    with pytest.raises(TimeoutError):
                        booking[0].result(0.5)
                super().fill_stock(stock)

        with ThreadPoolExecutor(1) as pool:
            sync_provider(Booked([film("a", 2)], cinema), connection)
            booking[0].result(30)
        assert stocks("id", "booked_quantity") == {"a#2": (row_id, 3)}


def test_others_pay_nothing(sync, cinema, monkeypatch):
    monkeypatch.setattr("include.inbound.rekeyed.find_children", None)
    sync(Shows([film("a", 1)], cinema))
    assert sync(Shows([film("a", 2)], cinema)).created == 1
    sync(Moving([film("a", 2)], cinema))  # nothing is unknown
