"""What would be sent: nothing is."""

import pytest

from include.errors import BaseSyncError, ConfigurationError, SyncConfigError
from include.outbound import mappings as stored_mappings
from include.outbound.preview import preview
from include.targets.base import OutboundSyncProvider, StaticMapping
from include.targets.fields import data_fields
from tests.outbound.conftest import ORDERS, TICKETS, entry


@pytest.fixture
def look(connection):
    """A function that previews; returns (code, mapping id, outcome, changed fields) of each object."""

    def look(target, *codes, **options):
        found = preview(connection, target, codes, **options)
        return [(code, sent.mapping_id, sent.outcome, sent.changed) for code, sent in found]

    return look


def test_what_would_change_is_shown_and_nothing_is_sent(make_target, shop, send, look, rows):
    order = shop.order("A1", attendees=[("A", None)])
    target = make_target(mappings=[ORDERS, TICKETS])
    send(target, order)
    shop.change(order, "new@example.org")
    before = [rows("*", table) for table in ("outbound_queue", "outbound_result", "outbound_log", "outbound_run")]
    target.calls.clear()
    target.noted.clear()
    assert look(target, "A1") == [("A1", 1, "sent", ["mail"]), ("A1", 2, "nothing_to_do", [])]
    assert target.calls == []
    assert target.noted == [("made", "show"), ("closed", "show")]
    tables = ("outbound_queue", "outbound_result", "outbound_log", "outbound_run")
    assert [rows("*", table) for table in tables] == before


def test_what_waits_is_shown_unless_codes_are_given(make_target, shop, queue, look, rows):
    target = make_target()
    shop.order("A1")
    queue(target, shop.order("A2"), shop.order("A3"))
    assert [found[0] for found in look(target)] == ["A2", "A3"]
    assert [found[0] for found in look(target, "A1")] == ["A1"]
    assert rows("in_flight, failed_attempts") == [(False, 0)] * 2
    assert look(make_target("other")) == []


def test_only_the_first_of_many(make_target, shop, queue, look, monkeypatch):
    monkeypatch.setattr("include.outbound.preview.MAX_PREVIEWED", 3)
    target = make_target()
    queue(target, *shop.orders(5))
    assert len(look(target)) == 3


def test_failures_of_single_objects_are_shown(make_target, shop, look, connection):
    shop.order("A1")
    wrong = StaticMapping(3, "Order", "deal", "order_code", "code", [entry("nonsense", "x")])
    found = list(preview(connection, make_target(mappings=[wrong, ORDERS]), ["A1"]))
    assert [sent.outcome for _, sent in found] == ["failed", "sent"]
    assert "nonsense" in found[0][1].error.messages[0]


def test_the_stored_mappings_are_used(make_target, shop, look, connection):
    shop.order("A1")
    target = make_target(mappings=OutboundSyncProvider.mappings)
    with pytest.raises(SyncConfigError, match="has no stored mappings"):
        look(target, "A1")
    fields = {"Order": data_fields(None, "Order")}
    mapping = StaticMapping(9, "Order", "deal", "order_code", "code", [entry("order_total", "total")])
    stored_mappings.save(connection, "recording", [mapping], fields=fields)
    assert look(target, "A1") == [("A1", 9, "sent", ["deal/code", "total"])]


def test_a_target_that_cannot_be_made(make_target, shop, look):
    def init(self, event):
        raise RuntimeError("no settings")

    shop.order("A1")
    with pytest.raises(BaseSyncError, match="RuntimeError: no settings"):
        look(make_target(__init__=init), "A1")


def test_codes_that_cannot_be_used(make_target, shop, look):
    shop.order("A1")
    shop.order("A1", event="other")
    with pytest.raises(ConfigurationError, match="Several events have an order A1"):
        look(make_target(), "A1")
    assert len(look(make_target(), "A1", event="other")) == 1
    with pytest.raises(ConfigurationError, match="Books does not receive orders"):
        look(make_target(source="offer", display_name="Books"), "A1")
