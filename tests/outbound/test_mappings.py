"""Mappings as data: every problem is found at once, versions are kept, and a copied event has its own lists."""

import copy
import logging
from types import SimpleNamespace

import pytest

from include.errors import ConfigurationError, SyncConfigError
from include.models.orders import CheckinList, Event, Question
from include.outbound.mappings import Problems, check, load, load_if_any, restore, save, translate_all, versions
from include.targets.base import StaticMapping
from include.targets.fields import data_fields

EVENT = Event(
    1,
    "demo",
    "Demo",
    questions=[Question("size", "Size", "C", [("s", "Small"), ("m", "Medium")])],
    checkin_lists=[CheckinList(5, "Door"), CheckinList(6, "Bar")],
)
FIELDS = {model: data_fields(EVENT, model) for model in ("Order", "OrderPosition")}


def entry(source_field="order_code", external_field="name", value_map="", overwrite="overwrite", **more):
    return {
        "source_field": source_field, "external_field": external_field, "value_map": value_map, "overwrite": overwrite,
        **more,
    }  # fmt: skip


def order(*entries, **changes):
    return {
        "id": 1, "source_model": "Order", "external_object_type": "deal", "source_id_field": "order_code",
        "external_id_field": "number", "property_mappings": list(entries), **changes,
    }  # fmt: skip


def ticket(*entries, **changes):
    return order(*entries, **{
        "id": 2, "source_model": "OrderPosition", "external_object_type": "ticket", "source_id_field": "ticket_id",
        **changes,
    })  # fmt: skip


def problems(*mappings, fields=FIELDS, **more):
    before = copy.deepcopy(mappings)
    found = check(mappings, fields, **more)
    assert mappings == before
    return found


def errors(*mappings, **more):
    found = problems(*mappings, **more)
    assert found.warnings == []
    return found.errors


def warnings(*mappings, **more):
    found = problems(*mappings, **more)
    assert found.errors == []
    return found.warnings


STATUS = '{"n": "open", "p": "won", "e": "lost", "c": "lost"}'
GOOD = [
    order(entry(), entry("order_status", "stage", STATUS), entry("email", "email", overwrite="if_empty")),
    ticket(entry("attendee_name"), entry("question_size", "sizes", '{"s": "S", "m": "M"}', "append")),
]


def test_nothing_is_wrong():
    assert problems(*GOOD) == Problems([], [])
    theirs = SimpleNamespace(
        id=1, pretix_model="Order", external_object_type="deal", pretix_id_field="order_code",
        external_id_field="number", property_mappings=[{"pretix_field": "email", "external_field": "x", "ORDER": 1}],
    )  # fmt: skip
    assert check([theirs, StaticMapping(**GOOD[1])], FIELDS) == Problems([], [])
    assert problems({**vars(theirs), "ORDER": 1, "DELETE": False}) == Problems([], [])


