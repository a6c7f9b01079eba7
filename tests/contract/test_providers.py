"""What every provider of the project must do. A new one gets these tests without writing any.

Each runs against the stand-in of its service in `sandbox/suppliers`, over real sockets and into a real database.
"""

from collections import Counter

import pytest

from include.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    RateLimited,
    RequestRefused,
    ServiceUnavailable,
    UndecodableBody,
)
from include.providers import load_provider
from local import settings
from tests.sources import CONNECTIONS, ROOT

CHUNK = 50


def listed(source, link):
    """Every list of objects that the provider returns, with what it says of the current record."""
    with source.connector() as connector:
        provider = source.provider_class(link, connector)
        provider.open()
        try:
            return [(infos, provider.requested_at) for infos in provider]
        finally:
            provider.close()


class TestDeclaration:
    def test_it_has_a_name_and_a_connection_and_is_found_by_its_path(self, provider_class):
        assert 1 <= len(provider_class.name) <= 90
        assert isinstance(provider_class.can_create, bool)
        assert provider_class.conn_id in CONNECTIONS
        assert load_provider(f"{provider_class.__module__}.{provider_class.__qualname__}") is provider_class

    def test_it_has_linked_venues_in_the_demo_if_it_needs_them(self, source):
        assert source.links
        assert all(source.links) == source.provider_class.needs_venue

    def test_it_has_a_dag_with_a_pool_and_the_usual_parameters(self, provider_class, dags):
        from include.operators.params import sync_params
        from local.docs.sources import read_dags

        path = f"{provider_class.__module__}.{provider_class.__qualname__}"
        found = [dag for dag in read_dags(dags).values() if getattr(dag.roots[0], "provider", "") == path]
        assert len(found) == 1, f"one DAG opens loads of {path}"
        pools = {pool.name for pool in settings.read(ROOT / "airflow_settings.yaml").pools}
        assert found[0].get_task("sync_venues").pool in pools | {"example_register"}
        assert list(found[0].params) == list(sync_params(needs_venue=provider_class.needs_venue))
        assert ("venue_links" in found[0].params) == provider_class.needs_venue

    def test_a_listing_that_the_service_knows_passes_the_check(self, source):
        with source.connector() as connector:
            source.provider_class(source.links[0], connector).check_link()


class TestListing:
    def test_it_ends_and_nothing_is_requested_twice(self, source):
        for link in source.links:
            assert listed(source, link)
        asked = Counter((path, tuple(sorted(query.items()))) for path, query in source.asked())
        assert set(asked.values()) == {1}

    def test_keys_are_unique_texts(self, source):
        for link in source.links:
            keys = [
                (info.type, info.id_at_providers)
                for infos, _ in listed(source, link)
                for info in infos
                if info.role != "reference"
            ]
            assert keys
            assert len(keys) == len(set(keys))
            assert all(isinstance(key, str) and 0 < len(key) <= 255 and "|" not in key for _, key in keys)

    def test_dates_have_a_time_zone(self, source):
        for infos, requested_at in listed(source, source.links[0]):
            assert requested_at.utcoffset() is not None
            for info in infos:
                date = info.date_modified_at_provider
                assert date is None or date.utcoffset() is not None


class TestSync:
    def test_what_did_not_change_is_not_written(self, source, versions):
        for link in source.links:
            first = source.sync(link)
            assert first.created > 0
            assert first.rejected == 0, first.reasons
            before = versions()
            again = source.sync(link, full_refresh=True)
            assert (again.created, again.updated, again.records) == (0, 0, first.records)
            assert versions() == before

    def test_a_dry_run_writes_nothing(self, source, versions):
        before = versions()
        report = source.sync(dry_run=True)
        assert report.created > 0
        assert report.differences
        assert versions() == before

    def test_what_changed_comes_with_the_next_run(self, source, rows, forget):
        source.sync()
        for _ in range(3):
            source.world.advance(20)
        source.sync()
        found = rows()
        report = source.sync(full_refresh=True)
        assert (report.created, report.updated) == (0, 0), "a run from the watermark on misses nothing"
        forget()
        source.sync()
        for key, row in rows().items():
            assert found[key] == row

    @pytest.mark.parametrize("size", [1, 7, 1000])
    def test_the_size_of_chunks_changes_nothing(self, source, rows, forget, size):
        source.sync(chunk_size=CHUNK)
        expected = rows()
        forget()
        source.sync(chunk_size=size)
        assert rows() == expected

    def test_a_partial_listing_removes_nothing(self, source, connection):
        def on_sale():
            found = connection.execute("SELECT id FROM stock WHERE NOT is_soft_deleted AND gone_since IS NULL")
            return {row[0] for row in found}

        source.sync()
        before = on_sale()
        source.world.advance(50)
        assert source.sync(limit=1).gone == 0
        assert before <= on_sale()


