"""Find in Algolia's log of writes the moves that put another index in the place of ours.

https://www.algolia.com/doc/rest-api/search/get-logs and https://www.algolia.com/doc/rest-api/search/operation-index.
The log keeps at most 1000 entries of seven days, stamped with whole seconds when the request was accepted; the task
that it began may be published much later.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote

import msgspec

from include.connectors.algolia import MAX_LOG_ENTRIES, AlgoliaIndex
from include.errors import PaginationError

log = logging.getLogger(__name__)

OVERLAP = timedelta(minutes=5)
"""An entry may come so much later than a newer one was read: servers of one cluster, clocks that differ."""
KEPT = timedelta(days=7)
FIRST_PAGE = 100
MAX_PAGES = 100


class Move(msgspec.Struct, frozen=True):
    """A move onto our index: `id` of the log entry, when it was accepted, from which index, and its task."""

    id: str
    at: datetime
    source: str
    task_id: int | None = None


@dataclass
class Reading:
    """What the log said: `moves` onto the index, oldest first, and the `newest` and `oldest` stamp of all entries."""

    moves: list[Move] = field(default_factory=list)
    entries: int = 0
    unreadable: int = 0
    newest: datetime | None = None
    oldest: datetime | None = None

    def reaches(self, moment: datetime) -> bool:
        """Whether everything since `moment` was read: an entry of it or of before is still there.

        Of a log without entries nothing is known but that none was written for as long as it is kept.
        """
        if self.oldest is None:
            return not self.unreadable and moment <= datetime.now(UTC) - KEPT
        return self.oldest <= moment


def read_log(index: AlgoliaIndex, since: datetime | None) -> Reading:
    """Read the log back to five minutes before `since`, or all that is kept.

    Raises:
        PaginationError: it has no end.
    """
    reading = Reading()
    seen: set[str] = set()
    offset, length = 0, FIRST_PAGE if since else MAX_LOG_ENTRIES
    for _ in range(MAX_PAGES):
        page = index.logs(offset, length)
        known = len(seen)
        for entry in page:
            _note(reading, entry, index.name, seen)
        if len(seen) == known or (since and reading.oldest and reading.oldest < since - OVERLAP):
            break
        offset, length = offset + len(page), MAX_LOG_ENTRIES
    else:
        raise PaginationError(f"Algolia's log does not end after {MAX_PAGES} pages", entries=reading.entries)
    reading.moves.reverse()  # the newest came first: those of one second stay in their order
    reading.moves.sort(key=lambda move: move.at)
    if reading.unreadable:
        log.warning("%s entries of Algolia's log have no stamp that can be read", f"{reading.unreadable:,}")
    return reading


def _note(reading: Reading, entry: Any, index: str, seen: set[str]) -> None:
    at = _stamp(entry)
    if at is None:
        reading.unreadable += 1
        return
    if (id_ := _id(entry)) in seen:  # new entries shift the pages: one may come twice
        return
    seen.add(id_)
    reading.entries += 1
    reading.newest = max(reading.newest or at, at)
    reading.oldest = min(reading.oldest or at, at)
    if move := move_of(entry, index):
        reading.moves.append(move)


def move_of(entry: Mapping[str, Any], index: str) -> Move | None:
    """The move onto `index` that a log entry tells of; None if it tells of something else, or was refused."""
    parts = str(entry.get("url", "")).partition("?")[0].split("/")
    at = _stamp(entry)
    if at is None or len(parts) < 5 or parts[-1] != "operation" or parts[-3] != "indexes":
        return None
    body, answer = _json(entry.get("query_body")), _json(entry.get("answer"))
    if body.get("operation") != "move" or body.get("destination") != index:
        return None
    if not str(entry.get("answer_code") or 200).startswith("2"):
        return None
    task_id = answer.get("taskID")
    return Move(_id(entry), at, unquote(parts[-2]), task_id if isinstance(task_id, int) else None)


def _stamp(entry: Any) -> datetime | None:
    try:
        at = datetime.fromisoformat(entry["timestamp"])
    except (KeyError, TypeError, ValueError):
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _json(text: object) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(text) if isinstance(text, str | bytes) else text
    except (msgspec.DecodeError, UnicodeError):
        return {}
    return value if isinstance(value, dict) else {}


def _id(entry: Mapping[str, Any]) -> str:
    """What tells an entry apart. Its `sha1` alone is not trusted to: each rebuild sends the same request."""
    told = "\n".join(str(entry.get(name)) for name in ("sha1", "timestamp", "url", "query_body", "answer"))
    return hashlib.sha256(told.encode(errors="replace")).hexdigest()[:32]
