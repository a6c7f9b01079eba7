"""Images of products: downloaded when new, stored before their rows, never at the cost of an object."""

import logging

import psycopg
import pytest
from PIL import Image
from psycopg.pq import TransactionStatus

from include.connectors.third_party import ThirdPartyRule
from include.errors import AccessRefused, BadImage, DatabaseUnavailable, RejectRecord, ServiceUnavailable, SkipObject
from include.inbound.images import MAX_CONSECUTIVE_FAILURES, MAX_WARNINGS, content_key, normalise
from include.inbound.run import sync_provider
from include.models import Product
from include.providers.base import LocalProvider
from include.store import ledger
from include.store.objects import FolderStorage
from tests.connectors.conftest import serving
from tests.inbound.items import Items, day
from tests.inbound.pictures import encoded, png_of


def picture(colour, size=(20, 30)):
    return encoded(Image.new("RGB", size, colour))


RED, BLUE, LARGE_RED = picture("red"), picture("blue"), picture("red", (40, 60))


def key_of(raw):
    return content_key(normalise(raw))


def thumb(raw, source):
    return {"key": key_of(raw), "source": source}


RED_THUMB = thumb(RED, "https://pictures/red")
IN_BLUE = {"raw": BLUE, "source": "https://pictures/blue"}
BLUE_THUMB = thumb(BLUE, "https://pictures/blue")


class Films(Items):
    """Lists dictionaries: `key`, perhaps `date`, `name`; `index` and `source` of an image, and its bytes as `raw`."""

    name = local_class = "Films"
    model = Product

    def __init__(self, records, venue_provider=None):
        super().__init__(records, venue_provider)
        self.fetched = []
        self.in_transaction = []
        self.connection = None

    def fill_object_attributes(self, obj):
        self.filled += 1
        if isinstance(error := self.record.get("error"), Exception):
            raise error
        obj.name, obj.subcategory_id = self.record.get("name", "a film"), "SEANCE_CINE"

    def get_object_thumb_index(self):
        return self.record.get("index", 0)

    def get_object_thumb_source(self):
        return self.record.get("source")

    def get_object_thumb(self):
        self.fetched.append(self.record.get("source"))
        if self.connection is not None:
            self.in_transaction.append(self.connection.info.transaction_status)
        raw = self.record["raw"]
        if isinstance(raw, Exception):
            raise raw
        return raw


def films(*raws, **fields):
    """A film for each image, from an address of its own."""
    return [film(f"{n:02}", raw=raw, source=f"https://pictures/{n}", **fields) for n, raw in enumerate(raws)]


def film(key="film", raw=RED, source="https://pictures/red", index=1, **fields):
    return {"key": key, "raw": raw, "source": source, "index": index, **fields}


@pytest.fixture
def storage(tmp_path):
    return FolderStorage(tmp_path / "kept")


@pytest.fixture
def stored(tmp_path):
    return lambda: sorted(
        str(path.relative_to(tmp_path / "kept")) for path in (tmp_path / "kept").rglob("*") if path.is_file()
    )


@pytest.fixture
def run(sync, storage, connection):
    """Run a provider over films; returns the report and what was fetched."""

    def run(*records, provider=None, **options):
        provider = provider or Films(records)
        provider.connection = options.get("on", connection)
        report = sync(provider, **{"storage": storage, **options})
        assert set(provider.in_transaction) <= {TransactionStatus.IDLE}
        return report, provider.fetched

    return run


@pytest.fixture
def thumbs(rows):
    return lambda: rows("product", "thumbs")


def counted(report):
    return report.checked_thumbs, report.created_thumbs, report.updated_thumbs, report.failed_thumbs


