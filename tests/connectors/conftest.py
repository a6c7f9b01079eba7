"""A real HTTP service on the loopback; each test scripts its responses."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from include.connectors.http import HttpConnector


@dataclass
class Asked:
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    method: str = "GET"
    body: bytes = b""


@dataclass
class Service:
    """`script` holds what to answer, one entry per request; the last one is repeated."""

    url: str = ""
    port: int = 0
    script: list[Callable[[Any], None]] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0
    over: threading.Event = field(default_factory=threading.Event)

    def answers(
        self,
        body: bytes = b"{}",
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        cut: int = 0,
        chunked: bool = False,
        times: int = 1,
    ) -> Service:
        """Answer with `body`; `cut` bytes of it are announced but not sent."""

        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(status)
            for name, value in (headers or {}).items():
                handler.send_header(name, value)
            sent = body[: len(body) - cut]
            if chunked:
                handler.send_header("Transfer-Encoding", "chunked")
                sent = b"%x\r\n%s" % (len(body), sent) + (b"" if cut else b"\r\n0\r\n\r\n")
            elif status != 204:
                handler.send_header("Content-Length", str(len(body)))
            handler.end_headers()
            with contextlib.suppress(OSError):
                handler.wfile.write(sent)
            handler.close_connection = bool(cut)

        self.script += [answer] * times
        return self

    def hangs(self) -> Service:
        """Say nothing until the test is over."""

        def hang(handler: BaseHTTPRequestHandler) -> None:
            self.over.wait(30)
            handler.close_connection = True

        self.script.append(hang)
        return self

    def hangs_up(self) -> Service:
        """Close the connection without an answer."""

        def hang_up(handler: BaseHTTPRequestHandler) -> None:
            handler.close_connection = True

        self.script.append(hang_up)
        return self

    def trickles(self, *, pause: float) -> Service:
        """Send one byte after the other and never come to the end."""

        def trickle(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(200)
            handler.send_header("Content-Length", "1000000")
            handler.end_headers()
            handler.close_connection = True
            try:
                while not self.over.wait(pause):
                    handler.wfile.write(b"x")
            except OSError:
                pass

        self.script.append(trickle)
        return self


@contextlib.contextmanager
def serving(server_class: type[HTTPServer] = ThreadingHTTPServer, host: str = "127.0.0.1") -> Iterator[Service]:
    """Run a service until the block ends."""
    service = Service()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def setup(self) -> None:
            super().setup()
            service.connections += 1

        def do_GET(self) -> None:
            where = urlsplit(self.path)
            query = {name: values[-1] for name, values in parse_qs(where.query).items()}
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            service.asked.append(Asked(where.path, query, dict(self.headers), self.command, body))
            service.script[min(len(service.asked), len(service.script)) - 1](self)

        do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815

        def handle(self) -> None:
            with contextlib.suppress(ConnectionError):  # a client that did not wait for the end
                super().handle()

        def finish(self) -> None:
            with contextlib.suppress(ConnectionError):
                super().finish()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = server_class((host, 0), Handler)
    service.port = server.server_port
    service.url = f"http://127.0.0.1:{server.server_port}/api"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield service
    service.over.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def service() -> Iterator[Service]:
    with serving() as service:
        yield service


@pytest.fixture
def mirror() -> Iterator[Service]:
    """A second address of the service."""
    with serving() as service:
        yield service


class Naps(list[float]):
    """Stands in for `time.sleep`: notes the seconds and returns at once."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


@pytest.fixture
def naps() -> Naps:
    return Naps()


@pytest.fixture
def connect(service: Service, naps: Naps) -> Iterator[Callable[..., HttpConnector]]:
    """Make connectors to the service that do not really sleep, with jitter at its longest."""
    made: list[HttpConnector] = []

    def make(url: str | None = None, **options: Any) -> HttpConnector:
        connector = HttpConnector(url or service.url, **{"sleep": naps, "jitter": lambda: 1.0, **options})
        made.append(connector)
        return connector

    yield make
    for connector in made:
        connector.close()
