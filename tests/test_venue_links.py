"""Linking a venue, changing its provider or settings, activating: on PostgreSQL, with a service in memory."""

from contextlib import nullcontext
from datetime import UTC, datetime
from decimal import Decimal

import msgspec
import psycopg
import pytest

from include.connectors.http import Response
from include.errors import AccessRefused, ConfigurationError, LinkBusy, RequestRefused, ServiceUnavailable
from include.inbound import loads
from include.inbound.run import sync_provider
from include.providers import named_provider
from include.providers.stock_api import StockApiProvider
from include.store import ledger
from include.store.ledger import LoadParameters
from include.store.locks import link_lock
from include.store.providers import load_link, register_provider
from include.venue_links import (
    LinkRequest,
    change_provider,
    change_settings,
    describe_links,
    link_venue,
    perform,
    set_active,
)

SIRET, OTHER_SIRET = "11111111111111", "22222222222222"
REFS = ["9780000000001", "9780000000002", "9780000000003"]


class OldStocks(StockApiProvider):
    name = "Old stocks"


class NewStocks(StockApiProvider):
    name = "New stocks"


class Halls(StockApiProvider):
    name = "Halls"
    needs_pivot = True

    def check_link(self):
        if "bad" in self.venue.settings:
            raise ConfigurationError("bad is no setting")


class NoVenues(StockApiProvider):
    name = "No venues"
    needs_venue = False


class Stocks:
    """A stock service in memory, in the place of a connector."""

    def __init__(self):
        self.listings = {SIRET: dict.fromkeys(REFS, 5)}
        self.asked = []
        self.error = None

    def get(self, path, params, *, decode):
        self.asked.append((path, params))
        if self.error:
            raise self.error
        if path not in self.listings:
            raise RequestRefused("404", status=404)
        refs = [] if "modifiedSince" in params else sorted(self.listings[path])
        rows = [ref for ref in refs if ref > params.get("after", "")][: params["limit"]]
        stocks = [{"ref": ref, "available": self.listings[path][ref], "price": "12.50"} for ref in rows]
        body = msgspec.json.encode({"total": len(refs), "stocks": stocks})
        return Response(decode(body), datetime.now(UTC), 200, len(body))


@pytest.fixture
def stocks():
    return Stocks()


@pytest.fixture
def reach(stocks):
    return lambda provider_class: nullcontext(stocks)


@pytest.fixture(autouse=True)
def classes(monkeypatch):
    known = [OldStocks, NewStocks, Halls, NoVenues]
    monkeypatch.setattr("include.providers.provider_classes", lambda: known)


@pytest.fixture
def venue(connection):
    for ref in REFS:
        connection.execute(
            "INSERT INTO product (name, subcategory_id, id_at_providers) VALUES ('Book', 'LIVRE_PAPIER', %s)", (ref,)
        )
    for name, siret in (("Plume", SIRET), ("Encre", OTHER_SIRET), ("Ohne", None)):
        connection.execute("INSERT INTO venue (name, siret) VALUES (%s, %s)", (name, siret))
    return SIRET


@pytest.fixture
def link(venue, connection, reach):
    """The id of an active link of the venue to the old provider."""
    return link_venue(connection, reach, venue=venue, provider="OldStocks").link.id


@pytest.fixture
def read(connection, stocks):
    """Synchronise a link as a provider; returns the report."""

    def run(link_id, provider_class, **options):
        return sync_provider(provider_class(load_link(connection, link_id), stocks), connection, **options)

    return run


@pytest.fixture
def links(connection):
    return lambda: connection.execute(
        "SELECT link.id, venue_id, local_class, venue_id_at_offer_provider, link.is_active, settings"
        " FROM venue_provider AS link JOIN provider ON provider.id = provider_id ORDER BY link.id"
    ).fetchall()


@pytest.fixture
def watermark(connection):
    return lambda link: connection.execute(
        "SELECT last_sync_date FROM venue_provider WHERE id = %s", (link,)
    ).fetchone()[0]


