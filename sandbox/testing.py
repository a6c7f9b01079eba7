"""Run the sandbox from Python: `serving` in a thread of this process, `process` in a child process."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import uvicorn

from sandbox.app import create_app
from sandbox.world import Settings, World


def listen(host: str = "127.0.0.1", port: int = 0) -> tuple[socket.socket, str]:
    """Return a listening socket and its URL. Clients may connect at once, before the server is ready."""
    listener = socket.create_server((host, port), backlog=2048)
    return listener, f"http://{host}:{listener.getsockname()[1]}"


def server(world: World) -> uvicorn.Server:
    """Return a server that logs nothing and does not wait for open requests when it shuts down."""
    config = uvicorn.Config(create_app(world), log_level="critical", access_log=False, timeout_graceful_shutdown=0)
    return uvicorn.Server(config)


@contextmanager
def serving(world: World) -> Iterator[str]:
    """Serve a world from a thread; yield the URL. The world may be read and advanced meanwhile."""
    listener, url = listen()
    running = server(world)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]}, name="sandbox")
    thread.start()
    try:
        yield url
    finally:
        running.should_exit = True
        thread.join()
        listener.close()


@contextmanager
def process(settings: Settings) -> Iterator[str]:
    """Serve a world from a child process; yield the URL."""
    options = [f"--{name.replace('_', '-')}={value}" for name, value in asdict(settings).items()]
    command = [sys.executable, "-m", "sandbox", "--host=127.0.0.1", "--port=0", *options]
    root = Path(__file__).parents[1]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as running:
        try:
            line = running.stdout.readline() if running.stdout else ""
            if not line:
                raise RuntimeError(f"the sandbox did not start: exit status {running.wait()}")
            yield line.split()[-1]
        finally:
            running.terminate()
            try:
                running.wait(5)
            except subprocess.TimeoutExpired:
                running.kill()
