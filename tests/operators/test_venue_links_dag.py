"""The DAG of venue links through Airflow's machinery, against real PostgreSQL and the sandbox over sockets."""

import logging
import re

import pytest

from include.providers.stock_api import StockApiProvider
from include.store.locks import link_lock
from tests.operators.conftest import Run

TASK = "change_links"


class OtherStocks(StockApiProvider):
    """A second provider at the same service."""

    name = "Other stocks"
    conn_id = "titelive_stocks_api"
    prices_in_cents = True


@pytest.fixture
def other(monkeypatch, shops):
    """Let the project have a second provider."""
    from include.providers import provider_classes

    known = [*provider_classes(), OtherStocks]
    monkeypatch.setattr("include.providers.provider_classes", lambda: known)
    names = [provider.row_name() for provider in known]
    monkeypatch.setattr("include.operators.params.provider_names", lambda: names)


@pytest.fixture
def change(airflow, load_dag, caplog):
    """A function that runs the DAG with parameters; returns the `Run`."""
    caplog.set_level(logging.INFO)
    session = airflow.Session()

    def start(*, before_retry=None, **conf):
        started = Run(load_dag("venue_links"), session).create(conf, "manual", None)
        if before_retry:
            started.before_retry = before_retry
        return started.drive()

    yield start
    session.rollback()
    session.close()


def link(shops, number=1):
    return shops.execute(
        "SELECT local_class, venue_id_at_offer_provider, venue_provider.is_active, settings"
        " FROM venue_provider JOIN provider ON provider.id = provider_id WHERE venue_provider.id = %s",
        (number,),
    ).fetchone()


def assets(airflow, run):
    from airflow.models.asset import AssetEvent, AssetModel
    from sqlalchemy import select

    with airflow.Session() as session:
        events = session.execute(
            select(AssetModel, AssetEvent)
            .join(AssetModel, AssetModel.id == AssetEvent.asset_id)
            .where(AssetEvent.source_run_id == run.dag_run.run_id)
        )
        return {asset.name: event.extra for asset, event in events}


def test_as_it_is_it_shows_the_links(shops, service, run, change, output, airflow):
    run({"venue_links": ["1"]})
    before = shops.execute("SELECT venue_provider::text FROM venue_provider ORDER BY 1").fetchall()
    output()
    done = change()
    assert done.state == "success"
    assert done.result(TASK) == [{"links": 3}]
    text = output()
    on_sale = shops.execute("SELECT count(*) FROM stock WHERE quantity > booked_quantity").fetchone()[0]
    offers = shops.execute("SELECT count(*) FROM offer").fetchone()[0]
    shown = next(line for line in text.splitlines() if "TiteLiveStocks  " in line and service.sirets[0] in line)
    assert re.search(rf"TiteLiveStocks +{on_sale} +{offers} +yes ", shown)
    assert "never" not in shown
    assert all([siret in text for siret in service.sirets])
    assert shops.execute("SELECT venue_provider::text FROM venue_provider ORDER BY 1").fetchall() == before
    assert assets(airflow, done) == {}


def test_it_shows_the_links_of_a_venue(shops, service, change, output):
    done = change(venue=service.sirets[1])
    assert done.result(TASK) == [{"links": 1}]
    assert service.sirets[0] not in output()
    assert change(action="deactivate", link=2).state == "success"
    assert "Next: nothing, until the action activate" in output()
    shops.execute("DELETE FROM venue_provider")
    change()
    assert "There is no venue link: trigger this DAG with the action link" in output()


def test_a_venue_is_linked_and_read(shops, service, run, change, output):
    shops.execute("DELETE FROM venue_provider")
    done = change(action="link", venue=service.sirets[2], provider="TiteLiveStocks")
    assert done.state == "success"
    (result,) = done.result(TASK)
    assert link(shops, result["link"]) == ("TiteLiveStocks", service.sirets[2], True, {})
    next_step = f'Next: trigger titelive_stocks with venue_links ["{result["link"]}"], or wait for its schedule'
    assert next_step in output()
    assert run({"venue_links": [str(result["link"])]}).state == "success"
    assert shops.execute("SELECT count(*) > 10 FROM stock").fetchone() == (True,)


def test_the_provider_of_a_venue_changes(shops, service, run, change, other, output, airflow):
    run({"venue_links": ["1"]})
    before = shops.execute("SELECT count(*), min(offer_id), sum(quantity) > 0 FROM stock").fetchone()
    done = change(action="change", venue=service.sirets[0], provider="OtherStocks")
    assert done.state == "success"
    assert link(shops) == ("OtherStocks", service.sirets[0], True, {})
    assert shops.execute("SELECT count(*), min(offer_id), sum(quantity) > 0 FROM stock").fetchone() == (
        *before[:2],
        False,
    )
    text = output()
    assert f"{before[0]} stocks were transferred" in text
    assert "Next: run OtherStocks for venue link 1; no DAG of the project does" in text
    assert assets(airflow, done) == {
        name: {"offers": before[0], "stocks": before[0]} for name in ("provider_sync.offer", "provider_sync.stock")
    }
    change(action="change", link=1, provider="TiteLiveStocks")
    run({"venue_links": ["1"]})
    assert shops.execute("SELECT count(*), min(offer_id), sum(quantity) > 0 FROM stock").fetchone() == before


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"action": "link", "venue": "1"}, "To link a venue, also specify: provider"),
        (
            {"action": "link", "venue": "1", "provider": "TiteLiveStocks", "id_at_provider": "nowhere"},
            "TiteLive stocks does not know nowhere: check the id, or the address of the Airflow connection ",
        ),
        ({"action": "settings", "link": 1, "settings": {"a": 1}}, "TiteLive stocks has no settings: leave out a"),
        ({"provider": "TiteLiveStocks"}, "To show links, leave out: provider"),
    ],
    ids=str,
)
def test_what_is_wrong_fails_at_once_with_a_reason(shops, service, change, output, asked, message):
    before = shops.execute("SELECT venue_provider::text FROM venue_provider ORDER BY 1").fetchall()
    done = change(**asked)
    assert done.state == "failed"
    assert done.tries == {TASK: 1}
    assert message in output()
    assert shops.execute("SELECT venue_provider::text FROM venue_provider ORDER BY 1").fetchall() == before


def test_a_link_that_is_being_read_is_waited_for(shops, service, change, other, connect):
    reader = connect()
    provider_id = shops.execute("SELECT provider_id FROM venue_provider WHERE id = 1").fetchone()[0]
    reading = link_lock(reader, provider_id, 1)
    reading.__enter__()
    done = change(
        action="change",
        link=1,
        provider="OtherStocks",
        before_retry=lambda: reading.__exit__(None, None, None),
    )
    assert done.state == "success"
    assert done.tries == {TASK: 2}
    assert done.waits[TASK] >= 60
    assert link(shops)[0] == "OtherStocks"


def test_a_service_that_is_down_is_asked_again(shops, service, change):
    shops.execute("DELETE FROM venue_provider")
    service.fault("status", status=503)
    done = change(action="link", venue="1", provider="TiteLiveStocks", before_retry=service.heal)
    assert done.state == "success"
    assert done.tries == {TASK: 2}
