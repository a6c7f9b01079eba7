"""Rejected records are repaired and read again from what was kept: each once, never over what is newer."""

import json
from collections import Counter
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from include.errors import ConfigurationError, ErrorBudgetExceeded, FatalError, RejectRecord, SkipObject
from include.inbound import loads
from include.inbound.rejections import CUT, MAX_PAYLOAD_LENGTH, masked_payload
from include.inbound.replay import PAGE_SIZE
from include.store import ledger
from include.store.ledger import LoadParameters
from tests.inbound.items import Item, Items, item

PRICE = "price: nobody pays to be rid of it"


class Killed(BaseException):
    """Ends a run as a signal would."""


class Kept(Items):
    """Items that can be read again from what was kept of them."""

    name = local_class = "Kept"

    def __init__(self, records=(), venue_provider=None):
        super().__init__(records, venue_provider)

    def __next__(self):
        infos = super().__next__()
        if self.record is not None and self.record["name"] == "":
            raise RejectRecord("name: empty")
        return infos

    def decode_record(self, raw):
        record = msgspec.json.decode(raw, type=dict)
        if record["key"] == "never":
            raise RejectRecord("key: never", payload=raw)
        if "date" in record:
            record["date"] = datetime.fromisoformat(record["date"])
        return record

    def fill_object_attributes(self, obj):
        for name in self.record.keys() - {"key", "date", "email"}:
            setattr(obj, name, self.record[name])


class Chain(Kept):
    """The same by venue link."""

    name = local_class = "Chain"
    needs_venue = True
    window = "since"


@pytest.fixture
def replay(counts):
    """Replay what waits; returns the counts as `counts` does."""
    return lambda provider=None, **options: counts(provider or Kept(), replay=True, **options)


@pytest.fixture
def repair(connection):
    def repair(old, new):
        done = connection.execute(
            "UPDATE rejected_record SET payload = replace(payload, %s, %s) WHERE resolved_at IS NULL", (old, new)
        )
        assert done.rowcount

    return repair


@pytest.fixture
def nameless(connection):
    """Make nothing tell of what the rejected records are, so that no listing can be known to have them again."""
    return lambda: connection.execute("UPDATE rejected_record SET id_at_providers = NULL")


@pytest.fixture
def kept(connection):
    """Resolutions, reasons and whether there is a payload, oldest first."""

    def read(*columns):
        wanted = ", ".join(columns or ("resolution", "reason"))
        return connection.execute(f"SELECT {wanted} FROM rejected_record ORDER BY id").fetchall()

    return read


@pytest.fixture
def links(link):
    """Three venues linked to Chain."""
    return [link(Chain, f"v{n}", name=f"V{n}", siret=f"{n:014d}") for n in range(3)]


def test_a_repaired_payload_is_written(sync, replay, repair, rows, kept):
    class Unopened(Kept):
        def open(self):
            pytest.fail("opened")

    sync(Kept([item("a", quantity=1), item("b", quantity=2, price=-1), item("c")]))
    repair('"price":-1', '"price":9')
    assert replay(Unopened()) == (1, 0, 0, 0, 0)
    assert rows("item", "quantity") == {"a": 1, "b": 2, "c": None}
    assert kept("resolution", "resolved_at IS NOT NULL") == [("replayed", True)]
    assert replay() == (0, 0, 0, 0, 0)


def test_a_record_that_could_not_be_read_is_read_by_the_repaired_parser(sync, replay, rows, kept):
    class Careless(Kept):
        def __next__(self):
            infos = super().__next__()
            return infos if "." not in self.record["key"] else infos[self.record["size"]]

    sync(Careless([item("a"), item("a.b"), item("c")]))
    assert kept() == [(None, "KeyError: 'size'")]
    assert replay(Careless()) == (0, 0, 0, 0, 1)
    assert replay() == (1, 0, 0, 0, 0)
    assert set(rows()) == {"a", "a.b", "c"}
    assert [resolution for resolution, _ in kept()] == ["rejected again", "replayed"]


