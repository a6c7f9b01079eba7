"""Source fields: what can be sent to a target. Each has a key, a label, a type, and a getter that computes its value.

Mappings refer to fields by key. The keys are those of https://docs.pretix.eu/dev/development/api/datasync.html
"""

from __future__ import annotations

from include.errors import SyncConfigError
from include.models.orders import Event, Occasion, Position
from include.targets.fields.field import Category, Field
from include.targets.fields.offers import offer_fields, stock_fields
from include.targets.fields.orders import event_fields, order_fields
from include.targets.fields.positions import position_fields

__all__ = ["MODELS", "MODEL_INPUTS", "Category", "Field", "data_fields", "event_or_subevent"]

MODEL_INPUTS = {
    "Order": ("order", "event"),
    "OrderPosition": ("position", "order", "event_or_subevent", "event"),
    "Offer": ("offer",),
    "Stock": ("stock", "offer"),
}
"""The inputs of a mapping, by its source model."""
MODELS = {"order": ("Order", "OrderPosition"), "offer": ("Offer", "Stock")}
"""The source models that mappings may have, by the `source` of the target."""


def data_fields(event: Event | None, for_model: str | None = None, *, source: str = "order") -> dict[str, Field]:
    """Return the source fields by key, in display order.

    - `event`: its questions, check-in lists, languages and name parts add fields; None gives the common fields only.
    - `for_model`: return only the fields that a mapping of this source model can use.
    - `source`: "order" or "offer"; `for_model` takes precedence.

    Raises:
        SyncConfigError: there is no such model.
    """
    if for_model is not None and for_model not in MODEL_INPUTS:
        raise SyncConfigError([f"There is no model {for_model!r}: it is one of {', '.join(MODEL_INPUTS)}"])
    if source == "offer" or for_model in MODELS["offer"]:
        found = [*offer_fields(), *stock_fields()]
    else:
        event = event or Event(0, "", "")
        found = [*position_fields(event), *order_fields(event), *event_fields()]
    inputs = MODEL_INPUTS[for_model] if for_model else None
    found.sort(key=lambda field: field.category.sort)
    return {field.key: field for field in found if inputs is None or field.required_input in inputs}


def event_or_subevent(position: Position, event: Event) -> Event | Occasion:
    """Return the date of an event series that a position is for, or the event if it has a single date."""
    if position.sub_event_id is None:
        return event
    return Occasion(position.sub_event_name or event.name, position.sub_event_date_from, position.sub_event_date_to)
