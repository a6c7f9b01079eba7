"""The overwrite modes: which of the new values are sent."""

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.errors import SyncConfigError
from include.targets.overwrite import assign_properties


def assign(new, old, *, is_new=False, sep=";"):
    before = copy.deepcopy(old)
    found = assign_properties(new, old, is_new, sep)
    assert old == before
    return found


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
