"""A target written for the contract, in the words of https://docs.pretix.eu/dev/development/api/datasync.html."""

from collections import namedtuple
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from include.errors import RecoverableSyncError, SyncConfigError, UnrecoverableSyncError
from include.store import queue as store
from include.targets.base import OutboundSyncProvider, StaticMapping, mappings_of
from tests.outbound.conftest import ORDERS, TICKETS, Recording, entry, fail

TheirMapping = namedtuple(
    "TheirMapping", "id pretix_model external_object_type pretix_id_field external_id_field property_mappings"
)


def their_entry(field, external, overwrite="overwrite", **more):
    return {
        "pretix_field": field, "external_field": external, "value_map": "", "overwrite": overwrite, "ORDER": 1, **more,
    }  # fmt: skip


class Theirs(OutboundSyncProvider):
    """Names nothing but what the contract names; takes no **kwargs and no previous."""

    identifier = "theirs"
    seen = ()

    @property
    def mappings(self):
        return [
            TheirMapping(1, "Order", "deal", "event_order_code", "ref", [their_entry("order_code", "name")]),
            TheirMapping(
                7, "OrderPosition", "person", "ticket_id", "ref",
                [their_entry("attendee_name", "name", "if_new"), their_entry("order_status", "state", DELETE=False)],
            ),
        ]  # fmt: skip

    def sync_object_with_properties(self, external_id_field, id_value, properties, inputs, mapping, mapped_objects):
        own = self.filter_mapped_objects(mapped_objects, inputs)
        self.seen.append((external_id_field, id_value, properties, sorted(inputs), mapping, mapped_objects, own))
        return {
            "object_type": "ignored",
            "external_id_field": "ignored",
            "id_value": "ignored",
            "external_link_href": f"https://x.example/{id_value}",
            "external_link_display_name": f"No. {id_value}",
            "action": "create",
            "their_id": len(self.seen),
        }


@pytest.fixture
def theirs():
    Theirs.seen = []
    return Theirs


def test_a_target_written_for_the_contract(theirs, shop, send, rows):
    order = shop.order("A1", attendees=[("Ada L", "a@example.org"), ("Bob M", "b@example.org")])
    report = send(theirs, order)
    assert report.orders == {"sent": 1}
    assert [call[:4] for call in theirs.seen] == [
        ("ref", "SHOW-A1", [("name", "A1", "overwrite")], ["event", "order"]),
        *(
            (
                "ref",
                f"A1-{number}",
                [("name", name, "if_new"), ("state", "p", "overwrite")],
                ["event", "event_or_subevent", "order", "position"],
            )
            for number, name in ((1, "Ada L"), (2, "Bob M"))
        ),
    ]
    assert rows(
        "mapping_id, external_object_type, external_id_field, id_value, external_link_href,"
        " external_link_display_name, sync_info",
        "outbound_result",
        "true ORDER BY id",
    )[1] == (
        7, "person", "ref", "A1-1", "https://x.example/A1-1", "No. A1-1",
        {
            "object_type": "ignored", "external_id_field": "ignored", "id_value": "ignored", "action": "create",
            "their_id": 2,
        },
    )  # fmt: skip


def test_results_of_mappings_before(theirs, shop, send):
    send(theirs, shop.order("A1", attendees=[("Ada L", None), ("Bob M", None)]))
    _, first, second = theirs.seen
    assert (first[4], first[4].pretix_model) == (theirs(None).mappings[1], "OrderPosition")
    [deal] = second[6][1]
    assert (deal["their_id"], deal.id_value, deal["id_value"]) == (1, "SHOW-A1", "ignored")
    assert deal["external_link_display_name"] == "No. SHOW-A1"
    assert (deal.get("nothing"), deal.get("nothing", 3)) == (None, 3)
    with pytest.raises(KeyError, match="nothing"):
        deal["nothing"]
    assert list(second[6][7]) == []  # the first ticket is of another position


def test_only_results_of_the_same_position_or_none(make_target, shop, send):
    seen = []

    def answer(self, call):
        if call.mapping.id == 3:
            seen.append(self.filter_mapped_objects(call.mapped_objects, call.inputs))
        return None if call.id_value == "A1-2" and call.mapping.id == 2 else {"n": call.id_value}

    later = StaticMapping(3, "OrderPosition", "visit", "ticket_id", "ticket", [])
    target = make_target(mappings=[ORDERS, TICKETS, later], answer=answer)
    send(target, shop.order("A1", attendees=[("A", None), ("B", None), ("C", None)]))
    assert [[row["n"] for row in found[2]] for found in seen] == [["A1-1"], [], ["A1-3"]]
    assert [[row["n"] for row in found[1]] for found in seen] == [["A1"]] * 3
    everything = target(None).filter_mapped_objects(target.calls[-1].mapped_objects, {"order": 1})
    assert [row and row["n"] for row in everything[2]] == ["A1-1", None, "A1-3"]


