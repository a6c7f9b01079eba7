"""Every source field, with a value and without."""

from copy import copy
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from include.errors import SyncConfigError
from include.models.orders import (
    Answer,
    CheckinList,
    Event,
    InvoiceAddress,
    Occasion,
    Order,
    Position,
    Question,
    SourceOffer,
    SourceStock,
)
from include.targets.fields import MODEL_INPUTS, data_fields, event_or_subevent

PARIS = timezone(timedelta(hours=2))
DAY = datetime(2026, 5, 1, 10, 30, tzinfo=PARIS)
QUESTIONS = [
    Question("age", "Your age", "N"),
    Question("badge", "Badge", "S"),
    Question("remarks", "Remarks", "T"),
    Question("news", "News?", "B"),
    Question("menu", "Menu", "C", [("fish", "Fish"), ("none", "Nothing")]),
    Question("genres", "Genres", "M", [("novel", "Novels"), ("poetry", "Poetry")]),
    Question("birthday", "Birthday", "D"),
    Question("arrival", "Arrival", "H"),
    Question("train", "Train", "W"),
    Question("from", "From", "CC"),
    Question("phone", "Phone", "TEL"),
    Question("photo", "Photo", "F"),
]
ANSWERS = {
    "age": Answer("36"),
    "badge": Answer("Ada 🦉"),
    "remarks": Answer("Near\nthe door"),
    "news": Answer("True"),
    "menu": Answer("Fish", ["fish"]),
    "genres": Answer("Poetry, Novels", ["poetry", "novel"]),
    "birthday": Answer("1990-12-10"),
    "arrival": Answer("10:15"),
    "train": Answer("2026-05-02T18:00:00+02:00"),
    "from": Answer("FR"),
    "phone": Answer("+33199001234"),
    "photo": Answer("file://photo.png"),
}


def make_event(**more):
    given = {
        "date_from": DAY,
        "date_to": DAY + timedelta(days=1),
        "locales": ["fr", "en"],
        "public_url": "https://tickets.example.org/fair/",
        "questions": QUESTIONS,
        "checkin_lists": [CheckinList(7, "Door"), CheckinList(8, "Bar")],
    }
    return Event(5, "Book-fair", "Book Fair", **given | more)


def make_position(**more):
    given = {
        "variation": "full price",
        "price": Decimal("23.00"),
        "secret": "t1cket",
        "voucher_code": "FREE",
        "attendee_name_parts": {"family_name": "Lovelace", "given_name": "Ada"},
        "attendee_email": "ada@example.org",
        "company": "Engines Ltd",
        "street": "1 Mill Lane",
        "zipcode": "12345",
        "city": "Millton",
        "country": "GB",
        "answers": ANSWERS,
        "checkins": {7: DAY + timedelta(days=1)},
    }
    return Position(12, 1, 1, 4, "Ticket", **given | more)


def make_order(**more):
    given = {
        "paid_at": DAY + timedelta(hours=1),
        "secret": "s3cret",
        "invoice_address": InvoiceAddress(
            "Engines Ltd", {"given_name": "Charles", "family_name": "Babbage"}, "2 Mill Lane", "54321", "Milltown", "FR"
        ),
        "event": make_event(),
    }
    return Order(1, 5, "1AAA", "p", "charles@example.com", "fr", Decimal("38.50"), DAY, **given | more)


def values(order, position=None, event=None):
    """Key → value of all fields."""
    event = event or order.event
    position = position or make_position()
    order.event = event
    inputs = {
        "order": order,
        "event": event,
        "position": position,
        "event_or_subevent": event_or_subevent(position, event),
    }
    return {key: field.getter(inputs) for key, field in data_fields(event).items()}


