"""The mailing list against the stand-in for Brevo, over real sockets that misbehave."""

import socket
import threading
import time

import pytest
import requests

from include.connectors.http import HttpConnector
from include.targets.mailing_list import MailingList
from sandbox.testing import serving
from sandbox.world import Settings, World


class Service:
    """The stand-in, and a connector to it that does not ask twice."""

    def __init__(self, url):
        self.url = url
        self.opened = []

    def connector(self, key="sandbox-brevo", **more):
        more = {"attempts": 1, "read_timeout": 5.0, "sleep": lambda seconds: None, **more}
        self.opened.append(HttpConnector(f"{self.url}/brevo/v3", headers={"api-key": key}, **more))
        return self.opened[-1]

    def fault(self, fault, **rule):
        body = [{"fault": fault, "service": "brevo", **rule}]
        assert requests.post(f"{self.url}/sandbox/faults", json=body, timeout=10).ok

    def heal(self):
        requests.delete(f"{self.url}/sandbox/faults", timeout=10)

    def contacts(self):
        found = requests.get(f"{self.url}/sandbox/brevo", timeout=10).json()
        assert all([each["created"] == 1 for each in found["contacts"]])
        return {each["email"]: each["attributes"] for each in found["contacts"]}


@pytest.fixture(scope="module")
def served():
    with serving(World(Settings(books=10, offers=0))) as url:
        yield url


@pytest.fixture
def service(served):
    assert requests.post(f"{served}/sandbox/reset", timeout=10).ok
    service = Service(served)
    yield service
    for connector in service.opened:
        connector.close()


@pytest.fixture
def orders(shop):
    return [
        shop.order(f"A{n}", email=f"buyer{n}@example.org", attendees=[("Ada L", f"a{n}@example.org")])
        for n in range(20)
    ]


@pytest.fixture
def right(service, rows):
    """A function that checks that all is sent, once each, and nothing is left."""

    def right():
        expected = {f"{who}{n}@example.org" for who in ("buyer", "a") for n in range(20)}
        assert set(service.contacts()) == expected
        assert rows("id") == []
        assert len(rows("id", "outbound_result")) == 40

    return right


def test_all_well(service, send, orders, right):
    report = send(MailingList, *orders, connector=service.connector())
    assert (report.orders, report.objects, report.down) == ({"sent": 20}, {"sent": 40}, None)
    right()
    again = send(MailingList, *orders, connector=service.connector())
    assert again.objects == {"nothing_to_do": 40}


@pytest.mark.parametrize(
    ("fault", "rule"),
    [
        ("status", {"status": 500}),
        ("status", {"status": 429, "retry_after": 1}),
        ("status", {"status": 425}),
        ("cut", {}),
        ("html", {}),
        ("truncated_json", {}),
        ("empty_body", {}),
    ],
    ids=lambda value: value if isinstance(value, str) else str(value.get("status", "")),
)
def test_single_mishaps(service, send, orders, right, rows, make_due, fault, rule):
    """What passes is tried again, and nothing is there twice."""
    service.fault(fault, probability=0.2, **rule)
    connector = service.connector()
    first = send(MailingList, *orders, connector=connector)
    assert set(rows("need_manual_retry")) <= {None}
    for _ in range(4):
        make_due()
        send(MailingList, connector=connector)
    service.heal()
    make_due()
    send(MailingList, connector=connector)
    right()
    assert first.parked == {}
    retried = rows("messages", "outbound_log", "outcome = 'retry'")
    assert retried or fault == "empty_body"


@pytest.mark.parametrize(
    ("fault", "rule"),
    [("status", {"status": 503}), ("cut", {}), ("html", {}), ("status", {"status": 429, "retry_after": 900})],
)
def test_a_service_that_is_down(service, send, orders, right, rows, make_due, fault, rule):
    service.fault(fault, **rule)
    report = send(MailingList, *orders, connector=service.connector())
    assert report.down == "Brevo cannot process contacts right now"
    assert rows("max(failed_attempts), bool_or(in_flight), count(*)::int") == [(0, False, 20)]
    if "retry_after" in rule:
        waits = rows("extract(epoch FROM not_before - now())::float", where="messages <> '{}'")
        assert min(waits) > 850
    service.heal()
    make_due()
    assert send(MailingList, connector=service.connector()).orders == {"sent": 20}
    right()


def test_a_wrong_key(service, send, orders, rows):
    report = send(MailingList, *orders, connector=service.connector(key="5ecret-wrong"))
    assert "401" in report.down
    assert {"config"} <= set(rows("need_manual_retry")) <= {"config", None}
    messages = str(rows("messages") + rows("messages", "outbound_log"))
    assert "5ecret" not in messages
    assert "example.org" not in messages


def test_time_outs(service, send, shop, rows, make_due):
    """The contact is there although nobody heard of it: it is updated, not created again."""
    service.fault("delay", seconds=0.6, call="create")
    order = shop.order("A1")
    report = send(MailingList, order, connector=service.connector(read_timeout=0.15))
    assert report.orders == {"retry": 1}
    deadline = time.monotonic() + 10
    while not service.contacts() and time.monotonic() < deadline:
        time.sleep(0.05)
    service.heal()
    make_due()
    assert send(MailingList, connector=service.connector()).orders == {"sent": 1}
    assert set(service.contacts()) == {"ada@example.org"}
    assert rows("id") == []


def test_one_that_is_refused(service, send, shop, rows):
    report = send(
        MailingList, shop.order("A1", email="not an address"), shop.order("A2"), connector=service.connector()
    )
    assert report.orders == {"parked": 1, "sent": 1}
    ((code, reason, messages),) = rows("code, reason, messages", "outbound_problems")
    assert (code, reason, len(messages)) == ("A1", "permanent", 1)
    assert set(service.contacts()) == {"ada@example.org"}


def test_nobody_listens(send, shop, rows):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    connector = HttpConnector(f"http://127.0.0.1:{port}", attempts=1, sleep=lambda seconds: None)
    report = send(MailingList, *shop.orders(30), connector=connector)
    connector.close()
    assert report.down
    assert rows("max(failed_attempts)") == [0]
    assert threading.active_count() < 20
