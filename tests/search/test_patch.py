"""What a patch is: its contract, and several of them in one pass."""

import pytest

from include.errors import ConfigurationError
from include.patches.base import Patch, differences, requested_attributes
from include.patches.customer_dispo import CUSTOMER_DISPO
from include.search.run_pass import run_pass


def patch(name="p", reads=("a",), writes=("b",), values=lambda record: {"b": record["a"]}, **options):
    return Patch(name, reads, writes, values, **options)


def test_attributes_are_those_read_then_those_written_each_once():
    assert requested_attributes([CUSTOMER_DISPO]) == ["disponibiliteForFO", "nature", "customerDispo"]
    assert requested_attributes([patch(reads=("a", "c")), patch("q", ("c", "d"), ("e",))]) == ["a", "c", "d", "b", "e"]


@pytest.mark.parametrize(
    ("patches", "complaint"),
    [
        ([], "No patch is given"),
        ([patch(), patch(writes=("c",))], "Two patches are named p"),
        ([patch(), patch("q")], "Two patches write b"),
        ([patch(writes=("b", "b"))], "Two patches write b"),
    ],
)
def test_patches_that_do_not_go_together(patches, complaint):
    with pytest.raises(ConfigurationError, match=complaint):
        requested_attributes(patches)


@pytest.mark.parametrize(
    ("current", "new"),
    [
        (True, 1), (1, True), (0, False), (False, 0), (None, False), (None, ""), ("5", 5), (1, 1.5),
        ([True], [1]), ([1], [True]), ({"a": 0}, {"a": False}), ({"a": [1]}, {"a": [True]}), ([1], [1, 2]), ({}, []),
        ({"a": 1}, {"b": 1}), ({"a": 1}, {"a": 1, "b": 2}),
    ],
    ids=repr,
)  # fmt: skip
def test_values_that_differ(current, new):
    assert differences(patch(values=lambda _: {"b": new}), {"b": current}) == ({"b": new}, {"b": new})


@pytest.mark.parametrize(
    "value", [True, False, None, "", 0, 5, 1.5, "é", [], [1, True, None], {}, {"a": [{"b": False}]}], ids=repr
)
def test_values_that_are_the_same(value):
    assert differences(patch(values=lambda _: {"b": value}), {"b": value}) == ({"b": value}, {})
    assert differences(patch(values=lambda _: {"b": 5.0}), {"b": 5})[1] == {}, "numbers are compared as JSON does"


def test_null_is_not_absent():
    assert differences(patch(values=lambda _: {"b": None}), {}) == ({"b": None}, {"b": None})


def test_two_patches_write_in_one_pass(site):
    site.write([{"objectID": str(n), "n": n, "keep": "me"} for n in range(1500)], "cars")
    parity = patch(
        "parity", ("n",), ("even", "half"), lambda r: {"even": True, "half": r["n"] // 2} if r["n"] % 2 == 0 else {}
    )
    size = patch("size", ("n",), ("size",), lambda r: {"size": "big" if r["n"] >= 1000 else "small"})
    index = site.index(name="cars")
    report, is_whole = run_pass(index, [parity, size])
    assert is_whole
    assert (report.read, report.changed, report.total, report.batches) == (1500, 1500, 1500, 5)
    assert (report.patches["parity"].changed, report.patches["parity"].left_alone) == (750, 750)
    assert report.patches["parity"].values["true"] == 750
    assert report.patches["size"].values == {"small": 1000, "big": 500}
    found = site.records("cars")
    assert found["1"] == {"objectID": "1", "n": 1, "keep": "me", "size": "small"}
    assert found["1400"] == {"objectID": "1400", "n": 1400, "keep": "me", "size": "big", "even": True, "half": 700}
    assert all(("even" in each) is (each["n"] % 2 == 0) for each in found.values())
    again, _ = run_pass(index, [parity, size])
    assert (again.changed, again.batches, len(index.batches)) == (0, 0, 5)


def test_only_what_differs_is_sent(site):
    site.write([{"objectID": "1", "a": 1, "b": 1, "c": 9}, {"objectID": "2", "a": 2, "b": 1, "c": 2}], "cars")
    both = patch(writes=("b", "c"), values=lambda r: {"b": r["a"], "c": r["a"]})
    index = site.index(name="cars")
    report, _ = run_pass(index, [both])
    assert index.batches == [[{"objectID": "1", "c": 1}, {"objectID": "2", "b": 2}]]
    assert report.samples == [
        {"objectID": "1", "before": {"c": 9}, "after": {"c": 1}},
        {"objectID": "2", "before": {"b": 1}, "after": {"b": 2}},
    ]


def test_remarks_and_values_are_counted_up_to_a_hundred_different_ones(site):
    site.write([{"objectID": str(n), "a": f"v{n}"} for n in range(130)], "cars")
    report, _ = run_pass(site.index(name="cars"), [patch(remark=lambda r: f"odd {r['a']}")], dry_run=True)
    counts = report.patches["p"]
    assert len(counts.values) == len(counts.remarks) == 101
    assert counts.values["(others)"] == counts.remarks["(others)"] == 30
    assert len(report.samples) == 20
    assert (report.changed, report.batches) == (130, 0)
    assert all("b" not in each for each in site.records("cars").values())
