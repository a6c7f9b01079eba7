"""Source fields of orders, their invoice addresses and events."""

from __future__ import annotations

from collections.abc import Sequence

from include.models.orders import Event, Inputs, InvoiceAddress
from include.targets.fields import field as f
from include.targets.fields.field import Category, Field, Getter, amount, iso
from include.targets.fields.people import (
    LEGACY_PARTS,
    ascii_email,
    email_domain,
    full_name,
    legacy_part,
    name_part,
    part_label,
)

STATUSES = [("n", "pending"), ("p", "paid"), ("e", "expired"), ("c", "canceled")]
_NO_ADDRESS = InvoiceAddress()


def order_fields(event: Event) -> list[Field]:
    """Return the fields that need an order."""
    return [*_order(event), *_invoice_names(event), *_invoice_address()]


def event_fields() -> list[Field]:
    """Return the fields that need an event, or the date of a series that a position is for."""

    def moment(name: str) -> Getter:
        return lambda inputs: iso(getattr(inputs["event_or_subevent"], name))

    return [
        Field("event_slug", "Event slug", f.TEXT, f.EVENT, "event", lambda inputs: inputs["event"].slug),
        Field("event_name", "Event name", f.TEXT, f.EVENT, "event", lambda inputs: inputs["event"].name),
        Field("event_date_from", "Start", f.DATETIME, f.DATES, "event_or_subevent", moment("date_from")),
        Field("event_date_to", "End", f.DATETIME, f.DATES, "event_or_subevent", moment("date_to")),
    ]


def _field(
    key: str,
    label: str,
    type: str,
    category: Category,
    getter: Getter,
    *,
    enum_opts: Sequence[tuple[str, str]] = (),
    is_deprecated: bool = False,
) -> Field:
    return Field(key, label, type, category, "order", getter, list(enum_opts), is_deprecated)


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


def _invoice_names(event: Event) -> list[Field]:
    scheme = event.name_parts

    def name(inputs: Inputs) -> str:
        return full_name(_address(inputs).name_parts, scheme)

    def part_of(part: str) -> Getter:
        return lambda inputs: name_part(_address(inputs).name_parts, part)

    def legacy(part: str) -> Getter:
        return lambda inputs: legacy_part(name(inputs), part)

    prefix, label = "invoice_address_name_", "Invoice name: "
    return [
        _field("invoice_address_name", "Invoice name", f.TEXT, f.INVOICE_ADDRESS, name),
        *[
            _field(prefix + part, label + part_label(part), f.TEXT, f.INVOICE_ADDRESS, part_of(part),
                   is_deprecated=len(scheme) == 1)
            for part in scheme
        ],
        *[
            _field(prefix + part, label + part_label(part), f.TEXT, f.INVOICE_ADDRESS, legacy(part), is_deprecated=True)
            for part in LEGACY_PARTS if part not in scheme
        ],
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
