"""The shipped target, called as the engine calls it, against the stand-in for Brevo over real sockets."""

from contextlib import ExitStack
from datetime import UTC, datetime
from decimal import Decimal

import pytest
import requests

from include.connectors.http import HttpConnector
from include.errors import RecoverableSyncError, SyncConfigError, UnrecoverableSyncError
from include.models.orders import Event, InvoiceAddress, Order, Position
from include.outbound.send import send
from include.targets.base import StaticMapping
from include.targets.mailing_list import DEFAULT_MAPPINGS, MailingList
from tests.contract.target_stand_ins import BrevoStandIn
from tests.outbound.conftest import entry

PLACED = datetime(2026, 3, 1, 12, tzinfo=UTC)
TOO_LONG = "characters, the maximum is 10,000: '"


@pytest.fixture(scope="module")
def served():
    with BrevoStandIn.running() as stand_in:
        yield stand_in


@pytest.fixture
def brevo(served):
    assert requests.post(f"{served.url}/sandbox/reset", timeout=10).status_code == 200
    return served


@pytest.fixture
def url(brevo):
    return brevo.url


@pytest.fixture
def fault(brevo):
    return brevo.fault


@pytest.fixture
def connect(brevo):
    """A function that makes a connector; they are closed at the end."""
    with ExitStack() as opened:
        yield lambda **more: opened.enter_context(
            brevo.connector(**{"attempts": 2, "sleep": lambda _seconds: None} | more)
        )


@pytest.fixture
def sync(connect):
    """A function that sends an order, changed or not, and keeps the results; returns those of this time."""
    kept = {}

    def sync(order, mappings=None, connector=None):
        target = MailingList.create(order.event, connector=connector or connect(), stored_mappings=mappings)
        sent = send(target, order, kept, force=True).objects
        for each in sent:
            if each.error:
                raise each.error
        kept.update({each.result.key: each.result for each in sent if each.result})
        return [each.result for each in sent]

    return sync


@pytest.fixture
def shown(url):
    return lambda: requests.get(f"{url}/sandbox/brevo", timeout=10).json()


@pytest.fixture
def contacts(shown):
    """A function that returns the contacts by their ext_id."""
    return lambda: {contact["ext_id"]: contact for contact in shown()["contacts"]}


@pytest.fixture
def asked(url):
    def asked():
        found = requests.get(f"{url}/sandbox/requests", timeout=10).json()
        return [f"{each['method']} {each['path'].removeprefix('/brevo/v3/')}" for each in found]

    return asked


def order(*positions, email="ada@example.org", code="1AAA", event=None, **more):
    event = event or Event(1, "demo", "Demo days", date_from=PLACED, locales=["en", "fr"])
    address = InvoiceAddress(name_parts={"given_name": "Ada", "family_name": "Lovelace"})
    more = {"order_id": 7, "status": "n", "locale": "fr", "invoice_address": address} | more
    made = Order(event_id=event.event_id, code=code, email=email, total=Decimal(23), placed_at=PLACED, **more)
    made.event, made.positions = event, list(positions)
    return made


def ticket(number, email, given_name="Charles", **more):
    name = {"given_name": given_name, "family_name": "Babbage"}
    more = {"order_id": 7, "product_id": 1, "product": "Day ticket", "attendee_name_parts": name} | more
    return Position(position_id=100 + number, number=number, attendee_email=email, **more)


def by(entries, model="Order", source_id="event_order_code", id_field="ext_id", kind="contact"):
    email = {"source_field": "email", "external_field": "EMAIL"}
    return [StaticMapping(1, model, kind, source_id, id_field, [email, *entries])]