def test_the_checks_of_next_are_those_of_a_listing(sync, replay, repair, rows, kept):
    sync(Kept([item("a", price=-1), item("b")]))
    repair("name of a", "")
    assert replay() == (0, 0, 0, 0, 1)
    assert kept() == [("rejected again", PRICE), (None, "name: empty")]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ('{"key":"a","name":"x","email":"***"}', "the stored payload contains masked values (***): restore them, or"),
        ('{"key":"a","name":"x","extra_data":{"people":[{"name":"***"}]}}', "contains masked values"),
        ('{"key":"a","name":"xxx' + CUT, f"was cut at {MAX_PAYLOAD_LENGTH:,} characters: store the complete record"),
        ('{"key":"a","name":"x', "the stored payload is not valid JSON"),
        ('{"email": ***, "key": "a"}', "the stored payload is not valid JSON"),
        ("", "the stored payload is not valid JSON"),
        ("[" * 5000, "the stored payload is not valid JSON"),
        ('{"name":"x"}', "KeyError: 'key'"),
        ('{"key":"never","name":"x"}', "key: never"),
        ('["a"]', "ValidationError"),
    ],
    ids=lambda value: value[:24],
)
def test_what_cannot_be_used_is_rejected_again_and_never_written(sync, replay, connection, rows, kept, payload, reason):
    sync(Kept([item("a", price=-1), item("b", price=-2)]))
    connection.execute("UPDATE rejected_record SET payload = %s WHERE id_at_providers = 'a'", (payload,))
    for times in (1, 2):
        assert replay() == (0, 0, 0, 0, 2)
        assert rows() == {}
        found = kept("resolution", "reason", "payload")
        assert [one[0] for one in found] == ["rejected again"] * 2 * times + [None] * 2
        assert reason in found[-2][1]
        assert found[-2][2] == found[0][2]


def test_what_was_kept_whole_is_not_cut_and_what_is_cut_says_so(sync, replay, repair, rows, rejections):
    sync(Kept([item("a", price=-1, extra_data={"text": "x" * 150_000}), item("b", price=-1, name="x" * 250_000)]))
    whole, cut = [payload for _, _, payload in rejections()]
    assert json.loads(whole)["extra_data"]["text"] == "x" * 150_000
    assert (len(cut), cut.endswith(CUT)) == (MAX_PAYLOAD_LENGTH, True)
    repair('"price":-1', '"price":1')
    assert replay() == (1, 0, 0, 0, 1)
    assert set(rows()) == {"a"}


@pytest.mark.parametrize(
    "text", ["x" * 300_000, '{"email": "' + "x" * 300_000, '"email": "a", ' * 30_000, "é" * 200_001]
)
def test_what_was_cut_is_cut_also_when_it_is_kept_again(text):
    once = masked_payload(text.encode())
    assert (once[-len(CUT) :], len(once) <= MAX_PAYLOAD_LENGTH) == (CUT, True)
    assert masked_payload(once.encode()) == once


def test_personal_fields_put_in_by_hand_are_written_and_masked_when_rejected_again(sync, replay, repair, rows, kept):
    sync(Kept([item("a", price=-1, email="jo@example.org"), item("b", price=-1, email="al@example.org")]))
    assert "example.org" not in str(kept("payload"))
    repair('"***"', '"eve@example.org"')
    repair('"key":"a","name":"name of a","price":-1', '"key":"a","name":"name of a","price":1')
    assert replay() == (1, 0, 0, 0, 1)
    assert set(rows()) == {"a"}
    assert kept()[-1] == (None, PRICE)
    assert "example.org" not in kept("payload")[-1][0]


def test_a_cleared_payload_waits_for_nobody(sync, replay, connection, kept):
    sync(Kept([item("a", price=-1), item("b", price=-1)]))
    connection.execute("UPDATE rejected_record SET payload = NULL")
    assert replay() == (0, 0, 0, 0, 0)
    load = loads.open_load(connection, Kept, LoadParameters(replay=True))
    assert list(ledger.batch_labels(connection, load)) == []
    assert kept() == [(None, PRICE)] * 2


