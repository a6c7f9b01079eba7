"""What people ask of the queue of a target."""

from datetime import UTC, datetime

import pytest

from include.errors import ConfigurationError
from include.outbound import actions, mappings
from include.store import queue as store
from include.targets.base import StaticMapping
from tests.outbound.conftest import entry


@pytest.fixture
def ask(connection):
    return lambda target, **params: actions.apply_run_params(connection, target, params)


def test_orders_by_code(make_target, shop, ask, rows, send):
    target = make_target()
    orders = [shop.order(code) for code in ("A1", "A2", "A3")]
    send(target, *orders)
    ask(target, orders=["A3", "A1", "A3"])
    assert sorted(rows("source_id")) == [orders[0], orders[2]]
    assert set(rows("triggered_by")) == {"user"}
    assert send(target).orders == {"sent": 2}


def test_orders_of_an_event(make_target, shop, ask, rows):
    shop.order("A1")
    other = shop.order("A1", event="other")
    ask(make_target(), orders=["A1"], event="other")
    assert rows("source_id") == [other]


@pytest.mark.parametrize(
    ("params", "complaint"),
    [
        ({"orders": ["A1", "B1"]}, "There is no order with the code B1"),
        ({"orders": ["A1"], "event": "none"}, "There is no event 'none'"),
        ({"cancel": ["B1"]}, "There is no order with the code B1"),
    ],
)
def test_codes_that_do_not_say_which_order(make_target, shop, ask, rows, params, complaint):
    shop.order("A1")
    with pytest.raises(ConfigurationError, match=complaint):
        ask(make_target(), **params)
    assert rows("id") == []


@pytest.mark.parametrize(
    ("reason", "parked"), [("config", ["permanent"]), ("timeout", ["permanent", "config"]), ("all", [])]
)
def test_retry_by_reason(make_target, shop, ask, queue, rows, connection, reason, parked):
    target = make_target()
    queue(target, *shop.orders(2))
    connection.execute(
        "UPDATE outbound_queue SET need_manual_retry = CASE id WHEN 1 THEN 'permanent' ELSE 'config' END"
    )
    ask(target, retry=reason)
    assert rows("need_manual_retry", where="need_manual_retry IS NOT NULL ORDER BY id") == parked


def test_a_target_that_is_not_sent_orders(make_target, shop, ask, rows, connection):
    """The ids of orders are not those of offers."""
    target = make_target(source="offer", display_name="Books")
    order = shop.order("A1")
    store.enqueue(connection, "recording", "offer", order, triggered_by="changed")
    for params in ({"orders": ["A1"]}, {"cancel": ["A1"]}):
        with pytest.raises(ConfigurationError, match="Books does not receive orders"):
            ask(target, **params)
    with pytest.raises(ConfigurationError, match="Books does not receive orders"):
        actions.queue_interval(connection, target, None, None)
    assert rows("source, source_id") == [("offer", order)]
    ask(target, retry="all")


@pytest.fixture
def copied(shop, connection, make_target, ask):
    """Three events, the second a copy of the first that lacks its second list; and mappings of two targets."""
    lists = {}
    for slug, names in (("show", ["Door", "Bar"]), ("next", ["Door"]), ("third", ["Door"])):
        event, _ = shop.event(slug)
        for name in names:
            row = connection.execute(
                "INSERT INTO checkin_list (event_id, name) VALUES (%s, %s) RETURNING id", (event, name)
            ).fetchone()
            lists[slug, name] = row[0]
    used = [("show", "Door"), ("show", "Bar"), ("third", "Door")]
    entries = [entry(f"checkin_date_{lists[each]}", f"field {number}") for number, each in enumerate(used)]
    for target in (make_target(), make_target("other")):
        mapping = StaticMapping(1, "OrderPosition", "person", "ticket_id", "ticket", entries)
        ask(target, mappings=[mapping])
    return lists


