"""A server of the listings, as light as can be: the contenders share two cores with it.

One thread per connection, HTTP/1.1 with keep-alive, no framework. Every listing has an address of its own, see
`Listing.path`; `?after=<ref>` asks for the page behind a reference. A path may begin with `/wait/<milliseconds>`:
then every answer takes that long.
"""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from threading import Thread

from bench.listing import Listing
from bench.serving import tell_address


def answer(target: str) -> tuple[float, bytes]:
    """The seconds to wait and the body for the target of a request."""
    path, _, query = target.partition("?")
    _, *parts = path.split("/")
    seconds = 0.0
    if parts[0] == "wait":
        seconds = float(parts[1]) / 1000
        parts = parts[2:]
    records, generation, form, _ = parts
    after = dict(field.split("=", 1) for field in query.split("&") if field).get("after", "")
    return seconds, Listing(int(records), int(generation), form == "dated").page_after(after)


def _converse(connection: socket.socket) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**20)
    waiting = b""
    with connection, suppress(ConnectionError):
        while True:
            while b"\r\n\r\n" not in waiting:
                received = connection.recv(65536)
                if not received:
                    return
                waiting += received
            request, _, waiting = waiting.partition(b"\r\n\r\n")
            asked = time.perf_counter()
            try:
                seconds, body = answer(request.split(b" ", 2)[1].decode())
                status = b"200 OK"
            except (ValueError, IndexError, UnicodeDecodeError):
                seconds, body, status = 0.0, b"", b"404 Not Found"
            head = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (status, len(body))
            if seconds:
                time.sleep(max(0.0, asked + seconds - time.perf_counter()))
            connection.sendall(head + body)


def main() -> None:
    """Serve until standard input is closed."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    tell_address(listener.getsockname()[1])
    while True:
        connection, _ = listener.accept()
        Thread(target=_converse, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    main()