@pytest.fixture
def shelf(connection):
    """Stock id, offer id, keys, quantity, available, booked, whose, per stock."""

    def read(where="true"):
        return connection.execute(
            "SELECT stock.id, offer_id, offer.id_at_providers, stock.id_at_providers, quantity, raw_provider_quantity,"
            " booked_quantity, holder.local_class, owner.local_class"
            " FROM stock JOIN offer ON offer.id = offer_id LEFT JOIN provider AS holder"
            " ON holder.id = stock.last_provider_id LEFT JOIN provider AS owner ON owner.id = offer.last_provider_id"
            f" WHERE {where} ORDER BY stock.id"
        ).fetchall()

    return read


def book(connection, quantity=2):
    connection.execute(
        "INSERT INTO booking (stock_id, quantity) SELECT min(id), %s FROM stock HAVING min(id) IS NOT NULL", (quantity,)
    )


@pytest.fixture
def everything(connection):
    """All that a change could change, as text."""
    return lambda: [
        connection.execute(f"SELECT {table}::text FROM {table} ORDER BY 1").fetchall()
        for table in ("offer", "stock", "booking", "venue_provider", "rejected_record")
    ]


class TestLink:
    def test_by_siret(self, venue, connection, reach, stocks, links):
        result = link_venue(connection, reach, venue=f" {SIRET[:3]} {SIRET[3:]}", provider=" OldStocks ")
        assert links() == [(1, 1, "OldStocks", SIRET, True, {})]
        assert result.message == f"Linked link 1 of Plume (SIRET {SIRET}) to OldStocks as {SIRET}"
        assert stocks.asked == [(SIRET, {"limit": 1})]
        assert (result.link.id, result.link.is_active, result.link.last_sync_date) == (1, True, None)

    def test_by_id_with_an_id_of_its_own_at_the_provider(self, venue, connection, reach, stocks, links):
        stocks.listings["shop-3"] = {}
        link_venue(connection, reach, venue="3", provider="OldStocks", id_at_provider=" shop-3 ")
        assert links() == [(1, 3, "OldStocks", "shop-3", True, {})]

    def test_the_connection_is_given_back_as_it_was(self, venue, database, reach):
        with psycopg.connect(database) as connection:
            link_venue(connection, reach, venue=venue, provider="OldStocks")
            assert not connection.autocommit
            with pytest.raises(ConfigurationError):
                link_venue(connection, reach, venue="99", provider="OldStocks")
            assert not connection.autocommit

    @pytest.mark.parametrize(
        ("asked", "message"),
        [
            ({"venue": "99"}, "There is no venue '99': give the SIRET"),
            ({"venue": "99999999999999"}, "There is no venue"),
            ({"venue": "Plume"}, "There is no venue 'Plume'"),
            ({"provider": "Old"}, "no provider 'Old' .* there are: Halls, NewStocks, OldStocks"),
            ({"provider": "NoVenues"}, "no provider 'NoVenues'"),
            ({"venue": "3"}, r"Ohne \(venue 3\) has no SIRET: give id_at_provider"),
            ({"venue": OTHER_SIRET}, f"Old stocks does not know {OTHER_SIRET}: check the id"),
            ({"id_at_provider": "nine"}, "Old stocks does not know nine: check the id"),
            ({"id_at_provider": "9" * 71}, "1 to 70 printable characters"),
            ({"id_at_provider": "a\0b"}, "1 to 70 printable characters"),
            ({"settings": {"prices": 1, "a": 2}}, "Old stocks has no settings: leave out a, prices"),
            ({"settings": {"a": ["\0"]}}, "cannot store the character NUL"),
            ({"provider": "Halls", "settings": {"bad": 1}}, r"insert a row with provider_id \d+, venue_id 1"),
        ],
    )
    def test_what_is_wrong_is_refused_and_nothing_written(self, venue, connection, reach, links, asked, message):
        with pytest.raises(ConfigurationError, match=message):
            link_venue(connection, reach, **{"venue": SIRET, "provider": "OldStocks"} | asked)
        assert links() == []

    @pytest.mark.parametrize(
        "error", [ServiceUnavailable("down"), AccessRefused("401"), RequestRefused("410", status=410)], ids=str
    )
    def test_other_errors_of_the_service_stay_what_they_are(self, venue, connection, reach, stocks, links, error):
        stocks.error = error
        with pytest.raises(type(error)) as raised:
            link_venue(connection, reach, venue=venue, provider="OldStocks")
        assert raised.value is error
        assert links() == []

    def test_a_pivot_says_what_the_provider_calls_the_venue(self, venue, connection, reach, links):
        provider_id = register_provider(connection, "Halls", "Halls")
        connection.execute("INSERT INTO provider_pivot VALUES (%s, 3, 'hall-3')", (provider_id,))
        link_venue(connection, reach, venue="3", provider="Halls", settings={"rooms": [1]})
        link_venue(connection, reach, venue="3", provider="Halls", id_at_provider="hall-4")
        assert [row[3:] for row in links()] == [("hall-3", True, {"rooms": [1]}), ("hall-4", True, {})]

    def test_a_provider_that_is_not_active(self, venue, connection, reach):
        provider_id = register_provider(connection, "OldStocks", "Old stocks")
        connection.execute("UPDATE provider SET is_active = false")
        with pytest.raises(ConfigurationError, match=f"set is_active of row {provider_id} of provider"):
            link_venue(connection, reach, venue=venue, provider="OldStocks")

    def test_a_link_that_was_made_already_is_no_error(self, link, venue, connection, reach, stocks, everything):
        """The task that made it is run again when its end was not noted."""
        before, asked = everything(), len(stocks.asked)
        result = link_venue(connection, reach, venue=venue, provider="OldStocks")
        assert result.message == f"Linked already: link {link} of Plume (SIRET {SIRET}) to OldStocks as {SIRET}"
        assert result.link.id == link
        assert (everything(), len(stocks.asked)) == (before, asked)

    def test_a_duplicate(self, link, venue, connection, reach, stocks, links):
        asked = len(stocks.asked)
        with pytest.raises(ConfigurationError, match=f"There is link {link} of Plume .* already, with other settings"):
            link_venue(connection, reach, venue=venue, provider="OldStocks", settings={"a": 1})
        set_active(connection, None, is_active=False, link=link)
        with pytest.raises(ConfigurationError, match=f"it is not active: activate link {link}$"):
            link_venue(connection, reach, venue=venue, provider="OldStocks")
        assert len(links()) == 1
        assert len(stocks.asked) == asked

    def test_a_duplicate_made_at_the_same_moment(self, venue, connection, stocks, links):
        def reach(provider_class):
            connection.execute(
                "INSERT INTO venue_provider (venue_id, provider_id, venue_id_at_offer_provider)"
                " SELECT 1, id, %s FROM provider",
                (SIRET,),
            )
            return nullcontext(stocks)

        with pytest.raises(ConfigurationError, match="the venue was linked meanwhile: Key"):
            link_venue(connection, reach, venue=venue, provider="OldStocks")
        assert len(links()) == 1

    def test_a_venue_may_have_several_providers(self, link, venue, connection, reach, links):
        result = link_venue(connection, reach, venue=venue, provider="NewStocks")
        assert [row[2] for row in links()] == ["OldStocks", "NewStocks"]
        assert "both will overwrite the same rows" in result.message


