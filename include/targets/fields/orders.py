"""Source fields of orders, their invoice addresses and events."""

from __future__ import annotations

from functools import partial

from include.models.orders import Event, Inputs, InvoiceAddress
from include.targets.fields import field as f
from include.targets.fields.field import Field, Getter, amount, iso
from include.targets.fields.people import ascii_email, email_domain, name_fields

STATUSES = [("n", "pending"), ("p", "paid"), ("e", "expired"), ("c", "canceled")]
_NO_ADDRESS = InvoiceAddress()
_field = partial(Field, required_input="order")


def order_fields(event: Event) -> list[Field]:
    """Return the fields that need an order."""
    names = name_fields(_field, "invoice_address_name", "Invoice name", f.INVOICE_ADDRESS, scheme=event.name_parts,
                        parts_of=lambda inputs: _address(inputs).name_parts)  # fmt: skip
    return [*_order(event), *names, *_invoice_address()]


def event_fields() -> list[Field]:
    """Return the fields that need an event, or the date of a series that a position is for."""

    def moment(name: str) -> Getter:
        return lambda inputs: iso(getattr(inputs["event_or_subevent"], name))

    return [
        Field("event_slug", "Event slug", f.TEXT, f.EVENT, lambda inputs: inputs["event"].slug, "event"),
        Field("event_name", "Event name", f.TEXT, f.EVENT, lambda inputs: inputs["event"].name, "event"),
        Field("event_date_from", "Start", f.DATETIME, f.DATES, moment("date_from"), "event_or_subevent"),
        Field("event_date_to", "End", f.DATETIME, f.DATES, moment("date_to"), "event_or_subevent"),
    ]


def _order(event: Event) -> list[Field]:
    def payment_date(inputs: Inputs) -> str | None:
        return None if inputs["order"].status == "n" else iso(inputs["order"].paid_at)

    def url(inputs: Inputs) -> str | None:
        base, order = inputs["event"].public_url, inputs["order"]
        return f"{base.rstrip('/')}/order/{order.code}/{order.secret}/" if base and order.secret else None

    return [
        _field("email", "E-mail", f.TEXT, f.ORDER, lambda inputs: ascii_email(inputs["order"].email)),
        _field("email_domain", "E-mail domain", f.TEXT, f.ORDER, lambda inputs: email_domain(inputs["order"].email)),
        _field("order_code", "Order code", f.TEXT, f.ORDER, lambda inputs: inputs["order"].code),
        _field("event_order_code", "Event and order code", f.TEXT, f.ORDER,
               lambda inputs: f"{inputs['event'].slug.upper()}-{inputs['order'].code}"),
        _field("order_total", "Order total", f.NUMBER, f.ORDER, lambda inputs: amount(inputs["order"].total)),
        _field("order_status", "Order status", f.CHOICE, f.ORDER, lambda inputs: [inputs["order"].status],
               enum_opts=STATUSES),
        _field("order_date", "Order date", f.DATETIME, f.ORDER, lambda inputs: iso(inputs["order"].placed_at)),
        _field("payment_date", "Payment date", f.DATETIME, f.ORDER, payment_date),
        _field("order_locale", "Language of the order", f.CHOICE, f.ORDER, lambda inputs: [inputs["order"].locale],
               enum_opts=[(locale, locale) for locale in event.locales]),
        _field("presale_order_url", "Link to the order", f.TEXT, f.ORDER, url),
    ]  # fmt: skip


def _invoice_address() -> list[Field]:
    def value(name: str) -> Getter:
        return lambda inputs: getattr(_address(inputs), name) or ""

    return [
        _field(f"invoice_address_{name}", f"Invoice {label}", type, f.INVOICE_ADDRESS, value(name))
        for name, label, type in (
            ("company", "company", f.TEXT),
            ("street", "street", f.TEXT),
            ("zipcode", "postal code", f.TEXT),
            ("city", "city", f.TEXT),
            ("country", "country", f.COUNTRY),
        )
    ]


def _address(inputs: Inputs) -> InvoiceAddress:
    return inputs["order"].invoice_address or _NO_ADDRESS
