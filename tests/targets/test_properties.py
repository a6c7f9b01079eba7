"""What a target is sent: overwrite modes, values of entries, and the translation of entries for a copied event."""

import copy
import json
import re
from dataclasses import dataclass, field
from decimal import Decimal
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.errors import RecoverableSyncError, SyncConfigError
from include.outbound.properties import (
    assign_properties,
    evaluate,
    normalize_entry,
    normalize_mapping,
    parse_value_map,
    translate_property_mappings,
)
from include.targets.base import StaticMapping


@dataclass
class AField:
    key: str
    getter: object = None
    label: str = ""
    required_input: str = "order"
    enum_opts: list = field(default_factory=list)
    type: str = "S"


# --- overwrite modes


def assign(new, old, *, is_new=False, sep=";"):
    before = copy.deepcopy(old)
    found = assign_properties(new, old, is_new, sep)
    assert old == before
    return found


@pytest.mark.parametrize("value", ["a", "", None, False, 0, []])
def test_overwrite_always_sends(value):
    assert assign([("f", value, "overwrite")], {"f": "a"}) == {"f": value}
    assert assign([("f", "first", "overwrite"), ("f", value, "overwrite")], {}) == {"f": value}


@pytest.mark.parametrize("value", ["", None, False, 0, []])
@pytest.mark.parametrize("mode", ["if_new", "if_empty", "append"])
def test_other_modes_leave_out_what_is_empty(mode, value):
    assert assign([("f", value, mode)], {}, is_new=True) == {}


@pytest.mark.parametrize(
    ("mode", "is_new", "old", "expected"),
    [
        ("if_new", True, {}, {"f": "a"}),
        ("if_new", True, {"f": ""}, {"f": "a"}),
        ("if_new", True, {"f": "b"}, {}),
        ("if_new", False, {}, {}),
        ("if_new", False, {"f": None}, {}),
        ("if_empty", True, {}, {"f": "a"}),
        ("if_empty", False, {}, {"f": "a"}),
        ("if_empty", False, {"f": ""}, {"f": "a"}),
        ("if_empty", False, {"f": None}, {"f": "a"}),
        ("if_empty", False, {"f": 0}, {"f": "a"}),
        ("if_empty", False, {"f": []}, {"f": "a"}),
        ("if_empty", False, {"f": "b"}, {}),
        ("if_empty", False, {"other": "b"}, {"f": "a"}),
    ],
)
def test_filling(mode, is_new, old, expected):
    assert assign([("f", "a", mode)], old, is_new=is_new) == expected


@pytest.mark.parametrize(
    ("modes", "old", "expected"),
    [
        (("if_new", "if_new"), {}, "1"),
        (("if_empty", "if_empty"), {}, "1"),
        (("if_empty", "overwrite"), {}, "2"),
        (("overwrite", "if_empty"), {}, "1"),
        (("overwrite", "if_empty"), {"f": ""}, "1"),
        (("overwrite", "if_empty"), {"f": "0"}, "1"),
        (("overwrite", "append"), {"f": "0"}, "1;2"),
        (("append", "overwrite"), {"f": "0"}, "2"),
        (("append", "append"), {}, "1;2"),
        (("append", "append"), {"f": "0"}, "0;1;2"),
        (("append", "append"), {"f": "0;2"}, "0;2;1"),
        (("append", "if_empty"), {"f": ""}, "1"),
    ],
)
def test_rows_of_one_field_build_on_each_other(modes, old, expected):
    new = [("f", str(number), mode) for number, mode in enumerate(modes, 1)]
    assert assign(new, old, is_new=True) == {"f": expected}


def test_fields_are_sent_in_their_order():
    new = [("b", "1", "overwrite"), ("a", "2", "if_empty"), ("c", "", "append"), ("b", "3", "overwrite")]
    assert list(assign(new, {}).items()) == [("b", "3"), ("a", "2")]


