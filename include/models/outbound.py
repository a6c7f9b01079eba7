"""Rows of the outbound tables: the queue, the last result of each object, the log, the versions of mappings."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

ObjectKey = tuple[int, int | None, int]
"""Identifies an object of a target: source id, position id (or stock id; None for the whole), mapping id."""


class QueueRow(msgspec.Struct):
    """A row of `outbound_queue`: an order or offer that waits to be sent, or is being sent (`in_flight`).

    `need_manual_retry` is the reason why the row is parked, None if it is not.
    """

    id: int
    source: str
    source_id: int
    event_id: int
    target: str
    triggered_by: str
    triggered_at: datetime
    not_before: datetime
    failed_attempts: int
    need_manual_retry: str | None
    messages: list[str]
    in_flight: bool


class FailedRow(msgspec.Struct):
    """A claimed row that goes back to the queue: it is due again in `wait_seconds`, or parked with a reason."""

    id: int
    failed_attempts: int
    wait_seconds: float = 0.0
    need_manual_retry: str | None = None
    messages: list[str] = []


class StoredResult(msgspec.Struct):
    """The last result of an object at a target: a row of `outbound_result`.

    `sent` maps each field to a digest of the value sent last. The other keys that the target returned are in
    `sync_info`; they can also be read as if the result were a dictionary.
    """

    source: str
    source_id: int
    position_id: int | None
    target: str
    mapping_id: int
    external_object_type: str
    external_id_field: str
    id_value: str
    external_link_href: str | None = None
    external_link_display_name: str | None = None
    sync_info: dict[str, Any] = {}
    sent: dict[str, str] = {}

    @property
    def key(self) -> ObjectKey:
        """The object that the result belongs to."""
        return self.source_id, self.position_id, self.mapping_id

    def __getitem__(self, key: str) -> Any:
        """Return what the target returned under this key, or else the column of this name."""
        if key in self.sync_info:
            return self.sync_info[key]
        if key in self.__struct_fields__:
            return getattr(self, key)
        raise KeyError(key)

    def get(self, key: str, default: Any = None) -> Any:
        """Return `self[key]`, or the default if there is no such key."""
        try:
            return self[key]
        except KeyError:
            return default


class LogEntry(msgspec.Struct, omit_defaults=False):
    """What happened to one object, or (without `mapping_id`) to an order or offer: a row of `outbound_log`."""

    run_id: int | None
    target: str
    source: str
    source_id: int
    outcome: str
    code: str = ""
    position_id: int | None = None
    mapping_id: int | None = None
    triggered_by: str = ""
    reason: str | None = None
    messages: list[str] = []
    attempt: int | None = None
    wait_seconds: float | None = None
    payload: dict[str, Any] | None = None
    link: str | None = None


class FeedCounts(msgspec.Struct):
    """Counts of the change feed entries that a target read.

    Of the changed objects, `queued` are new in the queue, `waiting` were already in it, and `gone` no longer exist. An
    object that changed in several blocks of entries counts once in each.
    """

    read: int = 0
    queued: int = 0
    waiting: int = 0
    gone: int = 0

    def add(self, other: FeedCounts) -> None:
        """Add the counts of another block."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class MappingVersion(msgspec.Struct):
    """A row of `outbound_mapping`; the mappings are JSON objects under neutral names."""

    version: int
    is_current: bool
    note: str
    created_at: datetime
    mappings: list[dict[str, Any]]
