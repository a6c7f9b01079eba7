"""TiteLive's stocks over real sockets: what is created, at what price, and what faults of this API come to."""

from collections import Counter
from datetime import timedelta
from decimal import ROUND_HALF_UP, Decimal

import psycopg
import pytest

from include.connectors.records import Page, RecordStream
from include.errors import PaginationError, RateLimited, RejectRecord
from include.inbound.rejections import MAX_PAYLOAD_LENGTH
from include.providers.titelive_stocks import TiteLiveStocks
from sandbox.suppliers.corrupt_stocks import BAD_RECORDS, bad_kind
from sandbox.suppliers.stock_api import rows
from sandbox.world import START, format_time
from tests.sources import SMALL

BOOKS, PAGE = SMALL.books, SMALL.max_limit
WATERMARK = "SELECT last_sync_date FROM venue_provider WHERE id = %s"


@pytest.fixture
def source(sources):
    return sources("TiteLiveStocks")


@pytest.fixture
def sync(source):
    return lambda run_id=None, **options: source.sync(run_id=run_id, **{"chunk_size": PAGE} | options)


@pytest.fixture
def listing(source):
    """The rows that the bookshop lists now, or those changed since a time."""
    return lambda since=None: list(rows(source.world, source.world.sirets[0], since))


@pytest.fixture
def stocks(source, connection):
    """Reference → available, price, quantity, booked."""

    def read():
        found = connection.execute(
            "SELECT offer.id_at_provider, raw_provider_quantity, price, quantity, booked_quantity"
            " FROM stock JOIN offer ON offer.id = offer_id ORDER BY 1"
        ).fetchall()
        return {row[0]: row[1:] for row in found}

    return read


@pytest.fixture
def eligible(source, connection):
    """Reference → fixed price of the books that may be sold."""
    return dict(
        connection.execute(
            "SELECT id_at_providers, (extra_data ->> 'prix_livre')::numeric FROM product"
            " WHERE subcategory_id = 'LIVRE_PAPIER' AND is_gcu_compatible AND is_synchronization_compatible"
        ).fetchall()
    )


@pytest.fixture
def truth(listing, eligible):
    """What is to be in the database after a first sync."""
    return lambda: {
        row.ref: (row.available, euros(row.price), row.available, 0)
        for row in listing()
        if row.ref in eligible and row.available
    }


@pytest.fixture
def rejections(connection):
    return lambda: connection.execute("SELECT reason, payload FROM rejected_record ORDER BY id").fetchall()


def euros(cents):
    return (Decimal(cents) / 100).quantize(Decimal("0.01"), ROUND_HALF_UP)


