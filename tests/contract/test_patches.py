"""What holds for every patch of the project. A new one is tested without writing any test.

The records are made from the patch itself: its declared attributes are absent, null or of any JSON type, and have the
constants of its module as values. `BROKEN` has a patch for each rule that breaks it.
"""

import copy
import inspect
import itertools
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from include.patches.base import PATCHES, Patch, differences, load_patch, requested_attributes
from include.registry import import_all, members

ROOT = Path(__file__).parents[2]
ABSENT = ...
ODD = (ABSENT, None, True, False, 0, -1, 1.5, 10**20, "", " ", "é", "1", [], ["x"], {}, {"x": None})
MAX_CONSTANTS = 40
NAME = re.compile(r"[a-z][a-z0-9_]{0,59}")

EXAMPLE = Patch(
    "on_sale",
    reads=("stock",),
    writes=("onSale",),
    values=lambda record: {"onSale": record.get("stock") not in (None, 0)} if "stock" in record else {},
    remark=lambda record: "no stock attribute" if "stock" not in record else None,
)


def found():
    """Every patch of the project by its dotted path."""
    return {
        f"{module.__name__}.{name}": patch
        for module in import_all(PATCHES)
        for name, patch in members(module, PATCHES).items()
    }


FOUND = found()


# Records


def constants(patch):
    """The constants in the module of a patch, which its rule probably compares with."""
    module = inspect.getmodule(patch.values)
    if module is None or module.__name__ == __name__:
        return []
    values = [value for name, value in vars(module).items() if name.isupper()]
    flat = itertools.chain.from_iterable(each if isinstance(each, tuple | list | set) else [each] for each in values)
    return [each for each in flat if isinstance(each, str | int | float)][:MAX_CONSTANTS]


def records(patch):
    """Records with odd values in one attribute at a time, then with constants in all attributes that are read."""
    usual = constants(patch)
    base = {name: (usual or ["x"])[0] for name in patch.reads}
    names = dict.fromkeys([*patch.reads, *patch.writes])
    made = [{}, base, {**base, **dict.fromkeys(patch.writes, "before")}]
    made += [{**base, name: value} for name in names for value in (*ODD, *usual)]
    made += [
        dict(zip(patch.reads, values, strict=True))
        for values in itertools.islice(itertools.product((*usual, "x", ABSENT), repeat=len(patch.reads)), 2000)
    ]
    return [{"objectID": "7", **{name: value for name, value in each.items() if value is not ABSENT}} for each in made]


def outcome(patch, record):
    """The values and the remark that a patch gives a record, and the documented error."""
    try:
        return patch.values(record), patch.remark(record), None
    except ValueError as error:
        return {}, None, str(error)


# The rules: each takes a patch, and raises AssertionError if the patch breaks it


def is_json(value):
    try:
        return json.loads(json.dumps(value, allow_nan=False)) == value
    except (TypeError, ValueError):
        return False


def has_a_valid_name(patch):
    assert NAME.fullmatch(patch.name), f"{patch.name!r}: lowercase letters, digits and underscores"


def declares_valid_attributes(patch):
    for names in (patch.reads, patch.writes):
        assert isinstance(names, tuple), "a tuple of names, not a text"
        assert all(isinstance(name, str) and name.strip() == name != "" for name in names)
        assert len(set(names)) == len(names), "each attribute once"
    assert patch.writes, "it writes something"
    assert "objectID" not in patch.writes, "the id of a record cannot be changed"
    assert requested_attributes([patch])


def raises_only_value_errors(patch):
    for record in records(patch):
        try:
            outcome(patch, record)
        except Exception as error:
            raise AssertionError(f"{type(error).__name__}: {error}, on {record}") from error


def is_repeatable(patch):
    for record in records(patch):
        assert outcome(patch, record) == outcome(patch, copy.deepcopy(record)), record


def leaves_the_record_unchanged(patch):
    for record in records(patch):
        before = copy.deepcopy(record)
        outcome(patch, record)
        assert record == before


def returns_json_values(patch):
    for record in records(patch):
        values = outcome(patch, record)[0]
        assert isinstance(values, Mapping)
        assert is_json(dict(values)), record


def returns_short_remarks(patch):
    for record in records(patch):
        remark = outcome(patch, record)[1]
        assert remark is None or (isinstance(remark, str) and 0 < len(remark) <= 500), record


def writes_only_declared_attributes(patch):
    for record in records(patch):
        assert set(outcome(patch, record)[0]) <= set(patch.writes), record