def test_buyer_and_attendees_become_contacts(sync, contacts, asked):
    results = sync(order(ticket(1, "charles@example.org"), ticket(2, "mary@example.org", "Mary")))
    assert [result["action"] for result in results] == ["create"] * 3
    found = contacts()
    assert {ext_id: contact["email"] for ext_id, contact in found.items()} == {
        "DEMO-1AAA": "ada@example.org",
        "demo/1AAA-1": "charles@example.org",
        "demo/1AAA-2": "mary@example.org",
    }
    assert found["DEMO-1AAA"]["attributes"] == {
        "FIRSTNAME": "Ada", "LASTNAME": "Lovelace", "LANGUAGE": "fr", "ORDER_TOTAL": 23.0, "EVENT": "Demo days",
        "ORDER": "DEMO-1AAA", "ORDER_STATUS": "pending", "ORDER_DATE": "2026-03-01T12:00:00+00:00",
        "EXT_ID": "DEMO-1AAA",
    }  # fmt: skip
    assert found["demo/1AAA-2"]["attributes"] == {
        "FIRSTNAME": "Mary", "LASTNAME": "Babbage", "EVENT": "Demo days", "EVENT_DATE": "2026-03-01T12:00:00+00:00",
        "ORDER": "DEMO-1AAA", "ORDER_STATUS": "pending", "TICKET": "Day ticket", "TICKET_ID": "1AAA-2",
        "TICKET_STATUS": "pending", "EXT_ID": "demo/1AAA-2",
    }  # fmt: skip
    assert asked() == ["POST contacts"] * 3
    buyer = results[0]
    assert buyer["contact_id"] == found["DEMO-1AAA"]["id"]
    assert buyer["external_link_href"] == f"https://app.brevo.com/contact/index/{buyer['contact_id']}"
    assert buyer["external_link_display_name"] == f"contact {buyer['contact_id']}"


def test_again_with_changes_updates_the_same_contacts(sync, contacts, shown, asked):
    first = sync(order(ticket(1, "charles@example.org")))
    second = sync(order(ticket(1, "charles@example.org", "Charley"), status="p"))
    assert [result["action"] for result in second] == ["update", "update"]
    assert [result["contact_id"] for result in second] == [result["contact_id"] for result in first]
    found = contacts()
    assert found["DEMO-1AAA"]["attributes"]["ORDER_STATUS"] == "paid"
    assert found["demo/1AAA-1"]["attributes"]["FIRSTNAME"] == "Charley"
    assert (shown()["created"], shown()["updated"], shown()["count"]) == (2, 2, 2)
    assert asked() == ["POST contacts"] * 4


def test_the_same_again_after_a_crash_that_lost_the_result(connect, sync, shown, asked):
    sync(order())
    made = MailingList(order().event)
    made.connector = connect()
    result = made.sync_object_with_properties("ext_id", "DEMO-1AAA", [("EMAIL", "ada@example.org", "overwrite")],
                                              {"order": order()}, DEFAULT_MAPPINGS[0], {})  # fmt: skip
    assert (result["action"], result["contact_id"]) == ("update", shown()["contacts"][0]["id"])
    assert (shown()["created"], shown()["updated"]) == (1, 1)
    assert asked()[-1] == "GET contacts/DEMO-1AAA"  # Brevo does not say the id of what it updates


def test_a_changed_address_changes_the_contact(sync, contacts, shown):
    (before, _) = sync(order(ticket(1, "charles@example.org")))
    (after, attendee) = sync(order(ticket(1, "babbage@example.org"), email="countess@example.org"))
    assert after["contact_id"] == before["contact_id"]
    assert attendee["external_link_display_name"] == f"contact {attendee['contact_id']}"
    assert {ext_id: contact["email"] for ext_id, contact in contacts().items()} == {
        "DEMO-1AAA": "countess@example.org",
        "demo/1AAA-1": "babbage@example.org",
    }
    assert shown()["created"] == 2


def test_an_attendee_with_the_buyers_address_shares_the_contact(sync, contacts, shown):
    both = order(ticket(1, "Ada@example.org"), ticket(2, "charles@example.org"), ticket(3, "charles@example.org"))
    results = sync(both)
    assert [result["ext_id"] for result in results] == ["DEMO-1AAA", "", "demo/1AAA-2", ""]
    assert contacts().keys() == {"DEMO-1AAA", "demo/1AAA-2"}
    assert contacts()["DEMO-1AAA"]["attributes"]["TICKET_ID"] == "1AAA-1"
    assert contacts()["demo/1AAA-2"]["attributes"]["TICKET_ID"] == "1AAA-3"
    everywhere = [ticket(1, "ada@example.com"), ticket(2, "c@example.com"), ticket(3, "c@example.com")]
    again = sync(order(*everywhere, email="ada@example.com"))
    assert [result["contact_id"] for result in again] == [result["contact_id"] for result in results]
    assert {contact["email"] for contact in contacts().values()} == {"ada@example.com", "c@example.com"}
    assert (shown()["created"], shown()["count"]) == (2, 2)