class TestChange:
    def test_with_the_same_id_the_new_provider_takes_the_rows_over(
        self, link, venue, connection, reach, read, shelf, stocks, links, watermark
    ):
        assert read(link, OldStocks).created == 6
        book(connection)
        before = shelf()
        assert watermark(link)
        result = change_provider(connection, reach, venue=venue, provider="NewStocks")
        assert (result.offers_taken_over, result.stocks_taken_over) == (3, 3)
        assert (
            "3 offers and 3 stocks were transferred; nothing more of them can be booked until NewStocks"
            in result.message
        )
        assert links() == [(link, 1, "NewStocks", SIRET, True, {})]
        assert watermark(link) is None
        assert (result.link.offers, result.link.stocks, result.link.stocks_on_sale) == (3, 3, 0)
        assert [(row[:4], row[4:]) for row in shelf()] == [
            (row[:4], (row[6], 0, row[6], "NewStocks", "NewStocks")) for row in before
        ]
        assert {row[6] for row in shelf()} == {0, 2}
        with pytest.raises(psycopg.errors.CheckViolation):
            book(connection, 1)

        stocks.listings[SIRET] = {REFS[0]: 9, REFS[1]: 4}
        report = read(link, NewStocks)
        assert (report.created, report.updated, report.rejected) == (0, 2, 0)
        assert [row[:2] for row in shelf()] == [row[:2] for row in before]
        assert [row[4:7] for row in shelf()] == [(11, 9, 2), (4, 4, 0), (0, 0, 0)]
        assert "modifiedSince" not in stocks.asked[-1][1]

    def test_another_id_takes_the_keys_along(self, link, connection, reach, read, shelf, stocks, links):
        read(link, OldStocks)
        before = shelf()
        stocks.listings["shop-7"] = dict.fromkeys(REFS, 8)
        change_provider(connection, reach, link=link, provider="NewStocks", id_at_provider="shop-7")
        assert links()[0][2:4] == ("NewStocks", "shop-7")
        assert [row[2:4] for row in shelf()] == [(f"{ref}@shop-7", f"{ref}@shop-7") for ref in REFS]
        report = read(link, NewStocks)
        assert (report.created, report.updated, report.rejected) == (0, 3, 0)
        assert [row[:2] for row in shelf()] == [row[:2] for row in before]
        assert {row[4] for row in shelf()} == {8}

    def test_the_id_alone_can_change_and_settings_stay(self, venue, connection, reach, links):
        provider_id = register_provider(connection, "Halls", "Halls")
        connection.execute("INSERT INTO provider_pivot VALUES (%s, 1, 'hall-1')", (provider_id,))
        link_venue(connection, reach, venue=venue, provider="Halls", settings={"rooms": 1})
        change_provider(connection, reach, venue=venue, provider="Halls", id_at_provider="hall-2")
        assert links() == [(1, 1, "Halls", "hall-2", True, {"rooms": 1})]
        change_provider(connection, reach, venue=venue, provider="OldStocks")
        assert links() == [(1, 1, "OldStocks", SIRET, True, {})]

    def test_a_date_of_the_old_provider_does_not_block_the_new_one(self, link, venue, connection, reach, read, shelf):
        read(link, OldStocks)
        for table in ("stock", "offer"):
            connection.execute(f"UPDATE {table} SET date_modified_at_last_provider = now() + interval '1 year'")
        change_provider(connection, reach, venue=venue, provider="NewStocks")
        for table in ("stock", "offer"):
            dates = connection.execute(f"SELECT DISTINCT date_modified_at_last_provider FROM {table}")
            assert dates.fetchall() == [(None,)]
        assert read(link, NewStocks).updated == 3
        assert {row[4] for row in shelf()} == {5}

    def test_what_a_person_holds_goes_off_sale_too_and_stays_theirs(
        self, link, venue, connection, reach, read, shelf, stocks
    ):
        read(link, OldStocks)
        connection.execute("UPDATE stock SET quantity = 50, price = 1 WHERE id = (SELECT min(id) FROM stock)")
        stored = "SELECT id, fields_updated, price FROM stock ORDER BY id"
        before = connection.execute(stored).fetchall()
        assert before[0][1:] == (["price", "quantity"], Decimal(1))
        result = change_provider(connection, reach, venue=venue, provider="NewStocks")
        assert "1 of the stocks have a manual override of the quantity" in result.message
        assert {row[4] for row in shelf()} == {0}
        assert connection.execute(stored).fetchall() == before
        read(link, NewStocks)
        assert [row[4] for row in shelf()] == [0, 5, 5]
        assert connection.execute(stored).fetchall() == before
        connection.execute("SELECT release_fields('stock', %s, 'quantity')", (before[0][0],))
        read(link, NewStocks, full_refresh=True)
        assert {row[4] for row in shelf()} == {5}

    def test_what_others_feed_stays_as_it_is(self, link, venue, connection, reach, read, shelf, stocks):
        stocks.listings |= {OTHER_SIRET: {REFS[0]: 3}, "annex": {REFS[2]: 2}}
        stocks.listings[SIRET] = {REFS[0]: 5}
        read(link, OldStocks)
        elsewhere = link_venue(connection, reach, venue=OTHER_SIRET, provider="OldStocks").link.id
        annex = link_venue(connection, reach, venue=venue, provider="OldStocks", id_at_provider="annex").link.id
        read(elsewhere, OldStocks), read(annex, OldStocks)
        connection.execute(
            "WITH made AS (INSERT INTO offer (product_id, venue_id, name, subcategory_id)"
            " VALUES (2, 1, 'By hand', 'LIVRE_PAPIER') RETURNING id)"
            " INSERT INTO stock (offer_id, price, quantity) SELECT id, 3, 7 FROM made"
        )
        others = shelf("stock.id_at_providers IS DISTINCT FROM '9780000000001@11111111111111'")
        assert len(others) == 3
        result = change_provider(connection, reach, link=link, provider="NewStocks")
        assert (result.offers_taken_over, result.stocks_taken_over) == (1, 1)
        assert shelf("stock.id_at_providers IS DISTINCT FROM '9780000000001@11111111111111'") == others
        found, count = describe_links(connection)
        assert count == 3
        assert {each.id: (each.offers, each.stocks_on_sale) for each in found} == {
            link: (1, 0),
            elsewhere: (1, 1),
            annex: (1, 1),
        }

    def test_keys_of_another_form_are_not_rewritten_and_unlimited_stocks_end(
        self, link, connection, reach, read, shelf, stocks
    ):
        read(link, OldStocks)
        connection.execute("SET provider_sync.writer = 'sync'")
        connection.execute("UPDATE stock SET id_at_providers = 'film%' || id, quantity = NULL")
        connection.execute("RESET provider_sync.writer")
        stocks.listings["shop-7"] = {}
        result = change_provider(connection, reach, link=link, provider="NewStocks", id_at_provider="shop-7")
        assert result.stocks_taken_over == 3
        assert [row[3] for row in shelf()] == [f"film%{row[0]}" for row in shelf()]
        assert {row[4] for row in shelf()} == {0}

    @pytest.mark.parametrize("table", ["offer", "stock"])
    def test_a_key_that_is_taken_stops_it_and_nothing_is_changed(
        self, link, connection, reach, read, stocks, everything, table
    ):
        read(link, OldStocks)
        stocks.listings["shop-7"] = {}
        taken = f"{REFS[1]}@shop-7"
        connection.execute(
            "WITH made AS (INSERT INTO offer (product_id, venue_id, name, subcategory_id, id_at_providers,"
            " id_at_provider) VALUES (2, 2, 'Another', 'LIVRE_PAPIER', %s, 'x') RETURNING id)"
            " INSERT INTO stock (offer_id, price, id_at_providers) SELECT id, 1, %s FROM made",
            (taken, None) if table == "offer" else (None, taken),
        )
        before = everything()
        with pytest.raises(ConfigurationError, match=f"Nothing was changed: .*{table} {taken}"):
            change_provider(connection, reach, link=link, provider="NewStocks", id_at_provider="shop-7")
        assert everything() == before

    def test_a_key_that_would_be_too_long(self, link, connection, reach, read, stocks, everything):
        read(link, OldStocks)
        connection.execute("UPDATE stock SET id_at_providers = repeat('r', 235) || %s WHERE id = 1", (f"@{SIRET}",))
        stocks.listings["7" * 70] = {}
        before = everything()
        with pytest.raises(ConfigurationError, match="Nothing was changed"):
            change_provider(connection, reach, link=link, provider="NewStocks", id_at_provider="7" * 70)
        assert everything() == before

    @pytest.mark.parametrize("whose", [OldStocks, NewStocks])
    def test_a_link_that_is_being_read_is_busy(self, link, connect, connection, reach, read, everything, whose):
        read(link, OldStocks)
        provider_id = register_provider(connection, whose.__name__, whose.name)
        before = everything()
        with link_lock(connect(), provider_id, link), pytest.raises(LinkBusy) as raised:
            change_provider(connection, reach, link=link, provider="NewStocks")
        assert raised.value.retry_after
        assert everything() == before
        assert change_provider(connection, reach, link=link, provider="NewStocks").link.provider == "NewStocks"
        stored = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
        assert connection.execute(stored).fetchone() == (0,)

    def test_a_link_that_somebody_else_changes_at_the_same_moment(self, link, connection, stocks, links):
        def reach(provider_class):
            connection.execute("UPDATE venue_provider SET venue_id_at_offer_provider = 'moved'")
            return nullcontext(stocks)

        with pytest.raises(LinkBusy, match="changed by someone else"):
            change_provider(connection, reach, link=link, provider="NewStocks")
        assert links()[0][2:4] == ("OldStocks", "moved")

    @pytest.mark.parametrize(
        ("asked", "message"),
        [
            ({}, "Specify `link`"),
            ({"venue": OTHER_SIRET}, f"Venue {OTHER_SIRET} has no active links: .* Its links: none"),
            ({"link": 99}, "There is no link 99: the action show lists the links"),
            ({"link": 1, "venue": OTHER_SIRET}, f"There is no link 1 of venue {OTHER_SIRET}"),
            ({"link": 1, "provider": "OldStocks", "settings": {"a": 1}}, "the action settings changes its settings"),
            ({"link": 1, "provider": "Nobody"}, "no provider 'Nobody'"),
            ({"link": 1, "id_at_provider": "nine"}, "New stocks does not know nine: check the id"),
            ({"link": 1, "provider": "Halls"}, "provider_pivot"),
            ({"link": 1, "settings": {"a": 1}}, "has no settings"),
        ],
    )
    def test_what_is_wrong_is_refused_and_nothing_changed(
        self, link, connection, reach, read, everything, asked, message
    ):
        read(link, OldStocks)
        before = everything()
        with pytest.raises(ConfigurationError, match=message):
            change_provider(connection, reach, **{"provider": "NewStocks"} | asked)
        assert everything() == before

    def test_a_change_that_was_made_already_is_none(self, link, connection, reach, read, stocks, everything, watermark):
        read(link, OldStocks)
        before, asked = everything(), len(stocks.asked)
        result = change_provider(connection, reach, link=link, provider="OldStocks")
        assert result.message.startswith("Nothing to change: that is link 1")
        assert (everything(), len(stocks.asked)) == (before, asked)
        set_active(connection, None, is_active=False, link=link)
        with pytest.raises(ConfigurationError, match="it is not active: activate it"):
            change_provider(connection, reach, link=link, provider="OldStocks")

    def test_a_venue_with_several_links_needs_the_id_of_one(self, link, venue, connection, reach):
        other = link_venue(connection, reach, venue=venue, provider="NewStocks").link.id
        with pytest.raises(ConfigurationError, match=rf"has 2 active links: .*link {link} of .*; link {other} of"):
            change_provider(connection, reach, venue=venue, provider="Halls")
        with pytest.raises(ConfigurationError, match=f"There is link {other} of .* already"):
            change_provider(connection, reach, link=link, provider="NewStocks")
        set_active(connection, None, is_active=False, link=other)
        with pytest.raises(ConfigurationError, match=f"activate link {other}"):
            change_provider(connection, reach, venue=venue, provider="NewStocks")

    def test_an_inactive_link_becomes_active(self, link, connection, reach, links):
        set_active(connection, None, is_active=False, link=link)
        change_provider(connection, reach, link=link, provider="NewStocks")
        assert links()[0][4] is True

    def test_what_the_old_provider_had_planned_is_skipped(self, link, venue, connection, reach, read, everything):
        load = loads.open_load(connection, OldStocks, LoadParameters())
        (instance,) = ledger.pending_instances(connection, load, 0)
        change_provider(connection, reach, venue=venue, provider="NewStocks")
        before = everything()
        assert read(link, OldStocks, instance_id=instance.id).state == "skipped"
        assert read(link, OldStocks).state == "skipped"
        assert everything() == before

    def test_rejected_records_of_the_old_provider_are_given_up(self, link, venue, connection, reach, read, stocks):
        stocks.listings[SIRET][REFS[0]] = -1
        assert read(link, OldStocks).rejected == 1
        result = change_provider(connection, reach, venue=venue, provider="NewStocks")
        assert "1 rejected records of OldStocks will not be replayed" in result.message
        assert connection.execute("SELECT resolution FROM rejected_record").fetchall() == [("given up",)]


