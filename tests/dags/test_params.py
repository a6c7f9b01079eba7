"""The forms of the DAGs: what they take, what they refuse, and that left alone they make the daily run."""

import pytest

HUGE = 10**30
"""A number that Airflow cannot hand to a task."""

pytestmark = pytest.mark.filterwarnings("ignore")  # Airflow's own


def filled(values):
    from airflow.sdk.definitions.param import ParamsDict

    from include.operators.params import sync_params

    params = ParamsDict(sync_params())
    params.update(values)
    return params.validate()


def test_left_alone_it_is_the_daily_run():
    assert filled({}) == {
        "venue_links": [],
        "full_refresh": False,
        "limit": None,
        "dry_run": False,
        "chunk_size": 1000,
        "replay_rejected": False,
        "accept_shrunk": False,
        "error_limit": None,
        "release_fields": [],
    }


@pytest.mark.parametrize(
    "values",
    [
        {"venue_links": ["12"]},
        {"venue_links": ["12", "00300001000012"]},
        {"full_refresh": True},
        {"limit": 1},
        {"limit": 10_000_000},
        {"limit": None},
        {"dry_run": True},
        {"chunk_size": 1},
        {"replay_rejected": True},
        {"accept_shrunk": True},
        {"error_limit": 0},
        {"error_limit": None},
        {"release_fields": ["offer.123.name", "stock.7"]},
        {"chunk_size": 10_000},
        {"limit": 1_000_000_000},
        {"limit": 1.0},
        {"error_limit": 1_000_000},
        {"venue_links": [12, "00300001000012", 2**63 - 1]},
        {"venue_links": ["123 456 789 00012", ""]},
        {"venue_links": ["1"] * 10_000},
        *({name: None} for name in ("venue_links", "full_refresh", "chunk_size", "replay_rejected", "accept_shrunk")),
        {"release_fields": None},
    ],
    ids=str,
)
def test_takes(values):
    assert filled(values).items() >= values.items()


@pytest.mark.parametrize(
    "values",
    [
        {"venue_links": "12"},
        {"full_refresh": "yes"},
        {"limit": 0},
        {"limit": -5},
        {"limit": 1.5},
        {"limit": "10"},
        {"dry_run": 1},
        {"chunk_size": 0},
        {"replay_rejected": "yes"},
        {"error_limit": -1},
        {"error_limit": 1.5},
        {"error_limit": "3"},
        {"release_fields": "offer.123"},
        {"release_fields": [123]},
        {"chunk_size": 10_001},
        {"chunk_size": "1000"},
        *({name: value} for name in ("limit", "chunk_size", "error_limit") for value in (HUGE, -HUGE, 1e30, 2**64)),
        *({name: value} for name in ("limit", "chunk_size", "error_limit") for value in (True, float("nan"), "1", [1])),
        {"limit": float("inf")},
        {"limit": 1_000_000_001},
        {"error_limit": 1_000_001},
        *({"venue_links": [item]} for item in (12.5, 0, -1, True, None, HUGE, 2**63, "1" * 41, ["1"], {"id": 1})),
        {"venue_links": ["1"] * 10_001},
        {"venue_links": ["1\x00"]},
        {"venue_links": ["\ud800"]},
        {"release_fields": ["stock.1.price"] * 10_001},
        {"release_fields": ["s" * 101]},
    ],
    ids=str,
)
def test_refuses(values):
    from airflow.sdk.exceptions import ParamValidationError

    with pytest.raises(ParamValidationError):
        filled(values)


def test_every_field_explains_itself():
    from include.operators.params import sync_params

    for name, param in sync_params().items():
        assert param.schema["title"], name
        assert param.schema.get("description") or param.description, name


# The form of a DAG that patches a search index


def searched(values):
    from airflow.sdk.definitions.param import ParamsDict

    from include.operators.params import search_params

    params = ParamsDict(search_params())
    params.update(values)
    return params.validate()


def test_left_alone_a_search_dag_does_what_the_variables_say():
    assert searched({}) == {
        "dry_run": None,
        "dry_run_notify": None,
        "force": False,
        "compare_every": None,
        "time_limit_minutes": None,
    }


