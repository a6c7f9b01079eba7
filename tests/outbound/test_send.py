"""One order with its objects: what is sent, what is not, what failed and what is shown of it."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import pytest

from include.errors import (
    AccessRefused,
    BaseSyncError,
    ConfigurationError,
    RateLimited,
    RecoverableSyncError,
    RequestRefused,
    ServiceUnavailable,
    SyncConfigError,
    UndecodableBody,
    UnrecoverableSyncError,
)
from include.outbound.send import as_sync_error, send
from include.targets.base import OutboundSyncProvider, StaticMapping
from tests.outbound.conftest import ORDERS, TICKETS, entry

ATTENDEES = [("Ada L", "a@example.org"), ("Bob M", "b@example.org"), ("Cyd N", "c@example.org")]


@pytest.fixture
def order(shop):
    return shop.load(shop.order("A1", attendees=ATTENDEES))


@pytest.fixture
def sent(order):
    """A function that sends the order by a target; returns the outcome, and gives `previous` to the next time."""
    previous = {}

    def sent(target, **options):
        outcome = send(target(order.event), order, previous, **options)
        for each in outcome.objects:
            if each.result:
                previous[order.order_id, each.position_id, each.mapping_id] = each.result
        return outcome

    return sent


def outcomes(outcome):
    return [each.outcome for each in outcome.objects]


# Differences


def test_an_equal_payload_is_no_call(make_target, sent, order):
    target = make_target(mappings=[ORDERS, TICKETS])
    assert outcomes(sent(target)) == ["sent"] * 4
    assert outcomes(sent(target)) == ["nothing_to_do"] * 4
    assert len(target.calls) == 4
    order.positions[1].attendee_email = "new@example.org"
    outcome = sent(target)
    assert outcomes(outcome) == ["nothing_to_do", "nothing_to_do", "sent", "nothing_to_do"]
    assert [each.changed for each in outcome.objects] == [[], [], ["mail"], []]
    assert [call.id_value for call in target.calls[4:]] == ["A1-2"]


def deal(*entries, kind="deal", source="order_code", id_field="code"):
    return StaticMapping(1, "Order", kind, source, id_field, [entry(*each) for each in entries])


TOTAL = ("order_total", "total")


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        (deal(TOTAL), deal((*TOTAL, "if_new")), ["total"]),
        (deal(TOTAL), deal(("order_total", "sum")), ["sum"]),
        (deal(TOTAL), deal(("order_code", "total")), ["total"]),
        (deal(TOTAL), deal(), []),  # the target may have to empty it
        (deal(), deal(source="event_order_code"), ["deal/code"]),
        (deal(), deal(kind="sale"), ["sale/code"]),
        (deal(), deal(id_field="ref"), ["deal/ref"]),
    ],
)
def test_a_changed_mapping_is_a_change(make_target, sent, before, after, changed):
    sent(make_target(mappings=[before]))
    outcome = sent(make_target(mappings=[after]))
    assert (outcomes(outcome), outcome.objects[0].changed) == (["sent"], changed)


def test_unchanged_is_sent_where_that_is_wanted(make_target, sent):
    target = make_target()
    sent(target)
    assert outcomes(sent(target, force=True)) == ["sent"]
    assert outcomes(sent(make_target(sends_unchanged=True))) == ["sent"]
    assert outcomes(sent(target)) == ["nothing_to_do"]


def test_previous_is_handed_in(make_target, sent, order):
    def sync(self, external_id_field, id_value, properties, inputs, mapping, mapped_objects, previous=None):
        seen.append(previous and (previous["their_id"], previous.id_value))
        return {"their_id": 7}

    seen = []
    target = make_target(sync_object_with_properties=sync)
    sent(target)
    order.email = "new@example.org"
    sent(target)
    assert seen == [None, (7, "A1")]


def test_previous_is_among_further_arguments(make_target, sent):
    target = make_target(sends_unchanged=True)
    sent(target)
    sent(target)
    assert [call.previous and call.previous.id_value for call in target.calls] == [None, "A1"]


def test_results_of_unchanged_objects_are_there_for_later_mappings(make_target, sent):
    target = make_target(mappings=[ORDERS, TICKETS], answer=lambda self, call: {"their_id": call.id_value})
    sent(target)
    changed = StaticMapping(3, "Order", "note", "order_code", "code", [])
    then = make_target(mappings=[ORDERS, TICKETS, changed])
    sent(then)
    (call,) = then.calls
    assert [row["their_id"] for row in call.mapped_objects[2]] == ["A1-1", "A1-2", "A1-3"]


# Identity


@pytest.mark.parametrize("email", [None, ""])
def test_without_an_id_nothing_is_sent(make_target, sent, order, email):
    order.email = email
    target = make_target(mappings=[StaticMapping(1, "Order", "deal", "email", "mail", [])])
    assert outcomes(sent(target)) == ["not_synced"]
    assert target.calls == []


def test_an_id_that_is_too_long_fails_before_anything_is_sent(make_target, sent, order):
    order.email = "x" * 117 + "@example.org"
    target = make_target(mappings=[StaticMapping(1, "Order", "deal", "email", "ref", [])])
    outcome = sent(target)
    assert target.calls == []
    assert outcome.reason == "permanent"
    assert outcome.error.messages == [f"ref: {'x' * 40}… has 129 characters, the maximum is 128"]
    order.email = "x" * 116 + "@example.org"
    assert outcomes(sent(target)) == ["sent"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        *(({name: "x" * 129}, f"{name} has more than 128 characters")
          for name in ("external_object_type", "external_id_field")),
        *(({"source_model": model}, f"unknown source_model {model or ''!r}; the models are: Order, OrderPosition")
          for model in ("Offer", "Stock", "order", "", None)),
    ],
)  # fmt: skip
def test_a_mapping_that_cannot_be_used_stops_the_order(make_target, sent, wrong, message):
    mapping = StaticMapping(4, "Order", "deal", "order_code", "code", [])
    for name, value in wrong.items():
        setattr(mapping, name, value)
    target = make_target(mappings=[ORDERS, mapping])
    outcome = sent(target)
    assert outcome.error.messages == [f"Mapping 4: {message}"]
    assert (outcome.reason, target.calls) == ("config", [])


# What is kept of an answer


def test_links_that_are_too_long(make_target, sent):
    def answer(self, call):
        return {"external_link_href": "https://x/" + "y" * 246, "external_link_display_name": "é" * 300}

    (found,) = sent(make_target(answer=answer)).objects
    assert (found.outcome, found.result.external_link_href) == ("sent", None)
    assert found.result.external_link_display_name == "é" * 255
    fits = "https://x/" + "y" * 245
    (found,) = sent(make_target(answer=lambda self, call: {"external_link_href": fits}), force=True).objects
    assert found.result.external_link_href == fits


def cycle():
    found = {}
    found["self"] = found
    return found


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00Z"),
        (Decimal("1.50"), "1.50"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        ({1}, [1]),
        (float("nan"), None),
        (2**70, 2**70),
        (ValueError("x"), "x"),
        ({("a", 1): 2}, {"('a', 1)": 2}),
        ("half \ud800", "half ?"),
        (cycle(), "{'self': {...}}"),
    ],
)
def test_values_that_are_no_json_are_kept_as_well_as_they_can_be(make_target, sent, value, kept):
    """The object is at the target already: nothing in the answer may make it fail."""
    (found,) = sent(make_target(answer=lambda self, call: {"value": value, "their_id": 7})).objects
    assert (found.outcome, found.error) == ("sent", None)
    assert found.result.sync_info["their_id"] == 7
    assert found.result.sync_info["value"] == kept or float(kept) == float(found.result.sync_info["value"])
    json.dumps(found.result.sync_info).encode()


# Failures


def test_one_failing_object_does_not_stop_the_others(make_target, sent):
    def answer(self, call):
        if call.id_value == "A1-2":
            raise UnrecoverableSyncError(["Bob is not wanted"])
        return {"x": 1}

    later = StaticMapping(3, "Order", "note", "order_code", "code", [])
    target = make_target(mappings=[ORDERS, TICKETS, later], answer=answer)
    outcome = sent(target)
    assert outcomes(outcome) == ["sent", "sent", "failed", "sent", "sent"]
    assert (outcome.reason, outcome.error.messages) == ("permanent", ["Bob is not wanted"])
    assert [row and row.id_value for row in target.calls[-1].mapped_objects[2]] == ["A1-1", None, "A1-3"]
    assert not [what for what in target.noted if what[0] == "finalized"]


@pytest.mark.parametrize(
    ("errors", "kind"),
    [
        ((UnrecoverableSyncError, RecoverableSyncError, SyncConfigError), RecoverableSyncError),
        ((UnrecoverableSyncError, ValueError, SyncConfigError), SyncConfigError),
        ((ValueError, UnrecoverableSyncError, ValueError), UnrecoverableSyncError),
        ((ValueError, RuntimeError, ValueError), BaseSyncError),
    ],
)
def test_what_decides_about_the_order(make_target, sent, errors, kind):
    def answer(self, call):
        raise errors[int(call.id_value[-1]) - 1](f"No. {call.id_value}")

    outcome = sent(make_target(mappings=[TICKETS], answer=answer))
    assert type(outcome.error) is kind
    assert [message[-8:] for message in outcome.error.messages] == ["No. A1-1", "No. A1-2", "No. A1-3"]


def test_the_longest_wait_counts(make_target, sent):
    def answer(self, call):
        raise RecoverableSyncError("later", retry_after=[None, 90.0, 30.0][int(call.id_value[-1]) - 1])

    error = sent(make_target(mappings=[TICKETS], answer=answer)).error
    assert (error.retry_after, error.messages) == (90.0, ["later"])


@pytest.mark.parametrize(
    ("error", "reason", "message"),
    [
        (RecoverableSyncError(["a", "b"]), None, ["a", "b"]),
        (UnrecoverableSyncError("one text"), "permanent", ["one text"]),
        (SyncConfigError(["c"]), "config", ["c"]),
        (ServiceUnavailable("503"), None, ["503"]),
        (RateLimited("slow", retry_after=700), None, ["slow"]),
        (UndecodableBody("html"), None, ["html"]),
        (AccessRefused("401"), "config", ["401"]),
        (ConfigurationError("no connection"), "config", ["no connection"]),
        (RequestRefused("404", status=404), "permanent", ["404 [status 404]"]),
        (KeyError("x"), "internal", ["KeyError: 'x'"]),
        (RuntimeError(), "internal", ["RuntimeError"]),
        (RuntimeError("token=abc123"), "internal", ["RuntimeError: token=***"]),
        (RuntimeError("x" * 5000), "internal", ["RuntimeError: " + "x" * 1000]),
        (RuntimeError("\udcff"), "internal", ["RuntimeError: ?"]),
    ],
)
def test_any_error_says_what_is_to_be_done(error, reason, message):
    found = as_sync_error(error)
    if isinstance(error, RequestRefused):
        message = [str(error)]
    assert found.messages == message
    assert isinstance(found, RecoverableSyncError) == (reason is None)
    assert reason is None or getattr(found, "failure_mode", "internal") == reason
    assert getattr(found, "retry_after", None) == getattr(error, "retry_after", None)


@pytest.mark.parametrize("wrong", ["text", 7, ["list"], True])
def test_an_answer_that_is_none(make_target, sent, wrong):
    outcome = sent(make_target(answer=lambda self, call: wrong))
    assert (outcomes(outcome), outcome.reason) == (["failed"], "internal")


@pytest.mark.parametrize("where", ["should_sync_order", "mappings"])
def test_what_fails_before_the_first_object(make_target, sent, where):
    def wrong(self, *_):
        raise RuntimeError("broken")

    outcome = sent(make_target(**{where: wrong}))
    assert (outcome.objects, outcome.reason) == ([], "internal")
    assert outcome.error.messages == ["RuntimeError: broken"]


def test_a_field_that_does_not_exist_stops_only_its_mapping(make_target, sent):
    wrong = StaticMapping(3, "Order", "deal", "order_code", "code", [entry("nonsense", "x")])
    target = make_target(mappings=[wrong, ORDERS])
    outcome = sent(target)
    assert outcomes(outcome) == ["failed", "sent"]
    assert "nonsense" in outcome.error.messages[0]
    assert outcome.reason == "config"
    assert not outcome.objects[0].is_called
    assert outcome.objects[1].is_called


def test_a_target_that_does_not_say_how(sent, make_target):
    target = make_target(sync_object_with_properties=OutboundSyncProvider.sync_object_with_properties)
    outcome = sent(target)
    assert outcome.error.messages == ["NotImplementedError: Target does not define sync_object_with_properties"]


# What is shown


def test_personal_values_are_masked(make_target, sent):
    mapping = StaticMapping(
        1, "Order", "deal", "order_code", "code",
        [
            entry("email", "mail"), entry("email_domain", "domain"), entry("order_total", "total"),
            entry("presale_order_url", "link"), entry("invoice_address_company", "company"),
        ],
    )  # fmt: skip
    outcome = sent(make_target(mappings=[mapping, TICKETS]))
    assert outcome.objects[0].payload == {
        "mail": "***", "domain": "example.org", "total": "23.00", "link": "***",
        "company": "",
    }  # fmt: skip
    assert outcome.objects[1].payload == {"name": "***", "mail": "***", "product": "Seat"}
    stored = json.dumps([[each.payload, each.result.sent] for each in outcome.objects])
    for personal in ("ada@", "Ada", "Bob", "a@example", "s3cr3t"):
        assert personal not in stored


def test_properties_of_a_targets_own_are_masked_unless_they_are_known(make_target, sent):
    """Properties that were left out or added do not shift what is masked."""

    def get_properties(self, inputs, entries):
        found = OutboundSyncProvider.get_properties(self, inputs, entries)
        return [("note", "Ada again", "overwrite"), *reversed(found), ("extra", None, "overwrite")]

    outcome = sent(make_target(get_properties=get_properties))
    assert outcome.objects[0].payload == {"note": "***", "total": "23.00", "mail": "***", "extra": None}


def test_one_field_of_two_sources_is_masked_if_one_is_personal(make_target, sent):
    entries = [entry("email", "info"), entry("order_total", "info", "if_empty")]
    mapping = StaticMapping(1, "Order", "deal", "order_code", "code", entries)
    assert sent(make_target(mappings=[mapping])).objects[0].payload == {"info": "***"}


# Offers


def test_offers_and_stocks(make_target):
    from include.models.orders import SourceOffer, SourceStock

    offer = SourceOffer(5, 1, "Book", stocks=[SourceStock(8, Decimal("9.90"), 3), SourceStock(9, Decimal(1))])
    mappings = [
        StaticMapping(1, "Offer", "item", "offer_id", "ref", []),
        StaticMapping(2, "Stock", "price", "stock_id", "ref", []),
    ]
    target = make_target(source="offer", mappings=mappings)
    outcome = send(target(None), offer, {})
    assert outcomes(outcome) == ["sent"] * 3
    assert [(call.id_value, sorted(call.inputs)) for call in target.calls] == [
        ("5", ["offer"]), ("8", ["offer", "stock"]), ("9", ["offer", "stock"]),
    ]  # fmt: skip
    assert [(each.position_id, each.result.source) for each in outcome.objects] == [
        (None, "offer"), (8, "offer"), (9, "offer"),
    ]  # fmt: skip
    wrong = make_target(source="offer", mappings=[ORDERS])
    assert send(wrong(None), offer, {}).error.messages == [
        "Mapping 1: unknown source_model 'Order'; the models are: Offer, Stock"
    ]
