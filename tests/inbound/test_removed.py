"""Rows that a complete listing lacks are marked as removed, unless the listing is refused."""

import pytest
from psycopg import sql

from include.errors import ConfigurationError, ListingShrank, RejectRecord, RetryableError, SkipObject
from include.inbound import loads
from include.models import Offer, Product
from tests.inbound.items import day
from tests.inbound.shows import Numbered, Shows, film, hour

DATED = pytest.mark.parametrize("date", [None, day(1)], ids=["dateless", "dated"])
CHUNK_SIZES = pytest.mark.parametrize("chunk_size", [1, 7, 1000])


class Partial(Shows):
    complete_tables = ()


@pytest.fixture
def listed(sync, cinema):
    """Run Shows, or a class like it, over films."""
    return lambda *films, provider_class=Shows, **options: sync(provider_class(films, cinema), **options)


@pytest.fixture
def gone(stocks):
    return lambda: {key for key, since in stocks("gone_since").items() if since is not None}


@DATED
@CHUNK_SIZES
def test_what_a_complete_listing_lacks_is_gone(listed, gone, stocks, book, date, chunk_size):
    listed(film("a", 1, 2, 3, date=date), film("b", 1, 2, date=date))
    book("a#2", 5)
    report = listed(film("a", 1, date=date), film("b", 1, 2, date=date), chunk_size=chunk_size)
    assert (report.gone, report.checked, report.updated, report.rejected) == (2, 7, 0, 0)
    assert "2 removed" in report.summary()
    assert gone() == {"a#2", "a#3"}
    found = stocks("is_soft_deleted", "quantity", "booked_quantity")
    assert (found["a#1"], found["a#2"], found["a#3"]) == ((False, 100, 0), (False, 5, 5), (True, 100, 0))


@DATED
def test_a_second_listing_finds_nothing_more(listed, versions, date):
    listed(film("a", 1, 2, date=date))
    listed(film("a", 1, date=date))
    before = versions("stock")
    report = listed(film("a", 1, date=date))
    assert (report.gone, report.updated) == (0, 0)
    assert "removed" not in report.summary()
    assert versions("stock") == before


@DATED
def test_what_is_listed_again_comes_back(listed, gone, stocks, book, versions, date):
    listed(film("a", 1, 2, 3, date=date))
    book("a#2")
    listed(film("a", 1, date=date))
    report = listed(film("a", 1, 2, 3, date=date))
    assert (report.updated, report.gone) == (2, 0)
    assert gone() == set()
    assert set(stocks("quantity", "is_soft_deleted").values()) == {(100, False)}
    before = versions("stock")
    assert listed(film("a", 1, 2, 3, date=date)).updated == 0
    assert versions("stock") == before


def test_bookings_of_what_is_gone_are_for_people_to_look_at(listed, book, connection):
    listed(film("a", 1, 2, 3))
    book("a#2", 3)
    listed(film("a", 1))
    found = connection.execute("SELECT venue, offer, booked_quantity, id_at_providers FROM gone_with_bookings")
    assert found.fetchall() == [("Cinema", "a", 3, "a#2")]


@pytest.mark.parametrize("statement", [
    "UPDATE stock SET beginning_datetime = now() - interval '1 minute'",
    "UPDATE booking SET is_cancelled = true",
    "UPDATE stock SET is_soft_deleted = true",
])  # fmt: skip
def test_nobody_has_to_look_at_what_is_over_or_booked_no_more(listed, book, connection, statement):
    listed(film("a", 1, 2, 3), film("b", 1, 2, beginning_datetime=None))
    book("a#2", 3), book("b#2", 3)
    listed(film("a", 1), film("b", 1, beginning_datetime=None))
    found = "SELECT id_at_providers FROM gone_with_bookings ORDER BY 1"
    assert connection.execute(found).fetchall() == [("a#2",), ("b#2",)]
    connection.execute(statement)
    assert connection.execute(found).fetchall() == []


def test_history_is_not_gone_but_shows_without_a_beginning_are(listed, gone):
    listed(film("a", -30, -25, 1, 2), film("b", 1, 2, beginning_datetime=None))
    assert listed(film("a", 1), film("b", 2, beginning_datetime=None)).gone == 2
    assert gone() == {"a#2", "b#1"}