def test_after_an_event_was_copied_all_mappings_use_the_lists_of_the_copy(make_target, ask, copied, connection, caplog):
    ask(make_target(), copy_event_from="show", copy_event_to="next")
    for target in ("recording", "other"):
        (mapping,) = mappings.load(connection, target)
        assert [each["source_field"] for each in mapping.property_mappings] == [
            f"checkin_date_{copied['next', 'Door']}", f"_invalid_checkin_date_{copied['show', 'Bar']}",
            f"checkin_date_{copied['third', 'Door']}",
        ]  # fmt: skip
    assert "Event 'next' has no check-in lists Bar" in caplog.text
    ask(make_target(), mappings_version=1)
    (mapping,) = mappings.load(connection, "recording")
    assert mapping.property_mappings[0]["source_field"] == f"checkin_date_{copied['show', 'Door']}"


@pytest.mark.parametrize(
    ("original", "copy", "complaint"),
    [
        ("show", None, "must name the original and the copy"),
        (None, "next", "must name the original and the copy"),
        ("show", "show", "must name the original and the copy"),
        ("show", "none", "There is no event 'none'"),
        ("none", "next", "There is no event 'none'"),
        ("show", "twice", "Event 'twice' has several check-in lists with the name Door"),
    ],
)
def test_a_copy_that_is_not_clear(make_target, shop, ask, copied, connection, rows, original, copy, complaint):
    event, _ = shop.event("twice")
    connection.execute("INSERT INTO checkin_list (event_id, name) VALUES (%s, 'Door'), (%s, 'Door')", (event, event))
    with pytest.raises(ConfigurationError, match=complaint):
        ask(make_target(), copy_event_from=original, copy_event_to=copy)
    assert set(rows("version", "outbound_mapping")) == {1}


@pytest.mark.parametrize(
    ("due", "max_workers", "concurrency", "workers"),
    [(0, 4, 8, 1), (2, 4, 8, 1), (3, 4, 8, 2), (7, 4, 8, 4), (20, 4, 8, 4), (20, 4, 2, 2), (20, 1, 8, 1)],
)
def test_how_many_workers(make_target, shop, queue, connection, monkeypatch, due, max_workers, concurrency, workers):
    monkeypatch.setattr(actions, "ORDERS_PER_WORKER", 2)
    target = make_target(concurrency=concurrency)
    queue(target, *shop.orders(due))
    assert actions.count_workers(connection, target, max_workers) == workers


@pytest.mark.parametrize(("error", "retried"), [(f"CRM {actions.OUTAGE}; no key", True), ("Something else", False)])
def test_what_an_outage_parked_is_retried(make_target, shop, queue, rows, connection, error, retried):
    target = make_target()
    queue(target, *shop.orders(3))
    connection.execute("UPDATE outbound_queue SET need_manual_retry = CASE source_id WHEN 1 THEN 'permanent' "
                       "ELSE 'config' END")  # fmt: skip
    connection.execute("INSERT INTO failure_episode (subject, error) VALUES ('the_dag', %s)", (error,))
    actions.retry_after_outage(connection, target, "another_dag")
    assert rows("count(*)::int", where="need_manual_retry IS NOT NULL") == [3]
    actions.retry_after_outage(connection, target, "the_dag")
    assert rows("need_manual_retry", where="need_manual_retry IS NOT NULL") == (
        ["permanent"] if retried else ["permanent", "config", "config"]
    )


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [(2, 4, [2, 3]), (None, None, [1, 2, 3, 4, 5]), (6, 9, [])],
)
def test_a_backfill_interval(make_target, shop, rows, connection, monkeypatch, start, end, expected):
    """From its begin on, before its end."""
    monkeypatch.setattr(actions, "BLOCK_SIZE", 2)
    ids = [shop.order(f"A{day}", placed_at=f"2026-05-0{day}T00:00Z") for day in range(1, 6)]
    bounds = [each and datetime(2026, 5, each, tzinfo=UTC) for each in (start, end)]
    assert actions.queue_interval(connection, make_target(), *bounds) == len(expected)
    assert [ids.index(each) + 1 for each in rows("source_id")] == expected
    assert set(rows("triggered_by")) <= {"backfill"}
    assert actions.queue_interval(connection, make_target(), *bounds) == len(expected)
    assert len(rows("id")) == len(expected)
