"""A minimal HTTP server, since it shares two cores with what is measured: one event loop, keep-alive, no framework.

A path that begins with `/wait/<milliseconds>` delays its response by that time. Each server is a process of its own,
which ends when its parent does.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

ROOT = Path(__file__).parents[1]
_HEAD = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
_LENGTH = b"content-length:"

Handler = Callable[[str, str, bytes], bytes]
"""Returns the response body for a method, a path with its query, and a request body.

KeyError, ValueError and IndexError become 404, `Unavailable` becomes 503.
"""


class Unavailable(Exception):
    """The service is down."""


@contextmanager
def serving(module: str, *arguments: object) -> Iterator[str]:
    """Run a module that calls `serve`; yields its address."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            url = process.stdout.readline().strip()
            if not url:
                raise RuntimeError(f"{module} did not start, exit status {process.wait()}")
            yield url
        finally:
            process.kill()


def with_latency(url: str, milliseconds: float) -> str:
    """Return the address at which every response takes this long."""
    return f"{url}/wait/{milliseconds:g}" if milliseconds else url


def serve(handler: Handler) -> None:
    """Print the address, then answer requests until standard input is closed: the parent holds its other end."""
    asyncio.run(_serve(handler))


async def _serve(handler: Handler) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Conversation(handler, loop), "127.0.0.1", 0, backlog=256)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    Thread(target=_exit_with_parent, daemon=True).start()
    await server.serve_forever()


def _exit_with_parent() -> None:
    sys.stdin.read()
    os._exit(0)


class _Conversation(asyncio.Protocol):
    def __init__(self, handler: Handler, loop: asyncio.AbstractEventLoop) -> None:
        self.handler = handler
        self.loop = loop
        self.received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**20)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data
        while True:
            head, is_complete, rest = self.received.partition(b"\r\n\r\n")
            if not is_complete:
                return
            _, has_body, length = head.lower().partition(_LENGTH)
            size = int(length.split(b"\r\n", 1)[0]) if has_body else 0
            if len(rest) < size:
                return
            body, self.received = rest[:size], rest[size:]
            method, path, _ = head.decode().split(" ", 2)
            if path.startswith("/wait/"):
                milliseconds, _, path = path[6:].partition("/")
                # The handler runs after the delay: a client that is killed meanwhile has not had its response either.
                self.loop.call_later(float(milliseconds) / 1000, self._respond, method, f"/{path}", body)
            else:
                self._respond(method, path, body)

    def _respond(self, method: str, path: str, body: bytes) -> None:
        try:
            status, content = b"200 OK", self.handler(method, path, body)
        except (KeyError, ValueError, IndexError):
            status, content = b"404 Not Found", b"{}"
        except Unavailable:
            status, content = b"503 Service Unavailable", b"{}"
        if not self.transport.is_closing():
            self.transport.writelines((_HEAD % (status, len(content)), content))
