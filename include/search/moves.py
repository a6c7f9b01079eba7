"""Find the moves in Algolia's log that replaced our index with another one.

https://www.algolia.com/doc/rest-api/search/get-logs and https://www.algolia.com/doc/rest-api/search/operation-index.
The log keeps at most 1000 entries for seven days. An entry has the time at which its request was accepted, in whole
seconds; the task that the request started may be published much later.
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
"""How far before the checkpoint the log is read again: the servers of a cluster may write entries late, or with clocks
that differ."""
LOG_RETENTION = timedelta(days=7)
FIRST_PAGE = 100
MAX_PAGES = 100


class Move(msgspec.Struct, frozen=True):
    """A move onto our index.

    :param id: identifies the log entry.
    :param at: when Algolia accepted the request.
    :param source: name of the index that replaced ours.
    :param task_id: task of the move; None if the log does not name it.
    """

    id: str
    at: datetime
    source: str
    task_id: int | None = None


@dataclass
class LogExcerpt:
    """The part of the log that was read.

    :param moves: moves onto the index, oldest first.
    :param entries: number of entries of any kind with a valid timestamp.
    :param unreadable: number of entries without one.
    :param newest: time of the newest entry.
    :param oldest: time of the oldest entry.
    """

    moves: list[Move] = field(default_factory=list)
    entries: int = 0
    unreadable: int = 0
    newest: datetime | None = None
    oldest: datetime | None = None

    def reaches(self, moment: datetime) -> bool:
        """Return whether the log is complete from `moment` on, as it still has an entry of that time or before.

        An empty log only proves that nothing was written during its retention time.
        """
        if self.oldest is None:
            return not self.unreadable and moment <= datetime.now(UTC) - LOG_RETENTION
        return self.oldest <= moment


def read_log(index: AlgoliaIndex, since: datetime | None) -> LogExcerpt:
    """Read the log back to `OVERLAP` before `since`; None reads all of it.

    Raises:
        PaginationError: the log does not end after `MAX_PAGES` pages.
    """
    excerpt = LogExcerpt()
    seen: set[str] = set()
    offset, length = 0, FIRST_PAGE if since else MAX_LOG_ENTRIES
    for _ in range(MAX_PAGES):
        page = index.logs(offset, length)
        known = len(seen)
        for entry in page:
            _add(excerpt, entry, index.name, seen)
        if len(seen) == known or (since and excerpt.oldest and excerpt.oldest < since - OVERLAP):
            break
        offset, length = offset + len(page), MAX_LOG_ENTRIES
    else:
        raise PaginationError(f"Algolia's log does not end after {MAX_PAGES} pages", entries=excerpt.entries)
    # The log is newest first. Reversing it before the stable sort keeps the order of moves within one second.
    excerpt.moves.reverse()
    excerpt.moves.sort(key=lambda move: move.at)
    if excerpt.unreadable:
        log.warning("Ignored %s Algolia log entries without a valid timestamp", f"{excerpt.unreadable:,}")
    return excerpt


def _add(excerpt: LogExcerpt, entry: Any, index: str, seen: set[str]) -> None:
    at = _timestamp(entry)
    if at is None:
        excerpt.unreadable += 1
        return
    if (id_ := _id(entry)) in seen:  # entries written meanwhile shift the pages, so one may be listed twice
        return
    seen.add(id_)
    excerpt.entries += 1
    excerpt.newest = max(excerpt.newest or at, at)
    excerpt.oldest = min(excerpt.oldest or at, at)
    if move := parse_move(entry, index):
        excerpt.moves.append(move)


def parse_move(entry: Mapping[str, Any], index: str) -> Move | None:
    """Return the move onto `index` that a log entry records; None for any other request and for a refused one."""
    parts = str(entry.get("url", "")).partition("?")[0].split("/")
    at = _timestamp(entry)
    if at is None or len(parts) < 5 or parts[-1] != "operation" or parts[-3] != "indexes":
        return None
    body, response = _json(entry.get("query_body")), _json(entry.get("answer"))
    if body.get("operation") != "move" or body.get("destination") != index:
        return None
    if not str(entry.get("answer_code") or 200).startswith("2"):
        return None
    task_id = response.get("taskID")
    return Move(_id(entry), at, unquote(parts[-2]), task_id if isinstance(task_id, int) else None)


def _timestamp(entry: Any) -> datetime | None:
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
    """Return an id for an entry. Its `sha1` alone may not be unique: each rebuild sends the same request."""
    content = "\n".join(str(entry.get(name)) for name in ("sha1", "timestamp", "url", "query_body", "answer"))
    return hashlib.sha256(content.encode(errors="replace")).hexdigest()[:32]