def test_a_second_order_of_the_same_buyer_takes_over_the_contact(sync, shown):
    sync(order())
    (second,) = sync(order(code="2BBB", order_id=8))
    (contact,) = shown()["contacts"]
    assert (second["action"], contact["ext_id"], contact["attributes"]["ORDER"]) == (
        "update", "DEMO-2BBB", "DEMO-2BBB",
    )  # fmt: skip
    (first,) = sync(order(email="countess@example.org"))
    assert first["action"] == "create"
    assert [(each["email"], each["ext_id"]) for each in shown()["contacts"]] == [
        ("ada@example.org", "DEMO-2BBB"),
        ("countess@example.org", "DEMO-1AAA"),
    ]


def test_an_address_changed_to_that_of_another_contact_shares_it(sync, contacts, shown):
    sync(order())
    sync(order(code="2BBB", order_id=8, email="mary@example.org"))
    (result,) = sync(order(email="mary@example.org", status="p"))
    assert (result["action"], result["ext_id"]) == ("update", "")
    assert result["contact_id"] == contacts()["DEMO-2BBB"]["id"]
    assert contacts()["DEMO-2BBB"]["attributes"]["ORDER"] == "DEMO-1AAA"
    assert contacts()["DEMO-1AAA"]["email"] == "ada@example.org"
    assert shown()["deleted"] == 0


def test_tickets_of_the_same_code_in_two_events(sync, contacts):
    sync(order(ticket(1, "a@example.org"), email=None))
    sync(order(ticket(1, "b@example.org"), email=None, order_id=8, event=Event(2, "other", "Other")))
    assert contacts().keys() == {"demo/1AAA-1", "other/1AAA-1"}


@pytest.mark.parametrize("email", [None, "", "  "])
def test_without_an_address_nothing_is_sent(sync, asked, email):
    assert sync(order(ticket(1, email), email=email)) == [None, None]
    assert asked() == []


def test_an_add_on_is_no_attendee(sync, shown):
    parent = ticket(1, "charles@example.org")
    add_on = ticket(2, None, parent_id=parent.position_id, parent=parent, product="Poster")
    assert sync(order(parent, add_on, email=None))[2] is None
    (contact,) = shown()["contacts"]
    assert contact["attributes"]["TICKET"] == "Day ticket"


def test_what_is_canceled_keeps_its_contact(sync, contacts):
    sync(order(ticket(1, "charles@example.org")))
    sync(order(ticket(1, "charles@example.org", is_canceled=True), status="p"))
    statuses = [contact["attributes"]["ORDER_STATUS"] for contact in contacts().values()]
    assert (statuses, contacts()["demo/1AAA-1"]["attributes"]["TICKET_STATUS"]) == (["paid", "paid"], "canceled")
    sync(order(ticket(1, "charles@example.org"), status="c"))
    assert [contact["attributes"]["ORDER_STATUS"] for contact in contacts().values()] == ["canceled"] * 2


def test_an_empty_value_empties_only_what_the_object_filled(sync, contacts):
    nameless = order(ticket(1, "ada@example.org"), invoice_address=None)
    sync(nameless)
    sync(nameless)
    assert contacts()["DEMO-1AAA"]["attributes"]["FIRSTNAME"] == "Charles"
    sync(order())
    assert contacts()["DEMO-1AAA"]["attributes"]["FIRSTNAME"] == "Ada"
    sync(order(invoice_address=None))
    assert "FIRSTNAME" not in contacts()["DEMO-1AAA"]["attributes"]


def test_other_modes_read_the_contact_first(sync, contacts, asked):
    mappings = by([entry("event_name", "EVENT", "append"), entry("order_code", "FIRSTNAME", "if_empty"),
                   entry("order_locale", "LASTNAME", "if_new")])  # fmt: skip
    (first,) = sync(order(), mappings)
    assert first["action"] == "create"
    assert asked() == ["GET contacts/DEMO-1AAA", "GET contacts/ada@example.org", "POST contacts"]
    (second,) = sync(order(locale="en"), mappings)
    assert (second["action"], second["contact_id"]) == ("nothing_to_do", first["contact_id"])
    renamed = order()
    renamed.event.name = "Night,Demo days"
    (third,) = sync(renamed, mappings)
    assert third["action"] == "update"
    assert contacts()["DEMO-1AAA"]["attributes"] == {
        "EVENT": "Demo days,Night", "FIRSTNAME": "1AAA", "LASTNAME": "fr", "EXT_ID": "DEMO-1AAA",
    }  # fmt: skip
    assert contacts()["DEMO-1AAA"]["updated"] == 1