def test_a_payload_that_was_kept_several_times_is_replayed_once(sync, replay, repair, kept, nameless):
    filled = []

    class Twins(Kept):
        def fill_object_attributes(self, obj):
            filled.append(self.record["key"])
            super().fill_object_attributes(obj)

    for _ in range(2):
        sync(Kept([item(key, price=-1) for key in "aba"]), limit=9)
        nameless()
    repair(":-1", ":1")
    assert len(kept()) >= 4
    assert replay(Twins(), chunk_size=1) == (2, 0, 0, 0, 0)
    assert {resolution for resolution, _ in kept()} == {"replayed"}
    assert sorted(filled) == ["a", "b"]


def test_its_date_is_when_it_was_listed_last(sync, replay, repair, rows):
    """What was listed as it is again after another state was written is the newest."""
    for price, quantity in ((-1, 1), (1, 2), (-1, 1)):
        sync(Kept([item("a", price=price, quantity=quantity)]), limit=9)
    repair(":-1", ":1")
    assert replay() == (0, 1, 0, 0, 0)
    assert rows("item", "quantity") == {"a": 1}


def test_an_undated_record_does_not_overwrite_what_was_written_since(sync, replay, repair, rows, kept, nameless):
    sync(Kept([item("a", quantity=0), item("b", quantity=0)]))
    sync(Kept([item("a", price=-1, quantity=1), item("b", price=-1, quantity=1)]), limit=9)
    nameless()
    sync(Kept([item("a", quantity=2)]), limit=9)
    repair(":-1", ":1")
    assert replay() == (0, 1, 1, 0, 0)
    assert rows("item", "quantity") == {"a": 2, "b": 1}
    assert {resolution for resolution, _ in kept()} == {"replayed"}


def test_a_dated_record_goes_by_its_own_date(sync, replay, repair, rows):
    now = datetime.now(UTC)
    sync(Kept([item("a", price=-1, quantity=1, date=now - timedelta(days=2))]), limit=9)
    sync(Kept([item("b", price=-1, quantity=1, date=now)]), limit=9)
    sync(Kept([item(key, quantity=2, date=now - timedelta(days=1)) for key in "ab"]), limit=9)
    repair(":-1", ":1")
    assert replay() == (0, 1, 1, 0, 0)
    assert rows("item", "quantity") == {"a": 2, "b": 1}


def test_it_stays_as_old_as_it_was(sync, replay, repair, rows, kept, nameless):
    sync(Kept([item("a", price=-1, quantity=1)]), limit=9)
    nameless()
    sync(Kept([item("a", quantity=2)]), limit=9)
    assert replay() == (0, 0, 1, 0, 0)  # older than what is there, so its price is not even looked at
    sync(Kept([item("b", price=-1, quantity=1)]), limit=9)
    assert replay() == (0, 0, 0, 0, 1)
    (first,), (again,) = kept("asked_at")[-2:]
    assert first == again is not None
    nameless()
    sync(Kept([item("b", quantity=2)]), limit=9)
    repair(":-1", ":1")
    assert replay() == (0, 0, 1, 0, 0)
    assert rows("item", "quantity") == {"a": 2, "b": 2}


def test_without_the_time_of_its_page_it_is_as_old_as_its_row(sync, replay, repair, rows, connection):
    sync(Kept([item("a", price=-1, quantity=1)]), limit=9)
    connection.execute("UPDATE rejected_record SET asked_at = NULL")
    repair(":-1", ":1")
    assert replay() == (1, 0, 0, 0, 0)
    is_same = "SELECT date_modified_at_last_provider = created_at FROM item, rejected_record"
    assert connection.execute(is_same).fetchone() == (True,)


def test_the_end_of_its_interval_is_its_date(sync, kept):
    class Between(Kept):
        window = "between"

    end = datetime(2026, 1, 2, tzinfo=UTC)
    sync(Between([item("a", price=-1)]), interval=(end - timedelta(days=1), end))
    assert kept("asked_at") == [(end,)]


@pytest.mark.parametrize("count", [1, PAGE_SIZE, 3 * PAGE_SIZE + 1])
@pytest.mark.parametrize("chunk_size", [7, 1000])
def test_more_than_is_looked_up_at_once(sync, replay, repair, rows, kept, count, chunk_size):
    sync(Kept([item(f"k{n}", price=-1, quantity=n) for n in range(count)]))
    repair('"price":-1', '"price":1')
    assert replay(chunk_size=chunk_size) == (count, 0, 0, 0, 0)
    assert rows("item", "quantity") == {f"k{n}": n for n in range(count)}
    assert set(kept("resolution")) == {("replayed",)}