class TestListingsOfAPart:
    @pytest.fixture(autouse=True)
    def _first(self, listed):
        listed(film("a", 1, 2))

    def test_a_limit(self, listed, gone):
        assert listed(film("b", 1), film("a", 1, 2), limit=1).gone == 0
        assert gone() == set()

    @pytest.mark.parametrize("interval", [(day(1), None), (day(1), day(2)), None])
    def test_what_changed_since(self, listed, gone, interval):
        class Changed(Shows):
            window = "between"

        assert listed(film("a", 1), provider_class=Changed, interval=interval).gone == 0
        assert gone() == set()
        assert listed(film("a", 1), provider_class=Changed, full_refresh=True).gone == 1

    def test_a_provider_without_complete_listings(self, listed, gone):
        assert listed(film("a", 1), provider_class=Partial).gone == 0
        assert gone() == set()

    def test_a_try_that_goes_on_from_a_cursor(self, connection, listed, opened, gone, caplog):
        caplog.set_level("INFO")
        load, instance = opened(Numbered)
        options = {"provider_class": Numbered, "instance_id": instance, "chunk_size": 3}
        films = [film("b", 1), film("c", 1), RetryableError("made up")]
        with pytest.raises(RetryableError):
            listed(*films, **options)
        films[2] = film("d", 1)
        report = listed(*films, **options)
        assert (report.records, report.created, report.gone) == (3, 9, 0)
        assert gone() == set()
        assert "this attempt resumed mid-listing" in caplog.text
        loads.close_load(connection, load)
        listed(*films, provider_class=Numbered)
        assert gone() == {"a#1", "a#2"}


class TestDryRun:
    def test_it_counts_and_shows_and_writes_nothing(self, listed, versions, book):
        listed(film("a", 1, 2, 3))
        book("a#2", 7)
        before = versions("stock")
        report = listed(film("a", 1), film("b", 1), dry_run=True)
        assert (report.gone, report.created) == (2, 3)
        assert [one for one in report.differences if one["change"] == "gone"] == [
            {"table": "stock", "key": "a#2", "change": "gone", "fields": {"quantity": [100, 7]}},
            {"table": "stock", "key": "a#3", "change": "gone", "fields": {"is_soft_deleted": [False, True]}},
        ]
        assert versions("stock") == before

    @CHUNK_SIZES
    def test_the_sample_is_short(self, listed, gone, chunk_size):
        listed(film("a", *range(50)))
        report = listed(film("a", 1), dry_run=True, accept_shrunk=True, chunk_size=chunk_size)
        assert report.gone == 49
        assert len([one for one in report.differences if one["change"] == "gone"]) == 20
        assert gone() == set()


