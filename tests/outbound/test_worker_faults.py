"""The mailing list against the stand-in for Brevo, over real sockets that misbehave."""

import pytest

from include.targets.mailing_list import MailingList
from tests.contract.target_stand_ins import BrevoStandIn

MISHAPS = {
    "500": ("status", {"status": 500}),
    "429": ("status", {"status": 429, "retry_after": 1}),
    "425": ("status", {"status": 425}),
    "cut": ("cut", {}),
    "html": ("html", {}),
    "truncated_json": ("truncated_json", {}),
    "empty_body": ("empty_body", {}),
}


@pytest.mark.parametrize(("fault", "rule"), MISHAPS.values(), ids=MISHAPS)
def test_single_mishaps(shop, send, rows, make_due, fault, rule):
    """What passes is tried again, and nothing is there twice."""
    orders = [
        shop.order(f"A{n}", email=f"buyer{n}@example.org", attendees=[("Ada L", f"a{n}@example.org")])
        for n in range(20)
    ]
    with (
        BrevoStandIn.running() as service,
        service.connector(attempts=1, read_timeout=5.0, sleep=lambda seconds: None) as connector,
    ):
        service.fault(fault, probability=0.2, **rule)
        assert send(MailingList, *orders, connector=connector).parked == {}
        assert set(rows("need_manual_retry")) <= {None}
        for _ in range(4):
            make_due()
            send(MailingList, connector=connector)
        service.heal()
        make_due()
        send(MailingList, connector=connector)
        expected = {f"{who}{n}@example.org" for who in ("buyer", "a") for n in range(20)}
        assert {each["email"] for each in service.contacts()} == expected
        assert service.times_created() == {1}
    assert rows("id") == []
    assert len(rows("id", "outbound_result")) == 40
    assert rows("messages", "outbound_log", "outcome = 'retry'") or fault == "empty_body"
