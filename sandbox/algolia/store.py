"""The indices and the tasks that change them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sandbox.algolia.records import Records

_FIRST_TASK = 1_000


def now() -> str:
    """Return the current time in the service's format."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


@dataclass
class Index:
    """An index: its records and its settings."""

    records: Records = field(default_factory=Records)
    settings: dict[str, Any] = field(default_factory=dict)
    created: str = field(default_factory=now)
    updated: str = field(default_factory=now)


class Write(NamedTuple):
    """One action of a batch."""

    action: str
    object_id: str = ""
    attributes: dict[str, Any] = {}  # noqa: RUF012


class _Task(NamedTuple):
    number: int
    due: float
    names: tuple[str, ...]
    apply: Callable[[], None]


class Store:
    """All indices. A write is a task: it takes effect `delay` seconds after it was accepted, in the order of tasks."""

    def __init__(self, delay: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._delay, self._clock = delay, clock
        self._published: dict[str, Index] = {}
        self._pending: deque[_Task] = deque()
        self._last = _FIRST_TASK

    @property
    def indices(self) -> dict[str, Index]:
        """The indices, with all tasks applied that are due."""
        self._settle()
        return self._published

    def _settle(self) -> None:
        moment = self._clock()
        while self._pending and self._pending[0].due <= moment:
            task = self._pending.popleft()
            task.apply()
            for name in task.names:
                if name in self._published:
                    self._published[name].updated = now()

    def is_published(self, task: int) -> bool:
        """Return whether a task is done; raise LookupError if there is no such task."""
        if not _FIRST_TASK < task <= self._last:
            raise LookupError(task)
        self._settle()
        return not self._pending or task < self._pending[0].number

    def pending(self, name: str) -> int:
        """Return the number of pending tasks of an index."""
        self._settle()
        return sum(name in task.names for task in self._pending)

    def write(self, name: str, writes: Iterable[Write]) -> int:
        """Accept the actions of a batch; return the number of the task."""
        return self._submit((name,), lambda: self._write(name, writes))

    def set_settings(self, name: str, settings: dict[str, Any]) -> int:
        """Accept new settings; return the number of the task."""
        return self._submit((name,), lambda: self._open(name).settings.update(settings))

    def move(self, source: str, destination: str) -> int:
        """Accept a move of an index over another one. As in the service, a missing source is no error."""

        def apply() -> None:
            if source in self._published:
                self._published[destination] = self._published.pop(source)

        return self._submit((source, destination), apply)

    def copy(self, source: str, destination: str, scope: Iterable[str] | None) -> int:
        """Accept a copy of an index over another one: all of it, or only what the scope names (`settings`)."""

        def apply() -> None:
            if source not in self._published:
                return
            original = self._published[source]
            if scope is None:
                self._published[destination] = Index(original.records.copy(), dict(original.settings))
            else:
                copied = self._open(destination)
                if "settings" in scope:
                    copied.settings = dict(original.settings)

        return self._submit((source, destination), apply)

    def _submit(self, names: tuple[str, ...], apply: Callable[[], None]) -> int:
        self._last += 1
        self._pending.append(_Task(self._last, self._clock() + self._delay, names, apply))
        self._settle()
        return self._last

    def _open(self, name: str) -> Index:
        if name not in self._published:
            self._published[name] = Index()
        return self._published[name]

    def _write(self, name: str, writes: Iterable[Write]) -> None:
        for action, object_id, attributes in writes:
            if action == "delete":
                self._published.pop(name, None)
            elif action in ("clear", "deleteObject"):
                if index := self._published.get(name):
                    _empty(index, object_id)
            else:
                records = self._open(name).records
                if action in ("addObject", "updateObject"):
                    records.put(object_id, attributes)
                else:
                    records.patch(object_id, attributes, create=action == "partialUpdateObject")


def _empty(index: Index, object_id: str) -> None:
    if object_id:
        index.records.remove(object_id)
    else:
        index.records = Records()