class TestTooMuchAtOnce:
    @CHUNK_SIZES
    def test_it_is_refused(self, listed, gone, connection, chunk_size):
        listed(film("a", *range(20)))
        with pytest.raises(ListingShrank, match=r"lacks 11 of 21 live rows \(11 of 20 .*accept_shrunk") as shrank:
            listed(film("a", *range(9)), film("b", 1), chunk_size=chunk_size)
        assert shrank.value.where == {"provider": "Shows", "venue": "Cinema (link 1)", "table": "stock"}
        assert gone() == set()
        assert connection.execute("SELECT count(*) FROM stock WHERE id_at_providers = 'b#1'").fetchone() == (1,)
        states = connection.execute("SELECT state, cursor FROM catalog_scheme_operation_instance ORDER BY id")
        assert states.fetchall() == [("done", None), ("failed", None)]

    @pytest.mark.parametrize(("number", "left", "removed"), [(20, [film("a", *range(10))], 10), (5, [film("b", 1)], 5)])
    def test_half_of_it_or_a_handful_is_not(self, listed, number, left, removed):
        listed(film("a", *range(number)))
        assert listed(*left).gone == removed

    @pytest.mark.parametrize("films", [[], [film("b")]], ids=["no record", "no show"])
    @pytest.mark.parametrize("number", [1, 6])
    def test_nothing_at_all_is_not(self, listed, gone, number, films):
        listed(film("a", *range(number), -30))
        with pytest.raises(ListingShrank, match="names none at all"):
            listed(*films)
        assert gone() == set()
        assert listed(*films, accept_shrunk=True).gone == number
        assert listed(*films).gone == 0

    def test_nothing_is_when_nothing_is_live(self, listed):
        listed(film("a", -30))
        assert listed().gone == 0

    def test_a_dry_run_tells_too_and_it_can_be_accepted(self, listed):
        listed(film("a", *range(20)))
        with pytest.raises(ListingShrank):
            listed(film("a", 1), dry_run=True)
        assert listed(film("a", 1), accept_shrunk=True).gone == 19
        assert listed(film("a", 1)).gone == 0

    def test_new_rows_do_not_outvote_those_that_were_there(self, listed, gone):
        """A source that changes all its keys, also when the run is repeated."""
        listed(film("a", *range(20)))
        for _ in range(3):
            with pytest.raises(ListingShrank, match="20 of 20"):
                listed(film("b", *range(40)))
        with pytest.raises(ListingShrank):
            listed(film("b", *range(40)), dry_run=True)
        assert gone() == set()
        with pytest.raises(ListingShrank, match="lacks 40 of 60 live rows"):  # for a person to look at, once
            listed(film("a", *range(20)))
        assert listed(film("a", *range(20)), accept_shrunk=True).gone == 40
        assert gone() == {f"b#{n}" for n in range(40)}

    def test_also_when_it_was_never_accepted_before(self, listed, gone):
        listed(film("a", *range(20)), provider_class=Partial)
        for _ in range(2):
            with pytest.raises(ListingShrank):
                listed(film("b", *range(40)))
        assert listed(film("b", *range(40)), accept_shrunk=True).gone == 20
        assert listed(film("b", *range(40))).gone == 0


class TestRejectedRecords:
    def test_one_with_a_reference_spares_its_rows(self, listed, gone, connection):
        listed(film("a", 1, 2), film("ab", 1, 2), film("a_", 1, 2), film("z", 1, 2))
        report = listed(RejectRecord("bad", payload={"film": "a"}, reference="a#"), film("z", 2), film("ab", 2))
        assert (report.rejected, report.gone) == (1, 4)
        assert gone() == {"ab#1", "a_#1", "a_#2", "z#1"}
        assert connection.execute("SELECT id_at_providers, reason FROM rejected_record").fetchall() == [("a#", "bad")]

    @pytest.mark.parametrize("reference", ["a%", "a_", "\\", "b", "a\U0010ffff", "é", 'a"{'])
    def test_a_reference_is_taken_literally(self, listed, gone, reference):
        listed(film("a", 1, 2), film(reference, 1, 2))
        listed(film("z", 1), RejectRecord("bad", reference=reference))
        assert gone() == {"a#1", "a#2"}

    @pytest.mark.parametrize(
        "error",
        [RejectRecord("bad"), KeyError("film"), *(RejectRecord("bad", reference=one) for one in ("", "\0", "\ud800"))],
        ids=str,
    )
    def test_one_without_leaves_all_as_it_is(self, listed, gone, caplog, error):
        listed(film("a", 1, 2))
        assert listed(error, film("a", 1)).gone == 0
        assert gone() == set()
        assert "part of the listing could not be read" in caplog.text
        assert listed(film("a", 1)).gone == 1

    def test_what_was_named_is_not_gone_for_being_rejected_or_skipped(self, listed, gone):
        class Picky(Shows):
            def fill_stock(self, stock):
                raise self.record["show"]["error"]

        listed(film("a", 1, 2), film("b", 1), film("c", 1))
        films = [film("a", 1, error=RejectRecord("bad")), film("b", 1, error=SkipObject("sold out")), film("c", 1)]
        films[2]["shows"] = {"c#1\0": {}}
        report = listed(*films[:2], film("c", 1, error=ValueError("c")), provider_class=Picky)
        assert (report.rejected, report.skipped, report.gone) == (2, 1, 1)
        assert gone() == {"a#2"}
        assert listed(*films, provider_class=Picky).gone == 0  # a key that is no key may be anybody's