@pytest.mark.parametrize(
    ("old", "value", "expected"),
    [
        ({}, "a", "a"),
        ({"f": None}, "a", "a"),
        ({"f": ""}, "a", "a"),
        ({"f": "a"}, "a", None),
        ({"f": "b"}, "a", "b;a"),
        ({"f": "b;a;b"}, "a", None),
        ({"f": "b;c;b"}, "a", "b;c;b;a"),
        ({"f": "b; a"}, "a", "b; a;a"),
        ({"f": "aa"}, "a", "aa;a"),
        ({"f": "b"}, "a;b;c", "b;a;c"),
        ({}, "a;a", "a;a"),
        ({"f": "b;;c"}, "a", "b;;c;a"),
        ({"f": "b"}, ";a;", "b;a"),
        ({}, ";", None),
        ({"f": "b"}, ["a", "b"], "b;a"),
        ({"f": "b"}, ["a;b", None, "", 5], "b;a;5"),
        ({"f": "b"}, [None], None),
        ({"f": ["b", "a"]}, "c", "b;a;c"),
        ({"f": ["b", "a"]}, "a", None),
        ({"f": 5}, "a", "5;a"),
        ({"f": 0}, "a", "0;a"),
        ({"f": "b"}, 7, "b;7"),
        ({"f": "7"}, 7, None),
        ({"f": "b"}, "x,y", "b;x,y"),
    ],
)
def test_append_to_text(old, value, expected):
    assert assign([("f", value, "append")], old) == ({} if expected is None else {"f": expected})


@pytest.mark.parametrize("sep", [None, ""])
@pytest.mark.parametrize(
    ("old", "value", "expected"),
    [
        ({}, "a", ["a"]),
        ({"f": None}, "a", ["a"]),
        ({"f": ""}, "a", ["a"]),
        ({"f": []}, "a", ["a"]),
        ({"f": ["b", "b"]}, "a", ["b", "b", "a"]),
        ({"f": ["a"]}, "a", None),
        ({"f": ("b",)}, "a", ["b", "a"]),
        ({"f": "b"}, "a", ["b", "a"]),
        ({"f": "a"}, "a", None),
        ({"f": ["b"]}, ["a", "b", None, ""], ["b", "a"]),
        ({"f": ["b"]}, ["b"], None),
        ({"f": ["b"]}, "a;c", ["b", "a;c"]),
        ({"f": ["b"]}, 5, ["b", "5"]),
        ({"f": [5]}, 5, None),
        ({"f": [5]}, [5, 6], [5, 6]),
    ],
)
def test_append_to_native_lists(sep, old, value, expected):
    assert assign([("f", value, "append")], old, sep=sep) == ({} if expected is None else {"f": expected})


@pytest.mark.parametrize("value", ["a", "", None])
@pytest.mark.parametrize("mode", ["merge", "", None])
def test_unknown_modes_are_refused_whatever_the_value(mode, value):
    with pytest.raises(SyncConfigError) as refused:
        assign([("f", value, mode)], {})
    assert repr(mode) in refused.value.messages[0]
    assert "'f'" in refused.value.messages[0]
    assert "overwrite, if_new, if_empty, append" in refused.value.messages[0]


_TEXTS = st.text("ab;", max_size=5)
_VALUES = st.one_of(_TEXTS, st.none(), st.integers(0, 9), st.lists(st.one_of(_TEXTS, st.none()), max_size=3))
_FIELDS = st.sampled_from(["f", "g"])
_OLD = st.dictionaries(_FIELDS, _VALUES)
_SEPS = st.sampled_from([";", None, ""])


def _texts(value, sep):
    several = value if isinstance(value, list) else [value]
    texts = [str(each) for each in several if each is not None]
    return [item for text in texts for item in (text.split(sep) if sep else [text]) if item]


@given(
    st.lists(st.tuples(_FIELDS, _VALUES, st.sampled_from(["append", "if_empty", "if_new"]))), _OLD, st.booleans(), _SEPS
)
def test_assigning_again_sends_nothing(new, old, is_new, sep):
    sent = assign(new, old, is_new=is_new, sep=sep)
    assert assign(new, {**old, **sent}, is_new=False, sep=sep) == {}


@given(st.lists(st.tuples(_FIELDS, _VALUES, st.just("append"))), _OLD, _SEPS)
def test_append_loses_nothing(new, old, sep):
    result = {**old, **assign(new, old, sep=sep)}
    for name, value in [*old.items(), *((name, value) for name, value, _ in new if value)]:
        assert set(_texts(value, sep)) <= set(_texts(result.get(name), sep))
    for name, value in old.items():
        kept = _texts(value, sep)
        assert _texts(result[name], sep)[: len(kept)] == kept


@given(st.lists(st.tuples(_FIELDS, _VALUES, st.just("overwrite")), min_size=1), _OLD, st.booleans(), _SEPS)
def test_overwrite_is_the_last_value(new, old, is_new, sep):
    assert assign(new, old, is_new=is_new, sep=sep) == {name: value for name, value, _ in new}


# --- values of entries

