"""The sandbox in the local run: its process, its address, and the demo index that an indexer rebuilds in it."""

from __future__ import annotations

import sys
import time

from local import airflow, demo
from local.checkout import LocalError
from local.context import ALGOLIA, Local
from local.processes import Started, describe_exit
from local.watch import Watch


def choose_port(local: Local) -> int:
    """Return the port of the previous run if it is free, so that the image URLs of the listings stay the same."""
    file = local.checkout.state / "sandbox-port"
    previous = file.read_text() if file.exists() else ""
    port = airflow.free_port(int(previous) if previous.isdecimal() else 0)
    file.write_text(str(port))
    return port


def start(local: Local, watch: Watch, host: str, port: int, *, rebuild: bool) -> str:
    """Start the sandbox and wait until it is ready; return its URL.

    The watch restarts it at the same address. With `rebuild`, a restart also rebuilds the demo index, which the sandbox
    keeps in memory only.
    """
    log = local.checkout.logs / "sandbox.log"
    url = f"http://{host}:{port}"
    env = local.user_env | {"PYTHONPATH": str(local.checkout.root)}
    command = [sys.executable, "-u", "-m", "sandbox", "--host", host, "--port", str(port)]
    command += ["--state", str(local.checkout.state / "sandbox.json")]

    def start_process() -> Started:
        return local.processes.start("sandbox", command, env=env, cwd=local.checkout.root, log=log)

    def check(started: Started) -> None:
        if (status := local.processes.exit_status(started)) is not None:
            raise LocalError(f"the sandbox {describe_exit(status)}:\n{airflow.last_lines(log)}")

    def wait_until_ready(started: Started) -> None:
        wait = local.wait("the sandbox")
        while not log.read_text(encoding="utf-8", errors="replace").strip():
            check(started)
            wait.still("not ready")
            time.sleep(0.1)

    def restarted(started: Started) -> None:
        wait_until_ready(started)
        if rebuild:
            rebuild_index(local, url)

    with local.screen.step("Starting the sandbox"):
        with local.signals.hold():
            started = watch.add("the sandbox", start_process, restarted)
        wait_until_ready(started)
        check(started)  # its output may have been an error
    return url


def rebuild_index(local: Local, url: str) -> None:
    """Rebuild the demo index in the sandbox at this URL."""
    index = next(connection for connection in local.settings.connections if connection.id == ALGOLIA)
    with local.screen.step("Rebuilding the demo index"):
        demo.rebuild(local.checkout, local.user_env | airflow.past_proxies(local.user_env), url, index)
