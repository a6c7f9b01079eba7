"""What fails or waits for a person."""

from datetime import UTC, datetime

from include.store import problems, queue, search
from tests.store.conftest import TITELIVE

INDEX = ("APP", "offers")


def reject(connection, world, link, reason, payload="{}", resolved=None):
    connection.execute(
        "INSERT INTO rejected_record (provider_id, venue_provider_id, id_at_providers, reason, payload, resolved_at,"
        " resolution) VALUES (%s, %s, 'ref', %s, %s, %s, %s)",
        (world.providers[TITELIVE], link, reason, payload, resolved and datetime.now(UTC), resolved),
    )


def test_rejected_records_are_counted_by_venue_and_reason(connection, world):
    assert problems.rejections(connection) == []
    for reason in ("price: negative", "price: negative", "name: missing"):
        reject(connection, world, 1, reason)
    reject(connection, world, 2, "price: negative", payload=None)
    reject(connection, world, 2, "price: negative", resolved="replayed")
    rows = problems.rejections(connection)
    assert [(row.venue, row.reason, row.count, row.replayable) for row in rows] == [
        ("Au Fil", "price: negative", 2, 2),
        ("Au Fil", "name: missing", 1, 1),
        ("La Plume", "price: negative", 1, 0),
    ]
    assert (rows[0].example_id, rows[0].reference, rows[0].local_class) == (2, "ref", TITELIVE)
    assert problems.rejections(connection, ["Register"]) == []


def test_orders_that_were_not_sent_come_with_their_reason_the_parked_first(connection):
    for source_id, change in enumerate(
        (
            "failed_attempts = 0",
            "failed_attempts = 2, messages = ARRAY['503'], not_before = now() + interval '1 h'",
            "failed_attempts = 1, messages = ARRAY['no address'], need_manual_retry = 'permanent'",
        )
    ):
        queue.enqueue(connection, target="crm", source="order", source_id=source_id, event_id=1, triggered_by="paid")
        connection.execute(f"UPDATE outbound_queue SET {change} WHERE source_id = %s", (source_id,))
    parked, retrying = problems.unsent_orders(connection)
    assert (parked.code, parked.reason, parked.messages, parked.next_try_at) == (
        "2", "permanent", ["no address"], None
    )  # fmt: skip
    assert (retrying.code, retrying.reason, retrying.failed_attempts) == ("1", None, 2)
    assert retrying.next_try_at > datetime.now(UTC)
    assert problems.unsent_orders(connection, ["mail"]) == []


def test_an_index_is_a_problem_until_a_pass_over_it_went_well(connection):
    search.load_state(connection, *INDEX)

    def a_pass(report=None):
        found = search.open_pass(connection, *INDEX, reason="move", moves=[], patches=["p"], run_id="dispo/r")
        if report is not None:
            search.finish_pass(connection, found, report)
        return found

    a_pass({"refused_count": 2, "refused": {"17": "too large"}})
    (row,) = problems.search_problems(connection)
    assert (row.error, row.refused, row.refusals) == (None, 2, {"17": "too large"})
    search.record_error(connection, again := a_pass(), "403: no")
    (row,) = problems.search_problems(connection, "dispo")
    assert (row.error, row.refused) == ("403: no", 0)
    search.finish_pass(connection, again, {"refused_count": 0})
    assert problems.search_problems(connection) == []


def test_open_incidents_are_listed_by_their_dag(connection):
    connection.execute("INSERT INTO failure_episode (subject, error, failures) VALUES ('a', 'no', 3), ('b', 'x', 1)")
    assert [(row.subject, row.failures, row.error) for row in problems.incidents(connection, "a")] == [("a", 3, "no")]
    assert len(problems.incidents(connection)) == 2


def test_booked_stocks_that_are_no_longer_listed_are_counted_by_venue(connection, world):
    connection.execute("INSERT INTO product (id, name, subcategory_id) VALUES (1, 'p', 'S')")
    connection.execute(
        "INSERT INTO offer (id, product_id, venue_id, name, subcategory_id) VALUES (1, 1, 1, 'A film', 'S')"
    )
    connection.execute(
        "INSERT INTO stock (offer_id, price, quantity, booked_quantity, gone_since, last_provider_id, id_at_providers)"
        " SELECT 1, 5, 3, 2, now(), %s, 'k' || n FROM generate_series(1, 2) AS n",
        (world.providers[TITELIVE],),
    )
    (row,) = problems.off_sale(connection, [TITELIVE])
    assert (row.provider, row.venue, row.stocks, row.booked, row.example) == ("TiteLive", "Au Fil", 2, 4, "A film")
    assert problems.off_sale(connection, ["Register"]) == []


def test_fields_that_people_edited_are_counted(connection):
    connection.execute(
        "INSERT INTO product (id, name, subcategory_id, id_at_providers, last_provider_id) VALUES (1, 'p', 'S', 'k', 7)"
    )
    assert problems.count_overrides(connection) == 0
    connection.execute("UPDATE product SET name = 'mine', description = 'own' WHERE id = 1")
    assert problems.count_overrides(connection) == 2