def test_skipped_by_the_rules_is_replayed(sync, replay, kept):
    class Choosy(Kept):
        def __next__(self):
            infos = super().__next__()
            if self.record["key"] == "a":
                raise SkipObject("not for us")
            return infos

        def fill_object_attributes(self, obj):
            raise SkipObject("not for us")

    sync(Kept([item("a", price=-1), item("b", price=-1)]))
    assert replay(Choosy()) == (0, 0, 0, 2, 0)
    assert kept("resolution") == [("replayed",)] * 2


@pytest.mark.parametrize("form", ["records", "iter", "filter"])
def test_providers_that_iterate_in_other_ways(sync, replay, repair, rows, kept, form):
    class Other(Kept):
        def __iter__(self):
            return self.steps() if form == "iter" else self

        def steps(self):
            while True:
                try:
                    yield Kept.__next__(self)
                except StopIteration:
                    return

        def __next__(self):
            infos = super().__next__()
            while form == "filter" and self.record["key"] != "c":
                infos = super().__next__()
            return infos

    sync(Kept([item(key, name="" if key == "c" else key, price=1 if key == "c" else -1) for key in "abcde"]))
    repair(":-1", ":1")
    if form == "filter":
        repair('"name":""', '"name":"c"')
        assert replay(Other()) == (1, 0, 0, 1, 0)
        assert set(kept("resolution")) == {("replayed",)}
    else:
        assert replay(Other()) == (4, 0, 0, 0, 1)
        assert set(rows()) == {"a", "b", "d", "e"}


def test_a_provider_that_ends_too_early_fails(sync, kept):
    class Ending(Kept):
        def __next__(self):
            raise StopIteration

    sync(Kept([item("a", price=-1)]))
    with pytest.raises(FatalError, match="ends its listing before the rejected record 1"):
        sync(Ending(), replay=True)
    assert kept("resolution") == [(None,)]


def test_records_without_identity_lose_nothing(sync, replay, kept):
    """A provider that keeps no record cannot tell which one an object was of: then all of the chunk stay."""

    class Forgetful(Kept):
        def __next__(self):
            infos = super().__next__()
            for info in infos:
                info.record = None
            self.last = self.record
            return infos

        def fill_object_attributes(self, obj):
            raise RejectRecord("no")

    sync(Kept([item("a", price=-1), item("b", price=-2)]))
    replay(Forgetful())
    found = kept("resolution", "payload")
    assert {resolution for resolution, _ in found[:2]} == {"rejected again"}
    assert {payload for _, payload in found[2:]} == {payload for _, payload in found[:2]}


