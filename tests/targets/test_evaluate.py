"""Values of entries: source fields, value maps, joined lists."""

import re
from dataclasses import dataclass, field
from decimal import Decimal
from types import SimpleNamespace

import pytest

from include.errors import RecoverableSyncError, SyncConfigError
from include.targets.entries import parse_value_map
from include.targets.evaluate import evaluate


@dataclass
class AField:
    key: str
    getter: object = None
    label: str = ""
    required_input: str = "order"
    enum_opts: list = field(default_factory=list)
    type: str = "S"


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
        ("{", "invalid JSON: "),
        ("[" * 100_000, "invalid JSON: "),
        ("[]", "got list"),
        ([("r", "x")], "got list"),
        ('"r"', "got str"),
        ('{"r": [1], "g": {}}', "or null: r, g"),
        ('{"r": NaN}', "or null: r"),
    ],
)
def test_a_value_map_that_is_none(value_map, reason):
    message = refusal("colours", value_map)
    assert message.startswith("The value map of the field colours (Colours) is invalid: ")
    assert reason in message
    with pytest.raises(ValueError, match=re.escape(reason)):
        parse_value_map(value_map)


def test_unknown_fields():
    assert refusal("txet") == (
        "Unknown source field 'txet' (target crm, external field 'theirs');"
        " the fields are: text, colours, tags, attendee"
    )
    assert refusal("").startswith("No source field is selected (target crm, external field 'theirs'); the fields are")
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


def message_of(error, **inputs):
    with pytest.raises(SyncConfigError) as refused:
        evaluate(crash(error), {"order": ORDER, **inputs}, {"source_field": "x"}, joiner=",", target="crm")
    assert refused.value.__suppress_context__
    return str(refused.value)


def test_a_getter_that_crashes():
    place = "(getter in test_evaluate.py, line "
    message = message_of(
        AttributeError("'NoneType' object has no attribute 'split'"), position=SimpleNamespace(number=2)
    )
    assert message.startswith(
        "The field x (X) of order 1AAA, position 2 cannot be computed:"
        f" AttributeError: 'NoneType' object has no attribute 'split' {place}"
    )
    for error in (ValueError("jo@doe@example.org"), KeyError("Jo Doe"), RuntimeError("Jo")):
        assert f"cannot be computed: {type(error).__name__} {place}" in message_of(error)
        assert "Jo" not in message_of(error).replace("order 1AAA", "")
        assert "doe" not in message_of(error)
    assert "of order 1AAA, offer 7, stock ? cannot" in message_of(
        ValueError(), offer=SimpleNamespace(offer_id=7), stock=object()
    )


def test_a_getter_that_is_none():
    with pytest.raises(SyncConfigError, match="'NoneType' object is not callable"):
        evaluate({"x": AField("x")}, {"order": ORDER}, {"source_field": "x"}, joiner=",", target="crm")


def test_an_error_that_says_what_to_do_is_left_as_it_is():
    with pytest.raises(RecoverableSyncError, match="later"):
        evaluate(crash(RecoverableSyncError("later")), {"order": ORDER}, {"source_field": "x"}, joiner="", target="crm")