@pytest.mark.parametrize("given", [property(lambda self: [ORDERS]), lambda self: [ORDERS], [ORDERS], (ORDERS,)])
def test_mappings_as_property_method_or_attribute(make_target, shop, send, given):
    target = make_target(mappings=given)
    assert send(target, shop.order("A1")).orders == {"sent": 1}
    assert len(target.calls) == 1


def test_mappings_are_asked_once_per_order(make_target, shop, send):
    asked = []
    target = make_target(mappings=property(lambda self: asked.append(self) or [ORDERS, TICKETS]))
    send(target, *shop.orders(3, attendees=[("A", None), ("B", None)]))
    assert len(asked) == 3


@pytest.mark.parametrize(
    ("answer", "orders", "objects", "stored", "logged"),
    [
        (None, "nothing_to_do", "not_synced", [], []),
        ({}, "nothing_to_do", "not_synced", [], []),
        ({"action": "nothing_to_do"}, "nothing_to_do", "nothing_to_do", [{"action": "nothing_to_do"}], []),
        ({"x": 1}, "sent", "sent", [{"x": 1}], ["sent"]),
    ],
)
def test_what_an_answer_means(make_target, shop, send, rows, answer, orders, objects, stored, logged):
    target = make_target(answer=lambda self, call: answer)
    report = send(target, shop.order("A1"))
    assert (report.orders, report.objects) == ({orders: 1}, {objects: 1})
    assert rows("sync_info", "outbound_result") == stored
    assert rows("outcome", "outbound_log") == logged
    assert rows("id") == []
    assert ("finalized", "A1") in target.noted


def test_what_was_stored_stays_when_an_object_is_not_synced_any_more(make_target, shop, send, rows):
    order = shop.order("A1")
    target = make_target()
    send(target, order)
    kept = rows("*", "outbound_result")
    target.answer = lambda self, call: None
    shop.change(order, "new@example.org")
    send(target, order)
    assert rows("*", "outbound_result") == kept
    assert len(target.calls) == 2


def test_finalized_is_only_what_went_well_and_closed_is_always(make_target, shop, send):
    def answer(self, call):
        if call.id_value == "A2":
            raise UnrecoverableSyncError(["no"])
        return {"x": 1}

    target = make_target(answer=answer)
    send(target, shop.order("A1"), shop.order("A2"), shop.order("A3"))
    assert sorted(target.noted) == [
        ("closed", "show"), ("finalized", "A1"), ("finalized", "A3"), ("made", "show"),
    ]  # fmt: skip


def test_what_finalizing_raises_is_logged_and_retried(make_target, shop, send, rows):
    def finalize(self, order):
        raise RecoverableSyncError(["Not now"])

    target = make_target(finalize_sync_order=finalize)
    assert send(target, shop.order("A1")).orders == {"retry": 1}
    assert rows("failed_attempts, messages") == [(1, ["Not now"])]
    assert len(rows("id", "outbound_result")) == 1
    assert target.noted[-1] == ("closed", "show")


def test_an_order_that_is_left_alone(make_target, shop, send, rows):
    target = make_target(should_sync_order=lambda self, order: order.code != "A1")
    report = send(target, shop.order("A1"), shop.order("A2"))
    assert [call.id_value for call in target.calls] == ["A2"]
    assert report.orders == {"nothing_to_do": 1, "sent": 1}
    assert ("finalized", "A1") not in target.noted
    assert rows("id") == []
    assert rows("code", "outbound_log") == ["A2"]


def test_one_instance_per_event(make_target, shop, send):
    target = make_target()
    send(target, *shop.orders(3, event="one"), *shop.orders(3, event="two"))
    assert sorted(target.noted)[:2] == [("closed", "one"), ("closed", "two")]
    assert sorted(what for what in target.noted if what[0] == "made") == [("made", "one"), ("made", "two")]
    assert {call.inputs["event"].slug: call.provider.event.slug for call in target.calls} == {
        "one": "one",
        "two": "two",
    }


def test_a_constructor_may_use_the_connector_and_the_stored_mappings(make_target):
    seen = []

    def init(self, event):
        seen.append((self.connector, self.stored_mappings, event))
        OutboundSyncProvider.__init__(self, event)

    target = make_target(__init__=init).create(None, connector="connector", stored_mappings=[ORDERS])
    assert seen == [("connector", [ORDERS], None)]
    assert target.event is None


def test_enqueue_order(make_target, shop, connection):
    target, order = make_target(), shop.load(shop.order("A1"))
    row, is_new = target.enqueue_order(order, "placed", connection=connection)
    assert (row.source_id, row.event_id, row.target, is_new) == (order.order_id, order.event_id, "recording", True)
    later = datetime.now(UTC) + timedelta(hours=1)
    again, is_new = target.enqueue_order(order, "paid", later, connection=connection)
    assert (is_new, again.id, again.triggered_by, again.not_before) == (False, row.id, "paid", later)
    assert store.claim(connection, "recording", 1, 10) == []
    connection.execute("SET timezone TO 'America/New_York'")
    now, _ = target.enqueue_order(order, "user", immediate=True, connection=connection)
    target.enqueue_order(shop.load(shop.order("A2")), "placed", connection=connection)
    assert [each.id for each in store.claim(connection, "recording", 1, 1)] == [now.id]