class TestWhoseRows:
    def test_those_of_another_venue_are_not_looked_at(self, sync, link, cinema, gone):
        sync(Shows([film("a", 1, 2)], cinema))
        sync(Shows([film("b", 1, 2)], link(Shows, "o")))
        assert sync(Shows([film("a", 1)], cinema)).gone == 1
        assert gone() == {"a#2"}

    def test_those_of_another_provider_are_not_looked_at(self, listed, connection, gone):
        listed(film("a", 1, 2, 3))
        connection.execute("UPDATE stock SET last_provider_id = NULL WHERE id_at_providers = 'a#2'")
        listed(film("a", 1))
        assert gone() == {"a#3"}

    def test_a_second_link_of_the_venue_leaves_all_as_it_is(self, listed, connection, cinema, link, gone, caplog):
        """Also one that is paused: what it brought stays as it is."""
        listed(film("a", 1, 2))
        other = link(Shows, "second", venue_id=cinema.venue_id)
        assert listed(film("a", 1)).gone == 0
        assert "the venue has another link" in caplog.text
        connection.execute("UPDATE venue_provider SET is_active = false WHERE id = %s", (other.id,))
        assert listed(film("a", 1)).gone == 0
        assert gone() == set()
        connection.execute("DELETE FROM catalog WHERE venue_provider_id = %s", (other.id,))
        connection.execute("DELETE FROM venue_provider WHERE id = %s", (other.id,))
        assert listed(film("a", 1)).gone == 1

    @pytest.mark.parametrize("marks", [("@{}",), ("%{}-", "%{}#")], ids=str)
    @pytest.mark.parametrize("other_id", ["second", "cc", "c2", "%s"])
    @pytest.mark.parametrize("is_active", [True, False])
    def test_marks_tell_links_apart(self, sync, connection, cinema, link, gone, marks, other_id, is_active):
        class Marked(Shows):
            key_patterns = marks

            def __next__(self):
                infos = super().__next__()
                here = self.venue.venue_id_at_offer_provider
                for info in infos[2:]:
                    number = info.id_at_providers.rpartition("#")[2]
                    mark = marks[int(number) % len(marks)].format(here)
                    info.id_at_providers = f"{number}{mark}" + ("" if marks[0] == "@{}" else number)
                return infos

        def run(of, *shows):
            return sync(Marked([film(f"a{of.id}", *shows)], of))

        other = link(Shows, other_id, venue_id=cinema.venue_id)
        run(cinema, *range(1, 9)), run(other, *range(1, 21))
        connection.execute("UPDATE venue_provider SET is_active = %s WHERE id = %s", (is_active, other.id))
        assert run(cinema, *range(1, 7)).gone == 2
        assert len(gone()) == 2
        assert all(key.startswith(("7", "8")) and other_id not in key for key in gone())
        with pytest.raises(ListingShrank, match="lacks 6 of 7 live rows"):  # of its own rows
            run(cinema, 90)
        if is_active:
            assert run(other, *range(1, 20)).gone == 1
            assert len(gone()) == 3

    def test_without_venue_links_all_rows_of_the_provider_count(self, sync, cinema, gone):
        class ForAll(Shows):
            needs_venue = False
            local_class = "ForAll"

            def __init__(self, records):
                super().__init__(records, None)

            @property
            def venue(self):
                return cinema

        sync(Shows([film("a", 1)], cinema))
        sync(ForAll([film("b", 1, 2)]))
        assert sync(ForAll([film("b", 1)])).gone == 1
        assert gone() == {"b#2"}

    def test_what_was_written_since_the_listing_began_is_left_alone(self, listed, connection, gone):
        class Meddling(Shows):
            def __next__(self):
                connection.execute(
                    "UPDATE stock SET date_modified_at_last_provider = now() WHERE id_at_providers = 'a#2'"
                )
                return super().__next__()

        listed(film("a", 1, 2, 3))
        listed(film("a", 1), provider_class=Meddling)
        assert gone() == {"a#3"}