COLOURS = [("r", "Red"), ("g", "Green"), ("b", "Blue")]
FIELDS = {
    each.key: each
    for each in (
        AField("text", lambda inputs: inputs["order"].text, "Text"),
        AField("colours", lambda inputs: inputs["order"].colours, "Colours", enum_opts=COLOURS),
        AField("tags", lambda inputs: inputs["order"].tags, "Tags"),
        AField("attendee", lambda inputs: "Jo", "Attendee name", required_input="position"),
    )
}
ORDER = SimpleNamespace(code="1AAA", text="x", colours=["r", "g"], tags=["a", None, 2])


def value_of(key, value_map="", *, joiner=",", order=ORDER, **inputs):
    entry = {"source_field": key, "external_field": "theirs", "value_map": value_map, "overwrite": "overwrite"}
    return evaluate(FIELDS, {"order": order, "event": None, **inputs}, entry, joiner=joiner, target="crm")


def refusal(*args, **kwargs):
    with pytest.raises(SyncConfigError) as refused:
        value_of(*args, **kwargs)
    return str(refused.value)


def with_values(**values):
    return SimpleNamespace(**{**vars(ORDER), **values})


def test_plain_values_pass_through():
    for value in ("x", "", None, True, False):
        assert value_of("text", order=with_values(text=value)) is value


def test_a_value_map_is_for_fields_with_several_values_and_options():
    assert value_of("text", '{"x": "y"}') == "x"
    assert value_of("tags", '{"a": "y"}', joiner=None) == ["a", None, 2]
    assert value_of("colours", '{"r": "y"}', order=with_values(colours="")) == ""
    assert value_of("colours", "nonsense", order=with_values(colours=None)) is None


@pytest.mark.parametrize(
    ("value_map", "joiner", "expected"),
    [
        ("", ",", "r,g"),
        (None, ",", "r,g"),
        ("{}", ",", "r,g"),
        ({}, ", ", "r, g"),
        ("  ", ",", "r,g"),
        ("null", ",", "r,g"),
        ("", None, ["r", "g"]),
        ("", "", ["r", "g"]),
        ('{"r": "rot", "g": "grün"}', ";", "rot;grün"),
        ({"r": "rot", "g": "grün"}, ";", "rot;grün"),
        ('{"r": null, "g": 5}', ",", "5"),
        ('{"r": null, "g": 5}', None, [None, 5]),
        ('{"r": 1.5, "g": true}', ",", "1.5,true"),
        ('{"r": 1.5, "g": true}', "", [1.5, True]),
        ('{"r": null, "g": null}', ",", ""),
        ('{"r": "", "g": "x"}', ",", ",x"),
    ],
)
def test_options(value_map, joiner, expected):
    assert value_of("colours", value_map, joiner=joiner) == expected


def test_lists_without_options_are_joined_too():
    assert value_of("tags") == "a,2"
    assert value_of("tags", order=with_values(tags=(1, Decimal("2.50")))) == "1,2.50"
    assert value_of("tags", order=with_values(tags=[])) == ""
    assert value_of("tags", order=with_values(tags=[]), joiner=None) == []


def test_a_kept_list_is_not_that_of_the_source():
    assert value_of("tags", joiner=None) is not ORDER.tags


def test_options_that_are_no_texts_are_found_in_the_value_map():
    assert value_of("colours", {1: "one", "2": "two"}, order=with_values(colours=[1, 2])) == "one,two"


def test_the_other_name_of_the_source_field():
    assert evaluate(FIELDS, {"order": ORDER}, {"pretix_field": "text"}, joiner=",", target="crm") == "x"


def test_an_option_without_an_entry():
    message = refusal("colours", '{"r": "rot", "b": "blau"}')
    assert message == "The value map of the field colours (Colours) has no entry for 'g' (Green); it has: r, b"
    assert "no entry for 'old';" in refusal("colours", {"r": "rot"}, order=with_values(colours=["old"]))


@pytest.mark.parametrize(
    ("value_map", "reason"),
    [
        ("{", "it is not JSON: "),
        ("[" * 100_000, "it is not JSON: "),
        ("[]", "but of type list"),
        ([("r", "x")], "but of type list"),
        ('"r"', "but of type str"),
        ('{"r": [1], "g": {}}', "those of r, g are not"),
        ('{"r": NaN}', "those of r are not"),
    ],
)
def test_a_value_map_that_is_none(value_map, reason):
    message = refusal("colours", value_map)
    assert message.startswith("The value map of the field colours (Colours) is not right: ")
    assert reason in message
    with pytest.raises(ValueError, match=re.escape(reason)):
        parse_value_map(value_map)


