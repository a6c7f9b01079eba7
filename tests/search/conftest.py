"""The stand-in for Algolia over real sockets, with an index of offers that an indexer rebuilds."""

import threading
from urllib.parse import quote

import pytest
import requests

from include.connectors.algolia import AlgoliaIndex
from include.patches.customer_dispo import CUSTOMER_DISPO
from include.search.watch import Settings as WatchSettings
from include.search.watch import watch_index
from sandbox import indexer
from sandbox.offers import offers
from sandbox.testing import serving
from sandbox.world import Settings, World

OFFERS = 690
PAGE = 300
"""Records of a page and of a batch here: three pages for all offers."""
SMALL = 30
"""The same where there shall be many."""
APPLICATION = "SANDBOX"
HEADERS = {"x-algolia-application-id": APPLICATION, "x-algolia-api-key": "admin"}
KEYS = {
    "admin": "*",
    "patch": "logs+browse+addObject",
    "no-logs": "browse+addObject",
    "no-browse": "logs+addObject",
    "no-addObject": "logs+browse",
}


def rule(offer):
    """The rule of the site, written independently of the patch."""
    if "disponibiliteForFO" not in offer:
        return offer
    elite_or_proxauto = str(offer.get("nature")).strip() in ("1", "5", "1.0", "5.0")
    wanted = offer["disponibiliteForFO"]
    if wanted == "en stock" and not elite_or_proxauto:
        wanted = "disponible"
    return {**offer, "customerDispo": wanted}