class TestGoneBefore:
    """What stays on sale with its bookings is looked at again by each listing that lacks it still."""

    @pytest.fixture(autouse=True)
    def _first(self, listed, book):
        listed(film("a", 1, 2, 3, 4))
        book("a#2", 5), book("a#3", 6)
        assert listed(film("a", 1)).gone == 3

    @pytest.mark.parametrize(
        ("statement", "expected"),
        [
            ("UPDATE booking SET is_cancelled = true WHERE quantity = 5", (5, 0, True)),
            ("UPDATE booking SET quantity = 3 WHERE quantity = 5", (3, 3, False)),
            ("UPDATE stock SET quantity = 50 WHERE id_at_providers = 'a#2'", (5, 5, False)),
        ],
    )
    def test_it_is_filled_again(self, listed, connection, stocks, versions, statement, expected):
        connection.execute("SET provider_sync.writer = 'sync'")
        connection.execute(statement)
        since, before, ids = stocks("gone_since"), versions("stock"), stocks("id")
        report = listed(film("a", 1), dry_run=True)
        (difference,) = report.differences
        assert (difference["change"], difference["key"], report.gone) == ("gone", "a#2", 0)
        assert versions("stock") == before
        report = listed(film("a", 1))
        assert (report.gone, report.checked, report.updated, report.rejected) == (0, 3, 0, 0)
        assert stocks("quantity", "booked_quantity", "is_soft_deleted")["a#2"] == expected
        assert stocks("gone_since") == since
        after = versions("stock")
        assert {one for one in before if before[one] != after[one]} == {ids["a#2"]}
        listed(film("a", 1))
        assert versions("stock") == after

    def test_new_ones_count_alone(self, listed, connection, gone):
        connection.execute("UPDATE booking SET is_cancelled = true")
        listed(film("a", 1, 5))
        assert listed(film("a", 5)).gone == 1
        assert gone() == {"a#1", "a#2", "a#3", "a#4"}

    def test_they_do_not_shrink_a_listing(self, listed, connection, stocks):
        """A listing may name nothing at all when only they are left, and their share is nobody's business."""
        listed(film("a", *range(10, 30)))
        connection.execute("INSERT INTO booking (stock_id, quantity) SELECT id, 1 FROM stock WHERE gone_since IS NULL")
        assert listed(accept_shrunk=True).gone == 20
        connection.execute("UPDATE booking SET is_cancelled = true")
        assert listed().gone == 0
        assert set(stocks("is_soft_deleted").values()) == {True}

    def test_not_by_a_listing_of_a_part(self, listed, connection, stocks):
        connection.execute("UPDATE booking SET is_cancelled = true")
        listed(film("a", 1), film("b", 1), limit=1)
        listed(RejectRecord("bad", reference="a#"), film("b", 1))
        assert stocks("is_soft_deleted")["a#2"] is False
        listed(film("a", 1), film("b", 1))
        assert stocks("is_soft_deleted")["a#2"] is True

    def test_what_is_over_stays_as_it_is(self, listed, connection, stocks):
        connection.execute("SET provider_sync.writer = 'sync'")
        connection.execute("UPDATE stock SET beginning_datetime = now() - interval '1 minute'")
        connection.execute("UPDATE booking SET is_cancelled = true")
        listed(film("a", 1))
        assert stocks("is_soft_deleted")["a#2"] is False

    def test_what_a_person_put_on_sale_stays(self, listed, connection, stocks, versions):
        connection.execute("UPDATE stock SET is_soft_deleted = false WHERE id_at_providers = 'a#4'")
        before = versions("stock")
        report = listed(film("a", 1))
        assert (report.gone, report.held_back) == (0, 1)
        assert versions("stock") == before


