"""Source fields of positions: the ticket, its attendee, the answers to questions, the product.

Attendee data and answers that an add-on lacks are taken from the position that it belongs to.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from include.models.orders import Answer, CheckinList, Event, Inputs, Position, Question
from include.targets.fields import field as f
from include.targets.fields.field import Field, Getter, amount, iso
from include.targets.fields.orders import STATUSES
from include.targets.fields.people import ascii_email, name_fields

_field = partial(Field, required_input="position")
_TRUE = frozenset({"true", "t", "yes", "1"})


def position_fields(event: Event) -> list[Field]:
    """Return the fields that need a position."""
    return [
        *_ticket(),
        *[_checkin(each) for each in event.checkin_lists],
        *name_fields(_field, "attendee_name", "Attendee name", f.ATTENDEE, scheme=event.name_parts,
                     parts_of=lambda inputs: _name_parts(inputs["position"]), missing=None),
        *_attendee(),
        *[_question(each) for each in event.questions if each.type != f.FILE],
        *_product(),
    ]  # fmt: skip


def _ticket() -> list[Field]:
    def ticket_id(inputs: Inputs) -> str:
        return f"{inputs['order'].code}-{inputs['position'].number}"

    def status(inputs: Inputs) -> list[str]:
        return ["c" if inputs["position"].is_canceled else inputs["order"].status]

    def url(inputs: Inputs) -> str | None:
        base, position = inputs["event"].public_url, inputs["position"]
        if not (base and position.secret):
            return None
        return f"{base.rstrip('/')}/ticket/{inputs['order'].code}/{position.number}/{position.secret}/"

    return [
        _field("ticket_id", "Order code and position number", f.TEXT, f.POSITION, ticket_id),
        _field("ticket_price", "Price", f.NUMBER, f.POSITION, lambda inputs: amount(inputs["position"].price)),
        _field("ticket_status", "Ticket status", f.CHOICE, f.POSITION, status, enum_opts=STATUSES),
        _field("position_id", "Internal position id", f.NUMBER, f.POSITION,
               lambda inputs: str(inputs["position"].position_id)),
        _field("voucher_code", "Voucher code", f.TEXT, f.POSITION,
               lambda inputs: inputs["position"].voucher_code or ""),
        _field("presale_ticket_url", "Link to the ticket", f.TEXT, f.POSITION, url),
    ]  # fmt: skip


def _checkin(checkin_list: CheckinList) -> Field:
    def first_entry(inputs: Inputs) -> str | None:
        return iso(inputs["position"].checkins.get(checkin_list.id))

    return _field(
        f"checkin_date_{checkin_list.id}", f"First entry: {checkin_list.name}", f.DATETIME, f.POSITION, first_entry
    )


def _name_parts(position: Position) -> Mapping[str, str]:
    for each in (position, position.parent):
        parts = each.attendee_name_parts if each is not None else None
        if parts and any(parts.values()):
            return parts
    return {}


def _attendee() -> list[Field]:
    def email_or_order_email(inputs: Inputs) -> str | None:
        return ascii_email(_inherited(inputs["position"], "attendee_email") or inputs["order"].email)

    def inherited(name: str) -> Getter:
        return lambda inputs: _inherited(inputs["position"], name)

    return [
        _field("attendee_email", "Attendee e-mail", f.TEXT, f.ATTENDEE,
               lambda inputs: ascii_email(_inherited(inputs["position"], "attendee_email"))),
        _field("attendee_or_order_email", "Attendee e-mail, or else the e-mail of the order", f.TEXT, f.ATTENDEE,
               email_or_order_email),
        _field("attendee_company", "Attendee company", f.TEXT, f.ATTENDEE, inherited("company")),
        _field("attendee_street", "Attendee street", f.TEXT, f.ATTENDEE, inherited("street")),
        _field("attendee_zipcode", "Attendee postal code", f.TEXT, f.ATTENDEE, inherited("zipcode")),
        _field("attendee_city", "Attendee city", f.TEXT, f.ATTENDEE, inherited("city")),
        _field("attendee_country", "Attendee country", f.COUNTRY, f.ATTENDEE,
               lambda inputs: _inherited(inputs["position"], "country") or ""),
    ]  # fmt: skip


def _inherited(position: Position, name: str) -> str | None:
    value = getattr(position, name) or (getattr(position.parent, name) if position.parent is not None else None)
    return value or None


def _question(question: Question) -> Field:
    has_options = question.type in (f.CHOICE, f.CHOICES)

    def value(inputs: Inputs) -> str | bool | list[str]:
        answer = _answer(inputs["position"], question.identifier)
        if answer is None:
            return ""
        if has_options:
            return list(answer.options) or ""
        return answer.answer.strip().lower() in _TRUE if question.type == f.YES_NO else answer.answer

    return _field(
        f"question_{question.identifier}", question.label, question.type, f.QUESTIONS, value,
        enum_opts=list(question.options) if has_options else [],
    )  # fmt: skip


def _answer(position: Position, identifier: str) -> Answer | None:
    for each in (position, position.parent):
        answer = each.answers.get(identifier) if each is not None else None
        if answer is not None and (answer.answer or answer.options):
            return answer
    return None


def _product() -> list[Field]:
    def name(inputs: Inputs) -> str:
        position = inputs["position"]
        return f"{position.product} – {position.variation}" if position.variation else position.product  # noqa: RUF001

    return [
        _field("product", "Product and variation", f.TEXT, f.PRODUCT, name),
        _field("product_id", "Product id", f.NUMBER, f.PRODUCT, lambda inputs: str(inputs["position"].product_id)),
        _field("product_is_admission", "Product is an admission ticket", f.YES_NO, f.PRODUCT,
               lambda inputs: bool(inputs["position"].is_admission)),
    ]  # fmt: skip
