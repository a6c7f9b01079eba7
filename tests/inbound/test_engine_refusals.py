"""What a first review of the engine found: each of these ended wrongly once."""

from typing import ClassVar

import pytest

from include.errors import RejectRecord
from include.inbound import loads
from include.masking import MASK
from include.models import Product
from include.store import ledger
from include.store.ledger import LoadParameters
from tests.inbound.items import CursorItems, Item, Items, item


class Killed(BaseException):
    """Ends a run as a signal would."""


class Child(Item):
    """A row that needs its item, in a table of its own."""

    table_name: ClassVar[str] = "child"


class Family(Items):
    """An item and its child, which looks its product up only when it is filled."""

    def __next__(self):
        self.record = record = next(self.records)
        return [
            self.create_reference(Product, "p"),
            self.create_providable_info(Item, record["key"]),
            self.create_providable_info(Child, record["key"]),
        ]

    def fill_object_attributes(self, obj):
        self.filled += 1
        if self.filled > 200:
            raise Killed
        obj.name = self.row_of(Product, "p").name if type(obj) is Child else "an item"
        obj.price = self.record["price"]


@pytest.fixture
def family(connection):
    connection.execute("CREATE TABLE child (LIKE item INCLUDING ALL)")
    connection.execute(
        "INSERT INTO product (name, subcategory_id, id_at_providers) VALUES ('a book', 'LIVRE_PAPIER', 'p')"
    )


def test_a_refused_parent_does_not_keep_its_child_from_being_looked_up(sync, connection, family):
    report = sync([{"key": "a", "price": -1}, {"key": "b", "price": 1}], Family)
    assert (report.created, report.rejected) == (2, 2)
    assert connection.execute("SELECT id_at_providers, name FROM child").fetchall() == [("b", "a book")]


def test_a_dry_run_leaves_the_sequences_alone(sync, connection, family):
    sequences = (
        "SELECT (SELECT last_value FROM item_id_seq), (SELECT is_called FROM item_id_seq),"
        " (SELECT last_value FROM pg_sequences WHERE sequencename = 'child_id_seq')"
    )
    before = connection.execute(sequences).fetchone()
    assert sync([{"key": str(number), "price": 1} for number in range(50)], Family, dry_run=True).created == 100
    assert connection.execute(sequences).fetchone() == before


def test_differences_show_no_personal_data_and_are_not_kept(sync, connection):
    class Masked(Items):
        masked_fields = frozenset({"name"})

    (difference,) = sync([item("a", extra_data={"email": "jane@example.org"})], Masked, dry_run=True).differences
    assert difference["fields"]["name"] == [MASK, MASK]
    assert difference["fields"]["extra_data"] == [None, {"email": MASK}]
    kept = connection.execute(
        "SELECT report::text || progress::text FROM catalog_operation_instance_result AS result"
        " JOIN catalog_scheme_operation_instance AS instance ON instance.id = result.instance_id"
    ).fetchone()[0]
    assert "difference" not in kept


def test_a_long_tail_of_rejected_records_is_counted_once(sync, connection, rejections):
    class Tail(CursorItems):
        def __next__(self):
            record = next(self.records)
            if record is None:
                raise RejectRecord("bad", payload="x")
            if record == "killed":
                raise Killed
            self.record, self.good = record, self.place
            return [self.create_providable_info(Item, record["key"])]

        @property
        def cursor(self):
            return str(self.good)

    listing = [item("a"), item("b"), *[None] * 25, "killed", item("c")]
    instance = ledger.single_instance(connection, loads.open_load(connection, Tail, LoadParameters()))
    with pytest.raises(Killed):
        sync(listing, Tail, chunk_size=2, instance_id=instance)
    listing.remove("killed")
    report = sync(listing, Tail, chunk_size=2, instance_id=instance)
    assert (report.records, report.created, report.rejected) == (28, 3, 25)
    assert len(rejections()) == 25
