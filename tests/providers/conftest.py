"""A bookshop of the sandbox in the database, and a way to synchronise it."""

import pytest
import requests

from include.connectors.http import HttpConnector
from include.inbound import loads
from include.inbound.run import sync_provider
from include.providers.titelive_stocks import TiteLiveStocks
from include.store import ledger
from include.store.migrate import migrate
from include.store.providers import find_links, register_provider
from local import postgres as embedded
from sandbox.testing import serving
from sandbox.world import Settings, World
from soak.inbound_kills import load_shop

BOOKS, PAGE = 500, 100


@pytest.fixture(scope="session")
def database_template(postgres):
    embedded.create_databases(postgres, "with_a_shop")
    migrate(postgres.conninfo("with_a_shop"))
    return "with_a_shop"


@pytest.fixture(scope="session")
def world():
    return World(Settings(venues=1, books=BOOKS, max_limit=PAGE))


@pytest.fixture(scope="session")
def served(world):
    with serving(world) as url:
        yield url


@pytest.fixture
def url(served):
    """The sandbox's address; the world, the faults and the log of requests are new."""
    requests.post(f"{served}/sandbox/reset", timeout=10).raise_for_status()
    return served


@pytest.fixture
def shop(database, world):
    """Put the venue and its books into the database."""
    load_shop(database, world)


@pytest.fixture
def link(shop, connection):
    provider_id = register_provider(connection, "TiteLiveStocks", TiteLiveStocks.name)
    return find_links(connection, provider_id)[0]


@pytest.fixture
def fault(url):
    def add(fault, **rule):
        answer = requests.post(f"{url}/sandbox/faults", json=[{"fault": fault, **rule}], timeout=10)
        assert answer.status_code == 200, answer.text

    return add


@pytest.fixture
def clear_faults(url):
    return lambda: requests.delete(f"{url}/sandbox/faults", timeout=10).raise_for_status()


@pytest.fixture
def asked(url):
    """The queries that the sandbox was asked, in order."""
    return lambda: [one["query"] for one in requests.get(f"{url}/sandbox/requests", timeout=10).json()]


@pytest.fixture
def slept():
    """The waits of the connector, which are noted instead of slept."""
    return []


@pytest.fixture
def sync(url, link, connection, slept):
    """Try the load `run_id` once (again); returns the report."""

    def run(run_id=None, *, attempts=3, read_timeout=10.0, longest_sleep=60.0, path="titelive/stocks", **options):
        load = loads.open_load(connection, TiteLiveStocks, ledger.LoadParameters(), run_id=run_id)
        (instance,) = ledger.pending_instances(connection, load, 0)
        options.setdefault("chunk_size", PAGE)
        with HttpConnector(
            f"{url}/{path}", attempts=attempts, read_timeout=read_timeout, longest_sleep=longest_sleep,
            sleep=slept.append,
        ) as connector:  # fmt: skip
            try:
                report = sync_provider(TiteLiveStocks(link, connector), connection, instance_id=instance.id, **options)
            finally:
                loads.close_load(connection, load)
        parts = (report.created, report.updated, report.unchanged, report.skipped, report.rejected)
        assert report.checked == sum(parts), report
        return report

    return run


@pytest.fixture
def stocks(connection):
    """Reference → available, price, quantity, booked."""

    def read():
        found = connection.execute(
            "SELECT offer.id_at_provider, raw_provider_quantity, price, quantity, booked_quantity"
            " FROM stock JOIN offer ON offer.id = offer_id ORDER BY 1"
        ).fetchall()
        return {row[0]: row[1:] for row in found}

    return read


@pytest.fixture
def eligible(shop, connection):
    """Reference → fixed price of the books that may be sold."""
    return dict(
        connection.execute(
            "SELECT id_at_providers, (extra_data ->> 'prix_livre')::numeric FROM product"
            " WHERE subcategory_id = 'LIVRE_PAPIER' AND is_gcu_compatible AND is_synchronization_compatible"
        ).fetchall()
    )


@pytest.fixture
def rejections(connection):
    return lambda: connection.execute("SELECT reason, payload FROM rejected_record ORDER BY id").fetchall()