@pytest.mark.parametrize(
    ("mappings", "error"),
    [
        (
            [order(entry("txet"))],
            "Mapping 1 (Order → deal), entry 1 (txet → name): unknown source field 'txet'; the fields are: ",
        ),
        ([order(entry(), entry(["a"], "x"))], "entry 2 (['a'] → x): unknown source field \"['a']\""),
        ([order(entry("", "x"))], "Mapping 1 (Order → deal), entry 1 (? → x): source_field is missing"),
        (
            [order(entry("attendee_name"))],
            "Mapping 1 (Order → deal), entry 1 (attendee_name → name): 'attendee_name' needs position, which Order does"
            " not have; it is a field of: OrderPosition",
        ),
        (
            [order(entry(overwrite="merge"))],
            "entry 1 (order_code → name): unknown overwrite mode 'merge'; the modes are: overwrite, if_new, if_empty,"
            " append",
        ),
        ([order(entry(overwrite=["merge"]))], "unknown overwrite mode ['merge']"),
        ([order(entry(external_field=""))], "entry 1 (order_code → ?): external_field is missing"),
        ([order(entry(external_field=7))], "entry 1 (order_code → 7): external_field is text, not 7"),
        ([order(entry(external_field="x" * 129))], "external_field has 129 characters, at most 128 are possible"),
        (
            [order(entry("order_status", value_map='{"n": '))],
            "entry 1 (order_status → name): the value map is not right: it is not JSON: ",
        ),
        ([order(entry("email", value_map="["))], "the value map is not right: it is not JSON: "),
        ([order(entry("order_status", value_map="[]"))], "the value map is not right: it is a JSON object"),
        ([order(entry("order_status", value_map={"n": []}))], "those of n are not"),
        ([order(source_id_field="")], "Mapping 1 (Order → deal): source_id_field is missing"),
        ([order(external_id_field=None)], "Mapping 1 (Order → deal): external_id_field is missing"),
        ([order(external_id_field="ä" * 129)], "Mapping 1 (Order → deal): external_id_field has 129 characters"),
        (
            [order(source_id_field="number")],
            "Mapping 1 (Order → deal), source_id_field: unknown source field 'number'; the fields are: ",
        ),
        ([order(source_id_field="ticket_id")], "Mapping 1 (Order → deal), source_id_field: 'ticket_id' needs position"),
        ([order(source_id_field="_invalid_checkin_date_5")], "source_id_field: unknown source field"),
        ([order(external_object_type="")], "Mapping 1 (Order → ?): external_object_type is missing"),
        ([order(external_object_type="x" * 129)], "external_object_type has 129 characters"),
        (
            [order(entry(), source_model="Orders")],
            "Mapping 1 (Orders → deal): unknown source_model 'Orders'; the models are: Order, OrderPosition",
        ),
        ([order(source_model="")], "Mapping 1 (? → deal): unknown source_model ''; the models are"),
        ([order(source_model=["Order"])], "unknown source_model \"['Order']\""),
        ([order(id="1")], "Mapping no. 1 (Order → deal): the id is a whole number, not '1'"),
        ([order(id=None)], "the id is a whole number, not None"),
        ([order(id=True)], "the id is a whole number, not True"),
        ([order(id=1.0)], "the id is a whole number, not 1.0"),
        ([order(id=2**63)], "the id is a whole number, not 9223372036854775808"),
        (
            [order(), ticket(id=1)],
            "2 mappings have the id 1: Mapping 1 (Order → deal), Mapping 1 (OrderPosition → ticket)",
        ),
        ([order(), order(id=2)], "2 mappings make deal out of Order: keep one, with all entries"),
        ([5], "Mapping no. 1: A mapping has id, source_model, "),
        ([order(property_mappings=5)], "Mapping no. 1: The property mappings are a list of entries"),
        ([order(property_mappings="[")], "Mapping no. 1: The property mappings are not right: it is not JSON"),
        ([order(7)], "Mapping no. 1: An entry is an object with source_field, external_field, value_map, overwrite"),
    ],
)
def test_errors(mappings, error):
    [found] = errors(*mappings)
    assert error in found


@pytest.mark.parametrize(
    ("mappings", "warning"),
    [
        (
            [order(entry("order_status", value_map='{"n": "open", "p": null}'))],
            "Mapping 1 (Order → deal), entry 1 (order_status → name): the value map lacks, and nothing can be sent for:"
            " e (",
        ),
        (
            [ticket(entry("question_size", value_map={"s": "S", "m": "M", "xl": "XL"}))],
            "Mapping 2 (OrderPosition → ticket), entry 1 (question_size → name): the value map has what is no option"
            " (any more): xl; the options are: s, m",
        ),
        (
            [order(entry("email", value_map='{"a": "b"}'))],
            "entry 1 (email → name): the value map has no effect, for the field email (",
        ),
        (
            [order(entry("email", "x"), entry("order_code"), entry("order_total", "x"))],
            "Mapping 1 (Order → deal), entries 1 and 3: all overwrite 'x', the last one wins",
        ),
        (
            [ticket(entry("_invalid_checkin_date_9"))],
            "Mapping 2 (OrderPosition → ticket), entry 1 (_invalid_checkin_date_9 → name): the check-in list was not"
            " copied with its event; nothing can be sent before you choose another",
        ),
        (
            [order(), ticket(external_object_type="deal")],
            "Mapping 1 (Order → deal), Mapping 2 (OrderPosition → deal) make the same type of object: where both mean"
            " the same object, the later one wins",
        ),
        ([order(entry(overwrit="append"))], "entry 1 (order_code → name): 'overwrit' is not known and has no effect"),
        ([order(name="Deals")], "Mapping 1 (Order → deal): 'name' is not known and is not kept"),
        ([], "There is no mapping: nothing will be sent"),
    ],
)
def test_warnings(mappings, warning):
    [found] = warnings(*mappings)
    assert warning in found


def test_every_problem_at_once():
    found = problems(
        order(
            entry("txet"), entry("attendee_name", "", "{", "merge"), entry("order_status", value_map={"x": 1}),
            external_id_field="", source_id_field="",
        ),
        ticket(id="x"),
        5,
    )  # fmt: skip
    assert len(found.errors) == 9
    assert len(found.warnings) == 3


def test_the_same_field_may_be_filled_by_several():
    several = [entry("email", "x", overwrite=mode) for mode in ("overwrite", "if_empty", "append", "append", "if_new")]
    assert warnings(order(*several)) == []


