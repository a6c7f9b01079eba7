"""TiteLive's stocks over real sockets: what is created, at what price, and what each fault comes to."""

from collections import Counter
from datetime import timedelta
from decimal import ROUND_HALF_UP, Decimal

import pytest

from include.connectors.records import Page, RecordStream
from include.errors import (
    PaginationError,
    RateLimited,
    RejectRecord,
    RequestRefused,
    ServiceUnavailable,
    UndecodableBody,
)
from include.inbound.rejections import MAX_PAYLOAD_LENGTH
from include.inbound.run import sync_provider
from include.providers import load_provider, provider_classes
from include.providers.titelive_stocks import TiteLiveStocks
from sandbox.suppliers.corrupt_stocks import BAD_RECORDS, bad_kind
from sandbox.suppliers.stock_api import rows
from sandbox.world import START, format_time
from tests.providers.conftest import BOOKS, PAGE


def euros(cents):
    return (Decimal(cents) / 100).quantize(Decimal("0.01"), ROUND_HALF_UP)


def truth(world, eligible, since=None):
    """What is to be in the database after a first sync."""
    return {
        row.ref: (row.available, euros(row.price), row.available, 0)
        for row in rows(world, world.sirets[0], since)
        if row.ref in eligible and row.available
    }


class TestRules:
    def test_a_first_sync_creates_what_is_eligible_and_available(
        self, sync, stocks, world, eligible, asked, connection
    ):
        report = sync()
        expected = truth(world, eligible)
        assert stocks() == expected
        assert (report.records, report.checked) == (BOOKS, 2 * BOOKS)
        assert report.created == 2 * len(expected)
        assert report.skipped == 2 * (BOOKS - len(expected))
        assert all("modifiedSince" not in query for query in asked())
        assert len(asked()) == BOOKS // PAGE + 1
        assert connection.execute("SELECT count(*) FROM offer").fetchone() == (len(expected),)

    def test_zero_is_a_price(self, sync, stocks, world, eligible):
        free = [row.ref for row in rows(world, world.sirets[0]) if row.price == 0 and row.ref in truth(world, eligible)]
        assert free
        sync()
        assert {stocks()[ref][1] for ref in free} == {0}

    def test_an_offer_takes_its_texts_from_book_and_venue(self, sync, connection, link):
        sync()
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

    def test_quantity_is_available_and_booked(self, sync, stocks, connection, world):
        sync()
        connection.execute("INSERT INTO booking (stock_id, quantity) SELECT id, 2 FROM stock WHERE quantity >= 2")
        connection.execute("INSERT INTO booking (stock_id, quantity, is_cancelled) SELECT id, 1, true FROM stock")
        report = sync(full_refresh=True)
        assert report.updated > 100
        for available, _, quantity, booked in stocks().values():
            assert quantity == available + booked
        assert {booked for *_, booked in stocks().values()} == {0, 2}

    def test_what_sells_out_stays_with_nothing_available(self, sync, stocks, world, eligible, connection):
        sync()
        first = stocks()
        world.advance(100)
        sync()
        sold_out = [r.ref for r in rows(world, world.sirets[0]) if r.ref in first and not r.available]
        assert sold_out
        assert {stocks()[ref][:1] + stocks()[ref][2:] for ref in sold_out} == {(0, 0, 0)}

    def test_the_next_sync_asks_for_what_changed(self, sync, stocks, world, eligible, asked, connection):
        sync(), sync()
        before = len(asked())
        watermark = connection.execute("SELECT last_sync_date FROM venue_provider").fetchone()[0]
        world.advance(20)
        report = sync()
        queries = asked()[before:]
        since = watermark - timedelta(minutes=5)
        assert {query["modifiedSince"] for query in queries} == {format_time(since)}
        changed = list(rows(world, world.sirets[0], since))
        assert report.records == len(changed) == BOOKS // 5
        stored = stocks()
        for row in changed:
            if row.ref in stored:
                assert stored[row.ref][:2] == (row.available, euros(row.price))
        assert since > START

    def test_an_unchanged_listing_changes_nothing(self, sync, connection):
        sync()
        before = connection.execute(
            "SELECT id, xmin::text FROM stock UNION ALL SELECT id, xmin::text FROM offer"
        ).fetchall()
        report = sync(full_refresh=True)
        assert (report.created, report.updated) == (0, 0)
        after = connection.execute(
            "SELECT id, xmin::text FROM stock UNION ALL SELECT id, xmin::text FROM offer"
        ).fetchall()
        assert sorted(after) == sorted(before)

    def test_a_known_offer_is_left_as_it_is(self, sync, connection):
        sync()
        connection.execute("UPDATE offer SET name = 'mine', booking_email = NULL, is_active = false")
        connection.execute("UPDATE product SET name = 'new name'")
        sync(full_refresh=True)
        assert connection.execute("SELECT DISTINCT name, booking_email, is_active FROM offer").fetchall() == [
            ("mine", None, False)
        ]

    def test_a_reference_that_another_offer_has_is_rejected(self, sync, stocks, connection, link, rejections):
        sync()
        connection.execute("UPDATE offer SET id_at_providers = id_at_provider || '@elsewhere' WHERE id IN"
                           " (SELECT id FROM offer ORDER BY id LIMIT 3)")  # fmt: skip
        connection.execute("UPDATE stock SET id_at_providers = id_at_providers || '@elsewhere' WHERE offer_id IN"
                           " (SELECT id FROM offer ORDER BY id LIMIT 3)")  # fmt: skip
        report = sync(full_refresh=True)
        assert report.rejected == 3
        assert {reason for reason, _ in rejections()} == {
            "the venue already has another offer with this reference: give that one its id_at_providers, or remove it"
        }

    @pytest.mark.parametrize(
        ("fixed", "price"),
        [("12.30", "12.30"), ("12,30", "12.30"), (17.905, "17.91"), (0, "0.00"), (None, None), ("free", None),
         (-1, None), ("NaN", None), ("1e20", None)],
    )  # fmt: skip
    def test_a_missing_price_is_the_fixed_one(
        self, sync, stocks, fault, connection, eligible, rejections, fixed, price
    ):
        from psycopg.types.json import Jsonb

        extra = None if fixed is None else Jsonb({"prix_livre": fixed})
        connection.execute("UPDATE product SET extra_data = %s", (extra,))
        fault("bad_records", kinds=["missing_price", "null_price"])
        sync(limit=PAGE)
        found = {row[1] for row in stocks().values()}
        assert found == (set() if price is None else {Decimal(price)})
        assert connection.execute("SELECT count(*) FROM offer").fetchone() == (len(stocks()),)
        if price is None:
            assert {reason for reason, _ in rejections()} == {"price: missing, and the book has no fixed price either"}

    def test_a_limit_is_exact(self, sync, asked):
        assert sync(limit=150).records == 150

    def test_it_is_found_by_its_path(self):
        path = "include.providers.titelive_stocks.TiteLiveStocks"
        assert load_provider(path) is TiteLiveStocks
        assert TiteLiveStocks in provider_classes()


