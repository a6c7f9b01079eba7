"""The log of the calls of `algolia`, as https://www.algolia.com/doc/rest-api/search/get-logs tells of it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha1
from itertools import islice
from typing import Literal, NamedTuple

LogType = Literal["all", "query", "build", "error"]
_AGE = 7 * 24 * 3600
_TEXT = 1000


class _Entry(NamedTuple):
    at: float
    kind: str
    failed: bool
    shown: dict[str, str]


class Logs:
    """The last entries, no older than seven days."""

    def __init__(self, kept: int, clock: Callable[[], float] = time.time) -> None:
        self._entries: deque[_Entry] = deque(maxlen=kept)
        self._clock = clock
        self._noted = 0

    def note(self, kind: str, status: int, query_body: bytes, answer: bytes, **told: str) -> None:
        """Put a call of a kind (`query` or `build`) on top; `told` are the fields that come as they are."""
        self._noted += 1
        at = self._clock()
        shown = {
            "timestamp": datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "answer_code": str(status),
            "query_body": _beginning(query_body),
            "answer": _beginning(answer),
            "sha1": sha1(f"{time.time_ns()} {self._noted}".encode()).hexdigest(),
            **told,
        }
        self._entries.appendleft(_Entry(at, kind, status >= 400, shown))

    def read(self, offset: int, length: int, kind: LogType, index: str | None) -> list[dict[str, str]]:
        """Return `length` entries from the `offset`-th on, the newest first, of a kind and of an index (None: any)."""
        oldest = self._clock() - _AGE
        chosen = (
            entry.shown
            for entry in self._entries
            if entry.at >= oldest
            and (kind == "all" or (entry.failed if kind == "error" else entry.kind == kind))
            and index in (None, entry.shown.get("index"))
        )
        return list(islice(chosen, offset, offset + length))


def _beginning(text: bytes) -> str:
    return text[: 4 * _TEXT].decode("utf-8", "replace")[:_TEXT]