class TestActive:
    def test_what_is_deactivated_is_skipped_and_stays_on_sale(self, link, connection, reach, read, shelf, watermark):
        read(link, OldStocks)
        before, read_at = shelf(), watermark(link)
        result = set_active(connection, None, is_active=False, link=link)
        assert "3 of its stocks stay on sale" in result.message
        assert read(link, OldStocks).state == "skipped"
        assert (shelf(), watermark(link)) == (before, read_at)

    def test_what_is_activated_again_is_read_completely(self, link, venue, connection, read, stocks, watermark):
        read(link, OldStocks)
        set_active(connection, None, is_active=False, venue=venue)
        result = set_active(connection, None, is_active=True, venue=venue)
        assert "the next run reads everything" in result.message
        assert watermark(link) is None
        assert read(link, OldStocks).records == 3
        assert "modifiedSince" not in stocks.asked[-1][1]

    @pytest.mark.parametrize("is_active", [True, False])
    def test_twice_is_once(self, link, connection, read, watermark, is_active):
        read(link, OldStocks)
        set_active(connection, None, is_active=is_active, link=link)
        read_at = watermark(link)
        assert read_at
        assert "Nothing to do" in set_active(connection, None, is_active=is_active, link=link).message
        assert watermark(link) == read_at

    def test_only_what_can_be_chosen_is(self, link, venue, connection):
        with pytest.raises(ConfigurationError, match="has no inactive links"):
            set_active(connection, None, is_active=True, venue=venue)


