"""The forms of the DAGs: what they take, what they refuse, and that left alone they make the daily run."""

import pytest

HUGE = 10**30
"""A number that Airflow cannot hand to a task."""
NAN, INF = float("nan"), float("inf")
NO_NUMBERS = (HUGE, -HUGE, 1e30, True, NAN, "1")

pytestmark = pytest.mark.filterwarnings("ignore")  # Airflow's own


def form(name):
    from include.operators import params

    return getattr(params, f"{name}_params")()


def filled(name, values):
    from airflow.sdk.definitions.param import ParamsDict

    params = ParamsDict(form(name))
    params.update(values)
    return params.validate()


def cases(forms):
    """Each value of each field of each form."""
    return [
        (name, {field: value}) for name, fields in forms.items() for field, values in fields.items() for value in values
    ]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        (
            "sync",
            {
                "venue_links": [],
                "full_refresh": False,
                "limit": None,
                "dry_run": False,
                "chunk_size": 1000,
                "replay_rejected": False,
                "accept_shrunk": False,
                "error_limit": None,
                "release_fields": [],
            },
        ),
        ("search", dict.fromkeys(["dry_run", "dry_run_notify", "compare_every", "time_limit_minutes"])),
        ("outbound", {}),
        ("venue_link", {"action": "show"}),
    ],
)
def test_left_alone_a_form_makes_the_usual_run(name, values):
    found = filled(name, {})
    assert found.items() >= values.items()
    assert not any([value for field, value in found.items() if field not in values])


MAPPINGS = [
    {
        "id": 1,
        "source_model": "Order",
        "property_mappings": [
            {"source_field": "order_status", "value_map": {"p": "paid"}, "overwrite": "if_new"},
            {"pretix_field": "email", "value_map": '{"a": 1.5}', "ORDER": 0},
        ],
    },
    {"id": 2, "property_mappings": "[]"},
]
TAKEN = {
    "sync": {
        "venue_links": [
            ["12"],
            ["12", "00300001000012"],
            [12, "00300001000012", 2**63 - 1],
            ["123 456 789 00012", ""],
            ["1"] * 10_000,
            None,
        ],
        "full_refresh": [True, None],
        "limit": [1, 1.0, 10_000_000, 1_000_000_000, None],
        "dry_run": [True],
        "chunk_size": [1, 10_000, None],
        "replay_rejected": [True, None],
        "accept_shrunk": [True, None],
        "error_limit": [0, 1_000_000, None],
        "release_fields": [["offer.123.name", "stock.7"], None],
    },
    "search": {
        "dry_run": [True, False, None],
        "dry_run_notify": [True, False, None],
        "force": [True, None],
        "compare_every": [0, 15.0, 1440, 1_000_000, None],
        "time_limit_minutes": [1, 1440, None],
    },
    "outbound": {
        "orders": [["A1B2C", "D3E4F"], None],
        "event": ["salon", None],
        "limit": [1],
        "dry_run": [True, None],
        "send_unchanged": [True, None],
        "retry": [None, "all", "exceeded", "permanent", "config", "internal", "timeout"],
        "cancel": [["A1B2C"], None],
        "mappings": [[{"id": 1}], MAPPINGS, None],
        "mappings_version": [1, 2**31 - 1],
    },
    "venue_link": {
        "action": ["show", "link", "change", "settings", "activate", "deactivate"],
        "venue": ["01100000700010"],
        "link": [1, 2**63 - 1],
        "provider": ["TiteLiveStocks", None],
        "id_at_provider": ["shop-7", "x" * 70],
        "settings": [
            {},
            {"prices": {"a": 1}},
            {"prices": [{"price": 9.5, "version": "VO"}, {"price": "8"}], "is_duo": True, "quantity": 80},
        ],
    },
}
REFUSED = {
    "sync": {
        "venue_links": [
            "12",
            *([item] for item in (12.5, 0, -1, True, None, HUGE, 2**63, "1" * 41, ["1"], {"id": 1})),
            ["1"] * 10_001,
            ["1\x00"],
            ["\ud800"],
        ],
        "full_refresh": ["yes"],
        "limit": [*NO_NUMBERS, 2**64, [1], 0, -5, 1.5, "10", INF, 1_000_000_001],
        "dry_run": [1],
        "chunk_size": [*NO_NUMBERS, 2**64, [1], 0, 10_001, "1000"],
        "replay_rejected": ["yes"],
        "error_limit": [*NO_NUMBERS, 2**64, [1], -1, 1.5, "3", 1_000_001],
        "release_fields": ["offer.123", [123], ["stock.1.price"] * 10_001, ["s" * 101]],
    },
    "search": {
        "dry_run": ["yes", "true", "", 2, []],
        "dry_run_notify": ["yes", "true", "", 2, []],
        "force": ["yes", 1],
        "compare_every": [*NO_NUMBERS, INF, 1_000_001, -1, 1.5, "5"],
        "time_limit_minutes": [*NO_NUMBERS, INF, 0, 1441, "30", 2.5],
    },
    "outbound": {
        "orders": ["A1B2C", [1], ["A"] * 10_001, ["A" * 41]],
        "event": [1, "e" * 51],
        "limit": [*NO_NUMBERS, 0],
        "dry_run": ["yes"],
        "retry": ["some", True],
        "cancel": ["A1B2C"],
        "mappings": [
            {"id": 1},
            [1],
            [{"id": 1}] * 101,
            [{"id": HUGE}],
            [{"a": [[[[[[1]]]]]]}],
            [{"property_mappings": [{"value_map": {"p": HUGE}}]}],
            [{"property_mappings": [{"source_field": "x" * 20_001}]}],
        ],
        "mappings_version": [*NO_NUMBERS, 0, 2**31],
    },
    "venue_link": {
        "action": ["remove", None],
        "venue": [12, "1" * 41, "\x00"],
        "link": [0, "1", HUGE, 2**63, 1.5, True, NAN],
        "provider": [1, "titelivestocks", "Nobody"],
        "id_at_provider": [7, "x" * 71],
        "settings": [
            [],
            "{}",
            {"quantity": HUGE},
            {"prices": [{"price": HUGE}]},
            {"prices": [{"price": 1e30}]},
            {"a": {"b": {"c": {"d": {"e": 1}}}}},
            {"a" * 201: 1},
            {str(number): 1 for number in range(1001)},
        ],
    },
}


