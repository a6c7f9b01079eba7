"""A bad record never stops a run: it is rejected with its payload and a reason in plain words."""

import json
from datetime import datetime
from decimal import Decimal

import msgspec
import pytest

from include.errors import ConfigurationError, ErrorBudgetExceeded, FatalError, RejectRecord, SkipObject
from include.inbound.rejections import MAX_PAYLOAD_LENGTH, masked_payload
from include.masking import Fields
from include.providers.base import LocalProvider
from tests.inbound.items import CursorItems, Item, Items, day, item

DATED = pytest.mark.parametrize("dates", [(None, None), (day(1), day(2))], ids=["dateless", "dated"])


@pytest.mark.parametrize(
    "key", [None, ["a"], 7, b"a", "nul\0", "lone \ud800", "", "x" * 300], ids=lambda key: repr(key)[:12]
)
@pytest.mark.parametrize("can_create", [True, False])
def test_an_unusable_key_costs_its_record_only(sync, rows, rejections, key, can_create):
    class Keys(Items):
        pass

    sync([item("a"), item("b")], Keys)
    Keys.can_create = can_create
    for chunk_size in (1, 1000):
        report = sync([item("a", quantity=1), item(key), item("b", quantity=chunk_size)], Keys, chunk_size=chunk_size)
        assert (report.created, report.rejected + report.skipped) == (0, 1)
        assert rows("item", "quantity") == {"a": 1, "b": chunk_size}
    if can_create:
        (_, reason, payload), *_ = rejections()
        assert "key" in reason
        assert "name of" in payload


@pytest.mark.parametrize("key", ['a","b', '"', "\\", "{}", "NULL", "a,b", " ", "é|ü", "'; DROP TABLE item; --", "%s"])
def test_a_strange_key_is_a_key(counts, rows, key):
    assert counts([item(key), item("a")]) == (2, 0, 0, 0, 0)
    assert counts([item(key), item("a"), item(key, quantity=1)]) == (0, 1, 2, 0, 0)
    assert set(rows()) == {key, "a"}


BAD_VALUES = {
    "NUL in a text": ({"name": "a\0b"}, "NUL"),
    "a lone surrogate": ({"name": "a\ud800b"}, "surrogate"),
    "an integer out of range": ({"quantity": 2**31}, "quantity"),
    "an absurd integer": ({"quantity": 10**5000}, ""),
    "a fraction for an integer": ({"quantity": 1.5}, "quantity"),
    "infinity for an integer": ({"quantity": float("inf")}, "quantity"),
    "a price out of range": ({"price": Decimal("1e30")}, "overflow"),
    "an absurd price": ({"price": Decimal("1e999999")}, ""),
    "an infinite price": ({"price": Decimal("Infinity")}, ""),
    "a signalling price": ({"price": Decimal("sNaN"), "quantity": "x"}, ""),
    "a text for a price": ({"price": "free"}, "price"),
    "a text for an integer": ({"quantity": "plenty"}, 'quantity: invalid input syntax for type integer: "plenty"'),
    "a list for a text": ({"name": ["a"] * 200}, "item_name_check"),
    "an object": ({"name": object()}, "object"),
    "a set": ({"quantity": {1}}, ""),
    "a text for a date": ({"starts_at": "tomorrow week"}, "starts_at"),
    "a missing name": ({"name": None}, "name is missing"),
    "a name that is too long": ({"name": "x" * 141}, "item_name_check"),
    "ten megabytes": ({"name": "x" * 10_000_000}, "item_name_check"),
    "a check with a comment": ({"price": -1}, "price: nobody pays to be rid of it"),
    "a dictionary that is no JSON": ({"extra_data": {"a": object()}}, "object"),
    "NUL in a dictionary": ({"extra_data": {"a": "\0"}}, "extra_data"),
    "null for a flag": ({"is_active": None}, "is_active is missing"),
}


@DATED
@pytest.mark.parametrize(("fields", "hint"), BAD_VALUES.values(), ids=BAD_VALUES)
def test_a_value_that_postgresql_refuses_costs_its_record_only(sync, rows, rejections, fields, hint, dates):
    sync([item(key, date=dates[0]) for key in ("a", "b", "c")])
    bad = {"date": dates[1], "email": "jo@example.org", **fields}
    good = [item(key, date=dates[1], quantity=1) for key in ("a", "c")]
    listing = [good[0], item("b") | bad, item("new") | bad, good[1]]

    class Masked(Items):
        def fill_object_attributes(self, obj):
            for name in self.record.keys() - {"key", "date", "email"}:
                setattr(obj, name, self.record[name])

    assert sync(listing, Masked).rejected == 2
    assert rows("item", "name", "quantity") == {
        "a": ("name of a", 1), "b": ("name of b", None), "c": ("name of c", 1)
    }  # fmt: skip
    found = rejections()
    assert {key for key, _, _ in found} == {"b", "new"}
    for _, reason, payload in found:
        assert hint in reason
        assert len(reason) <= 1000
        assert len(payload) <= MAX_PAYLOAD_LENGTH
        assert "jo@example.org" not in payload