class TestBadRecords:
    @pytest.mark.parametrize("kind", BAD_RECORDS)
    def test_a_bad_record_is_put_aside_and_the_others_come_in(
        self, sync, stocks, world, eligible, fault, rejections, kind
    ):
        def is_bad(row):
            return bad_kind(world.settings.seed, row.ref, [kind], 0.3) is not None

        listing = list(rows(world, world.sirets[0]))
        # A row without a reference at the end of a page would come again, and then be good, on the next.
        number = next(n for n in range(2, 5) if not is_bad(listing[n * PAGE - 1]))
        fault("bad_records", kinds=[kind], share=0.3, page=number)
        report = sync()
        bad = {row.ref for row in listing[(number - 1) * PAGE : number * PAGE] if is_bad(row)}
        if kind == "huge_string":
            bad = {min(bad)}
        expected = {ref: row for ref, row in truth(world, eligible).items() if ref not in bad}
        stored = stocks()
        assert {ref: stored.get(ref) for ref in expected} == expected
        if kind in ("missing_price", "null_price"):
            assert {stored[ref][1] for ref in bad & set(stored)} <= set(eligible.values())
        else:
            assert report.rejected == len(bad)
            assert not bad & set(stored)
            assert all(reason and len(payload) <= MAX_PAYLOAD_LENGTH for reason, payload in rejections())

    def test_a_whole_page_of_invalid_rows_does_not_end_the_listing(self, sync, stocks, world, eligible, fault):
        for page in (1, 3):
            fault("bad_records", kinds=["negative_available", "text_price", "negative_price"], page=page)
        report = sync(chunk_size=5)
        refs = [row.ref for row in rows(world, world.sirets[0])]
        bad = {*refs[:PAGE], *refs[2 * PAGE : 3 * PAGE]}
        assert report.rejected == 2 * PAGE
        assert stocks() == {ref: row for ref, row in truth(world, eligible).items() if ref not in bad}

    @pytest.mark.parametrize("chunk_size", [7, PAGE, 1000])
    def test_a_reference_listed_twice_in_a_page(self, sync, stocks, world, eligible, fault, chunk_size):
        fault("duplicates", page=2, times=1, within=20)
        report = sync(chunk_size=chunk_size)
        expected = truth(world, eligible)
        stored = stocks()
        assert set(expected) <= set(stored)
        refs = [row.ref for row in rows(world, world.sirets[0])]
        twice = set(refs[PAGE : PAGE + 20])
        for ref, (available, *_) in expected.items():
            assert stored[ref][0] == available + (ref in twice)
        assert report.records == BOOKS + 20