class TestRules:
    def test_a_first_sync_creates_what_is_eligible_and_available(self, source, sync, stocks, truth, connection):
        report = sync()
        expected = truth()
        assert stocks() == expected
        assert 0 in {price for _, price, *_ in expected.values()}, "zero is a price"
        assert (report.records, report.checked) == (BOOKS, 2 * BOOKS)
        assert report.created == 2 * len(expected)
        assert report.skipped == 2 * (BOOKS - len(expected))
        assert all("modifiedSince" not in query for _, query in source.asked())
        assert len(source.asked()) == BOOKS // PAGE + 1
        assert connection.execute("SELECT count(*) FROM offer").fetchone() == (len(expected),)

    def test_an_offer_takes_its_texts_from_book_and_venue(self, source, sync, connection):
        sync()
        link = source.links[0]
        assert (
            connection.execute(
                "SELECT count(*) FROM offer JOIN product ON product.id = product_id AND offer.name = product.name"
                " AND offer.description = product.description AND offer.extra_data = product.extra_data"
                " AND offer.subcategory_id = product.subcategory_id AND offer.id_at_provider = product.id_at_providers"
                " AND offer.id_at_providers = product.id_at_providers || '@' || %s"
                " AND booking_email = %s AND venue_id = %s",
                (link.siret, link.booking_email, link.venue_id),
            ).fetchone()
            == connection.execute("SELECT count(*) FROM offer").fetchone()
        )

    def test_quantity_is_available_and_booked(self, sync, stocks, connection):
        sync()
        connection.execute("INSERT INTO booking (stock_id, quantity) SELECT id, 2 FROM stock WHERE quantity >= 2")
        connection.execute("INSERT INTO booking (stock_id, quantity, is_cancelled) SELECT id, 1, true FROM stock")
        assert sync(full_refresh=True).updated > 40
        for available, _, quantity, booked in stocks().values():
            assert quantity == available + booked
        assert {booked for *_, booked in stocks().values()} == {0, 2}

    def test_what_sells_out_stays_with_nothing_available(self, source, sync, stocks, listing):
        sync()
        first = stocks()
        source.world.advance(100)
        sync()
        sold_out = [row.ref for row in listing() if row.ref in first and not row.available]
        assert sold_out
        assert {stocks()[ref][:1] + stocks()[ref][2:] for ref in sold_out} == {(0, 0, 0)}

    def test_the_next_sync_asks_for_what_changed(self, source, sync, stocks, listing, connection):
        sync(), sync()
        before = len(source.asked())
        since = connection.execute(WATERMARK, (source.links[0].id,)).fetchone()[0] - timedelta(minutes=5)
        source.world.advance(20)
        report = sync()
        assert {query["modifiedSince"] for _, query in source.asked()[before:]} == {format_time(since)}
        changed = listing(since)
        assert report.records == len(changed) == BOOKS // 5
        stored = stocks()
        for row in changed:
            if row.ref in stored:
                assert stored[row.ref][:2] == (row.available, euros(row.price))
        assert since > START

    def test_a_known_offer_is_left_as_it_is(self, sync, connection):
        sync()
        connection.execute("UPDATE offer SET name = 'mine', booking_email = NULL, is_active = false")
        connection.execute("UPDATE product SET name = 'new name'")
        sync(full_refresh=True)
        assert connection.execute("SELECT DISTINCT name, booking_email, is_active FROM offer").fetchall() == [
            ("mine", None, False)
        ]

    def test_a_reference_that_another_offer_has_is_rejected(self, sync, connection, rejections):
        sync()
        for table, column in (("offer", "id"), ("stock", "offer_id")):
            connection.execute(f"UPDATE {table} SET id_at_providers = id_at_providers || '@elsewhere' WHERE {column} IN"
                               " (SELECT id FROM offer ORDER BY id LIMIT 3)")  # fmt: skip
        assert sync(full_refresh=True).rejected == 3
        assert {reason for reason, _ in rejections()} == {
            "the venue already has another offer with this reference: give that one its id_at_providers, or remove it"
        }

    @pytest.mark.parametrize(
        ("fixed", "price"),
        [("12.30", "12.30"), ("12,30", "12.30"), (17.905, "17.91"), (0, "0.00"), (None, None), ("free", None),
         (-1, None), ("NaN", None), ("1e20", None)],
    )  # fmt: skip
    def test_a_missing_price_is_the_fixed_one(self, source, sync, stocks, connection, rejections, fixed, price):
        extra = None if fixed is None else psycopg.types.json.Jsonb({"prix_livre": fixed})
        connection.execute("UPDATE product SET extra_data = %s", (extra,))
        source.fault("bad_records", kinds=["missing_price", "null_price"])
        sync(limit=PAGE)
        found = {row[1] for row in stocks().values()}
        assert found == (set() if price is None else {Decimal(price)})
        assert connection.execute("SELECT count(*) FROM offer").fetchone() == (len(stocks()),)
        if price is None:
            assert {reason for reason, _ in rejections()} == {"price: missing, and the book has no fixed price either"}


class TestBadRecords:
    @pytest.mark.parametrize("kind", BAD_RECORDS)
    def test_a_bad_record_is_put_aside_and_the_others_come_in(
        self, source, sync, stocks, listing, truth, eligible, rejections, kind
    ):
        def is_bad(row):
            return bad_kind(source.world.settings.seed, row.ref, [kind], 0.3) is not None

        # A row without a reference at the end of a page would come again, and then be good, on the next.
        number = next(n for n in (2, 1, 3) if not is_bad(listing()[n * PAGE - 1]))
        source.fault("bad_records", kinds=[kind], share=0.3, page=number)
        report = sync()
        bad = {row.ref for row in listing()[(number - 1) * PAGE : number * PAGE] if is_bad(row)}
        if kind == "huge_string":
            bad = {min(bad)}
        expected = {ref: row for ref, row in truth().items() if ref not in bad}
        stored = stocks()
        assert {ref: stored.get(ref) for ref in expected} == expected
        if kind in ("missing_price", "null_price"):
            assert {stored[ref][1] for ref in bad & set(stored)} <= set(eligible.values())
        else:
            assert report.rejected == len(bad)
            assert not bad & set(stored)
            assert all(reason and len(payload) <= MAX_PAYLOAD_LENGTH for reason, payload in rejections())

    def test_a_whole_page_of_invalid_rows_does_not_end_the_listing(self, source, sync, stocks, listing, truth):
        for page in (1, 3):
            source.fault("bad_records", kinds=["negative_available", "text_price", "negative_price"], page=page)
        assert sync(chunk_size=5).rejected == 2 * PAGE
        good = {row.ref for row in listing()[PAGE : 2 * PAGE]}
        assert stocks() == {ref: row for ref, row in truth().items() if ref in good}

    @pytest.mark.parametrize("chunk_size", [7, PAGE, 1000])
    def test_a_reference_listed_twice_in_a_page(self, source, sync, stocks, listing, truth, chunk_size):
        source.fault("duplicates", page=2, times=1, within=20)
        assert sync(chunk_size=chunk_size).records == BOOKS + 20
        stored = stocks()
        twice = {row.ref for row in listing()[PAGE : PAGE + 20]}
        for ref, (available, *_) in truth().items():
            assert stored[ref][0] == available + (ref in twice)

    @pytest.mark.parametrize(
        ("raw", "reference"),
        [
            (b'{"ref":978,"available":1}', "978"),
            (b'{"ref":"978","available":1,"price":-1}', "978"),
            (b'{"ref":"","available":1}', None),
        ],
    )
    def test_a_row_that_cannot_be_used_says_of_which_book_it_is(self, source, raw, reference):
        provider = TiteLiveStocks(source.links[0])
        provider.records = RecordStream(iter([Page(TiteLiveStocks.decode(b'{"stocks":[%b]}' % raw).stocks, START, 1)]))
        with pytest.raises(RejectRecord) as error:
            next(provider)
        assert error.value.reference == reference

    @pytest.mark.parametrize(
        ("price", "decoded"), [(b',"price":1250', Decimal(1250)), (b',"price":"12.50"', Decimal("12.50")), (b"", None)]
    )
    def test_a_price_may_be_a_number_a_text_or_missing(self, price, decoded):
        assert TiteLiveStocks().decode_record(b'{"ref":"978","available":1%b}' % price).price == decoded

    def test_a_row_that_is_listed_again_as_it_was_is_not_replayed(self, source, sync, connection):
        """It is unchanged, so nothing but its reference tells that what was rejected is older."""
        sync()
        source.fault("bad_records", kinds=["negative_available", "negative_price"], share=0.1)
        assert sync(full_refresh=True).rejected > 0
        source.clear_faults()
        connection.execute("UPDATE venue_provider SET last_sync_date = '2020-01-01 UTC'")
        assert sync().updated == 0
        waiting = "SELECT count(*) FROM rejected_record WHERE resolved_at IS NULL"
        assert connection.execute(waiting).fetchone() == (0,)