def test_enqueue_order_without_identifier(shop, connection):
    class Nameless(OutboundSyncProvider):
        pass

    with pytest.raises(TypeError, match="Nameless has no identifier"):
        Nameless.enqueue_order(shop.load(shop.order("A1")), "placed", connection=connection)


def test_a_target_puts_further_orders_into_the_queue(make_target, shop, send, rows):
    def finalize(self, order):
        if order.code == "A1":
            self.enqueue_order(others[0], "follows")

    target = make_target(finalize_sync_order=finalize)
    others = [shop.load(shop.order("A2"))]
    report = send(target, shop.order("A1"))
    assert report.parked == {}
    send(target)
    assert [call.id_value for call in target.calls] == ["A1", "A2"]
    assert rows("triggered_by", "outbound_log", "code = 'A2'") == ["follows"]


def test_next_retry_date_of_its_own(make_target, shop, send, rows):
    seen = []

    def next_retry_date(self, row):
        seen.append((row.failed_attempts, self.event.slug))
        return datetime.now(UTC) + timedelta(hours=5 * row.failed_attempts)

    target = make_target(answer=fail(RecoverableSyncError(["no"])), next_retry_date=next_retry_date)
    send(target, shop.order("A1"))
    assert seen == [(1, "show")]
    assert rows("round(extract(epoch FROM not_before - now()) / 3600)::int") == [5]


@pytest.mark.parametrize("wrong", [lambda self, row: None, lambda self, row: 1 / 0, lambda self, row: "tomorrow"])
def test_a_wrong_next_retry_date_is_a_minute(make_target, shop, send, rows, caplog, wrong):
    send(make_target(answer=fail(RecoverableSyncError(["no"])), next_retry_date=wrong), shop.order("A1"))
    assert rows("extract(epoch FROM not_before - now())::int BETWEEN 50 AND 60") == [True]
    assert "next_retry_date of recording failed" in caplog.text


def test_a_next_retry_date_beyond_all_bounds(make_target, shop, send, rows):
    far = make_target(
        answer=fail(RecoverableSyncError(["no"], retry_after=1e300)),
        next_retry_date=lambda self, row: datetime.max.replace(tzinfo=UTC),
    )
    assert send(far, shop.order("A1")).orders == {"retry": 1}
    assert rows("not_before < now() + interval '31 days'") == [True]


@pytest.mark.parametrize(("joiner", "expected"), [(",", "p"), (None, ["p"]), ("", ["p"])])
def test_list_field_joiner(make_target, shop, send, joiner, expected):
    mapping = StaticMapping(1, "Order", "deal", "order_code", "code", [entry("order_status", "state")])
    target = make_target(mappings=[mapping], list_field_joiner=joiner)
    send(target, shop.order("A1"))
    assert target.calls[0].properties == [("state", expected, "overwrite")]


def test_links():
    class Target(Recording):
        @classmethod
        def get_external_link_info(cls, event, href, display_name):
            return {"href": f'https://{event}/{href}?a=1&b="', "val": f"<{display_name}>"}

    assert Recording.get_external_link_info("e", "https://x", "X") == {"href": "https://x", "val": "X"}
    assert Target.get_external_link_html("e", "h", "n") == (
        '<a href="https://e/h?a=1&amp;b=&quot;" target="_blank">&lt;n&gt;</a>'
    )


def test_names(make_target):
    assert make_target().name() == "recording"
    assert make_target(display_name="Records").name() == "Records"


@pytest.mark.parametrize(
    ("ids", "complaint"),
    [
        (["1"], "integer of at most 8 bytes, not '1'"),
        ([True], "not True"),
        ([1.0], "not 1.0"),
        ([2**63], "not 9223372036854775808"),
        ([3, 1, 3], "Two mappings have the id 3"),
    ],
)
def test_mappings_with_wrong_ids(make_target, shop, send, rows, ids, complaint):
    given = [StaticMapping(each, "Order", "deal", "order_code", "code", []) for each in ids]
    target = make_target(mappings=given)
    with pytest.raises(SyncConfigError, match=complaint):
        mappings_of(target(None))
    send(target, shop.order("A1"))
    assert target.calls == []
    assert rows("need_manual_retry") == ["config"]


def test_identifier_is_limited(connection, make_target, shop):
    with pytest.raises(psycopg.errors.CheckViolation):
        store.enqueue(connection, "x" * 129, "order", 1, triggered_by="user")
    assert store.enqueue(connection, "x" * 128, "order", 1, triggered_by="user")[1]
