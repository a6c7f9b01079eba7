"""What holds for every target: one function per promise, each called with a Case."""

import time

from include.outbound.checks import check
from include.outbound.preview import preview
from include.outbound.worker import drain
from include.store import change_feed, queue
from include.targets.base import mappings_of
from include.targets.fields import data_fields
from tests.outbound.conftest import Shop

CHANGES = {
    "order": {
        "placed", "paid", "canceled", "reactivated", "expired", "modified", "changed", "checkin", "checkin_annulled",
        "expiry_changed",
    },
    "offer": {"created", "changed", "stock_changed"},
}  # fmt: skip
ATTENDEES = [("Ada Lovelace", "ada@example.org")]
TRANSIENT = {
    "500": ("status", {"status": 500}),
    "503": ("status", {"status": 503}),
    "429": ("status", {"status": 429, "retry_after": 900}),
    "cut connection": ("cut", {}),
    "HTML": ("html", {}),
    "time-out": ("delay", {"seconds": 0.5}),
}


class Case:
    """A target before its stand-in, and orders to send."""

    def __init__(self, stand_in, connection, caplog, target=None):
        self.stand_in = stand_in
        self.connection = connection
        self.caplog = caplog
        self.target = target or stand_in.target
        self.shop = Shop(connection)
        assert self.target.source == "order", "orders are all that this suite can make so far"

    def order(self, code="A1", email="buyer@example.org"):
        return self.shop.order(code, email=email, attendees=[(n, f"{code}.{mail}") for n, mail in ATTENDEES])

    def drain(self, *orders, target=None, key=None, read_timeout=5.0, **options):
        """Queue orders and drain the queue; the connector never repeats a request by itself."""
        queue.enqueue_orders(self.connection, self.target.identifier, orders, triggered_by="placed")
        settings = {"attempts": 1, "read_timeout": read_timeout, "sleep": lambda _seconds: None}
        connector = self.stand_in.connector(**settings, **({"key": key} if key else {}))
        try:
            return drain(target or self.target, self.connection, connector=connector, **options)
        finally:
            connector.close()

    def rows(self, statement):
        return self.connection.execute(statement).fetchall()

    def shown(self):
        """All that people can read: logs, messages, payloads."""
        kept = self.rows("SELECT messages::text, payload::text, link FROM outbound_log")
        kept += self.rows("SELECT messages::text FROM outbound_queue")
        return f"{self.caplog.text} {kept}"


# Declaration


def declares_what_the_engine_needs(case):
    target = case.target
    assert 1 <= len(target.identifier) <= 128
    assert target.name()
    assert target.max_attempts >= 1
    assert target.source in change_feed.SOURCES
    assert target.triggers
    assert set(target.triggers) <= CHANGES[target.source]
    assert target.concurrency >= 1
    assert target.requests_per_second is None or target.requests_per_second > 0


def its_mappings_are_valid(case):
    order = case.shop.load(case.order())
    mappings = mappings_of(case.target.create(order.event))
    found = check(mappings, {model: data_fields(order.event, model) for model in ("Order", "OrderPosition")})
    assert found.errors == []
    assert mappings


# Sending


def creates_and_links_each_object(case):
    report = case.drain(case.order("A1"), case.order("A2", "second@example.org"))
    assert (report.orders, report.parked, report.down) == ({"sent": 2}, {}, None), report.examples
    assert len(case.stand_in.objects()) == report.objects["sent"] >= 2
    assert case.stand_in.times_created() == {1}
    links = [link for (link,) in case.rows("SELECT external_link_href FROM outbound_result")]
    assert len(links) == report.objects["sent"]
    assert all(link and link.startswith("https://") for link in links)


def updates_what_changed(case):
    order = case.order()
    case.drain(order)
    before = case.stand_in.objects()
    case.shop.change(order, "new@example.org")
    report = case.drain(order)
    after = case.stand_in.objects()
    assert report.orders == {"sent": 1}
    assert report.objects["sent"] >= 1
    assert after.keys() == before.keys()
    assert "buyer@example.org" not in str(after)
    assert "new@example.org" in str(after)
    assert case.stand_in.times_created() == {1}