class TestSettings:
    @pytest.fixture
    def hall(self, venue, connection, reach):
        provider_id = register_provider(connection, "Halls", "Halls")
        connection.execute("INSERT INTO provider_pivot VALUES (%s, 1, %s)", (provider_id, SIRET))
        return link_venue(connection, reach, venue=venue, provider="Halls", settings={"rooms": 1}).link.id

    def test_new_settings_have_everything_read(self, hall, connection, reach, read, links, watermark):
        read(hall, Halls)
        assert watermark(hall)
        change_settings(connection, reach, link=hall, settings={"prices": {"a": 1.5}})
        assert links()[0][5] == {"prices": {"a": 1.5}}
        assert watermark(hall) is None
        change_settings(connection, reach, venue=SIRET, settings={})
        assert links()[0][5] == {}

    def test_refused_settings_change_nothing(self, hall, connection, reach, read, everything):
        read(hall, Halls)
        before = everything()
        with pytest.raises(ConfigurationError, match="bad is no setting"):
            change_settings(connection, reach, link=hall, settings={"bad": 1})
        assert everything() == before

    def test_a_link_that_is_being_read_is_busy(self, hall, connect, connection, reach, links):
        provider_id = register_provider(connection, "Halls", "Halls")
        with link_lock(connect(), provider_id, hall), pytest.raises(LinkBusy):
            change_settings(connection, reach, link=hall, settings={})
        assert links()[0][5] == {"rooms": 1}

    def test_a_failed_read_starts_over_with_the_new_ones(self, hall, connection, reach, read, stocks, watermark):
        load = loads.open_load(connection, Halls, LoadParameters(), run_id="r")
        (instance,) = ledger.pending_instances(connection, load, 0)
        read(hall, Halls, instance_id=instance.id, limit=1, chunk_size=1)
        connection.execute(
            "UPDATE catalog_scheme_operation_instance SET state = 'failed', cursor = %s WHERE id = %s",
            (REFS[0], instance.id),
        )
        change_settings(connection, reach, link=hall, settings={"rooms": 2})
        assert read(hall, Halls, instance_id=instance.id).records == 3


