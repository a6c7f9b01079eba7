"""The listing of the inbound benchmark."""

import json

import pytest

from bench.inbound.listing import CHANGED, COLUMNS, FIRST, PAGE_SIZE, Listing


def read(listing):
    records, after = [], ""
    while page := json.loads(listing.page_after(after))["stocks"]:
        records += page
        after = page[-1]["ref"]
    return records


def test_pages_have_all_records_in_the_order_of_their_keys():
    records = read(Listing(12_000))
    refs = [record["ref"] for record in records]
    assert len(set(refs)) == 12_000
    assert refs == sorted(refs)
    assert {len(ref) for ref in refs} == {13}
    assert {tuple(record) for record in records} == {COLUMNS}
    assert 225 < len(Listing(1000).page_after("")) / PAGE_SIZE < 245


def test_sums_are_those_of_the_records():
    listing = Listing(12_000, CHANGED)
    records = read(listing)
    sums = listing.sums()
    assert sums.count == len(records)
    assert (sums.first, sums.last) == (records[0]["ref"], records[-1]["ref"])
    assert sums.available == sum(record["available"] for record in records)
    assert sums.cents == sum(round(100 * record["price"]) for record in records)
    assert sums.characters == sum(len(record["title"]) for record in records)


def test_one_record_in_a_hundred_changes_and_gets_a_later_date():
    before, after = read(Listing(2000, FIRST)), read(Listing(2000, CHANGED))
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert len(changed) == 20
    assert all(old["modified"] < new["modified"] and old["available"] < new["available"] for old, new in changed)


def test_the_dateless_form_is_the_same_without_the_date():
    dated, dateless = read(Listing(1000)), read(Listing(1000, dated=False))
    assert [{**record, "modified": None} for record in dated] == [{**record, "modified": None} for record in dateless]
    assert not any("modified" in record for record in dateless)
    assert Listing(1000, dated=False).sums().seconds is None


def test_copy_lines_have_the_same_records():
    listing = Listing(2000)
    lines = b"".join(listing.lines()).decode().splitlines()
    assert [line.split("\t") for line in lines] == [[str(value) for value in each.values()] for each in read(listing)]


@pytest.mark.parametrize("records", [0, 999, 1500, 10**9 + 1000])
def test_a_listing_has_whole_pages(records):
    with pytest.raises(ValueError, match="whole pages"):
        Listing(records)