def test_a_mapping_names_lists(sync, shown):
    sync(order(), by([], kind="contact in lists 1, 3"))
    assert shown()["contacts"][0]["listIds"] == [1, 3]
    with pytest.raises(SyncConfigError, match="Invalid list ids: 99"):
        sync(order(), by([], kind="contact in list 99"))


def test_a_mapping_that_identifies_by_something_else(sync, asked):
    with pytest.raises(SyncConfigError, match="identified by ext_id, not by 'sms'"):
        sync(order(), by([], id_field="sms"))
    assert asked() == []


@pytest.mark.parametrize("email", ["a@b@example.org", "nobody", "a b@example.org", "é@example.org"])
def test_what_is_no_address_is_for_a_person(sync, shown, email):
    with pytest.raises(UnrecoverableSyncError) as refused:
        sync(order(email=email))
    assert refused.value.messages == [
        f"Brevo refused the contact with the e-mail address {email!r}: Invalid email address"
    ]
    assert refused.value.failure_mode == "permanent"
    assert shown()["count"] == 0


def test_odd_addresses_and_names(sync, contacts):
    name = "Ada 🎈 “O'Brien” <b>\u202e\n" + "é" * 200
    attendee = ticket(1, "o'brien+tickets@bücher.example", name)
    sync(order(attendee, email="ada@例え.jp"))
    assert contacts()["DEMO-1AAA"]["email"] == "ada@xn--r8jz45g.jp"
    assert contacts()["demo/1AAA-1"]["email"] == "o'brien+tickets@xn--bcher-kva.example"
    assert contacts()["demo/1AAA-1"]["attributes"]["FIRSTNAME"] == name


@pytest.mark.parametrize(
    ("positions", "email", "message"),
    [
        (
            [ticket(1, "c@example.org", "x" * 100_000)],
            None,
            f"FIRSTNAME has 100,000 {TOO_LONG}{'x' * 99}…'",
        ),
        ([], "a@" + "x" * 100_000 + ".org..", f"EMAIL has 100,008 {TOO_LONG}a@{'x' * 97}…'"),
    ],
)
def test_a_text_that_is_too_long_is_for_a_person(sync, asked, positions, email, message):
    with pytest.raises(UnrecoverableSyncError) as refused:
        sync(order(*positions, email=email))
    assert refused.value.messages == [message]
    assert asked() == []


def test_a_wrong_key_is_a_matter_of_the_connection(sync, connect, shown):
    with pytest.raises(SyncConfigError, match="connection brevo_api") as refused:
        sync(order(), connector=connect(key="wrong-key"))
    assert "wrong-key" not in f"{refused.value} {refused.value.full_message}"
    assert shown()["count"] == 0


def test_a_wrong_address_is_a_matter_of_the_connection(sync, url):
    with (
        HttpConnector(f"{url}/brevo/v3/wrong", headers={"api-key": BrevoStandIn.secret}) as connector,
        pytest.raises(SyncConfigError, match="Check the address in the connection brevo_api"),
    ):
        sync(order(), connector=connector)


def test_too_early_is_tried_again_later(sync, fault):
    fault("status", status=425)
    with pytest.raises(RecoverableSyncError, match="still processing this contact"):
        sync(order())


@pytest.mark.parametrize(
    ("status", "kind"), [(400, UnrecoverableSyncError), (402, UnrecoverableSyncError), (403, SyncConfigError)]
)
def test_other_refusals_are_for_a_person(sync, fault, status, kind):
    fault("status", status=status)
    with pytest.raises(kind) as refused:
        sync(order())
    assert type(refused.value) is kind


def test_a_failure_while_the_old_contact_is_read(sync, fault):
    mappings = by([entry("event_name", "EVENT", "append")])
    fault("status", status=503, call="get", times=2)
    with pytest.raises(RecoverableSyncError):
        sync(order(), mappings)
    fault("status", status=400, call="get", times=1)
    with pytest.raises(UnrecoverableSyncError):
        sync(order(), mappings)
    assert sync(order(), mappings)[0]["action"] == "create"
