"""The stand-in for the search service, in a process of its own: its index made as each phase needs it, and looked at.

Quickly, and outside of what is measured: of each size there are three indices to take copies of. The indexer of the
sandbox builds the first, as a rebuild leaves it; the others are copies with `customerDispo` written into. Before each
phase one is copied aside and moved onto the index, which is all that the log of the service shows of a rebuild.
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

from bench.search.task import ALL, APPLICATION, NONE, SOME
from include.patches.customer_dispo import customer_dispo
from sandbox import indexer, testing
from sandbox.offers import INDEX, offers
from sandbox.world import Settings

KEY = "sandbox-admin"
ONE_IN = 100
PAGE = 1000


class WrongRecords(Exception):
    """The index does not hold the records of the indexer, each as the rule says."""


class StandIn:
    """A running stand-in. `latency_ms` is what each of its answers takes at least."""

    def __init__(self, url: str, latency_ms: float = 0) -> None:
        self.url = url
        self.latency_ms = latency_ms
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers.update({"x-algolia-application-id": APPLICATION, "x-algolia-api-key": KEY})
        self._built: set[int] = set()

    def rebuild(self, records: int, phase: str) -> None:
        """Let the index be moved away by one in which all, some or none of the records must change."""
        self.prepare(records)
        self.operate("copy", _template(records, phase), f"{INDEX}_tmp")
        self.operate("move", f"{INDEX}_tmp", INDEX)

    def check(self, records: int, generation: int = 1, *, was_overtaken: bool = False) -> int:
        """Compare all of every record with what the indexer put there and the rule adds.

        An index `was_overtaken` if it was moved away while it was patched: what was on its way then reaches the new
        one. A later pass puts that right, but for offers of which the rule says nothing now and said something before:
        these keep what they got. Returns how many there are.

        Raises:
            WrongRecords: one is wrong, new, or gone.
        """
        wanted = iter(_expected(records, generation)) if records <= 10**5 else expected(records, generation)
        count = left = 0
        for page in self.pages():
            for held, right in zip_longest(page, islice(wanted, len(page))):
                if held == right:
                    continue
                if not (was_overtaken and _is_left(held, right)):
                    raise WrongRecords(f"the index holds {held} instead of {right}")
                left += 1
            count += len(page)
        if count != records:
            raise WrongRecords(f"the index holds {count} records instead of {records}")
        return left

    def pages(self) -> Iterator[list[dict[str, Any]]]:
        """Browse the index, whole records, in the order in which they came."""
        asked: dict[str, Any] = {"hitsPerPage": PAGE}
        while True:
            answer = self.ask("POST", f"/1/indexes/{INDEX}/browse", asked)
            yield answer["hits"]
            if "cursor" not in answer:
                return
            asked = {"cursor": answer["cursor"]}

    def forget_requests(self) -> None:
        """Count requests from here on."""
        self.ask("DELETE", "/sandbox/requests")

    def requests(self) -> int:
        """How many requests came since they were forgotten."""
        return len(self.ask("GET", "/sandbox/requests"))

    def records_sent(self) -> int:
        """How many records were sent to the index since it was last moved, as the log counts them."""
        sent = 0
        for entry in self.ask("GET", "/1/logs?type=build&length=1000")["logs"]:
            if entry["url"].endswith("/operation"):
                break
            sent += int(entry["nb_api_calls"])
        return sent

    def operate(self, operation: str, source: str, destination: str) -> None:
        """Move or copy an index, and wait until it is done."""
        asked = {"operation": operation, "destination": destination}
        self._wait(source, self.ask("POST", f"/1/indexes/{quote(source)}/operation", asked)["taskID"])

    def write(self, index: str, changes: Iterable[Mapping[str, Any]]) -> None:
        """Set attributes of records that there are, and wait until it is done."""
        waiting = iter(changes)
        task = None
        while batch := list(islice(waiting, PAGE)):
            asked = [{"action": "partialUpdateObjectNoCreate", "body": change} for change in batch]
            task = self.ask("POST", f"/1/indexes/{index}/batch", {"requests": asked})["taskID"]
        if task is not None:
            self._wait(index, task)

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """Send a request; returns what the answer says."""
        data = None if body is None else msgspec.json.encode(body)
        answer = self._session.request(method, f"{self.url}{path}", data=data, timeout=600)
        answer.raise_for_status()
        return msgspec.json.decode(answer.content)

    def _wait(self, index: str, task: int) -> None:
        while self.ask("GET", f"/1/indexes/{quote(index)}/task/{task}")["status"] != "published":
            pass

    def prepare(self, records: int) -> None:
        """Make what the index is a copy of in each phase, once."""
        if records in self._built:
            return
        fresh, patched, mixed = (_template(records, phase) for phase in (ALL, NONE, SOME))
        indexer.rebuild(self.url, index=fresh, records=records)
        self.operate("copy", fresh, patched)
        right = (
            {"objectID": each["objectID"], "customerDispo": each["customerDispo"]}
            for each in _expected(records, 1)
            if "customerDispo" in each
        )
        self.write(patched, right)
        self.operate("copy", patched, mixed)
        one_in_so_many = islice((each for each in _expected(records, 1) if "customerDispo" in each), 0, None, ONE_IN)
        self.write(mixed, ({"objectID": each["objectID"], "customerDispo": "périmé"} for each in one_in_so_many))
        self._built.add(records)


def _is_left(held: dict[str, Any], right: dict[str, Any] | None) -> bool:
    """Whether a record is right but for a value of which the rule says nothing."""
    if right is None or "customerDispo" in right:
        return False
    return {name: value for name, value in held.items() if name != "customerDispo"} == right


def expected(records: int, generation: int) -> Iterator[dict[str, Any]]:
    """The records of the indexer, patched."""
    for offer in offers(Settings(offers=records), generation):
        yield {**offer, **customer_dispo(offer)}


@cache
def _expected(records: int, generation: int) -> list[dict[str, Any]]:
    return list(expected(records, generation))


def _template(records: int, phase: str) -> str:
    return f"{phase}_{records}"


@contextmanager
def running(records: int, latency_ms: float = 0, **settings: Any) -> Iterator[StandIn]:
    """Start a stand-in whose log reaches back over a rebuild of so many records and its patching."""
    kept = min(1000, 4 * (records // PAGE) + 50)
    chosen = {"offers": 0, "latency_ms": float(latency_ms), "algolia_log_entries": kept} | settings
    with testing.process(Settings(**chosen)) as url:
        yield StandIn(url, latency_ms)
