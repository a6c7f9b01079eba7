"""What a process that synchronises theatres has to do."""

from __future__ import annotations

from dataclasses import dataclass

ALL, NONE, SOME = "first", "unchanged", "changed"
"""Phases: empty tables; nothing changed since; one showtime in a hundred is at another time."""


@dataclass(frozen=True)
class TheatreTask:
    """Where the service is and the database, and which phase it is.

    `catalog_id` and `batch` are the load that is open and the share of this process. `waits`: begin when the gate
    opens.
    """

    url: str
    conninfo: str
    phase: str
    catalog_id: int = 0
    batch: int = 0
    waits: bool = False
