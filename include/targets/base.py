"""What a target is: where its objects come from, how they are mapped, and how one is sent.

The shape of the contract (names, arguments, return values, formats of mappings) is that of pretix's data sync, so that
targets written for it work here: https://docs.pretix.eu/dev/development/api/datasync.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Self

from include.errors import SyncConfigError

current_connection: ContextVar[Callable[[], AbstractContextManager[Any]]] = ContextVar("current_connection")
"""Lends the connection of the drain that is going on, to targets that put further orders into the queue."""


class StaticMapping:
    """How one kind of our objects becomes one kind of theirs.

    - `id`: a whole number, unique among the mappings of a target.
    - `source_model`: Order, OrderPosition, Offer or Stock. `source_id_field` is the source field whose value
      identifies the object, `external_id_field` the field that holds it at the target.
    - `property_mappings`: entries with `source_field`, `external_field`, `value_map` (JSON text or "") and `overwrite`
      (overwrite, if_new, if_empty or append).

    `pretix_model`, `pretix_id_field` and `pretix_field` are taken for `source_model`, `source_id_field` and
    `source_field`.
    """

    __slots__ = (
        "external_id_field",
        "external_object_type",
        "id",
        "property_mappings",
        "source_id_field",
        "source_model",
    )

    def __init__(  # noqa: PLR0917 - the order of the tuple that it stands for
        self,
        id: int,
        source_model: str | None = None,
        external_object_type: str = "",
        source_id_field: str | None = None,
        external_id_field: str = "",
        property_mappings: Sequence[Mapping[str, Any]] = (),
        *,
        pretix_model: str | None = None,
        pretix_id_field: str | None = None,
    ) -> None:
        self.id = id
        self.source_model = source_model or pretix_model or ""
        self.external_object_type = external_object_type
        self.source_id_field = source_id_field or pretix_id_field or ""
        self.external_id_field = external_id_field
        self.property_mappings = list(property_mappings)

    @property
    def pretix_model(self) -> str:
        """The source model, by its other name."""
        return self.source_model

    @property
    def pretix_id_field(self) -> str:
        """The identifying source field, by its other name."""
        return self.source_id_field


class OutboundSyncProvider:
    """A target. Subclasses give `identifier`, `mappings` and `sync_object_with_properties`; the rest has defaults.

    One instance serves one event (None for offers) in one worker. Methods may raise RecoverableSyncError (tried again
    by itself), UnrecoverableSyncError (parked for a person) and SyncConfigError (a setting is wrong).
    """

    identifier: ClassVar[str]
    """Key of the target in queue, results and mappings; at most 128 characters."""
    display_name: ClassVar[str] = ""
    max_attempts: int = 5
    """After so many failures in a row an object waits for a person."""
    list_field_joiner: str | None = ","
    """Joins the values of a field that has several; None keeps lists."""

    source: ClassVar[str] = "order"
    """What is sent: order (with its positions) or offer (with its stocks)."""
    triggers: ClassVar[Sequence[str]] = ("placed", "paid", "canceled", "reactivated", "expired", "modified", "changed")
    """Changes that put an object into the queue; those of an order are also checkin, checkin_annulled and
    expiry_changed, those of an offer created, changed and stock_changed."""
    concurrency: ClassVar[int] = 1
    """Calls that may run at once, in the whole installation."""
    requests_per_second: ClassVar[float | None] = None
    """Rate that the service allows, for the whole installation; the connection's extra may say another."""
    conn_id: ClassVar[str] = ""
    """Airflow connection of the service; `self.connector` talks to it. Empty: none is needed."""
    sends_unchanged: ClassVar[bool] = False
    """True: an object is sent although it equals what was sent last."""

    stored_mappings: Sequence[Any] | None = None
    """The current mappings of this target in PostgreSQL; the engine sets it. None: there are none."""
    connector: Any = None
    """The HttpConnector to the service; the engine sets it before the constructor runs."""

    def __init__(self, event: Any) -> None:
        self.event = event
        self._fields: dict[str, Any] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def mappings(self) -> Sequence[Any]:
        """How objects are mapped, in their order; a property or a method, asked once per order.

        Those stored for this target, unless a subclass says otherwise.
        """
        if self.stored_mappings is None:
            raise SyncConfigError([f"No mappings are stored for the target {self.identifier}: save some first"])
        return self.stored_mappings

    def should_sync_order(self, order: Any) -> bool:  # noqa: ARG002
        """False: the order is left alone, without any call."""
        return True

    def sync_object_with_properties(  # noqa: PLR0917
        self,
        external_id_field: str,
        id_value: str,
        properties: Sequence[tuple[str, Any, str]],
        inputs: Mapping[str, Any],
        mapping: Any,
        mapped_objects: Mapping[int, Sequence[Any]],
        **kwargs: Any,
    ) -> Mapping[str, Any] | None:
        """Create or update one object; called with keywords only, again with the same values after a crash.

        - `properties`: (external field, value, overwrite mode) in the order of the mapping.
        - `inputs`: order and event, for positions also position and event_or_subevent; offer, for stocks also stock.
        - `mapped_objects`: results of the mappings before this one, by mapping id; None for what was not synced.
        - `previous` (only for those that take it): the last stored result of this object, or None.

        Returns `external_link_href`, `external_link_display_name`, `action` (`nothing_to_do` if it was as it should
        be) and whatever later mappings and the next run are to see; None if the object is not to be synced.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how an object is sent")

    def finalize_sync_order(self, order: Any) -> None:
        """Once per order, after all its objects went well."""

    def next_retry_date(self, queue_row: Any) -> datetime:
        """When to try again after a recoverable failure; `queue_row.failed_attempts` counts this one."""
        from include.outbound.retries import backoff

        return datetime.now(UTC) + timedelta(seconds=backoff(queue_row.failed_attempts))

    def close(self) -> None:
        """The end of this instance, also after errors."""

    @classmethod
    def name(cls) -> str:
        """How people call the target."""
        return cls.display_name or cls.identifier

    @property
    def data_fields(self) -> dict[str, Any]:
        """The source fields of the event by their key."""
        from include.targets.fields import data_fields

        if self._fields is None:
            self._fields = data_fields(self.event, source=self.source)
        return self._fields

    def get_field_value(self, inputs: Mapping[str, Any], entry: Mapping[str, Any]) -> Any:
        """The value of a source field for these inputs, through the entry's value map, lists joined."""
        from include.outbound.properties import evaluate

        return evaluate(self.data_fields, inputs, entry, joiner=self.list_field_joiner, target=self.identifier)

    def get_properties(
        self, inputs: Mapping[str, Any], property_mappings: Sequence[Mapping[str, Any]]
    ) -> list[tuple[str, Any, str]]:
        """(external field, value, overwrite mode) of each entry."""
        return [
            (entry["external_field"], self.get_field_value(inputs, entry), entry.get("overwrite") or "overwrite")
            for entry in property_mappings
        ]

    def filter_mapped_objects(
        self, mapped_objects: Mapping[int, Sequence[Any]], inputs: Mapping[str, Any]
    ) -> Mapping[int, Sequence[Any]]:
        """For a position: only the results of that position and of the order itself."""
        position = inputs.get("position")
        if position is None:
            return mapped_objects
        return {
            mapping_id: [r for r in results if r is not None and r.position_id in (None, position.position_id)]
            for mapping_id, results in mapped_objects.items()
        }

    @classmethod
    def get_external_link_info(cls, event: Any, href: str, display_name: str) -> dict[str, str]:  # noqa: ARG003
        """The link to an object at the target."""
        return {"href": href, "val": display_name}

    @classmethod
    def get_external_link_html(cls, event: Any, href: str, display_name: str) -> str:
        """The link as HTML."""
        from html import escape

        info = cls.get_external_link_info(event, href, display_name)
        return f'<a href="{escape(info["href"])}" target="_blank">{escape(info["val"])}</a>'

    @classmethod
    def enqueue_order(
        cls,
        order: Any,
        triggered_by: str,
        not_before: datetime | None = None,
        immediate: bool = False,
        *,
        connection: Any = None,
    ) -> tuple[Any, bool]:
        """Put an order into the queue of this target, or refresh its waiting row; returns (row, is it new).

        `immediate` puts it before the others. `connection`: the psycopg connection to write to; without it the one of
        the running drain.
        """
        from include.store.outbound import enqueue

        if not getattr(cls, "identifier", ""):
            raise TypeError(f"{cls.__name__} has no identifier")
        if immediate:
            not_before = datetime.fromtimestamp(0, UTC)
        with nullcontext(connection) if connection is not None else current_connection.get()() as lent:
            return enqueue(
                lent,
                cls.identifier,
                "order",
                order.order_id,
                event_id=order.event_id,
                triggered_by=triggered_by,
                not_before=not_before,
            )


def mappings_of(provider: OutboundSyncProvider) -> list[Any]:
    """The mappings of a target, given as property or as method.

    Raises:
        SyncConfigError: two of one id, or an id that is no whole number.
    """
    given: Any = provider.mappings
    mappings = list(given() if callable(given) else given)
    ids = [mapping.id for mapping in mappings]
    if wrong := [each for each in ids if not isinstance(each, int) or isinstance(each, bool) or abs(each) >= 2**63]:
        raise SyncConfigError([f"The id of a mapping is a whole number of at most 8 bytes, not {wrong[0]!r}"])
    if twice := {each for each in ids if ids.count(each) > 1}:
        raise SyncConfigError([f"Two mappings have the id {min(twice)}"])
    return mappings
