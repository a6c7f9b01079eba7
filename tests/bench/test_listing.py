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


def test_one_record_in_a_hundred_changes_and_gets_a_later_date():
    before, after = read(Listing(2000, FIRST)), read(Listing(2000, CHANGED))
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert len(changed) == 20
    assert all(old["modified"] < new["modified"] and old["available"] < new["available"] for old, new in changed)


@pytest.mark.parametrize("records", [0, 999, 1500, 10**9 + 1000])
def test_a_listing_has_whole_pages(records):
    with pytest.raises(ValueError, match="whole pages"):
        Listing(records)
