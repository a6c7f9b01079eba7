"""What a process that patches the index has to do."""

from __future__ import annotations

from dataclasses import dataclass

APPLICATION = "SANDBOX"
PATCHING_KEY = "sandbox-patch"
ALL, SOME, NONE = "all", "some", "none"
"""Phases after a rebuild: every record must change, one in a hundred, none."""
QUIET, FIRST, FORCED = "quiet", "first", "forced"
"""Phases without a rebuild: nothing to do; an index never seen before; a pass that somebody asks for."""


@dataclass(frozen=True)
class SearchTask:
    """Where the service is and the database, which phase it is, and which records a helper sends (`form`)."""

    url: str
    conninfo: str
    phase: str
    form: str = ""