@pytest.mark.parametrize("dates", [(None, None), (day(1), day(1)), (day(1), day(2))])
class TestOneFilm:
    """Undated, dated and unchanged, dated and newer."""

    def test_first_and_unchanged(self, run, thumbs, stored, dates, versions):
        report, fetched = run(film(date=dates[0]))
        assert (counted(report), len(fetched)) == ((1, 1, 0, 0), 1)
        assert thumbs() == {"film": {"1": RED_THUMB}}
        assert stored() == [key_of(RED)]
        before = versions("product")
        report, fetched = run(film(date=dates[1]))
        assert (counted(report), fetched) == ((1, 0, 0, 0), [])
        assert thumbs() == {"film": {"1": RED_THUMB}}
        if dates[1] != day(2):
            assert (versions("product"), report.unchanged) == (before, 1)

    def test_another_image(self, run, thumbs, stored, dates):
        run(film(date=dates[0]))
        report, _ = run(film(date=dates[1], **IN_BLUE))
        assert counted(report) == (1, 0, 1, 0)
        assert (report.updated, report.unchanged) == (1, 0)
        assert thumbs() == {"film": {"1": BLUE_THUMB}}
        assert stored() == sorted([key_of(RED), key_of(BLUE)])

    def test_the_same_image_from_elsewhere(self, run, thumbs, stored, dates):
        run(film(date=dates[0]))
        report, fetched = run(film(source="https://pictures/moved", date=dates[1]))
        assert (counted(report), len(fetched), report.updated) == ((1, 0, 0, 0), 1, 1)
        assert thumbs() == {"film": {"1": thumb(RED, "https://pictures/moved")}}
        assert stored() == [key_of(RED)]
        assert run(film(source="https://pictures/moved", date=dates[1]))[1] == []

    @pytest.mark.parametrize("without", ["image", "storage"])
    def test_an_image_for_an_object_that_had_none(self, run, thumbs, dates, without):
        options = {"storage": None} if without == "storage" else {}
        report, fetched = run(film(date=dates[0], index=int(without == "storage")), **options)
        assert (counted(report), fetched, thumbs()) == ((0, 0, 0, 0), [], {"film": {}})
        assert "images" not in report.summary()
        report, _ = run(film(date=dates[1]))
        assert (counted(report), report.updated) == ((1, 1, 0, 0), 1)
        assert thumbs() == {"film": {"1": RED_THUMB}}

    def test_further_image(self, run, thumbs, dates):
        run(film(date=dates[0], index=2))
        assert thumbs() == {"film": {"2": RED_THUMB}}
        run(film(date=dates[1], **IN_BLUE))
        assert thumbs() == {"film": {"1": BLUE_THUMB, "2": RED_THUMB}}

    def test_an_image_that_a_person_chose(self, run, thumbs, protect, connection, dates):
        run(film(date=dates[0]))
        protect("film", "thumbs", table="product")
        report, fetched = run(film(date=dates[1], name="new name", **IN_BLUE))
        assert (counted(report), fetched) == ((1, 0, 0, 0), [])
        assert thumbs() == {"film": {"1": RED_THUMB}}

    def test_one_that_fails_costs_nothing_and_is_asked_for_again(self, run, thumbs, dates, rows):
        report, _ = run(film(raw=BadImage("the picture does not exist (404)"), date=dates[0]))
        assert (counted(report), report.created) == ((1, 0, 0, 1), 1)
        assert report.thumb_errors == {"the picture does not exist (404)": 1}
        assert thumbs() == {"film": {}}
        report, _ = run(film(date=dates[1]))
        assert (counted(report), report.updated) == ((1, 1, 0, 0), 1)
        run(film(raw=BadImage("the picture does not exist (404)"), source="https://pictures/x", date=dates[1]))
        assert thumbs() == {"film": {"1": RED_THUMB}}

    def test_no_image_after_all(self, run, thumbs, dates):
        report, fetched = run(film(raw=b"", date=dates[0]), film(raw=b"", key="other", index=0, date=dates[0]))
        assert (counted(report), len(fetched)) == ((1, 0, 0, 0), 1)
        assert thumbs() == {"film": {}, "other": {}}

    def test_without_a_source_it_is_fetched_each_time(self, run, thumbs, versions, dates):
        run(film(source=None, date=dates[0]))
        before = versions("product")
        report, fetched = run(film(source=None, date=dates[1]))
        assert (counted(report), fetched) == ((1, 0, 0, 0), [None])
        if dates[1] != day(2):
            assert versions("product") == before
        report, _ = run(film(source=None, raw=BLUE, date=dates[1]))
        assert counted(report) == (1, 0, 1, 0)
        assert thumbs() == {"film": {"1": thumb(BLUE, None)}}

    def test_a_dry_run_fetches_nothing(self, run, thumbs, stored, dates):
        report, fetched = run(film(date=dates[0]), dry_run=True)
        assert (counted(report), fetched, stored()) == ((1, 0, 0, 0), [], [])
        run(film(date=dates[0]))
        report, fetched = run(film(date=dates[1], **IN_BLUE), dry_run=True)
        assert (counted(report), fetched, stored()) == ((1, 0, 0, 0), [], [key_of(RED)])
        assert report.updated == 1
        before, after = report.differences[0]["fields"]["thumbs"]
        assert before["1"]["source"] == "https://pictures/red"
        assert after["1"]["source"] == "https://pictures/blue"
        assert thumbs() == {"film": {"1": RED_THUMB}}


