"""The facts that can be sent to a target: keys, labels, types, options, and how each is read from the inputs.

The keys are a data format, that of https://docs.pretix.eu/dev/development/api/datasync.html: mappings name them.
"""

from __future__ import annotations

from include.errors import SyncConfigError
from include.models.orders import Event, Occasion, Position
from include.targets.fields.field import Category, Field
from include.targets.fields.offers import offer_fields, stock_fields
from include.targets.fields.orders import event_fields, order_fields
from include.targets.fields.positions import position_fields

__all__ = ["MODEL_INPUTS", "Category", "Field", "data_fields", "event_or_subevent"]

MODEL_INPUTS = {
    "Order": ("order", "event"),
    "OrderPosition": ("position", "order", "event_or_subevent", "event"),
    "Offer": ("offer",),
    "Stock": ("stock", "offer"),
}
"""What a mapping of each model is evaluated with."""
_OFFER_MODELS = ("Offer", "Stock")


def data_fields(event: Event | None, for_model: str | None = None, *, source: str = "order") -> dict[str, Field]:
    """The source fields by key, in the order in which they are shown.

    - `event`: whose questions, check-in lists, languages and name parts make fields; None: only what all events have.
    - `for_model`: only what a mapping of this model can use. `source` (order or offer) follows from it.

    Raises:
        SyncConfigError: there is no such model.
    """
    if for_model is not None and for_model not in MODEL_INPUTS:
        raise SyncConfigError([f"There is no model {for_model!r}: it is one of {', '.join(MODEL_INPUTS)}"])
    if source == "offer" or for_model in _OFFER_MODELS:
        found = [*offer_fields(), *stock_fields()]
    else:
        event = event or Event(0, "", "")
        found = [*position_fields(event), *order_fields(event), *event_fields()]
    inputs = MODEL_INPUTS[for_model] if for_model else None
    found.sort(key=lambda field: field.category.sort)
    return {field.key: field for field in found if inputs is None or field.required_input in inputs}


def event_or_subevent(position: Position, event: Event) -> Event | Occasion:
    """The date of the event that a position is for; of an event without several, the event."""
    if position.sub_event_id is None:
        return event
    return Occasion(position.sub_event_name or event.name, position.sub_event_date_from, position.sub_event_date_to)
