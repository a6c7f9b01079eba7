"""Names of pretix's data sync contract that this engine does not use itself.

Targets and mappings written for pretix (https://docs.pretix.eu/dev/development/api/datasync.html) rely on them. Stored
mappings, logs and the other modules only know the neutral names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from datetime import UTC, datetime
from html import escape
from typing import ClassVar

import psycopg

from include.models.orders import Event, Inputs, Order
from include.models.outbound import QueueRow, StoredResult
from include.store.queue import enqueue

NEUTRAL_NAMES = {"pretix_field": "source_field", "pretix_model": "source_model", "pretix_id_field": "source_id_field"}
"""pretix's keys of mappings and entries → the names under which they are stored."""

borrow_connection: ContextVar[Callable[[], AbstractContextManager[psycopg.Connection]]] = ContextVar(
    "borrow_connection"
)
"""Borrows the database connection of the running worker, for targets that queue further orders."""


class PretixMappingNames:
    """pretix's names for two attributes of a mapping."""

    __slots__ = ()
    source_model: str
    source_id_field: str

    @property
    def pretix_model(self) -> str:
        """The `source_model`."""
        return self.source_model

    @property
    def pretix_id_field(self) -> str:
        """The `source_id_field`."""
        return self.source_id_field


class PretixHelpers:
    """Helpers that pretix offers to the authors of targets."""

    identifier: ClassVar[str]

    def filter_mapped_objects(
        self, mapped_objects: Mapping[int, Sequence[StoredResult | None]], inputs: Inputs
    ) -> Mapping[int, Sequence[StoredResult | None]]:
        """For a position, return only the results of that position and of its order; otherwise return all."""
        position = inputs.get("position")
        if position is None:
            return mapped_objects
        return {
            mapping_id: [r for r in results if r is not None and r.position_id in (None, position.position_id)]
            for mapping_id, results in mapped_objects.items()
        }

    @classmethod
    def get_external_link_info(cls, event: Event | None, href: str, display_name: str) -> dict[str, str]:  # noqa: ARG003
        """Return the address (`href`) and text (`val`) of the link to an object at the target."""
        return {"href": href, "val": display_name}

    @classmethod
    def get_external_link_html(cls, event: Event | None, href: str, display_name: str) -> str:
        """Return the link to an object at the target as HTML."""
        info = cls.get_external_link_info(event, href, display_name)
        return f'<a href="{escape(info["href"])}" target="_blank">{escape(info["val"])}</a>'

    @classmethod
    def enqueue_order(
        cls,
        order: Order,
        triggered_by: str,
        not_before: datetime | None = None,
        immediate: bool = False,
        *,
        connection: psycopg.Connection | None = None,
    ) -> tuple[QueueRow, bool]:
        """Queue an order for this target, or refresh its waiting row.

        `immediate` puts it first. Without a `connection`, that of the running worker is used. Returns the row of the
        queue, and whether it is new.
        """
        if not getattr(cls, "identifier", ""):
            raise TypeError(f"{cls.__name__} has no identifier")
        if immediate:
            not_before = datetime.fromtimestamp(0, UTC)
        with nullcontext(connection) if connection is not None else borrow_connection.get()() as borrowed:
            return enqueue(
                borrowed,
                cls.identifier,
                "order",
                order.order_id,
                event_id=order.event_id,
                triggered_by=triggered_by,
                not_before=not_before,
            )
