"""Instances of a target: one per thread, for the event whose orders the thread is sending."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from include.connectors.http import HttpConnector
from include.models.orders import Event
from include.targets.base import OutboundSyncProvider
from include.targets.mapping import StaticMapping

log = logging.getLogger(__name__)


class _OfThread(threading.local):
    event_id: int | None = None
    target: OutboundSyncProvider | None = None


class Instances:
    """Makes the instances of a target and closes them. `mappings` are the stored ones; they may change during a run."""

    def __init__(self, target: type[OutboundSyncProvider], connector: HttpConnector | None) -> None:
        self.target = target
        self.connector = connector
        self.mappings: Sequence[StaticMapping] | None = None
        self._current = _OfThread()
        self._open: list[OutboundSyncProvider] = []
        self._lock = threading.Lock()

    def get(self, event: Event | None) -> OutboundSyncProvider:
        """Return this thread's instance for an event; an instance for another event is closed first.

        Raises whatever the target's constructor raises.
        """
        event_id = None if event is None else event.event_id
        current = self._current.target
        if current is not None and self._current.event_id == event_id:
            current.stored_mappings = self.mappings
            return current
        if current is not None:
            self._current.target = None
            with self._lock:
                self._open.remove(current)
            _close(current)
        made = self.target.create(event, connector=self.connector, stored_mappings=self.mappings)
        self._current.target, self._current.event_id = made, event_id
        with self._lock:
            self._open.append(made)
        return made

    def close(self) -> None:
        """Close the instances of all threads."""
        with self._lock:
            opened, self._open = self._open, []
        for each in opened:
            _close(each)


def _close(target: OutboundSyncProvider) -> None:
    try:
        target.close()
    except Exception as error:  # a target's code may raise anything
        log.warning("close of %s failed: %s", target.identifier, error)