FULL = {
    "ticket_id": "1AAA-1",
    "ticket_price": "23.00",
    "ticket_status": ["p"],
    "position_id": "12",
    "voucher_code": "FREE",
    "presale_ticket_url": "https://tickets.example.org/fair/ticket/1AAA/1/t1cket/",
    "checkin_date_7": "2026-05-02T08:30:00+00:00",
    "checkin_date_8": None,
    "attendee_name": "Ada Lovelace",
    "attendee_name_given_name": "Ada",
    "attendee_name_family_name": "Lovelace",
    "attendee_email": "ada@example.org",
    "attendee_or_order_email": "ada@example.org",
    "attendee_company": "Engines Ltd",
    "attendee_street": "1 Mill Lane",
    "attendee_zipcode": "12345",
    "attendee_city": "Millton",
    "attendee_country": "GB",
    "question_age": "36",
    "question_badge": "Ada 🦉",
    "question_remarks": "Near\nthe door",
    "question_news": True,
    "question_menu": ["fish"],
    "question_genres": ["poetry", "novel"],
    "question_birthday": "1990-12-10",
    "question_arrival": "10:15",
    "question_train": "2026-05-02T18:00:00+02:00",
    "question_from": "FR",
    "question_phone": "+33199001234",
    "product": "Ticket – full price",  # noqa: RUF001
    "product_id": "4",
    "product_is_admission": True,
    "email": "charles@example.com",
    "email_domain": "example.com",
    "order_code": "1AAA",
    "event_order_code": "BOOK-FAIR-1AAA",
    "order_total": "38.50",
    "order_status": ["p"],
    "order_date": "2026-05-01T08:30:00+00:00",
    "payment_date": "2026-05-01T09:30:00+00:00",
    "order_locale": ["fr"],
    "presale_order_url": "https://tickets.example.org/fair/order/1AAA/s3cret/",
    "invoice_address_name": "Charles Babbage",
    "invoice_address_name_given_name": "Charles",
    "invoice_address_name_family_name": "Babbage",
    "invoice_address_company": "Engines Ltd",
    "invoice_address_street": "2 Mill Lane",
    "invoice_address_zipcode": "54321",
    "invoice_address_city": "Milltown",
    "invoice_address_country": "FR",
    "event_slug": "Book-fair",
    "event_name": "Book Fair",
    "event_date_from": "2026-05-01T08:30:00+00:00",
    "event_date_to": "2026-05-02T08:30:00+00:00",
}
_NONE = """presale_ticket_url checkin_date_7 attendee_name attendee_email attendee_or_order_email attendee_company
    attendee_street attendee_zipcode attendee_city email email_domain payment_date presale_order_url event_date_from
    event_date_to"""
_BLANK = "voucher_code attendee_name_given_name attendee_name_family_name attendee_country"
EMPTY = FULL | {
    **dict.fromkeys(_NONE.split()),
    **dict.fromkeys(_BLANK.split(), ""),
    **{key: "" for key in FULL if key.startswith(("invoice_address_", "question_"))},
    **dict.fromkeys(("ticket_price", "order_total"), "0.00"),
    **{key: ["n"] for key in ("ticket_status", "order_status")},
    "product": "Ticket",
    "product_is_admission": False,
}
BARE = Position(12, 1, 1, 4, "Ticket", is_admission=False)


def test_every_field_has_its_value():
    assert values(make_order()) == FULL


def test_every_field_copes_without_a_value():
    order = Order(1, 5, "1AAA", "n", None, "fr", Decimal(0), DAY)
    assert values(order, BARE, make_event(date_from=None, date_to=None)) == EMPTY


@pytest.mark.parametrize("more", [{"public_url": ""}, {}])
def test_there_is_no_link_without_an_address_and_a_secret(more):
    event = make_event(**more)
    has_address = bool(event.public_url)
    found = values(make_order(secret=""), make_position(), event)
    assert (found["presale_order_url"], bool(found["presale_ticket_url"])) == (None, has_address)
    found = values(make_order(), make_position(secret=""), event)
    assert (bool(found["presale_order_url"]), found["presale_ticket_url"]) == (has_address, None)


def test_without_an_event_there_is_what_all_events_have():
    every = set(data_fields(None))
    assert every == {key for key in FULL if not key.startswith(("question_", "checkin_"))}
    assert len(data_fields(None, "Order")) == 20


@pytest.mark.parametrize("model", MODEL_INPUTS)
def test_a_model_has_the_fields_that_its_inputs_allow(model):
    found = data_fields(make_event(), model)
    assert {field.required_input for field in found.values()} == set(MODEL_INPUTS[model])
    assert {key: field.key for key, field in found.items()} == {key: key for key in found}


def test_an_unknown_model_is_refused():
    with pytest.raises(SyncConfigError, match="There is no model 'Event': it is one of Order, OrderPosition"):
        data_fields(make_event(), "Event")