class TestTries:
    @pytest.mark.parametrize("error", [Killed(), FatalError("no")], ids=repr)
    def test_what_was_resolved_is_not_read_again(self, sync, opened, connection, repair, rows, kept, error):
        class Dying(Kept):
            def decode_record(self, raw):
                record = super().decode_record(raw)
                if record["key"] == "k5":
                    raise error
                return record

        sync(Kept([item(f"k{n}", price=-1 if n % 3 else -2, quantity=n) for n in range(10)]))
        repair(":-1", ":1")
        options = {"instance_id": opened(Kept, replay=True)[1], "chunk_size": 2, "replay": True}
        with pytest.raises((Killed, FatalError)):
            sync(Dying(), **options)
        assert kept("resolution")[:4] == [("rejected again",), ("replayed",), ("replayed",), ("rejected again",)]
        assert len(kept()) == 12
        written = connection.execute("SELECT id_at_providers, xmin::text FROM item").fetchall()
        report = sync(Kept(), **options)
        assert (report.records, report.created, report.rejected, report.checked) == (10, 6, 4, 10)
        assert set(rows()) == {f"k{n}" for n in range(10) if n % 3}
        assert set(written) <= set(connection.execute("SELECT id_at_providers, xmin::text FROM item").fetchall())
        assert Counter(kept("resolution")) == {("replayed",): 6, ("rejected again",): 4, (None,): 4}

    def test_a_dry_run_resolves_nothing(self, sync, replay, repair, rows, kept):
        sync(Kept([item("a", price=-1), item("b", price=-2), item("a", price=-1)]))
        repair(":-1", ":1")
        before = kept("*")
        for chunk_size in (1, 1000):
            report = sync(Kept(), replay=True, dry_run=True, chunk_size=chunk_size)
            assert (report.created, report.rejected) == (1, 1)
            assert [difference["key"] for difference in report.differences] == ["a"]
            assert (rows(), kept("*")) == ({}, before)

    def test_a_limit_counts_records(self, sync, replay, repair, rows):
        sync(Kept([item(f"k{n}", price=-1) for n in range(5)]))
        repair('"price":-1', '"price":1')
        assert replay(limit=2) == (2, 0, 0, 0, 0)
        assert set(rows()) == {"k0", "k1"}
        assert replay(limit=2, chunk_size=1) == (2, 0, 0, 0, 0)
        assert replay(limit=2) == (1, 0, 0, 0, 0)

    def test_there_is_no_error_budget(self, sync, replay, connection, kept):
        class Broken(Kept):
            def __next__(self):
                next(self.records)
                raise KeyError("price")

        sync(Kept([item(f"k{n}", price=-1) for n in range(300)]))
        connection.execute("UPDATE catalog_scheme_operation SET error_allowance = 0, error_share = 0")
        loads.open_load(connection, Broken, LoadParameters())
        assert replay(Broken()) == (0, 0, 0, 0, 300)
        with pytest.raises(ErrorBudgetExceeded):
            sync(Kept([item("z", price=-1)]))

    def test_what_a_person_changes_meanwhile_stays_open(self, sync, connect, repair, kept):
        class Interrupted(Kept):
            def fill_object_attributes(self, obj):
                connect().execute("UPDATE rejected_record SET payload = replace(payload, ':1', ':7')")
                super().fill_object_attributes(obj)

        sync(Kept([item("a", price=-1)]))
        repair(":-1", ":1")
        sync(Interrupted(), replay=True)
        assert kept("resolution") == [(None,)]

    def test_the_watermark_stays(self, sync, replay, connection, links):
        sync(Chain([item("a", price=-1)], links[0]))
        watermarks = "SELECT last_sync_date FROM venue_provider ORDER BY id"
        before = connection.execute(watermarks).fetchall()
        assert replay(Chain((), links[0])) == (0, 0, 0, 0, 1)
        assert connection.execute(watermarks).fetchall() == before

    def test_a_provider_without_decode_record_says_so(self, sync):
        sync(Items([item("a", price=-1)]))
        with pytest.raises(ConfigurationError, match="Items cannot replay rejected records: it has to define decode_r"):
            sync(Items([]), replay=True)


class TestLinks:
    def test_only_links_with_waiting_records_get_an_instance(self, sync, connection, links):
        for number in (0, 1, 2):
            sync(Chain([item(f"v{number}", price=-1 if number else 1)], links[number]))

        def opened(**asked):
            load = loads.open_load(connection, Chain, LoadParameters(replay=True, **asked))
            return [one.venue_provider_id for one in ledger.pending_instances(connection, load, 0)]

        assert opened() == [links[1].id, links[2].id]
        assert opened(venue_links=(str(links[0].id), links[2].siret)) == [links[2].id]

    def test_each_link_has_its_own_even_if_payloads_are_alike(self, sync, replay, repair, links, kept):
        for link in links[:2]:
            sync(Chain([item("a", price=-1)], link))
        repair(":-1", ":1")
        assert replay(Chain((), links[0])) == (1, 0, 0, 0, 0)
        assert kept("resolution") == [("replayed",), (None,)]
        assert replay(Chain((), links[1])) == (0, 0, 1, 0, 0)
        assert replay(Chain((), links[2])) == (0, 0, 0, 0, 0)