class TestFaults:
    def test_a_page_that_fails_ends_the_try_and_the_next_resumes(
        self, source, sync, stocks, listing, truth, connection
    ):
        source.fault("status", status=429, retry_after=900, page=3)
        with pytest.raises(RateLimited) as raised:
            sync("r")
        assert raised.value.retry_after == 900
        assert raised.value.where["venue"].startswith("La Plume")
        refs = [row.ref for row in listing()]
        cursor = connection.execute("SELECT cursor FROM catalog_scheme_operation_instance").fetchone()[0]
        assert PAGE < refs.index(cursor) < 2 * PAGE
        assert set(stocks()) == {ref for ref in truth() if ref <= cursor}
        source.clear_faults()
        before = len(source.asked())
        report = sync("r")
        assert source.asked()[before][1]["after"] == cursor
        assert stocks() == truth()
        assert (report.records, report.created) == (BOOKS, 2 * len(truth()))

    @pytest.mark.parametrize(
        ("rule", "message"),
        [
            ({"fault": "empty_page", "page": 3}, f"page 3 is empty after {2 * PAGE} rows"),
            ({"fault": "repeat_page"}, "ask the supplier"),
            ({"fault": "repeat_page", "page": 2}, "ask the supplier"),
            ({"fault": "repeat_page", "page": 3}, "ask the supplier"),
        ],
    )
    def test_a_listing_that_is_not_complete_moves_no_watermark(self, source, sync, connection, rule, message):
        source.fault(**rule)
        with pytest.raises(PaginationError, match=message):
            sync()
        assert connection.execute(WATERMARK, (source.links[0].id,)).fetchone() == (None,)

    def test_rows_of_the_page_before_are_met_again_as_unchanged(self, source, sync, stocks, truth):
        source.fault("duplicates", page=2, across=20)
        report = sync()
        assert (report.records, report.created) == (BOOKS + 20, 2 * len(truth()))
        assert stocks() == truth()

    def test_an_empty_answer_is_an_empty_listing(self, source, sync):
        source.fault("empty_body")
        assert sync().records == 0

    def test_the_same_faults_give_the_same_rows_whatever_the_chunks(self, source, sync, stocks, connection):
        source.fault("bad_records", kinds=list(BAD_RECORDS.keys() - {"huge_string"}), share=0.2)
        seen = []
        for chunk_size in (7, 1000):
            report = sync(chunk_size=chunk_size)
            reasons = Counter(connection.execute("SELECT reason FROM rejected_record").fetchall())
            counts = (report.records, report.checked, report.created, report.skipped, report.rejected)
            seen.append((stocks(), counts, reasons))
            for table in ("stock", "offer", "rejected_record"):
                connection.execute(f"DELETE FROM {table}")
            connection.execute("UPDATE venue_provider SET last_sync_date = NULL")
        assert seen[0] == seen[1]