@pytest.mark.parametrize(
    "values",
    [
        *({name: value} for name in ("dry_run", "dry_run_notify") for value in (True, False, None)),
        {"force": True},
        {"compare_every": 0},
        {"compare_every": 1440},
        {"compare_every": None},
        {"time_limit_minutes": 1},
        {"time_limit_minutes": 1440},
        {"time_limit_minutes": None},
        {"compare_every": 1_000_000},
        {"compare_every": 15.0},
        {"force": None},
    ],
    ids=str,
)
def test_a_search_dag_takes(values):
    assert searched(values).items() >= values.items()


@pytest.mark.parametrize(
    "values",
    [
        *({name: value} for name in ("dry_run", "dry_run_notify") for value in ("yes", "true", "", 2, [])),
        {"force": "yes"},
        *({name: value} for name in ("compare_every", "time_limit_minutes") for value in (HUGE, -HUGE, True, "1")),
        *({name: float(value)} for name in ("compare_every", "time_limit_minutes") for value in ("nan", "inf", "1e30")),
        {"compare_every": 1_000_001},
        {"force": 1},
        {"compare_every": -1},
        {"compare_every": 1.5},
        {"compare_every": "5"},
        {"time_limit_minutes": 0},
        {"time_limit_minutes": 1441},
        {"time_limit_minutes": "30"},
        {"time_limit_minutes": 2.5},
    ],
    ids=str,
)
def test_a_search_dag_refuses(values):
    from airflow.sdk.exceptions import ParamValidationError

    with pytest.raises(ParamValidationError):
        searched(values)


def test_every_field_of_a_search_dag_explains_itself():
    from include.operators.params import search_params

    for name, param in search_params().items():
        assert param.schema["title"], name
        assert param.schema.get("description") or param.description, name


# The form of an outbound DAG


def sent(values):
    from airflow.sdk.definitions.param import ParamsDict

    from include.operators.params import outbound_params

    params = ParamsDict(outbound_params())
    params.update(values)
    return params.validate()


def test_left_alone_an_outbound_dag_sends_what_changed():
    assert not any(sent({}).values())