def test_the_counts_are_saved_and_the_summary_tells(run, connection):
    report, _ = run(film(), film("other", raw=b"no picture", source="https://pictures/x"))
    assert "; images: 1 failed, 1 stored;" in report.summary()
    saved = connection.execute("SELECT report FROM catalog_operation_instance_result").fetchone()[0]
    assert [saved[f"{name}_thumbs"] for name in ("checked", "created", "updated", "failed")] == [2, 1, 0, 1]
    assert list(saved["thumb_errors"].values()) == [1]


def test_the_number_of_an_image_is_its_place_whatever_was_there(run, thumbs):
    for index in (1, 3, 1):
        run(film(index=index, source=f"https://pictures/{index}"))
    assert thumbs()["film"].keys() == {"1", "3"}


def test_several_images_of_an_object_in_one_chunk(run, thumbs):
    two = (film(date=day(1)), film(index=2, date=day(1), **IN_BLUE))
    report, _ = run(*two)
    assert counted(report) == (2, 2, 0, 0)
    assert thumbs() == {"film": {"1": RED_THUMB, "2": BLUE_THUMB}}
    assert run(*two)[1] == []
    report, _ = run(film(date=day(1), source="https://pictures/2", raw=BLUE), two[1])
    assert counted(report) == (2, 0, 1, 0)


def test_the_last_record_of_an_object_wins_unless_it_is_older_as_does_the_row(run, thumbs):
    run(film(date=day(1)), film(date=day(2), **IN_BLUE))
    assert thumbs()["film"]["1"]["source"] == "https://pictures/blue"
    run(film(date=day(4)), film(date=day(3), **IN_BLUE))
    report, fetched = run(film(date=day(3), **IN_BLUE))
    assert (counted(report), fetched) == ((1, 0, 0, 0), [])
    assert thumbs()["film"]["1"]["source"] == "https://pictures/red"


def test_an_address_is_fetched_once_in_a_run(run, thumbs):
    records = [film(f"film {number}") for number in range(6)]
    report, fetched = run(*records, chunk_size=2)
    assert (counted(report), len(fetched)) == ((6, 6, 0, 0), 1)
    assert {one["1"]["key"] for one in thumbs().values()} == {key_of(RED)}


def test_a_version_is_not_an_address(run, thumbs):
    run(film("a", source="v1"), film("b", source="v1", raw=BLUE))
    assert [one["1"]["key"] for one in thumbs().values()] == [key_of(RED), key_of(BLUE)]


def test_what_is_stored_already_is_not_written_again(run, storage, monkeypatch):
    run(film())
    monkeypatch.setattr(storage, "put", lambda *_: pytest.fail("written again"))
    report, _ = run(film("other"))
    assert counted(report) == (1, 1, 0, 0)


class TestNotForUs:
    @pytest.mark.parametrize("error", [SkipObject("not for us"), RejectRecord("bad"), KeyError("name")])
    def test_objects_that_are_left_out_are_not_asked_for_theirs(self, run, error):
        report, fetched = run(film(error=error))
        assert (counted(report), fetched) == ((1, 0, 0, 0), [])
        assert report.skipped + report.rejected == 1

    def test_what_needs_other_rows_to_be_filled_is_asked_for_its_image(self, run, thumbs):
        class Sequels(Films):
            def __next__(self):
                [info] = super().__next__()
                return [self.create_reference(Product, "first part"), info]

            def fill_object_attributes(self, obj):
                super().fill_object_attributes(obj)
                obj.name = f"{self.row_of(Product, 'first part').name} II"

        run(film("first part", index=0))
        report, fetched = run(provider=Sequels([film("second part")]))
        assert (counted(report), len(fetched), report.created) == ((1, 1, 0, 0), 1, 1)
        assert thumbs()["second part"] == {"1": RED_THUMB}

    def test_neither_are_unknown_ones_of_a_source_that_only_completes(self, run, thumbs):
        class Completing(Films):
            can_create = False

        run(film())
        report, fetched = run(provider=Completing([film(), film("other", source="https://pictures/other")]))
        assert "https://pictures/other" not in fetched
        assert report.skipped == 1
        assert thumbs().keys() == {"film"}

    @pytest.mark.parametrize("key", ["", "a\x00b", 7, None, "\ud800"])
    def test_keys_that_cannot_be_used(self, run, key):
        report, fetched = run(film(key), film("good"))
        assert (report.rejected, len(fetched)) == (1, 1)

    @pytest.mark.parametrize("date", ["2026-01-01", day(1).replace(tzinfo=None)])
    def test_dates_that_cannot_be_used(self, run, date):
        report, fetched = run(film(date=date))
        assert (report.rejected, fetched) == (1, [])

    def test_providers_without_images_look_nothing_up(self, sync, storage, monkeypatch):
        monkeypatch.setattr("include.inbound.images.find_images", lambda *_: pytest.fail("looked up"))
        sync([], Items, storage=storage)