def test_fields_come_by_category():
    for fields in (data_fields(make_event()), data_fields(None, source="offer")):
        sorts = [field.category.sort for field in fields.values()]
        assert sorts == sorted(sorts)
        assert all(field.label and field.category.label for field in fields.values())
    assert {f.category.sort for f in data_fields(make_event()).values()} == {10, 11, 12, 20, 21, 22, 30, 31}


def test_types_and_options():
    fields = data_fields(make_event())
    types = {key: field.type for key, field in fields.items()}
    assert {key for key, type in types.items() if type == "N"} == {
        "ticket_price", "position_id", "question_age", "product_id", "order_total",
    }  # fmt: skip
    assert {key for key, type in types.items() if type == "W"} == {
        "checkin_date_7", "checkin_date_8", "question_train", "order_date", "payment_date", "event_date_from",
        "event_date_to",
    }  # fmt: skip
    assert {key for key, type in types.items() if type == "B"} == {"question_news", "product_is_admission"}
    assert {key for key, type in types.items() if type == "CC"} == {
        "attendee_country", "question_from", "invoice_address_country",
    }  # fmt: skip
    statuses = [("n", "pending"), ("p", "paid"), ("e", "expired"), ("c", "canceled")]
    assert {key: field.enum_opts for key, field in fields.items() if field.enum_opts} == {
        "ticket_status": statuses,
        "order_status": statuses,
        "order_locale": [("fr", "fr"), ("en", "en")],
        "question_menu": QUESTIONS[4].options,
        "question_genres": QUESTIONS[5].options,
    }
    assert {key for key, field in fields.items() if field.type in "CM"} == {
        key for key, field in fields.items() if field.enum_opts
    }
    assert fields["question_remarks"].type == "T"
    assert fields["question_menu"].label == "Menu"
    assert fields["checkin_date_7"].label == "First entry: Door"


# Names


def named(scheme, parts, *, parent=None):
    position = make_position(attendee_name_parts=parts)
    if parent is not None:
        position.parent = make_position(attendee_name_parts=parent)
    order = make_order(invoice_address=InvoiceAddress(name_parts=parts or {}))
    found = values(order, position, make_event(name_parts=scheme))
    return {
        key.removeprefix("attendee_name").lstrip("_"): value
        for key, value in found.items()
        if key.startswith("attendee_name")
    }


@pytest.mark.parametrize(
    ("name", "given", "family"),
    [
        ("Ada Lovelace", "Ada", "Lovelace"),
        ("Ada King Lovelace", "Ada King", "Lovelace"),
        ("Ada", "Ada", ""),
        ("Zoë 🦉", "Zoë", "🦉"),
    ],
)
def test_a_name_in_one_piece_is_split_at_its_last_space(name, given, family):
    assert named(["full_name"], {"full_name": name}) == {
        "": name, "full_name": name, "given_name": given, "family_name": family,
    }  # fmt: skip


@pytest.mark.parametrize("parts", [None, {}, {"full_name": ""}, {"full_name": None}])
def test_a_missing_name_has_no_parts(parts):
    assert named(["full_name"], parts) == {"": None, "full_name": "", "given_name": "", "family_name": ""}


@pytest.mark.parametrize(
    ("scheme", "parts", "name"),
    [
        (["family_name", "given_name"], {"given_name": "Ada", "family_name": "Lovelace"}, "Lovelace Ada"),
        (["title", "given_name", "family_name"], {"title": "Dr", "given_name": "Ada", "family_name": "L"}, "Dr Ada L"),
        (
            ["salutation", "given_name", "family_name", "degree"],
            {"salutation": "Ms", "given_name": "Ada", "family_name": "Lovelace", "degree": "MSc"},
            "Ada Lovelace, MSc",
        ),
        (["calling_name", "full_name"], {"calling_name": "Ada", "full_name": "Ada Lovelace"}, "Ada Lovelace"),
        (["given_name", "family_name"], {"given_name": "Ada"}, "Ada"),
        (["given_name", "family_name"], {"full_name": "Ada Lovelace"}, "Ada Lovelace"),
        (["full_name"], {"given_name": "Ada", "family_name": "Lovelace"}, "Ada Lovelace"),
    ],
)
def test_a_name_is_put_together(scheme, parts, name):
    found = named(scheme, parts)
    assert found[""] == name
    assert {part: found[part] for part in scheme} == {part: parts.get(part, "") for part in scheme}
    assert values(
        make_order(invoice_address=InvoiceAddress(name_parts=parts)), event=make_event(name_parts=scheme)
    )["invoice_address_name"] == name  # fmt: skip