@pytest.mark.parametrize("value", [Decimal("sNaN"), Decimal("NaN"), float("nan")])
def test_values_that_cannot_be_compared_do_not_end_a_run(sync, value):
    for _ in range(3):
        sync([item("a", price=value), item("b", price=value), item("a", price=value)])
        sync([item("a", date=day(1), price=value), item("a", date=day(2), price=Decimal(1))], dry_run=True)


class TestWhatAuthorsDo:
    @pytest.mark.parametrize("text", ["nul \0", "lone \ud800", "x" * 10_000_000], ids=["nul", "surrogate", "long"])
    def test_a_reason_may_hold_anything(self, counts, rejections, connection, text):
        class Talkative(Items):
            def fill_object_attributes(self, obj):
                raise ValueError(text)

        assert counts([item("a"), item("b"), RejectRecord(text)], Talkative) == (0, 0, 0, 0, 3)
        assert all(len(reason) <= 1000 for _, reason, _ in rejections())
        size = connection.execute("SELECT length(progress::text) FROM catalog_scheme_operation_instance").fetchone()[0]
        assert size < 5000

    def test_skipping_rejecting_and_errors_in_fill(self, counts, rejections):
        errors = {"skip": SkipObject("not for us"), "reject": RejectRecord("not good"), "bug": KeyError("quantity")}

        class Choosy(Items):
            def fill_object_attributes(self, obj):
                super().fill_object_attributes(obj)
                if error := errors.get(self.record["key"]):
                    raise error

        assert counts([item(key) for key in (*errors, "good")], Choosy) == (1, 0, 0, 1, 2)
        assert rejections() == [
            ("reject", "not good", '{"key":"reject","name":"name of reject"}'),
            ("bug", "KeyError: 'quantity'", '{"key":"bug","name":"name of bug"}'),
        ]

    @pytest.mark.parametrize("chunk_size", [1, 2, 1000])
    def test_an_error_while_reading_rejects_the_record(self, counts, rejections, chunk_size):
        class Reading(Items):
            def __next__(self):
                self.record = next(self.records)
                if self.record["key"] == "reject":
                    raise RejectRecord("not good")
                return [self.create_providable_info(Item, self.record["key"], self.record["date"])]

        listing = [item("a", date=day(1)), item("b"), item("reject", date=day(1)), item("c", date=day(1))]
        assert counts(listing, Reading, chunk_size=chunk_size) == (2, 0, 0, 0, 2)
        assert [(reason, json.loads(payload)["key"]) for _, reason, payload in rejections()] == [
            ("KeyError: 'date'", "b"),
            ("not good", "reject"),
        ]

    def test_a_record_that_cannot_even_be_read_has_no_payload_but_its_own(self, sync, rejections):
        sync([item("a"), KeyError("x"), RejectRecord("bad", payload=b'{"raw": 1}'), RejectRecord("bad"), item("b")])
        assert [payload for _, _, payload in rejections()] == [None, '{"raw":1}', None]

    @pytest.mark.parametrize("error", [KeyError("price"), RejectRecord("bad price"), StopIteration()], ids=repr)
    @pytest.mark.parametrize("form", ["records", "iter"])
    @pytest.mark.parametrize("chunk_size", [1, 3, 1000])
    def test_a_generator_that_died_is_not_a_complete_listing(self, sync, connection, error, form, chunk_size):
        class Generating(Items):
            def open(self):
                self.given = self.records
                if form == "records":
                    self.records = self.read()

            def read(self):
                for record in self.given:
                    if isinstance(record, Exception):
                        raise record
                    yield record

            def __iter__(self):
                return self if form == "records" else self.steps()

            def steps(self):
                for record in self.read():
                    self.record = record
                    yield [self.create_providable_info(Item, self.record["key"])]

        with pytest.raises(FatalError, match="listing ended with an error"):
            sync([item("a"), item("b"), error, item("c")], Generating, chunk_size=chunk_size)
        assert connection.execute("SELECT last_sync_date FROM provider").fetchone() == (None,)
        assert connection.execute("SELECT state FROM catalog").fetchone() == ("failed",)

    def test_errors_that_end_a_run_are_not_rejections(self, sync, rejections):
        class Broken(Items):
            def fill_object_attributes(self, obj):
                raise ConfigurationError("no table of prices")

        with pytest.raises(ConfigurationError, match="no table of prices"):
            sync([item("a")], Broken)
        assert rejections() == []


