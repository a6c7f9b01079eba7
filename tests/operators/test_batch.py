"""What a batch of venue links does when one of them is refused, or gone."""

from contextlib import nullcontext

import pytest

from include.errors import AccessRefused, LinksFailed, RequestRefused, ServiceUnavailable, Unreachable
from include.inbound import loads
from include.inbound import run as engine
from include.models.report import SyncReport
from include.operators import provider_sync
from include.providers.titelive_stocks import TiteLiveStocks
from include.store.ledger import LoadParameters
from tests.operators.conftest import link_shops


@pytest.fixture
def run_batch(connection, monkeypatch):
    """Runs a batch of four links; those named are refused. Returns the venues that were done."""
    link_shops(connection, 4)
    load = loads.open_load(connection, TiteLiveStocks, LoadParameters(), run_id="r")
    connection.commit()
    done = []
    refused = ()

    def fake_sync(provider, _connection, **_):
        venue = provider.venue_provider.venue_name
        if venue in refused:
            raise run.error
        done.append(venue)
        return SyncReport(state="skipped")

    monkeypatch.setattr(engine, "sync_provider", fake_sync)
    monkeypatch.setattr(provider_sync, "connector_for", lambda _: nullcontext())

    def run(*names):
        nonlocal refused
        refused = names
        with provider_sync._Batch(connection, load, 0) as batch:
            connection.execute("DELETE FROM venue_provider WHERE venue_id = ANY(%s)", (run.deleted,))
            connection.commit()
            try:
                for instance in batch.instances:
                    batch.run(instance)
            except (AccessRefused, Unreachable):
                done.append("stopped")
            return done, set(batch.failures)

    run.deleted = []
    run.error = AccessRefused("403")
    return run


def test_a_link_that_was_deleted_meanwhile_does_not_stop_the_others(run_batch, connection):
    run_batch.deleted = [row[0] for row in connection.execute("SELECT min(id) FROM venue")]
    done, failures = run_batch()
    assert done == ["Shop 2", "Shop 3", "Shop 4"]
    assert len(failures) == 1


def test_one_refused_link_does_not_starve_those_behind_it(run_batch):
    done, failures = run_batch("Shop 1", "Shop 3")
    assert done == ["Shop 2", "Shop 4"]
    assert {name.partition(" (")[0] for name in failures} == {"Shop 1", "Shop 3"}


@pytest.mark.parametrize("error", [AccessRefused("403"), Unreachable("the host x is unknown")], ids=repr)
def test_two_links_in_a_row_that_are_refused_or_unreachable_stop_the_batch(run_batch, error):
    run_batch.error = error
    done, _ = run_batch("Shop 1", "Shop 2")
    assert done == ["stopped"]


def failed(*errors, attempted=None):
    failures = {f"Shop {number}": error for number, error in enumerate(errors, 1)}
    return str(LinksFailed(failures, attempted=attempted or len(errors))).partition("\n")[0]


def test_the_first_line_of_a_failed_batch_says_what_was_left_undone_and_a_likely_cause():
    unknown, down = RequestRefused("404", status=404), ServiceUnavailable("503")
    assert failed(unknown) == "1 of 1 venue links failed:"
    assert failed(unknown, attempted=3) == "1 of 3 venue links failed, the others finished:"
    assert failed(unknown, unknown, attempted=3) == "2 of 3 venue links failed, the others finished:"
    assert failed(unknown, down) == "2 of 2 venue links failed:"
    assert failed(unknown, RequestRefused("400", status=400)) == "2 of 2 venue links failed:"
    wrong = "2 of 2 venue links failed, each with a 404: the address of the Airflow connection is probably wrong:"
    assert failed(unknown, unknown) == wrong