@pytest.mark.parametrize(
    ("scheme", "deprecated"),
    [
        (["given_name", "family_name"], set()),
        (["full_name"], {"full_name", "given_name", "family_name"}),
        (["given_name"], {"given_name", "family_name"}),
        (["title", "full_name"], {"given_name", "family_name"}),
    ],
)
def test_what_a_scheme_does_not_need_is_deprecated(scheme, deprecated):
    fields = data_fields(make_event(name_parts=scheme))
    assert {key for key, field in fields.items() if field.is_deprecated} == {
        f"{whose}_name_{part}" for whose in ("attendee", "invoice_address") for part in deprecated
    }


# E-mail addresses


@pytest.mark.parametrize(
    ("email", "sent", "domain"),
    [
        ("ada@bücher.example", "ada@xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("adä@straße.example", "adä@xn--strae-oqa.example", "xn--strae-oqa.example"),
        ("Ada@Example.ORG", "Ada@Example.ORG", "Example.ORG"),
        ("ada@home@bücher.example", "ada@home@bücher.example", "bücher.example"),
        ("a@b@c", "a@b@c", "c"),
        ("ada@" + "ü" * 70 + ".example", "ada@" + "ü" * 70 + ".example", "ü" * 70 + ".example"),
        ("ada@ü..example", "ada@ü..example", "ü..example"),
        ("ada@🦉.example", "ada@🦉.example", "🦉.example"),
        ("adä@", "adä@", None),
        ("ünknown", "ünknown", None),
        ("ada@", "ada@", None),
        ("", None, None),
        (None, None, None),
    ],
)
def test_hosts_are_sent_in_ascii_and_broken_ones_as_they_are(email, sent, domain):
    order = make_order()
    order.email = email
    found = values(order, make_position(attendee_email=email))
    assert (found["email"], found["email_domain"], found["attendee_email"]) == (sent, domain, sent)
    assert found["attendee_or_order_email"] == sent


# Add-ons


def test_an_add_on_borrows_what_it_lacks():
    add_on = copy(BARE)
    add_on.parent = make_position()
    found = values(make_order(), add_on)
    borrowed = {key: value for key, value in FULL.items() if key.startswith(("attendee_", "question_"))}
    assert {key: found[key] for key in borrowed} == borrowed
    assert (found["voucher_code"], found["checkin_date_7"], found["presale_ticket_url"]) == ("", None, None)
    assert (found["ticket_price"], found["product"]) == ("0.00", "Ticket")


def test_an_add_on_keeps_what_it_has():
    own = {
        "attendee_name_parts": {"given_name": "Mary"},
        "attendee_email": "mary@example.org",
        "company": "C",
        "street": "S",
        "zipcode": "Z",
        "city": "T",
        "country": "FR",
        "answers": {"age": Answer("50"), "news": Answer("False"), "menu": Answer("", ["none"])},
    }
    add_on = make_position(**own, parent=make_position())
    found = values(make_order(), add_on)
    assert (found["attendee_name"], found["attendee_name_given_name"]) == ("Mary", "Mary")
    assert found["attendee_name_family_name"] == "", "a name is borrowed whole or not at all"
    assert found["attendee_email"] == found["attendee_or_order_email"] == "mary@example.org"
    address = ("company", "street", "zipcode", "city", "country")
    assert [found[f"attendee_{part}"] for part in address] == ["C", "S", "Z", "T", "FR"]
    assert (found["question_age"], found["question_news"], found["question_menu"]) == ("50", False, ["none"])
    assert found["question_badge"] == "Ada 🦉"


@pytest.mark.parametrize("parts", [None, {}, {"given_name": ""}])
def test_an_add_on_with_an_empty_name_borrows_the_name(parts):
    assert named(["given_name", "family_name"], parts, parent={"given_name": "Ada"})[""] == "Ada"


def test_an_add_on_borrows_from_no_further_than_its_parent():
    add_on, parent = copy(BARE), copy(BARE)
    add_on.parent, parent.parent = parent, make_position()
    order = make_order()
    assert values(order, add_on)["attendee_city"] is None
    assert values(order, add_on)["attendee_or_order_email"] == "charles@example.com"


# Answers


@pytest.mark.parametrize(
    ("text", "value"), [("True", True), ("true", True), ("1", True), ("False", False), ("0", False), ("no", False)]
)
def test_yes_or_no(text, value):
    assert values(make_order(), make_position(answers={"news": Answer(text)}))["question_news"] is value


def test_an_empty_answer_is_none():
    position = make_position(answers={"menu": Answer(""), "news": Answer(""), "genres": Answer("gone", [])})
    found = values(make_order(), position)
    assert (found["question_menu"], found["question_news"], found["question_genres"]) == ("", "", "")


def test_a_list_of_options_is_the_callers_own():
    position = make_position()
    values(make_order(), position)["question_genres"].append("changed")
    assert position.answers["genres"].options == ["poetry", "novel"]


# Orders and dates


@pytest.mark.parametrize("status", "npec")
def test_a_canceled_ticket_is_canceled_whatever_the_order_is(status):
    order = make_order()
    order.status = status
    assert values(order, make_position(is_canceled=True))["ticket_status"] == ["c"]
    found = values(order)
    assert found["ticket_status"] == found["order_status"] == [status]
    assert (found["payment_date"] is None) == (status == "n")


def test_a_position_for_one_date_of_the_event_has_its_times():
    event = make_event()
    position = make_position(sub_event_id=3, sub_event_name="Saturday", sub_event_date_from=DAY)
    assert event_or_subevent(position, event) == Occasion("Saturday", DAY, None)
    assert event_or_subevent(make_position(), event) is event
    found = values(make_order(), position, event)
    assert (found["event_date_from"], found["event_date_to"]) == ("2026-05-01T08:30:00+00:00", None)
    assert found["event_name"] == "Book Fair"


def test_moments_are_told_in_utc():
    order = make_order()
    order.placed_at = datetime(2026, 5, 1, 8, 30)  # noqa: DTZ001
    assert values(order)["order_date"] == "2026-05-01T08:30:00+00:00"
    order.placed_at = datetime(2026, 5, 1, 8, 30, 0, 250, tzinfo=UTC)
    assert values(order)["order_date"] == "2026-05-01T08:30:00.000250+00:00"


@pytest.mark.parametrize(("amount", "text"), [("23", "23.00"), ("1E+2", "100.00"), ("0.5", "0.50"), ("-3.10", "-3.10")])
def test_amounts_have_two_places(amount, text):
    order = make_order()
    order.total = Decimal(amount)
    assert values(order)["order_total"] == text


# Offers


def offer_values(offer, stock=None):
    inputs = {"offer": offer} | ({"stock": stock} if stock else {})
    fields = data_fields(None, "Stock" if stock else "Offer")
    return {key: field.getter(inputs) for key, field in fields.items()}


def test_an_offer_and_its_stocks():
    first = SourceStock(8, Decimal("9.50"), 3, DAY, DAY - timedelta(hours=2))
    offer = SourceOffer(
        4, 2, "Book", "Old", "ref-1", 9, False, "Shop", "12345678901234", [first, SourceStock(9, Decimal("7.00"), 4)]
    )
    expected = {
        "offer_id": "4",
        "offer_name": "Book",
        "offer_description": "Old",
        "offer_reference": "ref-1",
        "offer_is_active": False,
        "venue_name": "Shop",
        "venue_siret": "12345678901234",
        "offer_price_min": "7.00",
        "offer_quantity": "7",
    }
    assert offer_values(offer) == expected
    assert offer_values(offer, first) == expected | {
        "stock_id": "8",
        "stock_price": "9.50",
        "stock_quantity": "3",
        "stock_beginning": "2026-05-01T08:30:00+00:00",
        "stock_booking_limit": "2026-05-01T06:30:00+00:00",
    }


def test_an_offer_may_have_little():
    stock = SourceStock(8, Decimal(0))
    found = offer_values(SourceOffer(4, 2, "Book", stocks=[stock, SourceStock(9, Decimal(1), 5)]), stock)
    assert (found["offer_description"], found["offer_reference"], found["venue_siret"]) == (None, None, None)
    assert (found["offer_quantity"], found["offer_price_min"]) == (None, "0.00")
    assert (found["stock_quantity"], found["stock_beginning"], found["stock_booking_limit"]) == (None, None, None)
    bare = offer_values(SourceOffer(4, 2, "Book"))
    assert (bare["offer_quantity"], bare["offer_price_min"], bare["offer_is_active"]) == ("0", None, True)