class TestFilling:
    def test_protected_fields_stay(self, listed, connection, gone, stocks):
        listed(film("a", 1, 2))
        connection.execute("UPDATE stock SET is_soft_deleted = true WHERE id_at_providers = 'a#2'")
        connection.execute("UPDATE stock SET is_soft_deleted = false WHERE id_at_providers = 'a#2'")
        report = listed(film("a", 1))
        assert (report.gone, report.held_back, report.held_back_fields) == (1, 1, {"stock.is_soft_deleted": 1})
        assert gone() == {"a#2"}
        assert stocks("is_soft_deleted")["a#2"] is False

    def test_what_a_person_deleted_stays_deleted_when_it_comes_back(self, listed, connection, gone, stocks):
        listed(film("a", 1, 2))
        connection.execute("UPDATE stock SET is_soft_deleted = true WHERE id_at_providers = 'a#2'")
        listed(film("a", 1))
        listed(film("a", 1, 2))
        assert gone() == set()
        assert stocks("is_soft_deleted") == {"a#1": False, "a#2": True}

    def test_what_is_skipped_stays(self, listed, gone):
        class Skipping(Shows):
            def fill_removed_attributes(self, obj):
                if obj.beginning_datetime == hour(2):
                    raise SkipObject("not that one")

        listed(film("a", 1, 2, 3))
        assert listed(film("a", 1), provider_class=Skipping).gone == 1
        assert gone() == {"a#3"}

    @pytest.mark.parametrize("chunk_size", [1, 1000])
    def test_what_cannot_be_filled_or_written_is_told(self, listed, gone, rejections, chunk_size):
        class Failing(Shows):
            def fill_removed_attributes(self, obj):
                if obj.beginning_datetime == hour(2):
                    raise ValueError("made up")
                obj.quantity = -1 if obj.beginning_datetime == hour(3) else 0

        listed(film("a", 1, 2, 3, 4, 5))
        report = listed(film("a", 1), provider_class=Failing, chunk_size=chunk_size)
        assert (report.gone, report.rejected, report.checked) == (2, 2, 5)
        assert gone() == {"a#4", "a#5"}
        assert sorted(rejections()) == [
            ("a#2", "removed from the listing: ValueError: made up", None),
            ("a#3", "removed from the listing: quantity: must be 0 or above", None),
        ]

    def test_what_providers_may_not_write(self, listed, gone):
        class Booking(Shows):
            def fill_removed_attributes(self, obj):
                obj.booked_quantity = 7

        listed(film("a", 1, 2))
        with pytest.raises(ConfigurationError, match="sets booked_quantity of stock"):
            listed(film("a", 1), provider_class=Booking)
        assert gone() == set()

    def test_a_complete_table_needs_gone_since(self, listed):
        class Wrong(Shows):
            complete_tables = (Offer, Product)

        with pytest.raises(ConfigurationError, match="Offer lacks gone_since"):
            listed(film("a", 1), provider_class=Wrong)


class TestInterruption:
    @pytest.mark.parametrize("provider_class", [Shows, Numbered])
    def test_between_two_chunks_the_next_try_lists_again(self, listed, opened, connection, gone, provider_class):
        class Dying(provider_class):
            def fill_removed_attributes(self, obj):
                if len(self.filled_gone) == 4:
                    raise RetryableError("made up")
                super().fill_removed_attributes(obj)

        listed(film("a", *range(20)), provider_class=provider_class)
        load, instance = opened(provider_class)
        again = film("a", *range(11), 90)
        with pytest.raises(RetryableError):
            listed(again, provider_class=Dying, instance_id=instance, chunk_size=3)
        assert gone() == {"a#11", "a#12", "a#13"}
        report = listed(again, provider_class=provider_class, instance_id=instance, chunk_size=3)
        assert gone() == {f"a#{n}" for n in range(11, 20)}
        assert (report.records, report.checked, report.created, report.gone) == (1, 14, 1, 9)
        assert loads.close_load(connection, load).counts["gone"] == 9

    def test_a_refused_listing_is_listed_again(self, listed, opened):
        listed(film("a", *range(20)), provider_class=Numbered)
        options = {"provider_class": Numbered, "instance_id": opened(Numbered)[1]}
        with pytest.raises(ListingShrank):
            listed(film("a", 1), **options)
        report = listed(film("a", *range(19)), **options)
        assert (report.records, report.gone) == (1, 1)


def test_the_ledger_tells_and_no_key_is_kept_after_the_run(listed, connection):
    listed(film("a", 1, 2))
    listed(film("a", 1))
    found = connection.execute("SELECT created, gone, held_back FROM load_report ORDER BY instance_id").fetchall()
    assert found == [(4, 0, 0), (0, 1, 0)]
    for name in ("listed", "gone"):
        kept = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier("pg_temp", name)))
        assert kept.fetchone() == (0,)
