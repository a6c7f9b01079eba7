"""The parameters of a run in its tasks: a run with one that does not exist does nothing, values are converted once."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from include.errors import ConfigurationError
from tests.operators.test_inbound_dag import CLOSE, SYNC, count


class TestUnknownParameters:
    def test_a_mistyped_dry_run_reads_nothing_and_suggests_the_right_name(self, shops, service, run, output):
        done = run({"dryrun": True})
        assert done.state == "failed"
        assert done.tries == {"open_load": 1, CLOSE: 1}
        assert service.requests() == []
        assert count(shops) == 0
        assert shops.execute("SELECT count(*) FROM catalog").fetchone() == (0,)
        text = output()
        assert "titelive_stocks has no parameter dryrun (did you mean dry_run?); it has: venue_links" in text
        assert "Nothing was done" in text

    @pytest.mark.parametrize(
        ("name", "meant"),
        [
            ("DRY_RUN", "dry_run"),
            ("dry-run", "dry_run"),
            ("full_refesh", "full_refresh"),
            ("venue_link", "venue_links"),
            ("chunksize", "chunk_size"),
            ("acceptShrunk", "accept_shrunk"),
        ],
    )
    def test_what_was_probably_meant_is_suggested(self, name, meant):
        from include.operators.params import sync_params
        from include.operators.unknown_params import unknown_params

        assert f"has no parameter {name} (did you mean {meant}?); it has: venue_links" in unknown_params(
            [name, "limit"], sync_params()
        )

    def test_a_backfill_is_refused_too(self, shops, service, run, output):
        assert run({"limt": 1}, run_type="backfill").state == "failed"
        assert "limt (did you mean limit?)" in output()
        assert service.requests() == []

    def test_a_later_task_refuses_as_well(self, shops, service, run, output):
        """As when a person clears only the mapped tasks of a run whose parameters were never checked."""
        done = run({})
        done.dag_run.conf = {"dryrun": True}
        done.session.commit()
        service.requests()
        output()
        done.clear(SYNC, CLOSE)
        assert done.state == "failed"
        assert done.tasks[SYNC] == ["failed"] * len(done.tasks[SYNC])
        assert "did you mean dry_run?" in output()
        assert service.requests() == []

    @pytest.mark.parametrize(
        ("dag_id", "task", "name", "meant"),
        [
            ("outbound_mailing_list", "fill_queue", "dryrun", "dry_run"),
            ("algolia_customer_dispo", "patch_index", "compareEvery", "compare_every"),
            ("venue_links", "change_links", "acton", "action"),
        ],
    )
    def test_every_dag_refuses(self, shops, run_dag, output, dag_id, task, name, meant):
        done = run_dag(dag_id, {name: 1})
        assert done.state == "failed"
        assert done.tasks[task] == ["failed"]
        assert done.tries[task] == 1
        assert f"{dag_id} has no parameter {name} (did you mean {meant}?)" in output()

    def test_very_many_and_very_long_names_stay_readable(self):
        from include.operators.unknown_params import unknown_params

        assert unknown_params(["xyz"], ["limit"]) == "has no parameter xyz; it has: limit"
        message = unknown_params({f"{number:03}" + "x" * 10_000: 1 for number in range(500)}, ["limit"])
        assert len(message) < 1000
        assert "and 490 more" in message


class TestValues:
    @pytest.mark.parametrize("limit", [5, 5.0])
    def test_a_whole_number_may_be_written_with_a_point(self, shops, service, run, limit):
        done = run({"limit": limit})
        assert done.state == "success"
        kept = "SELECT parameters ->> 'limit' FROM catalog WHERE parent_id IS NULL"
        assert shops.execute(kept).fetchone() == ("5",)

    def test_null_means_the_default(self, shops, service, run):
        names = ("venue_links", "full_refresh", "limit", "dry_run", "chunk_size", "replay_rejected", "accept_shrunk")
        done = run(dict.fromkeys((*names, "error_limit", "release_fields")))
        assert done.state == "success"
        assert count(shops) > 0
        kept = "SELECT parameters ->> 'chunk_size', parameters ->> 'dry_run' FROM catalog WHERE parent_id IS NULL"
        assert shops.execute(kept).fetchone() == ("1000", "false")

    @pytest.mark.parametrize("wanted", [[2], ["2"], [" 2 ", ""], [2.0]])
    def test_link_ids_may_be_numbers_or_texts(self, shops, service, run, wanted):
        assert run({"venue_links": wanted}).state == "success"
        read = "SELECT venue_provider_id FROM catalog WHERE parent_id IS NOT NULL"
        assert shops.execute(read).fetchall() == [(2,)]

    def test_a_run_without_parameters_is_the_daily_run(self, shops, service, run):
        assert run(None).state == "success"
        assert count(shops) > 0

    def test_parameters_that_airflow_ignores_stop_the_run(self, shops, service, run, output, monkeypatch):
        monkeypatch.setenv("AIRFLOW__CORE__DAG_RUN_CONF_OVERRIDES_PARAMS", "False")
        assert run({"dry_run": True}).state == "failed"
        text = output()
        assert "This Airflow ignores the parameters of runs, here dry_run: nothing was done" in text
        assert service.requests() == []
        assert run({}).state == "success"
        assert run({"limit": None, "dry_run": False}).state == "success"


def context(form, *, params=None, conf=None, more=()):
    """A task's context, of a DAG whose form may be another than the project's."""
    from include.operators import params as module

    own = {name: param.value for name, param in getattr(module, form)().items()} | (params or {})
    return {
        "dag_run": SimpleNamespace(dag_id="stocks", conf=conf if conf is not None else params),
        "params": own,
        "dag": SimpleNamespace(params={**own, **dict.fromkeys(more)}),
        "task": SimpleNamespace(params={}),
    }


@contextmanager
def refused(match):
    with pytest.raises(ConfigurationError, match=match) as error:
        yield
    assert len(str(error.value)) < 1000


class TestReading:
    """What Airflow's own check would let through, when a DAG declares its parameters otherwise."""

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("limit", 10**30),
            ("limit", "1"),
            ("limit", True),
            ("limit", float("nan")),
            ("limit", float("inf")),
            ("chunk_size", 0),
            ("dry_run", "yes"),
            ("dry_run", 1),
            ("venue_links", "12"),
            ("venue_links", [True]),
            ("venue_links", ["1"] * 20_000),
        ],
        ids=lambda value: str(value)[:20],
    )
    def test_a_wrong_value_is_refused_with_its_name(self, name, value):
        from include.operators.params import SyncParams, read_params

        with refused(f"The parameter {name}: "):
            read_params(context("sync_params", params={name: value}), SyncParams)

    def test_a_dag_may_have_parameters_of_its_own(self):
        from include.operators.params import SyncParams, read_params

        found = read_params(context("sync_params", params={"team": "north"}, more=["team"]), SyncParams)
        assert found == SyncParams()

    def test_texts_are_trimmed_and_the_empty_one_is_none(self):
        from include.operators.params import OutboundParams, read_params

        given = {"event": " salon ", "orders": [" A1 ", "", "B2"], "retry": "", "mappings": []}
        found = read_params(context("outbound_params", params=given), OutboundParams)
        assert (found.event, found.orders, found.retry, found.mappings) == ("salon", ("A1", "B2"), None, [])

    @pytest.mark.parametrize(
        ("name", "texts", "complaint"),
        [
            ("dry_run", ["maybe", ""], "true or false"),
            ("dry_run_notify", ["perhaps"], "true or false"),
            (
                "compare_every",
                ["1e30", "1" * 400, "nan", "inf", "1440.5", "true", "often", "-1", "1000001"],
                "a whole number from 0 to 1000000",
            ),
            ("time_limit_minutes", ["0", "1.5", "1441"], "a whole number from 1 to 1440"),
        ],
    )
    def test_a_variable_has_the_bounds_of_its_parameter(self, monkeypatch, name, texts, complaint):
        from include.operators.params import read_search_params

        for text in texts:
            monkeypatch.setenv(f"AIRFLOW_VAR_STOCKS_{name.upper()}", text)
            with refused(f"The Airflow variable stocks_{name} has '.*': expected {complaint}"):
                read_search_params(context("search_params"))

    @pytest.mark.parametrize(
        ("name", "texts", "value"),
        [
            ("dry_run", ["true", "True", " YES ", "1", "on"], True),
            ("dry_run", ["false", "0", "No", "off"], False),
            ("compare_every", ["15", "15.0", " 15 "], 15),
            ("compare_every", ["0"], 0),
            ("compare_every", [""], None),
        ],
    )
    def test_a_variable_is_converted_like_its_parameter(self, monkeypatch, name, texts, value):
        from include.operators.params import read_search_params

        for text in texts:
            monkeypatch.setenv(f"AIRFLOW_VAR_STOCKS_{name.upper()}", text)
            assert getattr(read_search_params(context("search_params")), name) is value