class TestFailures:
    def test_every_kind(self, run, caplog):
        kinds = {
            "it is not an image in a known format (JPEG, PNG, WEBP, GIF, AVIF)": b"<html>",
            "the image is broken": RED[:60],
            "the image has more than 50 million pixels": png_of(60_000, 60_000),
            "gone": BadImage("gone"),
            "down": ServiceUnavailable("down"),
            "ValueError: token=***": ValueError("token=abc"),
        }
        report, _ = run(*films(*kinds.values()))
        assert (counted(report), report.created) == ((6, 0, 0, 6), 6)
        assert report.thumb_errors == dict.fromkeys(kinds, 1)
        assert "Image of Product 03: gone" in caplog.text
        assert "abc" not in caplog.text

    def test_hooks_that_fail(self, run):
        class Failing(Films):
            def get_object_thumb_index(self):
                return self.record["no such field"]

        class FailingSource(Films):
            def get_object_thumb_source(self):
                raise RuntimeError("oops")

        for provider in (Failing([film()]), FailingSource([film()])):
            assert counted(run(provider=provider)[0]) == (1, 0, 0, 1)

    def test_the_log_is_not_flooded(self, run, caplog):
        report, _ = run(*films(*[BadImage("gone")] * 40), chunk_size=7)
        assert (report.failed_thumbs, report.thumb_errors) == (40, {"gone": 40})
        warnings = [one for one in caplog.records if one.levelno == logging.WARNING]
        assert len(warnings) == MAX_WARNINGS + 1

    @pytest.mark.parametrize("error", [ServiceUnavailable("down"), AccessRefused("no")])
    def test_a_host_that_does_not_answer_is_not_asked_for_ever(self, run, error, caplog):
        report, fetched = run(*films(*[error] * 20), chunk_size=3)
        assert len(fetched) == MAX_CONSECUTIVE_FAILURES
        assert (counted(report), report.created) == ((20, 0, 0, 20), 20)
        assert report.thumb_errors == {error.message: 5, "skipped after 5 consecutive failures": 15}
        assert "skipping images for the rest of this run" in caplog.text

    def test_one_that_answers_in_between_is(self, run):
        down = ServiceUnavailable("down")
        records = films(down, down, down, down, BadImage("gone"), down, down, down, down, RED, down)
        assert len(run(*records)[1]) == len(records)

    def test_an_address_that_failed_is_not_asked_again(self, run):
        report, fetched = run(*[film(f"{i}", raw=ServiceUnavailable("down")) for i in range(8)])
        assert (report.failed_thumbs, len(fetched)) == (8, 1)

    def test_a_storage_that_takes_nothing(self, run, storage, monkeypatch, thumbs):
        def full(*_):
            raise OSError("No space left on device")

        monkeypatch.setattr(storage, "put", full)
        report, fetched = run(*films(*[RED] * 9))
        assert (report.failed_thumbs, report.created, len(fetched)) == (9, 9, MAX_CONSECUTIVE_FAILURES)
        assert "the image cannot be stored: OSError: No space left on device" in report.thumb_errors
        assert set(map(str, thumbs().values())) == {"{}"}

    def test_the_database_is_not_a_image(self, run):
        with pytest.raises(DatabaseUnavailable):
            run(film(raw=psycopg.OperationalError("the connection is lost")))


