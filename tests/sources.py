"""A provider with the stand-in of its service, and the demo's venues in the database."""

from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import requests

from include.connectors.http import HttpConnector
from include.inbound import loads
from include.inbound.run import sync_provider
from include.store import ledger
from include.store.providers import find_links, register_provider
from local import settings
from local.demo import load_venues
from sandbox.suppliers import find_suppliers
from sandbox.world import Settings, World

ROOT = Path(__file__).parents[1]
SMALL = Settings(
    venues=1, books=240, max_limit=80, fnac_shops=1, libraires_shops=1, praxiel_shops=1, theatres=2, movies=16,
    movies_per_theatre=8,
)  # fmt: skip
CONNECTIONS = {connection.id: connection for connection in settings.read(ROOT / "airflow_settings.yaml").connections}


def load(conninfo):
    """Insert the demo's venues, books and links of the small world into a migrated database."""
    with psycopg.connect(conninfo) as connection:
        loads.register_providers(connection)
        load_venues(connection, World(SMALL))


class Source:
    """What tests of one provider need. `world` is the data that its service lists.

    `links` are its venue links; [None] for a provider without venues, which has a single listing.
    """

    def __init__(self, provider_class, world, url, connection):
        self.provider_class = provider_class
        self.world = world
        self.url = url
        self.connection = connection
        name = provider_class.row_name()
        (self.supplier,) = (one for one in find_suppliers(world) if one.provider == name)
        self.provider_id = register_provider(connection, name, provider_class.name)
        self.links = find_links(connection, self.provider_id) if provider_class.needs_venue else [None]
        self.slept = []

    def connector(self, **options):
        """A connector as the Airflow connection of the settings configures it; waits are recorded, not slept."""
        conn = CONNECTIONS[self.provider_class.conn_id]
        options.setdefault("attempts", 3)
        options.setdefault("read_timeout", 10.0)
        extra = {name: value for name, value in conn.extra.items() if name != "requests_per_second"}
        return HttpConnector(
            f"{self.url}{urlsplit(conn.host).path}",
            auth=(conn.login, conn.password or "") if conn.login else None,
            headers=extra,
            sleep=self.slept.append,
            **options,
        )

    def sync(self, link=None, *, run_id=None, provider_class=None, connection=None, connector=None, **options):
        """Try the load `run_id` of one link once (again); return the report."""
        link = link or self.links[0]
        connection = connection or self.connection
        parameters = ledger.LoadParameters(venue_links=(str(link.id),) if link else ())
        load = loads.open_load(connection, self.provider_class, parameters, run_id=run_id)
        (instance,) = ledger.pending_instances(connection, load, 0)
        with self.connector(**(connector or {})) as opened:
            provider = (provider_class or self.provider_class)(link, opened)
            try:
                report = sync_provider(provider, connection, instance_id=instance.id, **options)
            finally:
                if not connection.closed:
                    loads.close_load(connection, load)
        parts = (report.created, report.updated, report.unchanged, report.skipped, report.rejected)
        assert report.checked == sum(parts), report
        return report

    def fault(self, fault, **rule):
        """Activate a fault of this service."""
        rule.setdefault("service", self.supplier.service)
        answer = requests.post(f"{self.url}/sandbox/faults", json=[{"fault": fault, **rule}], timeout=10)
        assert answer.status_code == 200, answer.text

    def clear_faults(self):
        """Deactivate all faults."""
        requests.delete(f"{self.url}/sandbox/faults", timeout=10).raise_for_status()

    def asked(self):
        """Return path and query of the requests to this service, in order."""
        every = requests.get(f"{self.url}/sandbox/requests", timeout=10).json()
        return [(one["path"], one["query"]) for one in every if one["path"].startswith(f"/{self.supplier.service}/")]