class TestFaults:
    """What a service does wrong: asked again at once, later, or never; and what comes in all the same."""

    def complete(self, stocks, world, eligible):
        return stocks() == truth(world, eligible)

    @pytest.mark.parametrize(
        "rule",
        [
            {"fault": "status", "status": 429, "retry_after": 2},
            {"fault": "status", "status": 429, "retry_after": 2, "as_date": True},
            {"fault": "status", "status": 429},
            {"fault": "status", "status": 500},
            {"fault": "status", "status": 503, "retry_after": 1},
            {"fault": "cut"},
            {"fault": "truncated_json"},
            {"fault": "html"},
        ],
        ids=lambda rule: "-".join(map(str, rule.values())),
    )
    @pytest.mark.parametrize("page", [1, 3])
    def test_what_passes_is_asked_again(self, sync, stocks, world, eligible, fault, slept, rule, page):
        fault(**rule, page=page, times=2)
        report = sync()
        assert self.complete(stocks, world, eligible)
        assert report.records == BOOKS
        assert len(slept) == 2
        assert min(slept) >= rule.get("retry_after", 0)

    def test_a_time_out_is_asked_again(self, sync, stocks, world, eligible, fault):
        fault("delay", seconds=1.5, page=2, times=1)
        sync(read_timeout=0.5)
        assert self.complete(stocks, world, eligible)

    @pytest.mark.parametrize(
        ("rule", "error", "wait"),
        [
            ({"fault": "status", "status": 429, "retry_after": 900}, RateLimited, 900),
            ({"fault": "status", "status": 500}, ServiceUnavailable, None),
            ({"fault": "status", "status": 503, "retry_after": 600}, RateLimited, 600),
            ({"fault": "cut"}, ServiceUnavailable, None),
            ({"fault": "truncated_json"}, UndecodableBody, None),
            ({"fault": "html"}, UndecodableBody, None),
        ],
        ids=lambda value: value["fault"] + str(value.get("status", "")) if isinstance(value, dict) else None,
    )
    def test_what_does_not_pass_ends_the_try_and_the_next_goes_on(
        self, sync, stocks, world, eligible, fault, clear_faults, asked, connection, rule, error, wait
    ):
        fault(**rule, page=4)
        with pytest.raises(error) as raised:
            sync("r")
        assert raised.value.retry_after == wait
        assert raised.value.where["venue"].startswith("La Plume")
        refs = [row.ref for row in rows(world, world.sirets[0])]
        cursor = connection.execute("SELECT cursor FROM catalog_scheme_operation_instance").fetchone()[0]
        assert 2 * PAGE < refs.index(cursor) < 3 * PAGE
        assert set(stocks()) == {ref for ref in truth(world, eligible) if ref <= cursor}
        clear_faults()
        before = len(asked())
        report = sync("r")
        assert asked()[before]["after"] == cursor
        assert self.complete(stocks, world, eligible)
        assert report.records == BOOKS
        assert report.created == 2 * len(truth(world, eligible))

    def test_an_empty_page_before_the_total_is_an_error(self, sync, fault, connection):
        fault("empty_page", page=3)
        with pytest.raises(PaginationError, match="page 3 is empty after 200 rows"):
            sync()
        assert connection.execute("SELECT last_sync_date FROM venue_provider").fetchone() == (None,)

    @pytest.mark.parametrize("page", [None, 2, 4])
    def test_a_supplier_that_ignores_after_is_an_error(self, sync, fault, connection, page):
        fault("repeat_page", **({} if page is None else {"page": page}))
        with pytest.raises(PaginationError, match=r"ask the supplier"):
            sync()
        assert connection.execute("SELECT last_sync_date FROM venue_provider").fetchone() == (None,)

    def test_rows_of_the_page_before_are_met_again_as_unchanged(self, sync, fault, stocks, world, eligible):
        fault("duplicates", page=2, across=20)
        report = sync()
        assert report.records == BOOKS + 20
        assert report.created == 2 * len(truth(world, eligible))
        assert self.complete(stocks, world, eligible)

    def test_an_empty_answer_is_an_empty_listing(self, sync, fault):
        fault("empty_body")
        assert sync().records == 0

    def test_an_unknown_venue_is_a_matter_for_a_person(self, sync, connection, link, url):
        with pytest.raises(RequestRefused) as refused:
            sync(path="titelive/stocks/no")
        assert refused.value.status == 404

    def test_the_same_faults_give_the_same_rows_whatever_the_chunks(self, sync, stocks, connection, fault):
        fault("bad_records", kinds=list(BAD_RECORDS.keys() - {"huge_string"}), share=0.2)
        seen = []
        for chunk_size in (7, 1000):
            report = sync(chunk_size=chunk_size)
            seen.append((stocks(), report.records, report.checked, report.created, report.skipped, report.rejected))
            reasons = Counter(connection.execute("SELECT reason FROM rejected_record").fetchall())
            seen[-1] += (reasons,)
            for table in ("stock", "offer", "rejected_record"):
                connection.execute(f"DELETE FROM {table}")
            connection.execute("UPDATE venue_provider SET last_sync_date = NULL")
        assert seen[0] == seen[1]