def test_a_value_map_with_all_options_and_none():
    assert warnings(order(entry("order_status", value_map=STATUS), entry("order_status", "x", "{}"))) == []


def test_the_models_of_the_target():
    assert errors(order(), known_models=["Order"]) == []
    [error] = errors(ticket(), known_models=["Order"])
    assert "unknown source_model 'OrderPosition'; the models are: Order" in error
    [error] = errors(ticket(source_id_field="ticket_id"), fields={"Order": FIELDS["Order"]}, known_models=FIELDS)
    assert "unknown source field 'ticket_id'" in error


def test_offers_and_stocks():
    fields = {model: data_fields(None, model) for model in ("Offer", "Stock")}
    [key, *_] = fields["Offer"]
    mapping = order(entry(key), source_model="Offer", source_id_field=key)
    assert problems(mapping, fields=fields) == Problems([], [])


# --- versions


def plain(mappings):
    return [{name: getattr(mapping, name) for name in StaticMapping.__slots__} for mapping in mappings]


def numbers(connection, target="crm"):
    return [(each.version, each.is_current) for each in versions(connection, target)]


def test_saved_mappings_are_loaded(connection):
    assert save(connection, "crm", GOOD, fields=FIELDS, note="First") == 1
    loaded = load(connection, "crm")
    assert all(isinstance(mapping, StaticMapping) for mapping in loaded)
    assert [mapping.id for mapping in loaded] == [1, 2]
    assert loaded[0].source_model == "Order"
    assert [each["source_field"] for each in loaded[1].property_mappings] == ["attendee_name", "question_size"]
    [version] = versions(connection, "crm")
    assert (version.version, version.is_current, version.note) == (1, True, "First")
    assert version.mappings == plain(loaded) == plain(load_if_any(connection, "crm"))


def test_they_are_stored_under_neutral_names(connection):
    theirs = {
        "id": 1, "pretix_model": "Order", "external_object_type": "deal", "pretix_id_field": "order_code",
        "external_id_field": "number", "property_mappings": [
            {"pretix_field": "order_status", "external_field": "stage", "value_map": {"n": "ö", "p": 1, "e": 1, "c": 1},
             "ORDER": 1, "DELETE": False},
        ],
    }  # fmt: skip
    save(connection, "crm", [theirs], fields=FIELDS)
    [stored] = versions(connection, "crm")
    [[mapping]] = [stored.mappings]
    assert sorted(mapping) == sorted(StaticMapping.__slots__)
    assert mapping["property_mappings"] == [entry("order_status", "stage", '{"n":"ö","p":1,"e":1,"c":1}')]


def test_what_is_current_makes_no_new_version(connection):
    save(connection, "crm", GOOD, fields=FIELDS)
    other_form = [StaticMapping(**copy.deepcopy(GOOD[0])), {**GOOD[1], "ORDER": 2}]
    other_form[0].property_mappings[1]["value_map"] = {"n": "open", "p": "won", "e": "lost", "c": "lost"}
    assert save(connection, "crm", iter(other_form), fields=FIELDS) == 1
    assert save(connection, "crm", GOOD[:1], fields=FIELDS) == 2
    assert save(connection, "crm", GOOD, fields=FIELDS) == 3
    assert numbers(connection) == [(3, True), (2, False), (1, False)]


def test_targets_have_their_own_mappings(connection):
    save(connection, "crm", GOOD, fields=FIELDS)
    save(connection, "list", GOOD[:1], fields=FIELDS)
    assert [len(load(connection, target)) for target in ("crm", "list")] == [2, 1]


def test_all_problems_are_told_and_nothing_is_saved(connection):
    save(connection, "crm", GOOD, fields=FIELDS)
    with pytest.raises(ConfigurationError) as refused:
        save(connection, "crm", [order(entry("txet"), entry(overwrite="x"))], fields=FIELDS)
    first, *told = str(refused.value).splitlines()
    assert first == "The mappings of crm cannot be saved:"
    assert len(told) == 2
    assert all(each.startswith("  - Mapping 1 (Order → deal), entry ") for each in told)
    assert numbers(connection) == [(1, True)]


@pytest.mark.parametrize("target", ["", "x" * 129])
def test_names_of_targets(connection, target):
    with pytest.raises(ConfigurationError, match="has 1 to 128 characters"):
        save(connection, target, GOOD, fields=FIELDS)


@pytest.mark.parametrize("name", ["a\x00b", "\ud800"])
def test_text_that_postgresql_cannot_hold(connection, name):
    with pytest.raises(ConfigurationError, match="cannot be stored as JSON"):
        save(connection, "crm", [order(entry(external_field=name))], fields=FIELDS)
    assert numbers(connection) == []