class TestListedAgain:
    def test_a_whole_run_resolves_what_was_rejected_before(self, sync, kept, links):
        for link in links[:2]:
            sync(Chain([item("a", price=-1)], link))
        sync(Chain([item("b", price=-1)], links[0]), full_refresh=True)
        assert kept("resolution") == [("listed again",), (None,), (None,)]

    @pytest.mark.parametrize(
        "options", [{}, {"full_refresh": True, "limit": 5}, {"full_refresh": True, "dry_run": True}, {"replay": True}]
    )
    def test_another_run_does_not_nor_one_that_fails(self, sync, kept, links, options):
        sync(Chain([item("a", price=-1)], links[0]))
        with pytest.raises(FatalError):
            sync(Chain([FatalError("no")], links[0]), full_refresh=True)
        sync(Chain([], links[0]), **options)
        assert ("listed again",) not in kept("resolution")

    def test_nor_what_was_listed_since_it_began(self, sync, opened, kept, links, connection):
        _, instance = opened(Chain, full_refresh=True)
        connection.execute(
            "UPDATE catalog_scheme_operation_instance SET started_at = clock_timestamp(), cursor = '1' WHERE id = %s",
            (instance,),
        )
        sync(Chain([item("a", price=-1)], links[0]))
        sync(Chain([], links[0]), instance_id=instance, full_refresh=True)
        assert kept("resolution") == [(None,)]


