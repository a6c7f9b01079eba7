"""Entries and mappings as data: their stored form, and their translation for a copied event."""

import copy
import json
from types import SimpleNamespace

import pytest

from include.errors import SyncConfigError
from include.targets.entries import normalize_entry, normalize_mapping, translate_property_mappings
from include.targets.mapping import StaticMapping


def entry(source_field="text", external_field="theirs", value_map="", overwrite="overwrite", **more):
    return {
        "source_field": source_field, "external_field": external_field, "value_map": value_map, "overwrite": overwrite,
        **more,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        ({}, entry("", "")),
        (entry(), entry()),
        ({"pretix_field": "text", "external_field": "theirs", "ORDER": 1, "DELETE": False}, entry()),
        ({**entry(), "DELETE": True}, entry()),
        ({**entry(), "pretix_field": "other"}, entry()),
        ({**entry(""), "pretix_field": "text"}, entry()),
        (entry(value_map=None, overwrite=None), entry()),
        (entry(value_map="{}"), entry()),
        (entry(value_map={}), entry()),
        (entry(value_map={"a": "ä", "b": None}), entry(value_map='{"a":"ä","b":null}')),
        (entry(value_map='{ "b": 1, "a": "2" }'), entry(value_map='{"b":1,"a":"2"}')),
        (entry(value_map="{"), entry(value_map="{")),
        (entry(value_map=["a"]), entry(value_map=["a"])),
        (entry(overwrite="merge"), entry(overwrite="merge")),
        (entry(theirs=1), entry(theirs=1)),
    ],
)
def test_normalized_entries(given_, expected):
    before = copy.deepcopy(given_)
    assert normalize_entry(given_) == expected
    assert normalize_entry(normalize_entry(given_)) == expected
    assert given_ == before


_OURS = {
    "id": 1, "source_model": "Order", "external_object_type": "deal", "source_id_field": "order_code",
    "external_id_field": "number", "property_mappings": [entry()],
}  # fmt: skip
_THEIRS = {
    "id": 1, "pretix_model": "Order", "external_object_type": "deal", "pretix_id_field": "order_code",
    "external_id_field": "number", "ORDER": 1,
    "property_mappings": json.dumps([{"pretix_field": "text", "external_field": "theirs"}]),
}  # fmt: skip


@pytest.mark.parametrize(
    "mapping",
    [
        _OURS,
        _THEIRS,
        SimpleNamespace(**_THEIRS),
        StaticMapping(**_OURS),
        StaticMapping(1, "Order", "deal", "order_code", "number", [entry()]),
        {**_OURS, "property_mappings": tuple(_OURS["property_mappings"])},
    ],
)
def test_normalized_mappings(mapping):
    for normalized in (normalize_mapping(mapping), normalize_mapping(normalize_mapping(mapping))):
        assert {key: getattr(normalized, key) for key in _OURS} == _OURS


def test_a_mapping_without_anything():
    normalized = normalize_mapping({})
    assert (normalized.id, normalized.source_model, normalized.property_mappings) == (None, "", [])


@pytest.mark.parametrize(
    ("mapping", "reason"),
    [
        (5, "got int"),
        ({**_OURS, "property_mappings": 5}, "a list of entries; got int"),
        ({**_OURS, "property_mappings": "{}"}, "a list of entries; got dict"),
        ({**_OURS, "property_mappings": "["}, "invalid JSON"),
        ({**_OURS, "property_mappings": ["x"]}, "an object with source_field"),
    ],
)
def test_what_is_no_mapping(mapping, reason):
    with pytest.raises(SyncConfigError, match=reason) as refused:
        normalize_mapping(mapping)
    assert refused.value.failure_mode == "config"


# The copy of an event


def keys(property_mappings, checkin_list_map):
    return [each["source_field"] for each in translate_property_mappings(property_mappings, checkin_list_map)]


def test_check_in_lists_are_those_of_the_copy():
    before = [entry("checkin_date_5"), entry("checkin_date_6"), entry("text"), entry("question_checkin_date_5")]
    given_ = copy.deepcopy(before)
    assert keys(given_, {5: 17}) == [
        "checkin_date_17", "_invalid_checkin_date_6", "text", "question_checkin_date_5",
    ]  # fmt: skip
    assert given_ == before


def test_ids_are_translated_once():
    assert keys([entry("checkin_date_1"), entry("checkin_date_2")], {1: 2, 2: 1}) == [
        "checkin_date_2", "checkin_date_1",
    ]  # fmt: skip
    assert keys([entry("_invalid_checkin_date_1"), entry("checkin_date_x"), entry("")], {1: 2}) == [
        "_invalid_checkin_date_1", "checkin_date_x", "",
    ]  # fmt: skip


def test_other_keys_stay():
    theirs = {"pretix_field": "checkin_date_1", "external_field": "f", "value_map": "{ }", "ORDER": 3}
    expected = {"source_field": "checkin_date_2", "external_field": "f", "value_map": "{ }", "ORDER": 3}
    assert translate_property_mappings([theirs], {1: 2}) == [expected]
