"""What holds of any listing: chunks and cursors are nobody's business, and a bad record costs itself only."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from include.errors import RejectRecord, SkipObject
from include.inbound.read import RecordReader
from include.inbound.rejections import MAX_PAYLOAD_LENGTH, masked_payload
from include.masking import MASK, Fields, masked
from include.models.report import SyncReport
from tests.inbound.items import CursorItems, day, item

FEW = settings(
    max_examples=25,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
MANY = settings(FEW, max_examples=300)
SIZES = st.integers(1, 12)

RECORDS = st.lists(
    st.builds(
        item,
        st.sampled_from("abcdef"),
        date=st.sampled_from([None, day(1), day(2), day(3)]),
        quantity=st.integers(0, 3) | st.none(),
        flaw=st.sampled_from(["", "", "", "empty", "left out", "unreadable"]),
    ),
    max_size=12,
)


class Flawed(CursorItems):
    """Some of its records are not read."""

    name = "Flawed"

    def __next__(self):
        infos = super().__next__()
        flaw = self.record["flaw"]
        self.record = {name: value for name, value in self.record.items() if name != "flaw"}
        if flaw == "left out":
            raise SkipObject("not for us")
        if flaw == "unreadable":
            raise RejectRecord("cannot be read")
        return [] if flaw == "empty" else infos


@FEW
@given(RECORDS, RECORDS, SIZES, SIZES)
def test_chunks_do_not_matter(counts, rows, connection, first, second, size, other_size):
    ends = []
    for sizes in ((size, other_size), (1, 1), (1000, 1000)):
        connection.execute("DELETE FROM item")
        counts(first, Flawed, chunk_size=sizes[0])
        counts(second, Flawed, chunk_size=sizes[1])
        ends.append(rows("item", "name", "quantity"))
    assert ends[0] == ends[1] == ends[2]


@MANY
@given(RECORDS, SIZES, st.none() | st.integers(1, 14), st.data())
def test_reading_goes_on_where_it_ended(records, size, room, data):
    whole = _read(records, None, 1000, len(records) + 1)
    cursor, seen = None, []
    while True:
        reader, readings = _read_some(records, cursor, size, room or 1000, data.draw(st.integers(1, 3)))
        for reading in readings:
            assert sum(len(infos) or 1 for infos in reading.lists) + len(reading.rejections) >= size or (
                reader.is_exhausted
            )
            seen += [infos[0].record for infos in reading.lists if infos]
        if reader.is_exhausted:
            break
        cursor = reader.cursor
    if room is None:
        assert seen == whole


def _read_some(records, cursor, size, room, times):
    provider = Flawed(records)
    provider.resume_from = cursor
    provider.open()
    reader, readings = RecordReader(provider, cursor), []
    while not reader.is_exhausted and len(readings) < times:
        readings.append(reader.read(size=size, max_records=room, budget=(1000, 0.1), report=SyncReport()))
    return reader, readings


def _read(records, cursor, size, room):
    _, (reading,) = _read_some(records, cursor, size, room, 1)
    return [infos[0].record for infos in reading.lists if infos]


TEXT = st.text(st.characters(blacklist_categories=["Cs"]), max_size=5)
SECRET = "s3cret"
NAMES = st.sampled_from(
    ["email", "booking_email", "e-mail", "Phone", "lastName", "IBAN", "name", "ref", "note", "secret"]
)
PERSONAL = {"email", "booking_email", "e-mail", "Phone", "lastName", "IBAN", "secret"}
VALUES = st.recursive(
    st.none() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=10,
)


def _with_secrets(value):
    """The same, with a secret as value of each personal field."""
    if isinstance(value, dict):
        return {name: SECRET if name in PERSONAL else _with_secrets(inner) for name, inner in value.items()}
    return [_with_secrets(inner) for inner in value] if isinstance(value, list) else value


def _without_personal(value):
    if isinstance(value, dict):
        return {name: _without_personal(inner) for name, inner in value.items() if name not in PERSONAL}
    return [_without_personal(inner) for inner in value] if isinstance(value, list) else value


@MANY
@given(VALUES)
def test_whatever_is_nested_how_no_personal_value_is_shown(value):
    more = Fields(frozenset({"Secret"}))
    secret = _with_secrets(value)
    shown = masked(secret, more)
    assert SECRET not in json.dumps(shown)
    assert _without_personal(shown) == _without_personal(value)
    assert masked(shown, more) == shown
    kept = masked_payload(json.dumps(secret).encode(), more)
    assert SECRET not in kept
    assert len(kept) <= MAX_PAYLOAD_LENGTH
    assert (MASK in kept) == (SECRET in json.dumps(secret)) or MASK in json.dumps(value)


@MANY
@given(st.dictionaries(NAMES, TEXT.filter(lambda text: text not in SECRET), min_size=1, max_size=4), st.integers(0, 3))
def test_a_payload_that_is_no_json_is_masked_by_pattern(value, cut):
    text = json.dumps(_with_secrets(value)).encode()[: -cut or None] + b"\xff"
    assert SECRET not in (masked_payload(text, Fields(frozenset({"secret"}))) or "")


@pytest.mark.parametrize("records", [[], [item("a", flaw="unreadable")]])
def test_reading_what_has_no_good_record(records):
    assert _read(records, None, 1, 10) == []