def test_unknown_fields():
    assert refusal("txet") == (
        "Unknown source field 'txet' (target crm, external field 'theirs');"
        " the fields are: text, colours, tags, attendee"
    )
    assert refusal("").startswith("No source field is chosen (target crm, external field 'theirs'); the fields are")
    assert "a check-in list that was not copied" in refusal("_invalid_checkin_date_4")
    assert "Unknown source field 5" in refusal(5)
    with pytest.raises(SyncConfigError, match="the fields are: none"):
        evaluate({}, {}, {}, joiner=",", target="crm")


def test_many_fields_are_not_all_named():
    many = {f"f{number}": AField(f"f{number}") for number in range(100)}
    with pytest.raises(SyncConfigError, match=r"f59 and 40 more$"):
        evaluate(many, {}, {"source_field": "x"}, joiner=",", target="crm")


def test_a_missing_input():
    assert refusal("attendee") == "The field attendee (Attendee name) needs position; this mapping has: order, event"
    assert value_of("attendee", position=SimpleNamespace(number=1)) == "Jo"


def crash(error):
    def getter(inputs):
        raise error

    return {"x": AField("x", getter, "X")}


def told(error, **inputs):
    with pytest.raises(SyncConfigError) as refused:
        evaluate(crash(error), {"order": ORDER, **inputs}, {"source_field": "x"}, joiner=",", target="crm")
    assert refused.value.__suppress_context__
    return str(refused.value)


def test_a_getter_that_crashes():
    place = "(getter in test_properties.py, line "
    message = told(AttributeError("'NoneType' object has no attribute 'split'"), position=SimpleNamespace(number=2))
    assert message.startswith(
        "The field x (X) of order 1AAA, position 2 cannot be computed:"
        f" AttributeError: 'NoneType' object has no attribute 'split' {place}"
    )
    for error in (ValueError("jo@doe@example.org"), KeyError("Jo Doe"), RuntimeError("Jo")):
        assert f"cannot be computed: {type(error).__name__} {place}" in told(error)
        assert "Jo" not in told(error).replace("order 1AAA", "")
        assert "doe" not in told(error)
    assert "of order 1AAA, offer 7, stock ? cannot" in told(
        ValueError(), offer=SimpleNamespace(offer_id=7), stock=object()
    )


def test_a_getter_that_is_none():
    with pytest.raises(SyncConfigError, match="'NoneType' object is not callable"):
        evaluate({"x": AField("x")}, {"order": ORDER}, {"source_field": "x"}, joiner=",", target="crm")


def test_an_error_that_says_what_to_do_is_left_as_it_is():
    with pytest.raises(RecoverableSyncError, match="later"):
        evaluate(crash(RecoverableSyncError("later")), {"order": ORDER}, {"source_field": "x"}, joiner="", target="crm")


# --- entries and mappings


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
        (5, "but this is of type int"),
        ({**_OURS, "property_mappings": 5}, "a list of entries, but of type int"),
        ({**_OURS, "property_mappings": "{}"}, "a list of entries, but of type dict"),
        ({**_OURS, "property_mappings": "["}, "it is not JSON"),
        ({**_OURS, "property_mappings": ["x"]}, "an object with source_field"),
    ],
)
def test_what_is_no_mapping(mapping, reason):
    with pytest.raises(SyncConfigError, match=reason) as refused:
        normalize_mapping(mapping)
    assert refused.value.failure_mode == "config"


# --- the copy of an event


def keys(property_mappings, checkin_list_map):
    return [each["source_field"] for each in translate_property_mappings(property_mappings, checkin_list_map)]


@pytest.mark.parametrize(
    "checkin_list_map",
    [{5: 17}, {"5": "17"}, {5: SimpleNamespace(pk=17)}, {5: SimpleNamespace(id=17), 6: None}],
)
def test_check_in_lists_are_those_of_the_copy(checkin_list_map):
    before = [entry("checkin_date_5"), entry("checkin_date_6"), entry("text"), entry("question_checkin_date_5")]
    given_ = copy.deepcopy(before)
    assert keys(given_, checkin_list_map) == [
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
    assert translate_property_mappings(json.dumps([theirs]), {1: 2}) == [expected]


def test_what_is_no_check_in_list():
    with pytest.raises(SyncConfigError, match="but of type str"):
        translate_property_mappings([], {1: "x"})