class TestNamedAgain:
    """A listing of what changed has a record again: what was kept of it before is not newer than that any more."""

    class Paged(Chain):
        def __next__(self):
            try:
                return super().__next__()
            except RejectRecord as error:
                error.reference = self.record.get("ref")
                raise

    def sold(self, key, **fields):
        return item(key, **{"name": "n", "price": 1, **fields})

    def test_unchanged_since_it_was_rejected(self, sync, replay, rows, kept, links, versions):
        sync(Chain([self.sold("a", quantity=5)], links[0]))
        before = versions()
        for fields in ({"quantity": 9, "price": -1}, {"quantity": 5}):
            sync(Chain([self.sold("a", **fields)], links[0]))
        assert kept("resolution") == [("listed again",)]
        assert versions() == before
        assert replay(Chain((), links[0])) == (0, 0, 0, 0, 0)
        assert rows("item", "quantity") == {"a": 5}

    def test_skipped_since(self, sync, kept, links):
        class Choosy(Chain):
            def fill_object_attributes(self, obj):
                raise SkipObject("not for us any more")

        sync(Chain([self.sold("a", price=-1)], links[0]))
        sync(Choosy([self.sold("a")], links[0]))
        assert kept("resolution") == [("listed again",)]

    def test_rejected_anew_the_new_one_waits(self, sync, kept, links):
        for price in (-1, -2):
            sync(Chain([self.sold("a", price=price)], links[0]))
        for size in (1, 2):
            sync(self.Paged([self.sold("b", name="", ref="b%", quantity=size), self.sold("c")], links[0]))
        assert kept("resolution") == [("listed again",), (None,), ("listed again",), (None,)]

    def test_neither_its_own_nor_those_of_other_links(self, sync, kept, links):
        sync(Chain([self.sold("a", price=-1), self.sold("a"), self.sold("b")], links[0]), chunk_size=1)
        sync(Chain([self.sold("a")], links[1]))
        assert kept("resolution") == [(None,)]

    def test_without_a_link(self, sync, kept):
        sync(Kept([item("a", price=-1), item("b", price=-1)]), limit=9)
        sync(Kept([item("b")]), limit=9)
        assert kept("resolution") == [(None,), ("listed again",)]

    @pytest.mark.parametrize("options", [{"dry_run": True}, {"replay": True}], ids=str)
    def test_neither_a_dry_run_nor_a_replay(self, sync, kept, links, options):
        sync(Chain([self.sold("a", price=-1)], links[0]))
        sync(Chain([self.sold("a")], links[0]), **options)
        assert ("listed again",) not in kept("resolution")

    def test_what_was_listed_after_it_began_stays(self, sync, connection, kept, links):
        sync(Chain([self.sold("a", price=-1)], links[0]))
        connection.execute("UPDATE rejected_record SET asked_at = now() + interval '1 minute'")
        sync(Chain([self.sold("a")], links[0]))
        assert kept("resolution") == [(None,)]

    def test_a_dated_object_is_as_new_as_its_date(self, sync, kept, links):
        now = datetime.now(UTC)
        sync(Chain([self.sold(key, price=-1) for key in "ab"], links[0]))
        sync(Chain([self.sold("a", date=now - timedelta(days=1)),
                    self.sold("b", date=now + timedelta(minutes=1))], links[0]))  # fmt: skip
        assert kept("id_at_providers", "resolution") == [("a", None), ("b", "listed again")]

    @pytest.mark.parametrize(
        ("reference", "key", "is_listed"),
        [
            ("123", "123", True),
            ("123", "123@v0", True),
            ("123", "123_v0", True),
            ("123", "1234@v0", False),
            ("123", "0123@v0", False),
            ("1-23", "1-23@v0", True),
            ("TW%", "TW%v0#1", True),
            ("TW%", "TWA%v0#1", False),
            ("é", "éa@v0", False),
            (123, "123@v0", True),
        ],
    )
    def test_a_record_without_a_key_is_told_by_its_reference(self, sync, kept, links, reference, key, is_listed):
        sync(self.Paged([self.sold("x", name="", ref=reference), self.sold("y")], links[0]))
        sync(Chain([self.sold(key)], links[0]))
        assert kept("resolution", "id_at_providers") == [("listed again" if is_listed else None, str(reference))]

    def test_neither_an_object_whose_key_begins_alike_nor_one_that_is_only_referred_to(self, sync, kept, links):
        class Referring(Chain):
            def __next__(self):
                (info,) = super().__next__()
                return [self.create_reference(Item, "a")] if info.id_at_providers == "b" else [info]

        sync(Chain([self.sold("a", price=-1)], links[0]))
        sync(Referring([self.sold("b"), self.sold("a.b")], links[0]))
        assert kept("resolution") == [(None,)]

    def test_one_that_was_rejected_by_a_replay_too(self, sync, replay, connection, kept, links):
        sync(Chain([self.sold("a", price=-1)], links[0]))
        connection.execute("UPDATE rejected_record SET payload = replace(payload, '\"n\"', '\"***\"')")
        assert replay(Chain((), links[0])) == (0, 0, 0, 0, 1)
        sync(Chain([self.sold("a")], links[0]))
        assert kept("resolution") == [("rejected again",), ("listed again",)]

    def test_a_chunk_that_is_tried_again(self, sync, connect, kept, links):
        """Somebody else writes the row at the same moment; what is noted of the first try is not lost."""

        class Contested(Chain):
            def fill_object_attributes(self, obj):
                connect().execute("INSERT INTO item (name, id_at_providers) VALUES ('x', 'a') ON CONFLICT DO NOTHING")
                super().fill_object_attributes(obj)

        sync(Chain([self.sold("a", price=-1)], links[0]))
        sync(Contested([self.sold("a")], links[0]))
        assert kept("resolution") == [("listed again",)]


def test_starting_over_keeps_what_was_resolved(connection, sync, opened, kept):
    _, instance = opened(Kept)
    bad = [item("a", price=-1), item("b", price=-2)]
    with pytest.raises(FatalError):
        sync(Kept([*bad, FatalError("no")]), instance_id=instance, chunk_size=1)
    connection.execute("UPDATE rejected_record SET resolved_at = now(), resolution = 'given up' WHERE id = 1")
    sync(Kept(bad[1:]), instance_id=instance)
    assert kept("resolution", "id_at_providers") == [("given up", "a"), (None, "b")]


def test_an_object_of_two_that_was_rejected(connection, sync, replay, repair, rows, kept):
    class Pair(Kept):
        def __next__(self):
            super().__next__()
            return [self.create_providable_info(Item, self.record["key"] + end) for end in ("/1", "/2")]

    sync(Pair([item("a", price=-1), item("b")]))
    assert len(kept()) == 2
    repair(":-1", ":1")
    assert replay(Pair()) == (2, 0, 0, 0, 0)
    assert set(rows()) == {"a/1", "a/2", "b/1", "b/2"}
    assert kept("resolution") == [("replayed",)] * 2
