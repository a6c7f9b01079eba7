"""The contract of targets: where the objects come from, how they are mapped, and how one is sent.

Names, arguments, return values and the formats of mappings are those of pretix's data sync, so that targets written for
it work here: https://docs.pretix.eu/dev/development/api/datasync.html
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Self

from include.connectors.http import HttpConnector
from include.errors import SyncConfigError
from include.models.orders import Event, Inputs, SourceItem, Value
from include.models.outbound import QueueRow, StoredResult
from include.targets.compatibility import PretixHelpers
from include.targets.evaluate import evaluate
from include.targets.fields import Field, data_fields
from include.targets.mapping import Entry, ObjectMapping, StaticMapping

__all__ = ["OutboundSyncProvider", "StaticMapping", "backoff", "mappings_of"]

FIRST_WAIT_SECONDS = 60.0
MAX_WAIT_SECONDS = 6 * 3600.0

Property = tuple[str, Value, str]
"""(external field, value, overwrite mode)."""


class OutboundSyncProvider(PretixHelpers):
    """A target. Subclasses define `identifier`, `mappings` and `sync_object_with_properties`; the rest has defaults.

    An instance serves one event (None for offers) in one thread. Methods may raise RecoverableSyncError (retried
    automatically), UnrecoverableSyncError (parked until a person retries) and SyncConfigError (a setting is wrong).
    """

    identifier: ClassVar[str]
    """Key of the target in the queue, results and mappings; at most 128 characters."""
    display_name: ClassVar[str] = ""
    max_attempts: int = 5
    """An object is parked after this many consecutive failures."""
    list_field_joiner: str | None = ","
    """Joins the values of a field that has several; None keeps lists."""

    source: ClassVar[str] = "order"
    """What is sent: "order" (with its positions) or "offer" (with its stocks)."""
    triggers: ClassVar[Sequence[str]] = ("placed", "paid", "canceled", "reactivated", "expired", "modified", "changed")
    """Changes that queue an object, the most important first. Orders also have checkin, checkin_annulled and
    expiry_changed; offers have created, changed and stock_changed."""
    concurrency: ClassVar[int] = 1
    """Maximum number of concurrent calls across the installation."""
    requests_per_second: ClassVar[float | None] = None
    """Rate limit of the service across the installation; the connection's extra may set another."""
    conn_id: ClassVar[str] = ""
    """Airflow connection of the service, which `self.connector` talks to. Empty: none is needed."""
    sends_unchanged: ClassVar[bool] = False
    """Send objects even if they equal what was sent last."""

    stored_mappings: Sequence[StaticMapping] | None = None
    """The current mappings of this target in the database, None if there are none; set by the engine."""
    connector: HttpConnector
    """The connection to the service; set by the engine if `conn_id` is not empty."""

    def __init__(self, event: Event | None) -> None:
        self.event = event
        self._fields: dict[str, Field] | None = None

    @classmethod
    def create(
        cls,
        event: Event | None,
        *,
        connector: HttpConnector | None = None,
        stored_mappings: Sequence[StaticMapping] | None = None,
    ) -> Self:
        """Make an instance for an event. The engine makes all instances with this.

        The constructor only takes the event (as pretix's does), but may already use `connector` and `stored_mappings`:
        they are set before it runs.
        """
        target = cls.__new__(cls)
        if connector is not None:
            target.connector = connector
        target.stored_mappings = stored_mappings
        target.__init__(event)  # type: ignore[misc]
        return target

    @classmethod
    def name(cls) -> str:
        """Return the name that people know the target by."""
        return cls.display_name or cls.identifier

    @property
    def mappings(self) -> Sequence[ObjectMapping]:
        """The mappings in the order in which they are sent; a property or a method, read once per order.

        By default those stored for this target.
        """
        if self.stored_mappings is None:
            raise SyncConfigError([f"The target {self.identifier} has no stored mappings: save some first"])
        return self.stored_mappings

    def should_sync_order(self, order: SourceItem) -> bool:  # noqa: ARG002
        """Return False to skip an order (or offer) without any call."""
        return True

    def sync_object_with_properties(  # noqa: PLR0917
        self,
        external_id_field: str,
        id_value: str,
        properties: Sequence[Property],
        inputs: Inputs,
        mapping: ObjectMapping,
        mapped_objects: Mapping[int, Sequence[StoredResult | None]],
        **kwargs: Any,
    ) -> Mapping[str, object] | None:
        """Create or update one object.

        Arguments are passed by keyword. The call must be idempotent: after a crash it is repeated with the same values.

        - `properties`: in the order of the mapping's entries.
        - `mapping`: the mapping as `mappings` returned it.
        - `mapped_objects`: results of the mappings before this one, by mapping id; None for objects that were not sent.
        - `previous` (only passed if the method accepts it): the StoredResult of the last time, or None.

        Returns `external_link_href`, `external_link_display_name`, `action` (`nothing_to_do` if the object was already
        up to date), and any other values that later mappings and runs may read. Returns None to skip the object.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define sync_object_with_properties")

    def finalize_sync_order(self, order: SourceItem) -> None:
        """Run once per order (or offer) after all its objects succeeded."""

    def next_retry_date(self, queue_row: QueueRow) -> datetime:
        """Return when to retry after a recoverable failure, which `queue_row.failed_attempts` already counts."""
        return datetime.now(UTC) + timedelta(seconds=backoff(queue_row.failed_attempts))

    def close(self) -> None:
        """Run when this instance is no longer needed, also after errors."""

    @property
    def data_fields(self) -> dict[str, Field]:
        """The source fields of the event, by key."""
        if self._fields is None:
            self._fields = data_fields(self.event, source=self.source)
        return self._fields

    def get_field_value(self, inputs: Inputs, entry: Entry) -> Value:
        """Return the value of an entry's source field, through its value map, with lists joined."""
        return evaluate(self.data_fields, inputs, entry, joiner=self.list_field_joiner, target=self.identifier)

    def get_properties(self, inputs: Inputs, property_mappings: Sequence[Entry]) -> list[Property]:
        """Return the properties to send, one for each entry."""
        return [
            (entry["external_field"], self.get_field_value(inputs, entry), entry.get("overwrite") or "overwrite")
            for entry in property_mappings
        ]


def backoff(failures: int, *, jitter: Callable[[], float] = random.random) -> float:
    """Return the seconds to wait after a number of failures: exponential from a minute to six hours, with jitter.

    One minute, four, sixteen and so on, each randomly reduced by up to half.
    """
    seconds = min(MAX_WAIT_SECONDS, FIRST_WAIT_SECONDS * 4.0 ** max(0, failures - 1))
    return seconds * (0.5 + 0.5 * jitter())


def mappings_of(target: OutboundSyncProvider) -> list[ObjectMapping]:
    """Return the mappings of a target, defined as a property, a method or an attribute.

    Raises:
        SyncConfigError: an id is not an integer of at most 8 bytes, or two mappings have the same id.
    """
    given: Any = target.mappings
    mappings: list[ObjectMapping] = list(given() if callable(given) else given)
    ids = [mapping.id for mapping in mappings]
    if wrong := [each for each in ids if not isinstance(each, int) or isinstance(each, bool) or abs(each) >= 2**63]:
        raise SyncConfigError([f"The id of a mapping must be an integer of at most 8 bytes, not {wrong[0]!r}"])
    if duplicates := {each for each in ids if ids.count(each) > 1}:
        raise SyncConfigError([f"Two mappings have the id {min(duplicates)}"])
    return mappings
