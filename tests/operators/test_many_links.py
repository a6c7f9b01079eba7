"""Ten thousand venues: how they are dealt out, and how long that takes."""

import re
from time import perf_counter

import pytest

from include.inbound import loads
from include.operators.load import AT_MOST_BATCHES
from include.providers.titelive_stocks import TiteLiveStocks
from include.store import ledger
from tests.operators.conftest import link_shops


@pytest.fixture
def many_links(connection):
    """Ten thousand linked venues."""
    link_shops(connection, 10_000)
    return connection


def test_ten_thousand_links_are_dealt_out_evenly_and_quickly(many_links):
    connection = many_links
    began = perf_counter()
    load = loads.open_load(
        connection, TiteLiveStocks, ledger.LoadParameters(), run_id="r", at_most_batches=AT_MOST_BATCHES
    )
    batches = list(ledger.batch_labels(connection, load))
    opened = perf_counter() - began
    assert batches == list(range(AT_MOST_BATCHES))
    sizes = [len(ledger.pending_instances(connection, load, batch)) for batch in batches]
    assert sum(sizes) == 10_000
    assert max(sizes) - min(sizes) <= 1
    began = perf_counter()
    summary = loads.close_load(connection, load)
    closed = perf_counter() - began
    assert summary.failed == 10_000
    assert opened < 20
    assert closed < 20


def test_few_links_make_few_batches(many_links):
    wanted = tuple(f"{number:014d}" for number in range(1, 6))
    load = loads.open_load(
        many_links, TiteLiveStocks, ledger.LoadParameters(venue_links=wanted), at_most_batches=AT_MOST_BATCHES
    )
    assert list(ledger.batch_labels(many_links, load)) == [0, 1, 2, 3, 4]


def test_the_error_of_a_load_of_which_everything_failed_stays_readable(many_links, set_database, database, run, output):
    many_links.execute("DELETE FROM venue_provider WHERE id > 300")
    set_database(database)
    done = run()
    assert done.state == "failed"
    text = output()
    assert "300 of 300 venue links failed" in text
    error = text.partition("include.errors.FatalError: Load")[2]
    assert re.search(r"- and 250 more, in the view load_report with catalog_id \d+\n", error)
    assert error.count("There is no Airflow connection") < 200
