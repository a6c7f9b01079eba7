"""How rows and values reach PostgreSQL."""

from datetime import UTC, datetime
from decimal import Decimal

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from include.errors import ConfigurationError
from include.models import Offer, Product
from include.store.rows import find_rows, text_array, update_rows, write_or_reject
from include.store.session import prepare_connection
from include.store.tables import Table, table_of

TEXTS = st.text(
    st.one_of(st.sampled_from("\",{}\\ \n\t'nulNUL"), st.characters(exclude_characters="\0", codec="utf-8"))
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(TEXTS, max_size=6))
@example(['a","b'])
@example(['\\","'])
@example(["NULL", ""])
@example(['","', '"'])
def test_an_array_literal_holds_the_texts_as_they_are(connection, texts):
    assert connection.execute("SELECT %s::text[]", (text_array(texts),)).fetchone()[0] == texts


def test_dictionaries_are_jsonb_both_ways(connection):
    prepare_connection(connection)
    given = {"at": datetime(2026, 1, 1, tzinfo=UTC), "price": Decimal("1.50"), "list": [1, None], "text": "é"}
    back = {"at": "2026-01-01T00:00:00Z", "price": "1.50", "list": [1, None], "text": "é"}
    assert connection.execute("SELECT %s", (given,)).fetchone()[0] == back
    connection.execute("CREATE TEMPORARY TABLE kept (value jsonb)")
    with connection.cursor() as cursor, cursor.copy("COPY kept FROM STDIN") as copy:
        copy.write_row((given,))
    assert connection.execute("SELECT value FROM kept").fetchone()[0] == back


def test_a_missing_table_is_a_matter_of_migrating(connection):
    connection.execute("DROP TABLE offer CASCADE")
    with pytest.raises(ConfigurationError, match="make migrate"):
        find_rows(connection, table_of(Offer), 1, ["a"], columns=False)


@pytest.mark.parametrize("model", [Product, Offer], ids=["shared", "of one provider"])
@pytest.mark.parametrize(("day", "name", "written"), [(1, "a", 0), (2, "a", 1), (3, "a", 1), (3, "held", 0)])
def test_an_update_leaves_later_dates_and_equal_rows_alone(connection, model, day, name, written):
    prepare_connection(connection)
    connection.execute("INSERT INTO venue (name) VALUES ('v')")
    dates = {"1": "2026-01-02T00:00:00Z"}
    connection.execute(
        "INSERT INTO product (name, subcategory_id, id_at_providers, last_provider_id, date_modified_at_last_provider,"
        " provider_dates) VALUES ('held', 's', 'k', 1, '2026-01-02Z', %s)",
        (dates,),
    )
    connection.execute(
        "INSERT INTO offer (product_id, venue_id, name, subcategory_id, id_at_providers, id_at_provider,"
        " last_provider_id, date_modified_at_last_provider) VALUES (1, 1, 'held', 's', 'k', 'k', 1, '2026-01-02Z')"
    )
    with connection.transaction():
        rows = [(1, datetime(2026, 1, day, tzinfo=UTC), False, name)]
        assert update_rows(connection, table_of(model), 1, rows, ("name",)) == written
    assert connection.execute(f"SELECT name FROM {model.table_name}").fetchone()[0] == ("a" if written else "held")


def test_only_the_rows_that_are_refused_are_returned(connection):
    connection.execute("CREATE TABLE number (value integer CHECK (value % 10 <> 0))")
    connection.execute("COMMENT ON CONSTRAINT number_value_check ON number IS 'no tens'")

    def write(rows):
        with connection.cursor() as cursor, cursor.copy("COPY number FROM STDIN") as copy:
            for row in rows:
                copy.write_row((row,))

    wanted = [*range(1, 36), "many", 10**30]
    refused = write_or_reject(connection, wanted, write, key_constraint="none")
    assert [row for row, _ in refused] == [10, 20, 30, "many", 10**30]
    assert {reason for _, reason in refused[:3]} == {"no tens"}
    assert refused[3][1] == 'value: invalid input syntax for type integer: "many"'
    assert connection.execute("SELECT count(*) FROM number").fetchone() == (32,)


def test_a_lost_connection_is_not_a_bad_row(database):
    connection = psycopg.connect(database, autocommit=True)

    def write(_rows):
        connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(psycopg.OperationalError):
        write_or_reject(connection, [1, 2], write, key_constraint="none")


def test_a_model_has_its_columns_in_order():
    class Wrong(Product):
        read_only = ("name",)

    with pytest.raises(ConfigurationError, match="read-only columns come last"):
        Table(Wrong)
