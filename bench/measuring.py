"""What runs in a competitor's process: one task, measured. Standard library only, since the peers import it as well."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

MIB = 2**20
READY = "ready\n"


class WrongResult(Exception):
    """What every check raises: the rows, records or objects are not the expected ones."""


@dataclass(frozen=True)
class Task:
    """What one process has to do.

    `url` is the address of the service, `conninfo` the database, `folder` a place for files that are kept from one
    phase to the next, `options` whatever else the benchmark's competitors need.
    """

    url: str
    conninfo: str
    phase: str
    options: dict[str, Any] = field(default_factory=dict)
    folder: str = ""


@dataclass(frozen=True)
class Usage:
    """Seconds of work, CPU seconds with child processes, peak memory and its growth during the work (MiB)."""

    seconds: float
    cpu_seconds: float
    peak: float
    growth: float


def main(prepare: Callable[[Task], Callable[[], object]]) -> None:
    """Do the task of the command line and print its usage as JSON. What `prepare` does is not measured.

    The work begins when standard input is closed: the harness waits until all processes have printed READY.
    """
    work = prepare(Task(**json.loads(sys.argv[1])))
    print(READY, end="", flush=True)
    sys.stdin.read()
    _reset_peak()
    memory_before, cpu_before = _peak(), _cpu_seconds()
    began = time.perf_counter()
    work()
    seconds = time.perf_counter() - began
    cpu_seconds, peak = _cpu_seconds() - cpu_before, _peak()
    print(json.dumps(asdict(Usage(seconds, cpu_seconds, peak, peak - memory_before))), flush=True)


def _cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def _reset_peak() -> None:
    """Reset the kernel's peak (Linux only): otherwise the memory that imports took would hide what the work takes."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak() -> float:
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024
    except (OSError, IndexError):
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MIB
