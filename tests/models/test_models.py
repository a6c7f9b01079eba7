"""The models say of their tables what the database says."""

import msgspec
import psycopg
import pytest

import include.models
from include.models import Providable
from include.store.tables import table_of

MODELS = [
    model for model in vars(include.models).values()
    if isinstance(model, type) and issubclass(model, Providable) and model is not Providable
]  # fmt: skip
ENGINE_COLUMNS = {"id_at_providers", "last_provider_id", "date_modified_at_last_provider", "fields_updated"}
each_model = pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)


@pytest.fixture
def columns(connection):
    """Name → (type, nullable, default expression) of a table's columns."""

    def read(table):
        return {
            name: facts
            for name, *facts in connection.execute(
                "SELECT column_name, udt_name, is_nullable = 'YES', column_default FROM information_schema.columns"
                " WHERE table_name = %s",
                (table,),
            )
        }

    return read


def test_there_are_models():
    assert {model.__name__ for model in MODELS} >= {"Product", "Offer", "Stock"}


@each_model
def test_fields_are_columns(model, columns):
    fields = {field.name for field in msgspec.structs.fields(model)}
    assert fields <= set(columns(model.table_name))
    assert not fields & (ENGINE_COLUMNS | {"id_at_provider", "provider_dates"})


@each_model
def test_defaults_are_those_of_the_database(model, columns, connection):
    found = columns(model.table_name)
    for field in msgspec.structs.fields(model):
        if field.name != "id":
            expression = found[field.name][2]
            default = connection.execute(f"SELECT {expression or 'NULL'}").fetchone()[0]
            assert (field.name, getattr(model(), field.name)) == (field.name, default)


@each_model
def test_a_column_that_may_not_be_null_has_a_default_or_is_asked_for(model, columns):
    """None as a default stands only for null, or for what a provider must set."""
    for field in msgspec.structs.fields(model):
        _, is_nullable, default = columns(model.table_name)[field.name]
        if not is_nullable and default is not None and field.name != "id":
            assert getattr(model(), field.name) is not None


@each_model
def test_the_sync_columns_are_there(model, columns):
    found = columns(model.table_name)
    assert found["id_at_providers"][:2] == ["text", True]
    assert found["last_provider_id"][:2] == ["int8", True]
    assert found["date_modified_at_last_provider"][:2] == ["timestamptz", True]
    assert found["fields_updated"] == ["_text", False, "'{}'::text[]"]
    assert ("provider_dates" in found) == model.is_shared
    assert ("id_at_provider" in found) == model.has_venue_reference


@each_model
def test_the_key_is_unique_under_its_name_and_sorted_bytewise(model, connection):
    kind, names, collation = connection.execute(
        "SELECT contype, array_agg(attname::text), min(collname) FROM pg_constraint JOIN pg_attribute AS a"
        " ON a.attrelid = conrelid AND attnum = ANY(conkey) JOIN pg_collation AS c ON c.oid = attcollation"
        " WHERE conname = %s GROUP BY contype",
        (f"{model.table_name}_id_at_providers_key",),
    ).fetchone()
    assert (kind, names, collation) == ("u", ["id_at_providers"], "C")


@each_model
def test_ids_can_be_reserved_and_given(model, connection):
    assert len(connection.execute(table_of(model).next_ids, (3,)).fetchall()) == 3
    assert connection.execute(
        "SELECT attidentity FROM pg_attribute WHERE attrelid = %s::regclass AND attname = 'id'", (model.table_name,)
    ).fetchone() == ("d",)


@each_model
def test_checks_and_keys_explain_themselves(model, connection):
    """A provider can run into these: the reason it is shown is their comment."""
    silent = connection.execute(
        "SELECT conname FROM pg_constraint WHERE conrelid = %s::regclass AND contype IN ('c', 'f', 'u')"
        " AND obj_description(oid, 'pg_constraint') IS NULL ORDER BY 1",
        (model.table_name,),
    ).fetchall()
    known = {f"{model.table_name}_id_at_providers_key", f"{model.table_name}_check", f"{model.table_name}_check1"}
    of_the_database = {"stock_booked_quantity_check", "offer_booking_email_check", "offer_venue_id_fkey"}
    assert {name for (name,) in silent} <= known | of_the_database


def test_a_null_key_is_a_row_made_by_hand(connection):
    connection.execute("INSERT INTO product (name, subcategory_id) VALUES ('a', 's'), ('b', 's')")
    with pytest.raises(psycopg.errors.CheckViolation):
        connection.execute("UPDATE product SET last_provider_id = 1")
