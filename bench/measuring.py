"""What a contender's process measures of itself. Standard library only: peers import it in their own environment."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

MIB = 2**20


@dataclass(frozen=True)
class Task:
    """What one process has to do."""

    url: str
    """Address of the listing."""
    conninfo: str
    """The database, for libpq."""
    table: str
    columns: list[str]
    """How the table calls the columns of the listing."""
    folder: str
    """For working files; kept between the phases of a round."""
    phase: str
    records: int
    dated: bool
    prepared: str
    """A file with the listing in the text format of COPY, for who asks for one."""
    psql: str


@dataclass(frozen=True)
class Measured:
    """Seconds of work, CPU seconds of the process and of its children, and its memory in MiB."""

    seconds: float
    cpu_seconds: float
    peak: float
    growth: float


def main(prepare: Callable[[Any], Callable[[], object]], kind: Callable[..., object] = Task) -> None:
    """Do the task given as argument and print what was measured. What `prepare` does is not: imports, connections."""
    work = prepare(kind(**json.loads(sys.argv[1])))
    _reset_peak()
    memory_before, cpu_before = _peak(), _cpu()
    began = time.perf_counter()
    work()
    seconds = time.perf_counter() - began
    cpu, peak = _cpu() - cpu_before, _peak()
    print(json.dumps(asdict(Measured(seconds, cpu, peak, peak - memory_before))), flush=True)


def _cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def _reset_peak() -> None:
    """Let the peak begin here, where the system can (Linux), so that imports do not hide what the work takes."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak() -> float:
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024
    except (OSError, IndexError):
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MIB
