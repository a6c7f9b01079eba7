"""The stand-in for a target: `POST /<kind>/<id>` creates or updates an object from the fields in its JSON body.

It stores a checksum per object, and counts the requests. `GET /state` returns the counts, `DELETE /state` deletes them
and the objects, `POST /down` makes it answer every request for an object with 503 until `POST /up`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from bench.measuring import WrongResult
from bench.outbound.data import OBJECTS, checksum, digest
from bench.raw_http import Unavailable, serve, serving


class State(msgspec.Struct):
    """What the target received.

    `again` counts requests for objects that existed, `changed` those among them with other values, `refused` those
    while it was down; `total` is the sum of the objects' checksums.
    """

    calls: int = 0
    objects: int = 0
    again: int = 0
    changed: int = 0
    total: int = 0
    refused: int = 0


class Target:
    """The objects and the state. Without `stores_objects` it only has the sums, for millions of objects."""

    def __init__(self, *, stores_objects: bool = True) -> None:
        self.stores_objects = stores_objects
        self.is_down = False
        self.reset()

    def reset(self) -> None:
        """Delete the objects and the counts."""
        self.state = State()
        self.digests: dict[str, int] = {}

    def handle(self, method: str, path: str, body: bytes) -> bytes:
        """Return the response to a request."""
        if path == "/state":
            if method == "DELETE":
                self.reset()
            return msgspec.json.encode(self.state)
        if path in ("/down", "/up"):
            self.is_down = path == "/down"
            return b"{}"
        if method != "POST" or path.count("/") != 2:
            raise KeyError(path)
        if self.is_down:
            self.state.refused += 1
            raise Unavailable
        self._store(path, digest(path, msgspec.json.decode(body)))
        return b'{"status":"ok"}'

    def _store(self, path: str, new: int) -> None:
        state = self.state
        state.calls += 1
        old = self.digests.get(path)
        if old is None:
            state.objects += 1
            state.total += new
        else:
            state.again += 1
            state.changed += old != new
            state.total += new - old
        if self.stores_objects:
            self.digests[path] = new


class StandIn:
    """A running stand-in."""

    def __init__(self, url: str) -> None:
        import requests

        self.url = url
        self._session = requests.Session()
        self._session.trust_env = False

    def request(self, method: str, path: str) -> bytes:
        """Send a request; returns the body of the response."""
        response = self._session.request(method, f"{self.url}{path}", timeout=60)
        response.raise_for_status()
        return response.content

    def state(self) -> State:
        """Return what it received."""
        return msgspec.json.decode(self.request("GET", "/state"), type=State)

    def reset(self) -> None:
        """Delete the objects and the counts."""
        self.request("DELETE", "/state")

    def check(self, orders: int, *, max_again: int = 0) -> State:
        """Compare the objects with the orders. At most `max_again` requests may have repeated an earlier one."""
        state = self.state()
        if (state.objects, state.total) != (OBJECTS * orders, checksum(orders)):
            raise WrongResult(f"the target has {state} instead of the {OBJECTS * orders} objects of the orders")
        if state.changed or state.again > max_again:
            raise WrongResult(f"the target received objects again: {state}")
        return state


@contextmanager
def running() -> Iterator[StandIn]:
    """Start a stand-in, and stop it in the end."""
    with serving("bench.outbound.server") as url:
        yield StandIn(url)


if __name__ == "__main__":
    serve(Target().handle)