def sends_nothing_if_nothing_changed(case):
    order = case.order()
    case.drain(order)
    requests = case.stand_in.requests()
    report = case.drain(order)
    assert (report.orders, set(report.objects)) == ({"nothing_to_do": 1}, {"nothing_to_do"})
    assert case.stand_in.requests() == requests


def may_send_the_same_values_twice(case):
    """After a crash between the request and the commit the engine knows nothing of the first time."""
    order = case.order()
    case.drain(order)
    before = case.stand_in.objects()
    case.rows("DELETE FROM outbound_result RETURNING id")
    report = case.drain(order)
    assert report.orders == {"sent": 1}
    assert case.stand_in.objects() == before
    assert case.stand_in.times_created() == {1}


def a_dry_run_sends_nothing(case):
    case.order()
    requests = case.stand_in.requests()
    found = [sent.outcome for _, sent in preview(case.connection, case.target, ["A1"])]
    assert found
    assert set(found) == {"sent"}
    assert case.stand_in.requests() == requests


# Failures


def retries_a_failure_that_may_pass(case, fault, rule):
    order = case.order()
    case.stand_in.fault(fault, **rule)
    report = case.drain(order, read_timeout=0.2 if fault == "delay" else 5.0)
    assert (report.orders, report.parked) == ({"retry": 1}, {}), report.examples
    ((messages, wait),) = case.rows(
        "SELECT messages, extract(epoch FROM not_before - now())::float FROM outbound_queue"
    )
    assert messages
    assert all(messages)
    assert wait > rule.get("retry_after", 20) - 5
    assert case.stand_in.secret not in case.shown()
    if fault == "delay":  # it arrives after all
        time.sleep(rule["seconds"])
    case.stand_in.heal()
    case.rows("UPDATE outbound_queue SET not_before = now() RETURNING id")
    assert case.drain().orders == {"sent": 1}
    assert case.stand_in.times_created() == {1}
    assert case.rows("SELECT id FROM outbound_queue") == []


def a_wrong_key_is_a_configuration_error_and_stays_secret(case):
    key = f"wrong-{case.stand_in.secret}"
    report = case.drain(case.order(), key=key)
    assert (report.orders, report.parked) == ({"parked": 1}, {"config": 1})
    assert report.down, "the DAG ends red"
    assert "401" in case.shown()
    assert case.stand_in.secret not in case.shown()
    assert case.stand_in.objects() == {}


def parks_unusable_values_by_name(case):
    bad = case.order("A1", **case.stand_in.unusable)
    report = case.drain(bad, case.order("A2"))
    assert (report.orders, report.parked) == ({"parked": 1, "sent": 1}, {"permanent": 1})
    assert report.down is None
    ((code, reason, messages),) = case.rows("SELECT code, reason, messages FROM outbound_problems")
    assert (code, reason) == ("A1", "permanent")
    for name in case.stand_in.named:
        assert name in " ".join(messages)


def personal_values_are_not_logged(case):
    case.drain(case.order())
    for personal in ("buyer@example.org", "ada@example.org", "Lovelace"):
        assert personal not in case.shown()


def every_instance_is_closed(case):
    made, closed = [], []

    class Counted(case.target):
        def __init__(self, event):
            made.append(event.slug)
            super().__init__(event)

        def close(self):
            super().close()
            closed.append(self.event.slug)

    other = case.shop.order("B1", event="other", email="b1@example.org")
    case.drain(case.order("A1"), other, target=Counted, calls_at_once=1)
    assert sorted(closed) == sorted(made)
    assert set(closed) == {"show", "other"}
    case.stand_in.fault("status", status=500)
    case.drain(case.order("A2"), target=Counted)
    assert sorted(closed) == sorted(made)
    assert "close of" not in case.caplog.text
    case.target.create(None).close()  # also if it never sent anything


CHECKS = (
    declares_what_the_engine_needs,
    its_mappings_are_valid,
    creates_and_links_each_object,
    updates_what_changed,
    sends_nothing_if_nothing_changed,
    may_send_the_same_values_twice,
    a_dry_run_sends_nothing,
    a_wrong_key_is_a_configuration_error_and_stays_secret,
    parks_unusable_values_by_name,
    personal_values_are_not_logged,
    every_instance_is_closed,
)