def test_a_value_of_another_key_that_is_no_json(connection):
    with pytest.raises(ConfigurationError, match="cannot be stored as JSON"):
        save(connection, "crm", [order(entry(theirs=object()))], fields=FIELDS)


def test_warnings_are_logged(connection, caplog):
    with caplog.at_level(logging.WARNING):
        save(connection, "crm", [order(entry("email", "x"), entry("email", "x"))], fields=FIELDS)
    assert "Mappings of crm: Mapping 1 (Order → deal), entries 1 and 2: all overwrite 'x'" in caplog.text


def test_a_target_without_mappings(connection):
    save(connection, "other", GOOD, fields=FIELDS)
    assert load_if_any(connection, "crm") is None
    with pytest.raises(ConfigurationError) as refused:
        load(connection, "crm")
    assert "save(connection, 'crm', [...], fields=...)" in str(refused.value)
    assert str(refused.value).endswith("those that have some are: other")
    assert save(connection, "crm", [], fields=FIELDS) == 1
    assert load(connection, "crm") == []


def test_a_version_is_restored(connection):
    save(connection, "crm", GOOD, fields=FIELDS)
    save(connection, "crm", GOOD[:1], fields=FIELDS)
    assert restore(connection, "crm", 1) == 3
    assert numbers(connection) == [(3, True), (2, False), (1, False)]
    assert versions(connection, "crm")[0].note == "Version 1 again"
    assert len(load(connection, "crm")) == 2
    assert restore(connection, "crm", 3) == 3
    assert restore(connection, "crm", 1) == 3


def test_a_version_that_does_not_exist(connection):
    save(connection, "crm", GOOD, fields=FIELDS)
    with pytest.raises(ConfigurationError, match=r"'crm' have no version 7; there are: 1"):
        restore(connection, "crm", 7)


# --- the copy of an event


@pytest.fixture
def two_targets(connection):
    """The mappings of "crm" have check-in lists, those of "list" have none."""
    entries = [entry("checkin_date_5", "door"), entry("checkin_date_6", "bar"), entry("attendee_name")]
    save(connection, "crm", [GOOD[0], ticket(*entries)], fields=FIELDS)
    save(connection, "list", GOOD, fields=FIELDS)


def sources(connection, target):
    return [each["source_field"] for each in load(connection, target)[1].property_mappings]


def test_the_mappings_speak_of_the_lists_of_the_copy(connection, two_targets):
    assert translate_all(connection, {5: CheckinList(15, "Door")}) == {"crm": 2}
    assert sources(connection, "crm") == ["checkin_date_15", "_invalid_checkin_date_6", "attendee_name"]
    assert numbers(connection, "list") == [(1, True)]
    assert plain(load(connection, "crm"))[0] == versions(connection, "crm")[1].mappings[0]
    assert restore(connection, "crm", 1) == 3
    assert sources(connection, "crm") == ["checkin_date_5", "checkin_date_6", "attendee_name"]


def test_what_was_marked_as_invalid_can_be_saved_again(connection, two_targets):
    translate_all(connection, {})
    mappings = load(connection, "crm")
    assert save(connection, "crm", mappings, fields=FIELDS) == 2
    assert len(check(mappings, FIELDS).warnings) == 2


def test_only_some_targets(connection, two_targets):
    assert translate_all(connection, {5: 15, 6: 16}, targets=["list"]) == {}
    assert translate_all(connection, {5: 15, 6: 16}, targets=["crm", "list"]) == {"crm": 2}
    with pytest.raises(ConfigurationError, match=r"No mappings of smr; those that have some are: crm, list"):
        translate_all(connection, {}, targets=["smr", "crm"])
    assert numbers(connection) == [(2, True), (1, False)]


def test_something_else_than_check_in_lists(connection, two_targets):
    with pytest.raises(SyncConfigError, match="no check-in list"):
        translate_all(connection, {5: 15, 6: object()})
    assert numbers(connection) == [(1, True)]


def test_it_is_done_for_all_or_none(connection, two_targets):
    unusable = "UPDATE outbound_mapping SET mappings = jsonb_set(mappings, '{0,property_mappings}', '5')"
    connection.execute(f"{unusable} WHERE target = 'list'")
    with pytest.raises(SyncConfigError, match="a list of entries"):
        translate_all(connection, {5: 15, 6: 16})
    assert numbers(connection) == [(1, True)]


def test_without_stored_mappings_nothing_happens(connection):
    assert translate_all(connection, {5: 15}) == {}
