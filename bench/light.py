"""The lightest of HTTP servers: GET only, one loop, answers that wait take no thread.

`/wait/<milliseconds>` before the path lets the answer take that long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from bench.serving import tell_address

_HEAD = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"

Answer = Callable[[str], bytes]
"""The body for a path with its query; KeyError, ValueError or IndexError when there is none."""


class _Conversation(asyncio.Protocol):
    def __init__(self, answer: Answer, loop: asyncio.AbstractEventLoop) -> None:
        self.answer = answer
        self.loop = loop
        self.waiting = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.waiting += data
        while b"\r\n\r\n" in self.waiting:
            head, _, self.waiting = self.waiting.partition(b"\r\n\r\n")
            path = head.split(b" ", 2)[1].decode()
            seconds = 0.0
            if path.startswith("/wait/"):
                milliseconds, _, path = path[6:].partition("/")
                seconds, path = float(milliseconds) / 1000, f"/{path}"
            if seconds:
                self.loop.call_later(seconds, self._send, path)
            else:
                self._send(path)

    def _send(self, path: str) -> None:
        if self.transport.is_closing():
            return
        try:
            status, body = b"200 OK", self.answer(path)
        except (KeyError, ValueError, IndexError):
            status, body = b"404 Not Found", b"{}"
        self.transport.writelines((_HEAD % (status, len(body)), body))


def serve(answer: Answer) -> None:
    """Answer until standard input is closed."""
    asyncio.run(_serve(answer))


async def _serve(answer: Answer) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Conversation(answer, loop), "127.0.0.1", 0, backlog=256)
    tell_address(server.sockets[0].getsockname()[1])
    await server.serve_forever()