class TestDecodeRecord:
    @pytest.mark.parametrize(
        ("raw", "price"),
        [
            (b'{"ref":"978","available":1,"price":1250}', Decimal(1250)),
            (b'{"ref":"978","available":1,"price":"12.50"}', Decimal("12.50")),
            (b'{"ref":"978","available":1}', None),
        ],
    )
    def test_a_payload_is_a_row_of_the_listing(self, raw, price):
        record = TiteLiveStocks().decode_record(raw)
        assert (record.ref, record.available, record.price) == ("978", 1, price)

    @pytest.mark.parametrize(
        ("raw", "reason"),
        [
            (b'{"available":1}', "ref: required, but missing"),
            (b'{"ref":"978","available":-1}', "available: Expected `int` >= 0"),
            (b'["978"]', "Expected `object`, got `array`"),
        ],
    )
    def test_what_is_none_is_rejected_as_in_a_listing(self, raw, reason):
        with pytest.raises(RejectRecord) as error:
            TiteLiveStocks().decode_record(raw)
        assert (error.value.message, error.value.payload) == (reason, raw)

    @pytest.mark.parametrize(
        ("raw", "reference"),
        [
            (b'{"ref":"978","available":-1}', "978"),
            (b'{"ref":978,"available":1}', "978"),
            (b'{"ref":"978","available":1,"price":-1}', "978"),
            (b'{"ref":"","available":1}', None),
            (b'{"ref":["978"],"available":1}', None),
            (b'{"available":1}', None),
            (b'["978"]', None),
        ],
    )
    def test_a_row_that_cannot_be_used_says_of_which_book_it_is(self, link, raw, reference):
        provider = TiteLiveStocks(link)
        page = TiteLiveStocks.decode(b'{"stocks":[' + raw + b"]}")
        provider.records = RecordStream(iter([Page(page.stocks, START, 1)]))
        with pytest.raises(RejectRecord) as error:
            next(provider)
        assert error.value.reference == reference

    def test_a_row_that_is_listed_again_as_it_was_is_not_replayed(self, sync, connection, fault, stocks, clear_faults):
        """It is unchanged, so nothing but its reference tells that what was rejected is older."""
        sync()
        fault("bad_records", kinds=["negative_available", "negative_price"], share=0.1)
        assert sync(full_refresh=True).rejected > 0
        clear_faults()
        connection.execute("UPDATE venue_provider SET last_sync_date = '2020-01-01 UTC'")
        assert sync().updated == 0
        waiting = "SELECT count(*) FROM rejected_record WHERE resolved_at IS NULL"
        assert connection.execute(waiting).fetchone() == (0,)

    def test_what_the_engine_keeps_of_a_record_can_be_read_again(
        self, sync, connection, fault, stocks, clear_faults, link
    ):
        fault("bad_records", kinds=["negative_price"], share=0.1)
        report = sync()
        clear_faults()
        repaired = connection.execute(
            "UPDATE rejected_record SET payload = jsonb_set(payload::jsonb, '{price}', '1000')::text"
        ).rowcount
        assert repaired == report.rejected > 0
        before = set(stocks())
        again = sync_provider(TiteLiveStocks(link), connection, replay=True)
        assert (again.records, again.rejected) == (repaired, 0)
        assert {stocks()[ref][1] for ref in set(stocks()) - before} == {Decimal("10.00")}