def reads_only_declared_attributes(patch):
    """The engine requests no others, so they must not matter."""
    for record in records(patch):
        more = {**record, **{f"undeclared {name}": "x" for name in "abc"}}
        seen = Recording(more)
        outcome(patch, seen)
        assert seen.names <= {"objectID", *patch.reads, *patch.writes}, seen.names
        assert outcome(patch, record) == outcome(patch, more)


def is_idempotent(patch):
    for record in records(patch):
        values = outcome(patch, record)[0]
        assert not differences(patch, {**record, **values})[1] if values else True, record


class Recording(Mapping):
    """A record that notes which attributes are read; iterating reads all of them."""

    def __init__(self, record):
        self.record, self.names = record, set()

    def __getitem__(self, name):
        self.names.add(name)
        return self.record[name]

    def __iter__(self):
        self.names |= self.record.keys()
        return iter(self.record)

    def __len__(self):
        return len(self.record)


RULES = (
    has_a_valid_name,
    declares_valid_attributes,
    raises_only_value_errors,
    is_repeatable,
    leaves_the_record_unchanged,
    returns_json_values,
    returns_short_remarks,
    writes_only_declared_attributes,
    reads_only_declared_attributes,
    is_idempotent,
)


# The patches of the project


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("patch", [*FOUND.values(), EXAMPLE], ids=lambda patch: patch.name)
def test_a_patch_keeps_the_contract(patch, rule):
    rule(patch)


def test_the_project_has_patches_and_their_names_differ():
    assert "include.patches.customer_dispo.CUSTOMER_DISPO" in FOUND
    names = [patch.name for patch in FOUND.values()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("path", FOUND)
def test_a_patch_is_found_by_its_path_in_a_new_process(path):
    """Here its module is imported already; a task imports it by the path."""
    assert load_patch(path) is FOUND[path]
    code = f"from include.patches.base import load_patch; print(load_patch({path!r}).name)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == FOUND[path].name, done.stderr


def test_the_records_reach_every_line_of_a_rule():
    """Otherwise the rules above would hold for branches that nothing runs."""
    patch = FOUND["include.patches.customer_dispo.CUSTOMER_DISPO"]
    values = [outcome(patch, record)[0] for record in records(patch)]
    assert {} in values
    assert all([{"customerDispo": value} in values for value in ("disponible", "en stock", None)])


# The rules can fail


def changing(**changes):
    usual = {"name": "broken", "reads": ("a",), "writes": ("b",), "values": lambda record: {"b": record.get("a")}}
    return Patch(**{**usual, **changes})


def popping(record):
    dict.pop(record, "a", None)
    return {"b": 1}


calls = itertools.count()

BROKEN = {
    has_a_valid_name: [changing(name=""), changing(name="Customer dispo"), changing(name="é")],
    declares_valid_attributes: [
        changing(reads="a"),
        changing(reads=("a", "a")),
        changing(writes=()),
        changing(writes=("",)),
        changing(writes=("objectID",)),
    ],
    raises_only_value_errors: [
        changing(values=lambda record: {"b": record["a"]}),
        changing(values=lambda record: {"b": str(record.get("a", "")) + record.get("a", "")}),
        changing(remark=lambda record: record["a"] and None),
    ],
    is_repeatable: [changing(values=lambda record: {"b": next(calls)})],
    leaves_the_record_unchanged: [changing(values=popping)],
    returns_json_values: [
        changing(values=lambda record: {"b": {1, 2}}),
        changing(values=lambda record: {"b": float("nan")}),
        changing(values=lambda record: {"b": (1, 2)}),
        changing(values=lambda record: None),
    ],
    returns_short_remarks: [
        changing(remark=lambda record: ""),
        changing(remark=lambda record: 7),
        changing(remark=lambda record: "x" * 501),
    ],
    writes_only_declared_attributes: [changing(values=lambda record: {"b": 1, "c": 2})],
    reads_only_declared_attributes: [
        changing(values=lambda record: {"b": record.get("undeclared")}),
        changing(values=lambda record: {"b": len(list(record))}),
        changing(remark=lambda record: "c" if "c" in record else None),
    ],
    is_idempotent: [
        changing(reads=("b",), values=lambda record: {"b": [record.get("b")]}),
        changing(reads=("b",), values=lambda record: {"b": not record.get("b")}),
    ],
}


def test_each_rule_has_a_patch_that_breaks_it():
    assert set(BROKEN) == set(RULES)


@pytest.mark.parametrize(
    ("rule", "patch"),
    [(rule, patch) for rule, patches in BROKEN.items() for patch in patches],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_rule_is_broken(rule, patch):
    with pytest.raises(AssertionError):
        rule(patch)
