"""Servers of the benchmarks, each in a process of its own that ends with whoever started it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

ROOT = Path(__file__).parents[1]


@contextmanager
def serving(module: str, *arguments: object) -> Iterator[str]:
    """Run a module that prints its address and then serves; yields the address."""
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


def tell_address(port: int) -> None:
    """Print the address, and end this process when its standard input is closed: its parent holds the other end."""
    print(f"http://127.0.0.1:{port}", flush=True)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(0)
