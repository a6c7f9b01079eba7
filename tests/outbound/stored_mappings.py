"""Mappings for the tests of checks and of stored versions."""

from include.models.orders import CheckinList, Event, Question
from include.targets.fields import data_fields

EVENT = Event(
    1,
    "demo",
    "Demo",
    questions=[Question("size", "Size", "C", [("s", "Small"), ("m", "Medium")])],
    checkin_lists=[CheckinList(5, "Door"), CheckinList(6, "Bar")],
)
FIELDS = {model: data_fields(EVENT, model) for model in ("Order", "OrderPosition")}


def entry(source_field="order_code", external_field="name", value_map="", overwrite="overwrite", **more):
    return {
        "source_field": source_field, "external_field": external_field, "value_map": value_map, "overwrite": overwrite,
        **more,
    }  # fmt: skip


def order(*entries, **changes):
    return {
        "id": 1, "source_model": "Order", "external_object_type": "deal", "source_id_field": "order_code",
        "external_id_field": "number", "property_mappings": list(entries), **changes,
    }  # fmt: skip


def ticket(*entries, **changes):
    return order(*entries, **{
        "id": 2, "source_model": "OrderPosition", "external_object_type": "ticket", "source_id_field": "ticket_id",
        **changes,
    })  # fmt: skip


STATUS = '{"n": "open", "p": "won", "e": "lost", "c": "lost"}'
GOOD = [
    order(entry(), entry("order_status", "stage", STATUS), entry("email", "email", overwrite="if_empty")),
    ticket(entry("attendee_name"), entry("question_size", "sizes", '{"s": "S", "m": "M"}', "append")),
]
