"""The stand-in for a target: creates or updates objects over HTTP, as light as can be, in a process of its own.

`POST /<kind>/<id>` with the fields as JSON; `/wait/<milliseconds>` before the path lets the answer take that long. It
keeps of each object a checksum and how often it was sent. `GET /state` tells what came to it, `DELETE /state` forgets,
`POST /down` and `POST /up` say whether it answers with 503.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import requests

from bench.outbound.data import OBJECTS, checksum, digest
from bench.serving import serving, tell_address

_ANSWER = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
_TAKEN = _ANSWER % (b"200 OK", 15, b'{"status":"ok"}')
_DOWN = _ANSWER % (b"503 Service Unavailable", 15, b'{"status":"no"}')
_WRONG = _ANSWER % (b"404 Not Found", 2, b"{}")
_LENGTH = b"content-length:"


class WrongObjects(Exception):
    """The target does not hold what it should, or got something twice."""


class State(msgspec.Struct):
    """What came to the stand-in. `again` counts calls for an object that was there, `changed` those of another value.

    `total` is the checksum of what it holds, `refused` counts calls while it was down.
    """

    calls: int = 0
    objects: int = 0
    again: int = 0
    changed: int = 0
    total: int = 0
    refused: int = 0


class Target:
    """What the stand-in holds. With `is_small` it keeps no objects, only sums: for millions of them."""

    def __init__(self, *, is_small: bool = False) -> None:
        self.is_small = is_small
        self.is_down = False
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self.state = State()
        self.held: dict[bytes, int] = {}

    def answer(self, method: bytes, path: bytes, body: bytes) -> bytes:
        """The answer to a request."""
        if path == b"/state":
            if method == b"DELETE":
                self.forget()
            told = msgspec.json.encode(self.state)
            return _ANSWER % (b"200 OK", len(told), told)
        if path in (b"/down", b"/up"):
            self.is_down = path == b"/down"
            return _TAKEN
        if method != b"POST" or path.count(b"/") != 2:
            return _WRONG
        if self.is_down:
            self.state.refused += 1
            return _DOWN
        self._take(path, digest(path, msgspec.json.decode(body)))
        return _TAKEN

    def _take(self, path: bytes, new: int) -> None:
        state = self.state
        state.calls += 1
        old = None if self.is_small else self.held.get(path)
        if old is None:
            state.objects += 1
            state.total += new
        else:
            state.again += 1
            state.changed += old != new
            state.total += new - old
        if not self.is_small:
            self.held[path] = new


class _Conversation(asyncio.Protocol):
    def __init__(self, target: Target, loop: asyncio.AbstractEventLoop) -> None:
        self.target = target
        self.loop = loop
        self.waiting = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.waiting += data
        while True:
            head, found, rest = self.waiting.partition(b"\r\n\r\n")
            if not found:
                return
            _, named, length = head.lower().partition(_LENGTH)
            size = int(length.split(b"\r\n", 1)[0]) if named else 0
            if len(rest) < size:
                return
            body, self.waiting = rest[:size], rest[size:]
            method, path, _ = head.split(b" ", 2)
            seconds = 0.0
            if path.startswith(b"/wait/"):
                milliseconds, _, path = path[6:].partition(b"/")
                seconds, path = float(milliseconds) / 1000, b"/" + path
            if seconds:
                # Carried out when it is answered: a caller that is gone by then has not had its answer.
                self.loop.call_later(seconds, self._answer, method, path, body)
            else:
                self._answer(method, path, body)

    def _answer(self, method: bytes, path: bytes, body: bytes) -> None:
        answer = self.target.answer(method, path, body)
        if not self.transport.is_closing():
            self.transport.write(answer)


class StandIn:
    """A running stand-in."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._session = requests.Session()
        self._session.trust_env = False

    def slow(self, milliseconds: float) -> str:
        """The address at which every answer takes so long."""
        return f"{self.url}/wait/{milliseconds:g}" if milliseconds else self.url

    def ask(self, method: str, path: str) -> bytes:
        """Send a request; returns what is answered."""
        answer = self._session.request(method, f"{self.url}{path}", timeout=60)
        answer.raise_for_status()
        return answer.content

    def state(self) -> State:
        """What came to it."""
        return msgspec.json.decode(self.ask("GET", "/state"), type=State)

    def forget(self) -> None:
        """Begin anew, without any object."""
        self.ask("DELETE", "/state")

    def check(self, orders: int, *, most_again: int = 0) -> State:
        """Compare what it holds with what the orders say.

        Raises:
            WrongObjects: an object is missing, has another value, or was sent more often than once.
        """
        state = self.state()
        if (state.objects, state.total) != (OBJECTS * orders, checksum(orders)):
            raise WrongObjects(f"the target holds {state}, sent were {OBJECTS * orders} objects of another checksum")
        if state.changed or state.again > most_again:
            raise WrongObjects(f"the target got objects again: {state}")
        return state

    def check_quiet(self) -> None:
        """Check that nothing was sent since it forgot.

        Raises:
            WrongObjects: something was.
        """
        if (state := self.state()).calls:
            raise WrongObjects(f"nothing had changed, but the target got {state.calls} calls")


@contextmanager
def running(*, is_small: bool = False) -> Iterator[StandIn]:
    """Start a stand-in, and stop it in the end."""
    with serving("bench.outbound.standin", *(["small"] if is_small else [])) as url:
        yield StandIn(url)


async def serve(*, is_small: bool) -> None:
    """Answer until standard input is closed."""
    target, loop = Target(is_small=is_small), asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Conversation(target, loop), "127.0.0.1", 0, backlog=256)
    tell_address(server.sockets[0].getsockname()[1])
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(is_small=sys.argv[1:] == ["small"]))