class TestKills:
    @pytest.mark.parametrize("after", [1, 2])
    def test_a_killed_run_resumes(self, source, rows, forget, connect, after):
        """Nothing is lost, doubled or counted twice."""
        whole = source.sync(chunk_size=CHUNK)
        expected = rows()
        forget()

        class Killed(BaseException):
            """No handler of the engine sees it, as none sees a SIGKILL."""

        class Dying(source.provider_class):
            chunks = 0

            def fill_object_attributes(self, obj):
                super().fill_object_attributes(obj)
                if type(self).chunks == after:
                    raise Killed

            @property
            def cursor(self):  # asked for at the end of each chunk
                type(self).chunks += 1
                return super().cursor

        dying = connect()
        with pytest.raises(Killed):
            source.sync(run_id="a run", provider_class=Dying, connection=dying, chunk_size=CHUNK)
        dying.close()
        report = source.sync(run_id="a run", chunk_size=CHUNK)
        assert rows() == expected
        assert (report.created, report.skipped, report.rejected) == (whole.created, whole.skipped, 0)


class TestBadRecords:
    def test_one_costs_only_itself_and_comes_back_when_it_is_repaired(self, source, rows, rejections, forget):
        source.sync()
        expected = rows()
        forget()
        kinds = list(source.supplier.faults.bad_kinds)
        source.fault("bad_records", kinds=kinds, share=0.15)
        report = source.sync()
        assert report.rejected > 0, "the stand-in spoilt some"
        found = rejections()
        assert len(found) >= report.rejected
        assert all(reason and resolution is None for reason, _, resolution in found)
        partly = rows()
        unlike = [key for key, row in partly.items() if expected.get(key) != row]  # a price that is missing is no error
        assert partly
        assert len(unlike) <= len(expected) // 4
        source.clear_faults()
        repaired = source.sync(full_refresh=True)
        assert repaired.rejected == 0
        assert all(rows()[key] == row for key, row in expected.items())
        assert {resolution for *_, resolution in rejections()} == {"listed again"}

    def test_it_can_be_replayed(self, source, rows, rejections, forget, watermark):
        """The parser may be the mistake: what is kept of good records brings them in again."""
        source.sync()
        expected = rows()
        forget()

        class Strict(source.provider_class):
            def fill_object_attributes(self, obj):
                raise ValueError("a mistake of the parser")

        source.sync(provider_class=Strict)
        assert rejections()
        assert not rows()
        before = watermark()
        report = source.sync(replay=True)
        assert report.rejected == 0, report.reasons
        assert {resolution for *_, resolution in rejections()} == {"replayed"}
        assert rows() == expected
        assert watermark() == before

    def test_a_bad_one_stays_bad_when_it_is_replayed(self, source, rejections):
        source.fault("bad_records", kinds=list(source.supplier.faults.bad_kinds), share=0.15)
        source.sync()
        before = len(rejections())
        report = source.sync(replay=True)
        after = rejections()
        assert len([one for one in after if one[2] is None]) >= report.rejected > 0
        assert {one[2] for one in after[:before]} <= {"rejected again", "replayed", None}


class TestFaults:
    def test_a_short_wait_is_waited(self, source):
        source.fault("status", status=429, retry_after=2, times=1)
        assert source.sync().created > 0
        assert max(source.slept) >= 2

    def test_a_long_wait_gives_the_slot_back(self, source):
        source.fault("status", status=429, retry_after=1800)
        with pytest.raises(RateLimited) as raised:
            source.sync(run_id="a run")
        assert raised.value.retry_after >= 1800
        source.clear_faults()
        assert source.sync(run_id="a run").created > 0

    @pytest.mark.parametrize("fault", ["cut", "truncated_json", "html"])
    def test_a_broken_response_is_retried(self, source, fault):
        source.fault(fault, times=1)
        assert source.sync().created > 0

    @pytest.mark.parametrize(
        ("rule", "error"),
        [
            ({"fault": "status", "status": 503}, ServiceUnavailable),
            ({"fault": "cut"}, ServiceUnavailable),
            ({"fault": "truncated_json"}, UndecodableBody),
            ({"fault": "html"}, UndecodableBody),
            ({"fault": "empty_object"}, UndecodableBody),
            ({"fault": "status", "status": 404}, RequestRefused),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_a_service_that_fails_is_named(self, source, versions, rule, error):
        before = versions()
        source.fault(**rule)
        with pytest.raises(error) as raised:
            source.sync()
        message = str(raised.value)
        assert source.provider_class.name in message
        assert all(link.label in message for link in source.links[:1] if link)
        secrets = [CONNECTIONS[source.provider_class.conn_id].password, *_header_secrets(source)]
        assert not [secret for secret in secrets if secret and secret in message]
        assert versions() == before

    def test_an_unknown_listing_does_not_pass_the_check(self, source):
        source.fault("status", status=404)
        with source.connector() as connector, pytest.raises((RequestRefused, ConfigurationError)):
            source.provider_class(source.links[0], connector).check_link()

    def test_a_lost_database_is_named_and_the_run_resumes(self, source, rows, forget, connect):
        source.sync(chunk_size=CHUNK)
        expected = rows()
        forget()
        lost = connect()

        class Losing(source.provider_class):
            def fill_object_attributes(self, obj):
                source.connection.execute("SELECT pg_terminate_backend(%s)", (lost.info.backend_pid,))
                super().fill_object_attributes(obj)

        with pytest.raises(DatabaseUnavailable):
            source.sync(run_id="a run", provider_class=Losing, connection=lost, chunk_size=CHUNK)
        source.sync(run_id="a run", chunk_size=CHUNK)
        assert rows() == expected


def _header_secrets(source):
    settings = CONNECTIONS[source.provider_class.conn_id]
    return [str(value).split()[-1] for value in settings.extra.values() if isinstance(value, str)]