@pytest.mark.parametrize("chunk_size", [1, 2, 1000])
def test_a_cursor_that_cannot_be_kept_does_not_end_a_run(sync, rows, chunk_size):
    class ByKey(Items):
        @property
        def cursor(self):
            return self.record["key"]

    report = sync([item("a"), item("b\0"), item("c\ud800"), item("d"), item("e\0")], ByKey, chunk_size=chunk_size)
    assert (report.created, report.rejected) == (2, 3)
    assert list(rows()) == ["a", "d"]


def test_a_long_tail_of_rejected_records_is_counted_once(sync, opened, rejections):
    class Tail(CursorItems):
        def __next__(self):
            record = next(self.records)
            if record is None:
                raise RejectRecord("bad", payload="x")
            if record == "killed":
                raise KeyboardInterrupt
            self.record, self.good = record, self.place
            return [self.create_providable_info(Item, record["key"])]

        @property
        def cursor(self):
            return str(self.good)

    listing = [item("a"), item("b"), *[None] * 25, "killed", item("c")]
    _, instance = opened(Tail)
    with pytest.raises(KeyboardInterrupt):
        sync(listing, Tail, chunk_size=2, instance_id=instance)
    listing.remove("killed")
    report = sync(listing, Tail, chunk_size=2, instance_id=instance)
    assert (report.records, report.created, report.rejected) == (28, 3, 25)
    assert len(rejections()) == 25


class TestErrorBudget:
    @pytest.mark.parametrize(("bad", "fails"), [(0, False), (5, False), (6, True)])
    def test_past_it_the_load_fails(self, sync, connection, bad, fails):
        class Budgeted(CursorItems):
            error_allowance, error_share = 3, 0.1

        listing = [item(f"k{n}", price=-1 if n < bad else 1) for n in range(20)]
        if not fails:
            assert sync(listing, Budgeted).rejected == bad
            return
        with pytest.raises(ErrorBudgetExceeded, match=r"6 of 20 records.*nobody pays to be rid of it \(6\)"):
            sync(listing, Budgeted)
        last = "SELECT state, cursor FROM catalog_scheme_operation_instance ORDER BY id DESC LIMIT 1"
        assert connection.execute(last).fetchone() == ("failed", None)

    def test_a_few_at_the_beginning_do_not_count_as_a_share(self, sync):
        assert sync([item(f"b{n}", price=-1) for n in range(900)], chunk_size=100).rejected == 900


class Person(msgspec.Struct):
    name: str
    phone: str
    e_mail: str


@pytest.mark.parametrize(
    ("payload", "shown"),
    [
        (None, None),
        (b'{"Email": "a@b", "n": {"PHONE": 1}}', '{"Email":"***","n":{"PHONE":"***"}}'),
        ({"first_name": "Agnès", "lastName": "M"}, '{"first_name":"Agnès","lastName":"***"}'),  # one is public
        (Person("n", "f", "m"), '{"name":"n","phone":"***","e_mail":"***"}'),
        ([{"secret_code": 1}, {"other": 2}], '[{"secret_code":"***"},{"other":2}]'),
        (b'{"email": "a@b", "name": "\xff"}', '{"email": ***, "name": "�"}'),
        (b'"iban": "FR76 \\"x', '"iban": ***'),
        ({"email": {1, 2}, "a": datetime(2026, 1, 1)}, None),  # noqa: DTZ001
        ("a\0b", '"a\\u0000b"'),
        ({"a": "\ud800", "email": "x@y"}, None),
        (object(), None),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_payloads_are_masked(payload, shown):
    masked = masked_payload(payload, Fields(frozenset({"Secret_Code"}), frozenset({"firstName"})))
    if shown is not None or payload is None:
        assert masked == shown
    else:
        assert "x@y" not in masked
        assert "\0" not in masked


@pytest.mark.timeout(10)
@pytest.mark.parametrize("payload", [b'["' + b"9" * 10**7 + b'\xff"]', object, b"a" * 10**7, [b"9" * 10**7]])
def test_masking_takes_no_longer_for_large_payloads(payload):
    assert len(masked_payload(payload)) <= MAX_PAYLOAD_LENGTH


def test_a_provider_of_venues_says_that_it_needs_one(sync, connection):
    class Minimal(Items):
        needs_venue = True

    with pytest.raises(ConfigurationError, match="needs_venue = False"):
        sync([item("a")], Minimal)
    assert connection.execute("SELECT count(*) FROM catalog").fetchone() == (0,)


def test_a_provider_must_be_whole():
    with pytest.raises(TypeError, match="abstract"):
        LocalProvider()
