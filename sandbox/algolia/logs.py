"""The log of API calls, as described by https://www.algolia.com/doc/rest-api/search/get-logs."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha1
from itertools import islice
from typing import Literal, NamedTuple

LogType = Literal["all", "query", "build", "error"]
_MAX_AGE = 7 * 24 * 3600  # seconds
_MAX_CHARACTERS = 1000


class _Entry(NamedTuple):
    at: float
    kind: str
    failed: bool
    fields: dict[str, str]


class Logs:
    """The last entries, at most `max_entries`, none older than seven days."""

    def __init__(self, max_entries: int, clock: Callable[[], float] = time.time) -> None:
        self._entries: deque[_Entry] = deque(maxlen=max_entries)
        self._clock = clock
        self._count = 0

    def add(self, kind: str, status: int, query_body: bytes, answer: bytes, **fields: str) -> None:
        """Add an entry of a kind (`query` or `build`); `fields` are stored unchanged."""
        self._count += 1
        at = self._clock()
        entry = {
            "timestamp": datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "answer_code": str(status),
            "query_body": _shorten(query_body),
            "answer": _shorten(answer),
            "sha1": sha1(f"{time.time_ns()} {self._count}".encode()).hexdigest(),
            **fields,
        }
        self._entries.appendleft(_Entry(at, kind, status >= 400, entry))

    def read(self, offset: int, length: int, kind: LogType, index: str | None) -> list[dict[str, str]]:
        """Return up to `length` entries, newest first, starting at `offset`, of a kind and an index (None: any)."""
        oldest = self._clock() - _MAX_AGE
        chosen = (
            entry.fields
            for entry in self._entries
            if entry.at >= oldest
            and (kind == "all" or (entry.failed if kind == "error" else entry.kind == kind))
            and index in (None, entry.fields.get("index"))
        )
        return list(islice(chosen, offset, offset + length))


def _shorten(text: bytes) -> str:
    return text[: 4 * _MAX_CHARACTERS].decode("utf-8", "replace")[:_MAX_CHARACTERS]
