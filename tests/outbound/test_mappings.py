"""Stored mappings: versions are kept, and the copy of an event has check-in lists of its own."""

import copy
import logging

import pytest

from include.errors import ConfigurationError, SyncConfigError
from include.outbound.checks import check
from include.outbound.mappings import load, restore, save, translate_all
from include.store.outbound_mappings import list_versions
from include.targets.mapping import StaticMapping
from tests.outbound.stored_mappings import FIELDS, GOOD, entry, order, ticket


def plain(mappings):
    return [{name: getattr(mapping, name) for name in StaticMapping.__slots__} for mapping in mappings]


def numbers(connection, target="crm"):
    return [(each.version, each.is_current) for each in list_versions(connection, target)]


def test_saved_mappings_are_loaded(connection):
    assert save(connection, "crm", GOOD, fields=FIELDS, note="First") == 1
    loaded = load(connection, "crm")
    assert all(isinstance(mapping, StaticMapping) for mapping in loaded)
    assert [mapping.id for mapping in loaded] == [1, 2]
    assert loaded[0].source_model == "Order"
    assert [each["source_field"] for each in loaded[1].property_mappings] == ["attendee_name", "question_size"]
    [version] = list_versions(connection, "crm")
    assert (version.version, version.is_current, version.note) == (1, True, "First")
    assert version.mappings == plain(loaded) == plain(load(connection, "crm"))


def test_what_is_current_makes_no_new_version(connection):
    save(connection, "crm", GOOD, fields=FIELDS)
    other_form = [StaticMapping(**copy.deepcopy(GOOD[0])), {**GOOD[1], "ORDER": 2}]
    other_form[0].property_mappings[1]["value_map"] = {"n": "open", "p": "won", "e": "lost", "c": "lost"}
    assert save(connection, "crm", iter(other_form), fields=FIELDS) == 1
    assert save(connection, "crm", GOOD[:1], fields=FIELDS) == 2
    assert save(connection, "crm", GOOD, fields=FIELDS) == 3
    assert numbers(connection) == [(3, True), (2, False), (1, False)]


def test_all_problems_are_listed_and_nothing_is_saved(connection):
    save(connection, "crm", GOOD, fields=FIELDS)
    with pytest.raises(ConfigurationError) as refused:
        save(connection, "crm", [order(entry("txet"), entry(overwrite="x"))], fields=FIELDS)
    first, *errors = str(refused.value).splitlines()
    assert first == "The mappings of crm cannot be saved:"
    assert len(errors) == 2
    assert all(each.startswith("  - Mapping 1 (Order → deal), entry ") for each in errors)
    assert numbers(connection) == [(1, True)]


@pytest.mark.parametrize("target", ["", "x" * 129])
def test_names_of_targets(connection, target):
    with pytest.raises(ConfigurationError, match="has 1 to 128 characters"):
        save(connection, target, GOOD, fields=FIELDS)


@pytest.mark.parametrize("more", [{"external_field": "a\x00b"}, {"external_field": "\ud800"}, {"theirs": object()}])
def test_what_cannot_be_stored_as_json(connection, more):
    with pytest.raises(ConfigurationError, match="cannot be stored as JSON"):
        save(connection, "crm", [order(entry(**more))], fields=FIELDS)
    assert numbers(connection) == []


def test_warnings_are_logged(connection, caplog):
    with caplog.at_level(logging.WARNING):
        save(connection, "crm", [order(entry("email", "x"), entry("email", "x"))], fields=FIELDS)
    assert "Mappings of crm: Mapping 1 (Order → deal), entries 1 and 2: all overwrite 'x'" in caplog.text


def test_a_target_without_mappings(connection):
    save(connection, "other", GOOD, fields=FIELDS)
    assert load(connection, "crm") is None
    assert save(connection, "crm", [], fields=FIELDS) == 1
    assert load(connection, "crm") == []


def test_a_version_is_restored(connection):
    save(connection, "crm", GOOD, fields=FIELDS)
    save(connection, "crm", GOOD[:1], fields=FIELDS)
    assert restore(connection, "crm", 1) == 3
    assert numbers(connection) == [(3, True), (2, False), (1, False)]
    assert list_versions(connection, "crm")[0].note == "Version 1 again"
    assert len(load(connection, "crm")) == 2
    assert restore(connection, "crm", 3) == 3
    assert restore(connection, "crm", 1) == 3


def test_a_version_that_does_not_exist(connection):
    save(connection, "crm", GOOD, fields=FIELDS)
    with pytest.raises(ConfigurationError, match=r"'crm' have no version 7; the versions are: 1"):
        restore(connection, "crm", 7)


# The copy of an event


@pytest.fixture
def two_targets(connection):
    """The mappings of "crm" have check-in lists, those of "list" have none."""
    entries = [entry("checkin_date_5", "door"), entry("checkin_date_6", "bar"), entry("attendee_name")]
    save(connection, "crm", [GOOD[0], ticket(*entries)], fields=FIELDS)
    save(connection, "list", GOOD, fields=FIELDS)


def sources(connection, target):
    return [each["source_field"] for each in load(connection, target)[1].property_mappings]


def test_the_mappings_speak_of_the_lists_of_the_copy(connection, two_targets):
    assert translate_all(connection, {5: 15}) == {"crm": 2}
    assert sources(connection, "crm") == ["checkin_date_15", "_invalid_checkin_date_6", "attendee_name"]
    assert numbers(connection, "list") == [(1, True)]
    assert plain(load(connection, "crm"))[0] == list_versions(connection, "crm")[1].mappings[0]
    assert restore(connection, "crm", 1) == 3
    assert sources(connection, "crm") == ["checkin_date_5", "checkin_date_6", "attendee_name"]


def test_what_was_marked_as_invalid_can_be_saved_again(connection, two_targets):
    translate_all(connection, {})
    mappings = load(connection, "crm")
    assert save(connection, "crm", mappings, fields=FIELDS) == 2
    assert len(check(mappings, FIELDS).warnings) == 2


def test_it_is_done_for_all_or_none(connection, two_targets):
    unusable = "UPDATE outbound_mapping SET mappings = jsonb_set(mappings, '{0,property_mappings}', '5')"
    connection.execute(f"{unusable} WHERE target = 'list'")
    with pytest.raises(SyncConfigError, match="must be a list of entries"):
        translate_all(connection, {5: 15, 6: 16})
    assert numbers(connection) == [(1, True)]


def test_without_stored_mappings_nothing_happens(connection):
    assert translate_all(connection, {5: 15}) == {}