class TestInterrupted:
    def test_a_kill_between_storage_and_commit(self, run, thumbs, stored, monkeypatch):
        def killed(*_):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(ledger, "save_progress", killed)
            with pytest.raises(KeyboardInterrupt):
                run(film())
        assert thumbs() == {}
        assert stored() == [key_of(RED)]
        report, _ = run(film())
        assert counted(report) == (1, 1, 0, 0)
        assert thumbs() == {"film": {"1": RED_THUMB}}
        assert stored() == [key_of(RED)]

    @pytest.mark.parametrize("date", [None, day(1)])
    def test_a_row_inserted_by_another_after_the_look_up(self, run, connect, thumbs, date):
        class Meddling(Films):
            def get_object_thumb(self):
                connect().execute(
                    "INSERT INTO product (id_at_providers, name, subcategory_id, thumbs) VALUES ('film', 'x', 'y', %s)",
                    ('{"2": {"key": "theirs", "source": null}}',),
                )
                return super().get_object_thumb()

        report, fetched = run(provider=Meddling([film(date=date)]))
        assert len(fetched) == 1
        assert thumbs() == {"film": {"1": RED_THUMB, "2": {"key": "theirs", "source": None}}}
        assert counted(report) == (1, 1, 0, 0)

    def test_a_conflict_fetches_nothing_again(self, run, connect, thumbs):
        class Meddling(Films):
            def fill_object_attributes(self, obj):
                super().fill_object_attributes(obj)
                if self.filled == 2:  # the first is to see whether it is for us
                    connect().execute(
                        "INSERT INTO product (id_at_providers, name, subcategory_id) VALUES ('film', 'x', 'y')"
                    )

        provider = Meddling([film()])
        report, fetched = run(provider=provider)
        assert provider.filled > 2
        assert (len(fetched), counted(report), report.updated) == (1, (1, 1, 0, 0), 1)
        assert thumbs() == {"film": {"1": RED_THUMB}}

    @pytest.mark.parametrize("date", [None, day(1)])
    def test_a_person_who_chooses_an_image_meanwhile(self, run, connect, thumbs, date):
        class Meddling(Films):
            def get_object_thumb(self):
                connect().execute('UPDATE product SET thumbs = \'{"1": {"key": "mine"}}\'')
                return super().get_object_thumb()

        run(film(index=0, date=date))
        report, fetched = run(provider=Meddling([film(date=date)]))
        assert (len(fetched), counted(report)) == (1, (1, 0, 0, 0))
        assert thumbs() == {"film": {"1": {"key": "mine"}}}
        assert report.unchanged == 1

    def test_a_row_that_postgresql_refuses_counts_no_image(self, run, thumbs):
        report, fetched = run(film("a" * 300), film("good", **IN_BLUE))
        assert (report.rejected, report.created, len(fetched)) == (1, 1, 2)
        assert counted(report) == (2, 1, 0, 0)
        assert thumbs().keys() == {"good"}


def test_in_several_chunks_and_by_two_providers(run, thumbs):
    class Others(Films):
        local_class = "Others"

    report, fetched = run(*films(*[RED] * 25, date=day(1)), chunk_size=10)
    assert (counted(report), len(fetched)) == ((25, 25, 0, 0), 25)
    report, _ = run(provider=Others(films(*[BLUE] * 25, date=day(1), index=2)), chunk_size=10)
    assert counted(report) == (25, 25, 0, 0)
    assert all(one.keys() == {"1", "2"} for one in thumbs().values())


def test_the_usual_way_fetches_the_address(connection, storage, thumbs):
    class ByAddress(Films):
        get_object_thumb = LocalProvider.get_object_thumb
        third_party = ThirdPartyRule(allow_private_networks=True)  # the service is on this machine

    with serving() as service:
        service.answers(LARGE_RED).answers(b"", status=404)
        sources = {"film": f"{service.url}/red.png?v=1", "gone": f"{service.url}/gone.png", "bad": "/no/address"}
        provider = ByAddress([film(key, source=source) for key, source in sources.items()])
        report = sync_provider(provider, connection, storage=storage)
    assert counted(report) == (3, 1, 0, 2)
    no_address = "the address of the image does not start with http:// or https://"
    assert report.thumb_errors.keys() == {"the image does not exist (404)", no_address}
    assert thumbs()["film"]["1"]["key"] == key_of(LARGE_RED)
    assert provider.fetch_image is None


def test_two_objects_of_one_record_have_each_its_own_image(run, thumbs):
    class Pairs(Films):
        def __next__(self):
            self.record = next(self.records)
            return [self.create_providable_info(Product, key) for key in self.record["keys"]]

        def get_object_thumb_source(self):
            return f"https://pictures/{self.key}"

        def get_object_thumb(self):
            return self.record["keys"][self.key]

    pictures = {"a": RED, "b": BLUE}
    report, _ = run(provider=Pairs([{"keys": pictures, "index": 1}]))
    assert counted(report) == (2, 2, 0, 0)
    assert thumbs() == {key: {"1": thumb(raw, f"https://pictures/{key}")} for key, raw in pictures.items()}