class TestDescribe:
    def test_links_with_what_they_feed(self, link, venue, connection, read, stocks):
        stocks.listings[SIRET][REFS[2]] = 0
        read(link, OldStocks)
        (found,), count = describe_links(connection)
        assert (found.id, found.venue_name, found.provider, count) == (link, "Plume", "OldStocks", 1)
        assert (found.offers, found.stocks, found.stocks_on_sale) == (2, 2, 2)
        connection.execute("UPDATE stock SET quantity = 0 WHERE id = (SELECT min(id) FROM stock)")
        connection.execute("UPDATE offer SET is_active = false WHERE id = (SELECT max(id) FROM offer)")
        assert describe_links(connection, venue=venue)[0][0].stocks_on_sale == 0

    def test_of_a_venue_and_none(self, link, connection):
        assert describe_links(connection, venue=OTHER_SIRET) == ([], 0)
        with pytest.raises(ConfigurationError, match="There is no venue"):
            describe_links(connection, venue="nowhere")


class TestRequests:
    @pytest.mark.parametrize(
        ("request_", "message"),
        [
            (LinkRequest("link", venue=SIRET), "To link a venue, also specify: provider"),
            (LinkRequest("link"), "also specify: provider, venue"),
            (LinkRequest("link", venue=SIRET, provider="OldStocks", link=1), "To link a venue, leave out: link"),
            (LinkRequest("change", link=1), "To change the provider of a venue, also specify: provider"),
            (LinkRequest("settings", link=1), "also specify: settings"),
            (LinkRequest("activate", link=1, provider="x", settings={}), "leave out: provider, settings"),
            (LinkRequest("deactivate"), "Specify `link`"),
        ],
        ids=str,
    )
    def test_too_little_and_too_much(self, venue, connection, reach, request_, message):
        with pytest.raises(ConfigurationError, match=message):
            perform(connection, reach, request_)

    def test_each_action_does_what_it_says(self, venue, connection, reach, links):
        perform(connection, reach, LinkRequest("link", venue=venue, provider="OldStocks"))
        perform(connection, reach, LinkRequest("change", link=1, provider="NewStocks"))
        perform(connection, reach, LinkRequest("settings", link=1, settings={}))
        perform(connection, reach, LinkRequest("deactivate", link=1))
        assert links() == [(1, 1, "NewStocks", SIRET, False, {})]
        perform(connection, reach, LinkRequest("activate", venue=venue))
        assert links() == [(1, 1, "NewStocks", SIRET, True, {})]


def test_of_two_structures_the_newest_is_linked(monkeypatch):
    class Newer(OldStocks):
        name = "Old stocks, second structure"
        local_class = "OldStocks"
        scheme_version = 2

    monkeypatch.setattr("include.providers.provider_classes", lambda: [OldStocks, Newer])
    assert named_provider("OldStocks") is Newer
