"""The form of an inbound DAG: what it takes, what it refuses, and that left alone it is the daily run."""

import pytest

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
    ],
    ids=str,
)
def test_takes(values):
    assert filled(values).items() >= values.items()


@pytest.mark.parametrize(
    "values",
    [
        {"venue_links": "12"},
        {"venue_links": [12]},
        {"venue_links": None},
        {"full_refresh": "yes"},
        {"full_refresh": None},
        {"limit": 0},
        {"limit": -5},
        {"limit": 1.5},
        {"limit": "10"},
        {"dry_run": 1},
        {"chunk_size": 0},
        {"replay_rejected": None},
        {"replay_rejected": "yes"},
        {"accept_shrunk": None},
        {"error_limit": -1},
        {"error_limit": 1.5},
        {"error_limit": "3"},
        {"release_fields": None},
        {"release_fields": "offer.123"},
        {"release_fields": [123]},
        {"chunk_size": 10_001},
        {"chunk_size": None},
        {"chunk_size": "1000"},
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
        {"force": None},
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
        {"limit": 1},
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
        {"orders": None},
        {"event": 1},
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
        {"settings": []},
        {"settings": "{}"},
    ],
    ids=str,
)
def test_a_change_of_links_refuses(values):
    from airflow.sdk.exceptions import ParamValidationError

    with pytest.raises(ParamValidationError):
        linked(values)


def test_the_form_offers_the_actions_there_are():
    from typing import get_args

    from include.inbound.links import Action
    from include.operators.params import venue_link_params

    assert venue_link_params()["action"].schema["enum"] == ["show", *get_args(Action)]


def test_every_field_of_a_change_of_links_explains_itself():
    from include.operators.params import venue_link_params

    for name, param in venue_link_params().items():
        assert param.schema["title"], name
        assert param.schema.get("description") or param.description, name