@pytest.mark.parametrize(
    "values",
    [
        {"orders": ["A1B2C", "D3E4F"], "event": "salon"},
        {"dry_run": True},
        {"send_unchanged": True},
        *({"retry": reason} for reason in (None, "all", "exceeded", "permanent", "config", "internal", "timeout")),
        {"cancel": ["A1B2C"]},
        {"mappings": [{"id": 1}]},
        {"mappings_version": 1},
        {"mappings_version": 2**31 - 1},
        {"limit": 1},
        *({name: None} for name in ("orders", "event", "dry_run", "send_unchanged", "cancel", "mappings")),
        {
            "mappings": [
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
        },
    ],
    ids=str,
)
def test_an_outbound_dag_takes(values):
    assert sent(values).items() >= values.items()


@pytest.mark.parametrize(
    "values",
    [
        {"orders": "A1B2C"},
        {"orders": [1]},
        {"event": 1},
        {"event": "e" * 51},
        {"orders": ["A"] * 10_001},
        {"orders": ["A" * 41]},
        {"mappings_version": 2**31},
        *({name: value} for name in ("limit", "mappings_version") for value in (HUGE, 1e30, True, "1", float("nan"))),
        {"mappings": [{"id": HUGE}]},
        {"mappings": [{"property_mappings": [{"value_map": {"p": HUGE}}]}]},
        {"mappings": [{"property_mappings": [{"source_field": "x" * 20_001}]}]},
        {"mappings": [{"id": 1}] * 101},
        {"mappings": [1]},
        {"mappings": [{"a": [[[[[[1]]]]]]}]},
        {"dry_run": "yes"},
        {"retry": "some"},
        {"retry": True},
        {"cancel": "A1B2C"},
        {"mappings": {"id": 1}},
        {"mappings_version": 0},
        {"limit": 0},
    ],
    ids=str,
)
def test_an_outbound_dag_refuses(values):
    from airflow.sdk.exceptions import ParamValidationError

    with pytest.raises(ParamValidationError):
        sent(values)


def test_every_field_of_an_outbound_dag_explains_itself():
    from include.operators.params import outbound_params

    for name, param in outbound_params().items():
        assert param.schema["title"], name
        assert param.schema.get("description") or param.description, name


# The form of the DAG that says who feeds which venue


def linked(values):
    from airflow.sdk.definitions.param import ParamsDict

    from include.operators.params import venue_link_params

    params = ParamsDict(venue_link_params())
    params.update(values)
    return params.validate()


def test_left_alone_it_shows_the_links():
    assert {name: value for name, value in linked({}).items() if value is not None} == {"action": "show"}


@pytest.mark.parametrize(
    "values",
    [
        *({"action": action} for action in ("show", "link", "change", "settings", "activate", "deactivate")),
        {"venue": "01100000700010"},
        {"link": 1},
        {"provider": "TiteLiveStocks", "id_at_provider": "shop-7"},
        {"settings": {}},
        {"settings": {"prices": {"a": 1}}},
        {"settings": {"prices": [{"price": 9.5, "version": "VO"}, {"price": "8"}], "is_duo": True, "quantity": 80}},
        {"link": 2**63 - 1},
        {"provider": None},
        {"id_at_provider": "x" * 70},
    ],
    ids=str,
)
def test_a_change_of_links_takes(values):
    assert linked(values).items() >= values.items()


@pytest.mark.parametrize(
    "values",
    [
        {"action": "remove"},
        {"action": None},
        {"venue": 12},
        {"link": 0},
        {"link": "1"},
        {"provider": 1},
        {"id_at_provider": 7},
        {"id_at_provider": "x" * 71},
        {"settings": []},
        {"settings": "{}"},
        {"settings": {"quantity": HUGE}},
        {"settings": {"prices": [{"price": HUGE}]}},
        {"settings": {"prices": [{"price": 1e30}]}},
        {"settings": {"a": {"b": {"c": {"d": {"e": 1}}}}}},
        {"settings": {"a" * 201: 1}},
        {"settings": {str(number): 1 for number in range(1001)}},
        *({"link": value} for value in (HUGE, 2**63, 1.5, True, float("nan"))),
        {"provider": "titelivestocks"},
        {"provider": "Nobody"},
        {"venue": "1" * 41},
        {"venue": "\x00"},
    ],
    ids=str,
)
def test_a_change_of_links_refuses(values):
    from airflow.sdk.exceptions import ParamValidationError

    with pytest.raises(ParamValidationError):
        linked(values)


def test_the_form_offers_the_actions_there_are():
    from typing import get_args

    from include.operators.params import venue_link_params
    from include.venue_links import Action

    assert venue_link_params()["action"].schema["enum"] == ["show", *get_args(Action)]


def test_every_field_of_a_change_of_links_explains_itself():
    from include.operators.params import venue_link_params

    for name, param in venue_link_params().items():
        assert param.schema["title"], name
        assert param.schema.get("description") or param.description, name


# All forms


def every_param():
    from include.operators import params

    forms = ("sync_params", "search_params", "outbound_params", "venue_link_params")
    return [(form, name, param) for form in forms for name, param in getattr(params, form)().items()]


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
    found = [f"{form} {name}{place}" for form, name, param in every_param() for place in without_bounds(param.schema)]
    assert not found


def test_only_what_cannot_be_empty_is_marked_as_required():
    """Airflow marks every field whose type does not admit null."""
    assert [(form, name) for form, name, param in every_param() if "null" not in param.schema["type"]] == [
        ("venue_link_params", "action")
    ]


def test_every_field_is_in_a_section_and_the_sections_are_not_scattered():
    from include.operators import params

    for form in ("sync_params", "search_params", "outbound_params", "venue_link_params"):
        sections = [param.schema["section"] for param in getattr(params, form)().values()]
        assert len(set(sections)) > 1, form
        assert sections[0] == "Run Parameters", "Airflow opens no other section"
        assert sections == sorted(sections, key=sections.index), form


def test_the_web_form_asks_for_lists_line_by_line():
    """It shows a JSON editor for a list whose items have any type but string."""
    for form, name, param in every_param():
        if "array" in param.schema["type"] and name != "mappings":
            assert param.schema["items"].get("type", "string") == "string", (form, name)


def test_no_field_speaks_of_tables():
    for form, name, param in every_param():
        words = f"{param.schema['title']} {param.description}"
        assert not [table for table in ("venue_provider", "provider_pivot", "catalog_", "_report") if table in words], (
            form,
            name,
        )


def test_the_form_offers_the_providers_there_are():
    from include.operators.params import provider_names
    from include.providers import provider_classes

    linked = [provider.row_name() for provider in provider_classes() if provider.needs_venue]
    assert sorted(provider_names()) == sorted(set(linked))
    assert sorted(value for value in _enum("provider") if value) == sorted(set(linked))
    assert None in _enum("provider")


def _enum(name):
    from include.operators.params import venue_link_params

    return venue_link_params()[name].schema["enum"]


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
