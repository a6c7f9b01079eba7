"""What a process that sends orders has to do."""

from __future__ import annotations

from dataclasses import dataclass

ALL, NONE = "all", "none"
"""Phases: everything is new to the target; nothing changed since."""


@dataclass(frozen=True)
class OutboundTask:
    """Where the target is and the database, which phase it is, how many calls may run at once (`calls`).

    `waits`: begin when the gate opens. Without a `url` the process takes the objects itself, and compares their number
    and checksum with `objects` and `total`: then no other process takes memory or time.
    """

    url: str
    conninfo: str
    phase: str
    calls: int
    waits: bool = False
    objects: int = 0
    total: int = 0
