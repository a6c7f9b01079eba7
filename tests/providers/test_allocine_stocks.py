"""Allociné's showtimes over real sockets: what becomes of a theatre's listing, and of what it no longer has."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html import unescape

import msgspec
import pytest
from psycopg.types.json import Jsonb

from include.errors import ConfigurationError
from include.models import Stock
from include.providers.allocine_listing import Edge, Movie, Node, Showtime
from include.providers.allocine_stocks import AllocineStocks
from include.providers.base import ProvidableInfo
from include.store.providers import load_link
from include.venue_links import change_provider
from sandbox.movies import movies

MOVIE = Movie(id="m", internal_id=1, title="M", type="FEATURE_FILM", genres=[], companies=[])
VERSION = {"ORIGINAL": "VO", "DUBBED": "VF", "LOCAL": "VF"}


@pytest.fixture
def source(sources):
    return sources("AllocineStocks")


def in_departement(source, code):
    (link,) = [link for link in source.links if link.departement_code == code]
    return link


@pytest.fixture
def paris(source):
    return in_departement(source, "75")


@pytest.fixture
def reunion(source):
    return in_departement(source, "974")


@pytest.fixture
def set_link(connection, source):
    """Give the link other settings; returns it as the next run reads it."""

    def change(link, settings):
        connection.execute("UPDATE venue_provider SET settings = %s WHERE id = %s", (Jsonb(settings), link.id))
        return load_link(connection, link.id)

    return change


def truth(world, link):
    """Key → time in UTC of the stocks that are to be on sale."""
    theatre = link.venue_id_at_offer_provider
    return {
        f"{movie.id}%{theatre}#{VERSION[one.version]}/{one.starts_at.replace(tzinfo=None).isoformat()}": (
            one.starts_at.astimezone(UTC)
        )
        for movie, shown in movies(world, theatre)
        if movie.type != "SPECIAL_EVENT"
        for one in shown
        if one.is_plain
    }


@pytest.fixture
def on_sale(connection):
    """Key → time of the stocks on sale that are still to come."""

    def read(link):
        return dict(
            connection.execute(
                "SELECT stock.id_at_providers, beginning_datetime FROM stock JOIN offer ON offer.id = offer_id"
                " WHERE venue_id = %s AND NOT is_soft_deleted AND beginning_datetime > now()",
                (link.venue_id,),
            ).fetchall()
        )

    return read


def book(connection, key, places=2):
    connection.execute(
        "INSERT INTO booking (stock_id, quantity) SELECT id, %s FROM stock WHERE id_at_providers = %s", (places, key)
    )


class TestRules:
    @pytest.mark.parametrize("where", ["paris", "reunion"])
    def test_showtimes_become_stocks_in_utc(self, source, where, on_sale, request):
        link = request.getfixturevalue(where)
        source.sync(link)
        assert on_sale(link) == truth(source.world, link)

    def test_a_movie_is_a_product_with_an_offer_per_version(self, source, paris, connection):
        source.sync(paris)
        expected = defaultdict(set)
        for movie, shown in movies(source.world, paris.venue_id_at_offer_provider):
            if movie.type != "SPECIAL_EVENT":
                expected[unescape(movie.title)] |= {VERSION[one.version] for one in shown if one.is_plain}
        found = connection.execute(
            "SELECT product.name, coalesce(array_agg(right(offer.name, 2)) FILTER (WHERE offer.id IS NOT NULL), '{}')"
            " FROM product LEFT JOIN offer ON offer.product_id = product.id"
            " WHERE product.subcategory_id = 'SEANCE_CINE' GROUP BY product.id"
        ).fetchall()
        assert {name: set(versions) for name, versions in found} == expected

    def test_what_the_movie_lacks_is_left_out_alone(self, source, paris, connection):
        source.sync(paris)
        stored = dict(connection.execute("SELECT id_at_providers, (duration_minutes, description)::text FROM product"))
        for movie, _ in movies(source.world, paris.venue_id_at_offer_provider):
            if movie.type != "SPECIAL_EVENT":
                assert (f"({movie.minutes}," in stored[movie.id]) == (movie.minutes is not None)
                assert (movie.synopsis is None) or unescape(movie.synopsis).split(".")[0] in stored[movie.id]

    def test_prices_go_by_version_and_quantity_by_link(self, source, reunion, connection):
        source.sync(reunion)
        prices = connection.execute(
            "SELECT DISTINCT right(offer.name, 2), price, quantity FROM stock JOIN offer ON offer.id = offer_id"
        ).fetchall()
        assert set(prices) == {("VF", Decimal(7), 80), ("VO", Decimal(9), 80)}

    def test_other_settings_come_with_the_next_run_but_is_duo_only_with_new_offers(
        self, source, paris, set_link, connection
    ):
        source.sync(paris)
        assert connection.execute("SELECT DISTINCT quantity FROM stock").fetchall() == [(None,)]  # no limit
        keys = sorted(truth(source.world, paris))
        book(connection, keys[0], 5)
        source.sync(set_link(paris, {"prices": [{"price": 12}], "quantity": 3, "is_duo": False}))
        found = connection.execute("SELECT id_at_providers, price, quantity FROM stock ORDER BY booked_quantity DESC")
        booked, *others = found.fetchall()
        assert booked == (keys[0], Decimal(12), 5), "never below what is booked"
        assert {row[1:] for row in others} == {(Decimal(12), 3)}
        assert connection.execute("SELECT DISTINCT is_duo FROM offer").fetchall() == [(True,)]

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({}, "prices"),
            ({"prices": []}, "prices"),
            ({"prices": [{"price": -1}]}, "price: -1"),
            ({"prices": [{"price": 5}], "quantity": -1}, "quantity"),
            ({"prices": [{"price": 5}], "duo": True}, "duo"),
            ({"prices": [{"price": 5, "version": "VF"}]}, "VO"),
        ],
    )
    def test_settings_that_cannot_be_used_are_named(self, source, paris, set_link, settings, message):
        with pytest.raises(ConfigurationError, match=message) as raised:
            source.sync(set_link(paris, settings))
        assert f"venue link {paris.id}" in str(raised.value)


class TestGone:
    def test_what_vanished_is_taken_off_sale(self, source, paris, on_sale, connection):
        source.sync(paris)
        before = truth(source.world, paris)
        source.world.advance(30)
        report = source.sync(paris)
        after = truth(source.world, paris)
        assert before.keys() - after.keys()
        assert on_sale(paris) == after
        assert report.gone > 0
        assert connection.execute("SELECT count(*) FROM gone_with_bookings").fetchone() == (0,)
        assert source.sync(paris).gone == 0

    def test_what_is_booked_is_kept_and_flagged(self, source, paris, on_sale, connection):
        source.sync(paris)
        before = truth(source.world, paris)
        for key in before:
            book(connection, key)
        source.world.advance(30)
        source.sync(paris, accept_shrunk=True)
        after = truth(source.world, paris)
        flagged = connection.execute(
            "SELECT stock.id_at_providers, quantity, stock.booked_quantity FROM gone_with_bookings"
            " JOIN stock ON stock.id = stock_id"
        ).fetchall()
        assert flagged
        for key, quantity, booked in flagged:
            assert key in before.keys() - after.keys()
            assert (quantity, booked) == (2, 2)
        assert connection.execute("SELECT sum(quantity) FROM booking").fetchone() == (2 * len(before),)
        assert after.keys() <= on_sale(paris).keys()

    def test_a_start_that_moved_keeps_its_bookings(self, source, paris, connection):
        source.sync(paris)
        ids = dict(connection.execute("SELECT id_at_providers, id FROM stock").fetchall())
        key = min(ids)
        book(connection, key)

        class Moving(AllocineStocks):
            def describe(self, record):
                for showtime in record.node.showtimes:
                    if self._stock_key(showtime) == key:
                        showtime.starts_at += timedelta(minutes=5)
                return super().describe(record)

        source.sync(paris, provider_class=Moving)
        begin, _, start = key.rpartition("/")
        moved = f"{begin}/{(datetime.fromisoformat(start) + timedelta(minutes=5)).isoformat()}"
        row = connection.execute(
            "SELECT id_at_providers, booked_quantity, gone_since, is_soft_deleted FROM stock WHERE id = %s", (ids[key],)
        ).fetchone()
        assert row == (moved, 2, None, False)
        assert connection.execute("SELECT count(*) FROM stock").fetchone() == (len(ids),)

    def test_what_comes_back_is_on_sale_again(self, source, paris, on_sale):
        source.sync(paris)
        source.fault("shrunk_listing", missing=0.4)
        assert source.sync(paris).gone > 0
        assert on_sale(paris).keys() < truth(source.world, paris).keys()
        source.clear_faults()
        source.sync(paris)
        assert on_sale(paris) == truth(source.world, paris)

    def test_showtimes_of_a_movie_that_cannot_be_read_are_left_alone(self, source, paris, on_sale):
        source.sync(paris)
        source.fault("bad_records", kinds=["missing_genres", "bad_starts_at", "missing_showtimes"], share=0.5)
        report = source.sync(paris)
        assert report.rejected > 0
        assert report.gone == 0
        assert on_sale(paris) == truth(source.world, paris)


class TestLinks:
    """What becomes of showtimes when their cinema is linked in another way."""

    def test_another_id_of_the_theatre_takes_the_keys_along(self, source, paris, connection):
        source.sync(paris)
        rows = "SELECT stock.id, offer.id, beginning_datetime FROM stock JOIN offer ON offer.id = offer_id ORDER BY 1"
        before = connection.execute(rows).fetchall()
        request = {"link": paris.id, "provider": "AllocineStocks", "id_at_provider": "P0102"}
        outcome = change_provider(connection, lambda _: source.connector(), **request)
        assert outcome.stocks_taken_over == len(before)
        assert connection.execute(rows).fetchall() == before
        keys = connection.execute(
            "SELECT offer.id_at_providers, id_at_provider, stock.id_at_providers FROM stock"
            " JOIN offer ON offer.id = offer_id"
        ).fetchall()
        assert all("%P0102-" in offer and offer == own and "%P0102#" in stock for offer, own, stock in keys)

    def test_a_cinema_without_a_departement_is_not_linked(self, source, paris):
        nowhere = msgspec.structs.replace(paris, departement_code=None)
        with source.connector() as connector, pytest.raises(ConfigurationError, match="departement_code"):
            AllocineStocks(nowhere, connector).check_link()


class TestMoves:
    """Which showtimes count as rescheduled."""

    @pytest.fixture
    def match_rekeyed(self, paris):
        def run(appeared, vanished, unread=frozenset(), row=None):
            new = [ProvidableInfo(Stock, f"m%t#VF/2026-11-{start}:00") for start in appeared]
            stored = [(f"m%t#VF/2026-11-{start}:00", row or Stock()) for start in vanished]
            provider = AllocineStocks(paris)
            provider.record = Edge(Node(MOVIE, []))
            provider._partly_read |= unread
            found = provider.match_rekeyed(new, stored)
            return {key[-11:-3]: info.id_at_providers[-11:-3] for key, info in found.items()}

        return run

    @pytest.mark.parametrize(
        ("appeared", "vanished", "moved"),
        [
            (["21T14:30"], ["21T14:00"], {"21T14:00": "21T14:30"}),
            (["21T14:30"], ["22T14:00"], {}),
            (["21T20:00"], ["21T14:00"], {}),
            (["21T14:30", "21T17:30"], ["21T14:00"], {}),
            (["21T14:30"], ["21T14:00", "21T17:00"], {}),
            (["21T17:15", "21T14:15"], ["21T14:00", "21T17:00"], {"21T14:00": "21T14:15", "21T17:00": "21T17:15"}),
            ([], ["21T14:00"], {}),
        ],
    )
    def test_as_many_of_a_day_and_not_far_apart(self, match_rekeyed, appeared, vanished, moved):
        assert match_rekeyed(appeared, vanished) == moved

    def test_nothing_moved_in_a_movie_that_was_not_completely_read(self, match_rekeyed):
        assert match_rekeyed(["21T14:30"], ["21T14:00"], {"m%"}) == {}
        assert match_rekeyed(["21T14:30"], ["21T14:00"], {"other%", None}) == {"21T14:00": "21T14:30"}

    def test_what_a_person_took_off_sale_did_not_move(self, match_rekeyed):
        assert match_rekeyed(["21T14:30"], ["21T14:00"], row=Stock(is_soft_deleted=True)) == {}

    def test_a_showtime_that_is_listed_as_something_special_did_not_move(self, paris):
        def showtime(hour, experience=None):
            return Showtime(datetime(2026, 11, 21, hour), "DUBBED", ["DIGITAL"], experience)  # noqa: DTZ001

        provider = AllocineStocks(paris)
        provider.record = Edge(Node(MOVIE, [showtime(14, "IMAX"), showtime(16)]))
        key = "m%P0101#VF/2026-11-21T{}:00:00".format
        assert provider.match_rekeyed([ProvidableInfo(Stock, key(16))], [(key(14), Stock())]) == {}
        assert provider.match_rekeyed([ProvidableInfo(Stock, key(16))], [(key(15), Stock())]).keys() == {key(15)}
