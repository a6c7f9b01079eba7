"""Checks of mappings: every problem is found at once."""

import copy
from types import SimpleNamespace

import pytest

from include.outbound.checks import Problems, check
from include.targets.fields import data_fields
from include.targets.mapping import StaticMapping
from tests.outbound.stored_mappings import FIELDS, GOOD, STATUS, entry, order, ticket


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
            " not have; these models have it: OrderPosition",
        ),
        (
            [order(entry(overwrite="merge"))],
            "entry 1 (order_code → name): unknown overwrite mode 'merge'; the modes are: overwrite, if_new, if_empty,"
            " append",
        ),
        ([order(entry(overwrite=["merge"]))], "unknown overwrite mode ['merge']"),
        ([order(entry(external_field=""))], "entry 1 (order_code → ?): external_field is missing"),
        ([order(entry(external_field=7))], "entry 1 (order_code → 7): external_field must be text, not 7"),
        ([order(entry(external_field="x" * 129))], "external_field has 129 characters, the maximum is 128"),
        (
            [order(entry("order_status", value_map='{"n": '))],
            "entry 1 (order_status → name): the value map is invalid: invalid JSON: ",
        ),
        ([order(entry("email", value_map="["))], "the value map is invalid: invalid JSON: "),
        ([order(entry("order_status", value_map="[]"))], "the value map is invalid: expected a JSON object"),
        ([order(entry("order_status", value_map={"n": []}))], "or null: n"),
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
        ([order(id="1")], "Mapping no. 1 (Order → deal): the id must be an integer, not '1'"),
        ([order(id=None)], "the id must be an integer, not None"),
        ([order(id=True)], "the id must be an integer, not True"),
        ([order(id=1.0)], "the id must be an integer, not 1.0"),
        ([order(id=2**63)], "the id must be an integer, not 9223372036854775808"),
        (
            [order(), ticket(id=1)],
            "2 mappings have the id 1: Mapping 1 (Order → deal), Mapping 1 (OrderPosition → ticket)",
        ),
        ([order(), order(id=2)], "2 mappings create deal from Order: merge their entries into one mapping"),
        ([5], "Mapping no. 1: A mapping needs id, source_model, "),
        ([order(property_mappings=5)], "Mapping no. 1: The property mappings must be a list of entries"),
        ([order(property_mappings="[")], "Mapping no. 1: The property mappings cannot be read: invalid JSON"),
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
            "Mapping 1 (Order → deal), entry 1 (order_status → name): the value map lacks these options, objects"
            " with them cannot be sent: e (",
        ),
        (
            [ticket(entry("question_size", value_map={"s": "S", "m": "M", "xl": "XL"}))],
            "Mapping 2 (OrderPosition → ticket), entry 1 (question_size → name): the value map has values that are not"
            " options (any more): xl; the options are: s, m",
        ),
        (
            [order(entry("email", value_map='{"a": "b"}'))],
            "entry 1 (email → name): the value map has no effect, the field email (",
        ),
        (
            [order(entry("email", "x"), entry("order_code"), entry("order_total", "x"))],
            "Mapping 1 (Order → deal), entries 1 and 3: all overwrite 'x', the last one wins",
        ),
        (
            [ticket(entry("_invalid_checkin_date_9"))],
            "Mapping 2 (OrderPosition → ticket), entry 1 (_invalid_checkin_date_9 → name): the check-in list was not"
            " copied with its event; choose another one, nothing can be sent before",
        ),
        (
            [order(), ticket(external_object_type="deal")],
            "Mapping 1 (Order → deal), Mapping 2 (OrderPosition → deal) create the same type of object: if both produce"
            " the same object, the last one wins",
        ),
        ([order(entry(overwrit="append"))], "entry 1 (order_code → name): unknown key 'overwrit', it has no effect"),
        ([order(name="Deals")], "Mapping 1 (Order → deal): unknown key 'name', it is not saved"),
        ([], "There are no mappings: nothing will be sent"),
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


def test_offers_and_stocks():
    fields = {model: data_fields(None, model) for model in ("Offer", "Stock")}
    [key, *_] = fields["Offer"]
    mapping = order(entry(key), source_model="Offer", source_id_field=key)
    assert problems(mapping, fields=fields) == Problems([], [])