@pytest.mark.parametrize(("name", "values"), cases(TAKEN), ids=str)
def test_a_form_takes(name, values):
    assert filled(name, values).items() >= values.items()


@pytest.mark.parametrize(("name", "values"), cases(REFUSED), ids=str)
def test_a_form_refuses(name, values):
    from airflow.sdk.exceptions import ParamValidationError

    with pytest.raises(ParamValidationError):
        filled(name, values)


@pytest.mark.parametrize("name", TAKEN)
def test_every_field_explains_itself(name):
    for field, param in form(name).items():
        assert param.schema["title"], field
        assert param.schema.get("description") or param.description, field


def test_the_form_offers_the_actions_there_are():
    from typing import get_args

    from include.venue_links import Action

    assert form("venue_link")["action"].schema["enum"] == ["show", *get_args(Action)]


# All forms


def every_param():
    return [(each, name, param) for each in TAKEN for name, param in form(each).items()]


def without_bounds(schema, path=""):
    """Where a schema lets numbers, texts, lists or objects in without saying how large they may be."""
    if "enum" in schema:
        return
    types = schema.get("type", [])
    types = [types] if isinstance(types, str) else types
    needed = {"integer": ("minimum", "maximum"), "number": ("minimum", "maximum"), "string": ("maxLength",)}
    needed |= {"array": ("maxItems", "items"), "object": ("maxProperties", "additionalProperties")}
    for kind in types:
        for key in needed.get(kind, ()):
            if key not in schema:
                yield f"{path}: {key}"
    if "maximum" in schema and not -(2**63) <= schema["minimum"] <= schema["maximum"] < 2**63:
        yield f"{path}: more than 64 bits"
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from without_bounds(schema[key], f"{path}.{key}")
    for each in schema.get("anyOf", ()):
        yield from without_bounds(each, f"{path}.anyOf")
    if not types and "anyOf" not in schema:
        yield f"{path}: anything"


def test_every_value_of_every_form_has_bounds():
    found = [f"{each} {name}{place}" for each, name, param in every_param() for place in without_bounds(param.schema)]
    assert not found


def test_only_what_cannot_be_empty_is_marked_as_required():
    """Airflow marks every field whose type does not admit null."""
    assert [(each, name) for each, name, param in every_param() if "null" not in param.schema["type"]] == [
        ("venue_link", "action")
    ]


def test_every_field_is_in_a_section_and_the_sections_are_not_scattered():
    for each in TAKEN:
        sections = [param.schema["section"] for param in form(each).values()]
        assert len(set(sections)) > 1, each
        assert sections[0] == "Run Parameters", "Airflow opens no other section"
        assert sections == sorted(sections, key=sections.index), each


def test_the_web_form_asks_for_lists_line_by_line():
    """It shows a JSON editor for a list whose items have any type but string."""
    for each, name, param in every_param():
        if "array" in param.schema["type"] and name != "mappings":
            assert param.schema["items"].get("type", "string") == "string", (each, name)


def test_no_field_speaks_of_tables():
    for each, name, param in every_param():
        words = f"{param.schema['title']} {param.description}"
        tables = ("venue_provider", "provider_pivot", "catalog_", "_report")
        assert not [table for table in tables if table in words], (each, name)


def test_the_form_offers_the_providers_there_are():
    from include.operators.params import provider_names
    from include.providers import provider_classes

    linked = {provider.row_name() for provider in provider_classes() if provider.needs_venue}
    assert sorted(provider_names()) == sorted(linked)
    offered = form("venue_link")["provider"].schema["enum"]
    assert sorted(value for value in offered if value) == sorted(linked)
    assert None in offered


def test_providers_are_read_from_their_source(tmp_path, monkeypatch):
    from include.operators import params

    (tmp_path / "base.py").write_text(
        "class Base:\n    name: str\n    can_create: bool\n    needs_venue: bool = True\n"
    )
    (tmp_path / "shops.py").write_text(
        "class Shops(Base):\n    name: str = 'Shops'\n    can_create = True\n"
        "class ShopsAgain(Shops):\n    pass\n"
        "class NewStructure(Shops):\n    local_class = 'Shops'\n    scheme_version = 2\n"
        "class Register(Shops):\n    needs_venue = False\n"
        "class Renamed(Shops):\n    local_class = 'OldName'\n"
        "class Unfinished(Base):\n    name = 'Unfinished'\n"
        "class Loop(Loop):\n    pass\n"
    )
    monkeypatch.setattr(params, "PROVIDERS", tmp_path)
    assert params.provider_names.__wrapped__() == ("Shops", "ShopsAgain", "OldName")
