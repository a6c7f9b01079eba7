"""The stand-in for the search service, a sandbox in a process of its own: prepares and checks the index.

There are three template indices per size. The sandbox's indexer builds the first, as a rebuild leaves it; the others
are copies of it with `customerDispo` filled in. Before each phase a copy of a template is moved onto the index, as in a
rebuild.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from itertools import islice, zip_longest
from typing import Any
from urllib.parse import quote

import msgspec
import requests

from bench.measuring import WrongResult
from bench.search import APPLICATION, KEY
from include.patches.customer_dispo import customer_dispo
from sandbox import indexer, testing
from sandbox.offers import INDEX, offers
from sandbox.world import Settings

ALL, SOME, NONE = "all", "some", "none"
"""Templates, by how many records must change: all, one in ONE_IN, none."""
ONE_IN = 100
PAGE = 1000


class StandIn:
    """A running stand-in."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers.update({"x-algolia-application-id": APPLICATION, "x-algolia-api-key": KEY})
        self._built: set[int] = set()

    def rebuild(self, records: int, phase: str) -> None:
        """Move an index onto the current one in which all, some or none of the records must change."""
        self.prepare(records)
        self.operate("copy", _template(records, phase), f"{INDEX}_tmp")
        self.operate("move", f"{INDEX}_tmp", INDEX)

    def check(self, records: int, generation: int = 1, *, was_overtaken: bool = False) -> int:
        """Compare every record with what the indexer wrote and the patch adds.

        An index `was_overtaken` if it was replaced while it was patched: requests that were on their way then change
        the new index. A later run corrects that, except for offers that the patch used to apply to and no longer does:
        they keep the value. Returns their number.
        """
        right = iter(_expected(records, generation)) if records <= 10**5 else expected(records, generation)
        count = left = 0
        for page in self.pages():
            for found, wanted in zip_longest(page, islice(right, len(page))):
                if found == wanted:
                    continue
                if not (was_overtaken and _is_left(found, wanted)):
                    raise WrongResult(f"the index has {found} instead of {wanted}")
                left += 1
            count += len(page)
        if count != records:
            raise WrongResult(f"the index has {count} records instead of {records}")
        return left

    def pages(self) -> Iterator[list[dict[str, Any]]]:
        """Browse the index: pages of whole records, in the order of the index."""
        body: dict[str, Any] = {"hitsPerPage": PAGE}
        while True:
            page = self.request("POST", f"/1/indexes/{INDEX}/browse", body)
            yield page["hits"]
            if "cursor" not in page:
                return
            body = {"cursor": page["cursor"]}

    def forget_requests(self) -> None:
        """Reset the count of requests."""
        self.request("DELETE", "/sandbox/requests")

    def requests(self) -> int:
        """Return the number of requests since the count was reset."""
        return len(self.request("GET", "/sandbox/requests"))

    def records_sent(self) -> int:
        """Return how many records were sent to the index since its last move, by the log of the service."""
        sent = 0
        for entry in self.request("GET", "/1/logs?type=build&length=1000")["logs"]:
            if entry["url"].endswith("/operation"):
                break
            sent += int(entry["nb_api_calls"])
        return sent

    def operate(self, operation: str, source: str, destination: str) -> None:
        """Move or copy an index, and wait until it is done."""
        body = {"operation": operation, "destination": destination}
        self._wait(source, self.request("POST", f"/1/indexes/{quote(source)}/operation", body)["taskID"])

    def write(self, index: str, changes: Iterable[Mapping[str, Any]]) -> None:
        """Set attributes of existing records, and wait until it is done."""
        remaining = iter(changes)
        task = None
        while batch := list(islice(remaining, PAGE)):
            actions = [{"action": "partialUpdateObjectNoCreate", "body": change} for change in batch]
            task = self.request("POST", f"/1/indexes/{index}/batch", {"requests": actions})["taskID"]
        if task is not None:
            self._wait(index, task)

    def request(self, method: str, path: str, body: object = None) -> Any:
        """Send a request; returns the decoded response."""
        data = None if body is None else msgspec.json.encode(body)
        response = self._session.request(method, f"{self.url}{path}", data=data, timeout=600)
        response.raise_for_status()
        return msgspec.json.decode(response.content)

    def _wait(self, index: str, task: int) -> None:
        while self.request("GET", f"/1/indexes/{quote(index)}/task/{task}")["status"] != "published":
            pass

    def prepare(self, records: int) -> None:
        """Build the templates of a size, once."""
        if records in self._built:
            return
        fresh, patched, mixed = (_template(records, phase) for phase in (ALL, NONE, SOME))
        indexer.rebuild(self.url, index=fresh, records=records)
        self.operate("copy", fresh, patched)
        values = {each["objectID"]: each["customerDispo"] for each in _expected(records, 1) if "customerDispo" in each}
        self.write(patched, ({"objectID": key, "customerDispo": value} for key, value in values.items()))
        self.operate("copy", patched, mixed)
        self.write(mixed, ({"objectID": key, "customerDispo": "périmé"} for key in islice(values, 0, None, ONE_IN)))
        self._built.add(records)


def _is_left(found: dict[str, Any], wanted: dict[str, Any] | None) -> bool:
    """Return whether a record is right except for a value that the patch no longer sets."""
    if wanted is None or "customerDispo" in wanted:
        return False
    return {name: value for name, value in found.items() if name != "customerDispo"} == wanted


def expected(records: int, generation: int) -> Iterator[dict[str, Any]]:
    """Return the records of the indexer, patched."""
    for offer in offers(Settings(offers=records), generation):
        yield {**offer, **customer_dispo(offer)}


@cache
def _expected(records: int, generation: int) -> list[dict[str, Any]]:
    return list(expected(records, generation))


def _template(records: int, phase: str) -> str:
    return f"{phase}_{records}"


@contextmanager
def running(records: int, latency_ms: float = 0, **settings: Any) -> Iterator[StandIn]:
    """Start a stand-in whose log is long enough for a rebuild of this many records and its patching."""
    entries = min(1000, 4 * (records // PAGE) + 50)
    chosen = {"offers": 0, "latency_ms": float(latency_ms), "algolia_log_entries": entries} | settings
    with testing.process(Settings(**chosen)) as url:
        yield StandIn(url)