class Index(AlgoliaIndex):
    """An index that lets a test do something when the n-th page was read, and notes the batches."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.pages = 0
        self.on_page = {}
        self.batches = []
        self._lock = threading.Lock()

    def browse(self, attributes, cursor=None):
        page = super().browse(attributes, cursor)
        self.pages += 1
        self.on_page.get(self.pages, self.on_page.get("every", lambda: None))()
        return page

    def patch(self, records):
        with self._lock:
            self.batches.append(list(records))
        return super().patch(records)


class Site:
    """The stand-in, the indexer that rebuilds its index `offers`, and what must be in it."""

    def __init__(self, url, settings):
        self.url = url
        self.settings = settings
        self.generation = 0
        self.waits = []
        self._opened = []
        self._session = requests.Session()

    def close(self):
        for each in (*self._opened, self._session):
            each.close()

    def index(self, key="patch", name="offers", **options):
        """A connection that does not sleep before it asks again; `waits` holds how long it would have."""
        usual = {"hosts": [self.url], "attempts": 5, "jitter": lambda: 0.0, "sleep": self.waits.append}
        index = Index(APPLICATION, key, name, **{**usual, **options})
        self._opened.append(index)
        return index

    def call(self, method, path, body=None):
        answer = self._session.request(method, f"{self.url}{path}", json=body, headers=HEADERS, timeout=20)
        assert answer.ok, answer.text
        return answer.json()

    def rebuild(self):
        """Let the indexer build the next generation and move it onto `offers`."""
        self.generation += 1
        indexer.rebuild(
            self.url,
            api_key="admin",
            records=self.settings.offers,
            generation=self.generation,
            batch_size=1000,
            temporary=f"offers_{self.generation}",
        )

    def move(self, source, destination="offers"):
        """Accept a move without waiting for it."""
        self.call(
            "POST", f"/1/indexes/{quote(source, safe='')}/operation", {"operation": "move", "destination": destination}
        )

    def write(self, records, index="offers"):
        requests = [{"action": "addObject", "body": record} for record in records]
        self.call("POST", f"/1/indexes/{quote(index, safe='')}/batch", {"requests": requests})

    def delete(self, *object_ids):
        requests = [{"action": "deleteObject", "body": {"objectID": each}} for each in object_ids]
        self.call("POST", "/1/indexes/offers/batch", {"requests": requests})

    def records(self, index="offers"):
        found, cursor = {}, {}
        while True:
            page = self.call("POST", f"/1/indexes/{quote(index, safe='')}/browse", cursor)
            found |= {record["objectID"]: record for record in page["hits"]}
            if "cursor" not in page:
                return found
            cursor = {"cursor": page["cursor"]}

    def expected(self, *, without=(), more=()):
        """The offers of the last rebuild, each as it must be."""
        made = [*offers(self.settings, self.generation), *more]
        return {offer["objectID"]: rule(offer) for offer in made if offer["objectID"] not in without}

    def is_right(self, *, overtaken=False, **changes):
        """Whether every record is as it must be, none is new and none is missing.

        What was on its way when a pass was overtaken by a move may reach a record of the new index that has no
        `disponibiliteForFO`; the rule leaves those alone.
        """
        found, expected = self.records(), self.expected(**changes)
        if overtaken:
            for object_id, record in expected.items():
                if "disponibiliteForFO" not in record:
                    found[object_id].pop("customerDispo", None)
        assert found == expected
        return True

    def fault(self, fault, **rule):
        body = [{"fault": fault, "service": "algolia", **rule}]
        answer = self._session.post(f"{self.url}/sandbox/faults", json=body, timeout=20)
        assert answer.ok, answer.text

    def heal(self):
        """End all faults; returns how often they struck."""
        fired = self._session.get(f"{self.url}/sandbox/faults", timeout=20).json()
        self._session.delete(f"{self.url}/sandbox/faults", timeout=20)
        return sum(each["fired"] for each in fired)

    def requests(self):
        """What was asked so far, as (method, path, status); and clears them."""
        seen = self._session.get(f"{self.url}/sandbox/requests", timeout=20).json()
        self._session.delete(f"{self.url}/sandbox/requests", timeout=20)
        return [(each["method"], each["path"], each["status"]) for each in seen]


def world(**settings):
    keys = ",".join(f"{key}={rights}" for key, rights in KEYS.items())
    return World(Settings(books=10, **{"offers": OFFERS, "algolia_keys": keys, **settings}))


@pytest.fixture
def set_page(monkeypatch):
    """A function that says how many records a page and a batch have."""

    def set_page(records):
        monkeypatch.setattr("include.connectors.algolia.MAX_RECORDS", records)
        monkeypatch.setattr("include.search.run_pass.MAX_RECORDS", records)

    return set_page


@pytest.fixture(autouse=True)
def usual_page(set_page):
    set_page(PAGE)


@pytest.fixture(scope="session")
def served():
    with serving(world()) as url:
        yield url, world().settings


@pytest.fixture
def site(served):
    url, settings = served
    assert requests.post(f"{url}/sandbox/reset", timeout=20).ok
    site = Site(url, settings)
    yield site
    site.close()


@pytest.fixture
def serve():
    """A function that starts a stand-in with other settings."""
    running = []

    def start(**settings):
        context = serving(world(**settings))
        site = Site(context.__enter__(), world(**settings).settings)
        running.append((context, site))
        return site

    yield start
    for context, site in running:
        site.close()
        context.__exit__(None, None, None)


@pytest.fixture
def look(connection):
    """A function that looks at the index of a site once, as a run does; returns its report."""

    def look(site, *, index=None, patches=(CUSTOMER_DISPO,), on=None, **settings):
        return watch_index(index or site.index(), on or connection, patches, WatchSettings(**settings))

    return look


@pytest.fixture
def passes(connection):
    """A function that gives what is kept of the passes: reason, state and error of each."""
    return lambda: connection.execute("SELECT reason, state, error FROM search_pass ORDER BY id").fetchall()


@pytest.fixture
def state(connection):
    """A function that gives columns of what is kept of the index."""

    def read(*columns):
        row = connection.execute(f"SELECT {', '.join(columns)} FROM search_index").fetchone()
        return row[0] if len(columns) == 1 else row

    return read
