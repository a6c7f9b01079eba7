"""airflow_settings.yaml, and how the user's environment wins over it."""

import json
from pathlib import Path

import pytest

from local import settings
from local.checkout import LocalError
from local.settings import Connection, Pool, Settings

ROOT = Path(__file__).parents[2]
DATABASE = Connection("sync_db", "postgres", host="/run/socket", port=5432, login="postgres", schema="sync")


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "airflow_settings.yaml"
    path.write_text(text)
    return path


def test_the_projects_own_file_has_what_the_dags_need():
    found = settings.read(ROOT / "airflow_settings.yaml")
    assert {"sync_db", "titelive_stocks_api"} <= {connection.id for connection in found.connections}
    assert Pool("titelive_stocks", 8, "Tasks that may call the stock API of TiteLive in parallel") in found.pools
    stocks = {f"{service}_stocks" for service in ("titelive", "fnac", "libraires", "praxiel")}
    services = {f"{name}_api" for name in stocks} | {"allocine_api", "algolia", "brevo_api", "teams"}
    assert set(settings.in_sandbox(found)) >= services
    assert stocks | {"allocine_stocks"} <= {pool.name for pool in found.pools}
    assert {name for names in settings.DEMO_VARIABLES.values() for name in names} <= found.variables.keys()


def test_reads_the_form_of_the_astro_cli(tmp_path):
    path = write(
        tmp_path,
        """
        airflow:
          connections:
            - {conn_id: a, conn_type: http, conn_host: h, conn_port: "80", conn_extra: {rate: 5}}
            - {conn_id: b, conn_type: http, conn_extra: '{"rate": 6}'}
            - {conn_id: , conn_type: }
          pools:
            - {pool_name: p, pool_slot: 3, pool_description: }
          variables:
            - {variable_name: v, variable_value: 1}
            - {variable_name: , variable_value: }
        """,
    )
    found = settings.read(path)
    assert [(c.id, c.port, dict(c.extra)) for c in found.connections] == [
        ("a", 80, {"rate": 5}),
        ("b", None, {"rate": 6}),
    ]
    assert found.pools == (Pool("p", 3),)
    assert found.variables == {"v": 1}
    assert json.loads(found.connections[0].body()["extra"]) == {"rate": 5}


@pytest.mark.parametrize(
    "text",
    ["", "airflow: [", "other: {}", "airflow: {connections: [{conn_id: a}]}", "airflow: {pools: [{pool_name: p}]}"],
)
def test_a_broken_file_is_named(tmp_path, text):
    with pytest.raises(LocalError, match=r"airflow_settings\.yaml cannot be read") as error:
        settings.read(write(tmp_path, text))
    assert error.value.status == 2


def test_the_local_run_puts_in_what_it_started():
    given = settings.read(ROOT / "airflow_settings.yaml")
    found = {c.id: c for c in settings.with_demo(given, database=DATABASE, sandbox=("127.0.0.1", 4711)).connections}
    assert (found["sync_db"].host, found["sync_db"].schema, found["sync_db"].password) == ("/run/socket", "sync", None)
    assert found["titelive_stocks_api"].host == "http://127.0.0.1:4711/titelive/stocks"
    assert found["titelive_stocks_api"].extra == {"requests_per_second": 50}
    assert found["fnac_stocks_api"].host == "http://127.0.0.1:4711/fnac/api/v1/pass-culture/stocks"
    assert (found["fnac_stocks_api"].login, found["fnac_stocks_api"].password) == ("sandbox", "fnac-token")
    assert found["allocine_api"].host == "http://127.0.0.1:4711/allocine/api/query"
    assert found["allocine_api"].extra == {"Authorization": "Bearer sandbox-allocine"}
    assert (found["algolia"].host, found["algolia"].password) == ("http://127.0.0.1:4711", "sandbox-patch")
    assert found["brevo_api"].host == "http://127.0.0.1:4711/brevo/v3"
    assert found["brevo_api"].extra == {"requests_per_second": 50, "api-key": "sandbox-brevo"}
    assert found["teams"].host is None
    assert found["teams"].password.startswith("http://127.0.0.1:4711/workflows/demo/triggers/manual/paths/invoke?")
    assert found["teams"].password.endswith("&sig=sandbox-signature")


def test_a_connection_to_elsewhere_is_left_alone():
    mine = Connection("x", "http", host="https://example.org/path", port=443, password="http://[half an address")
    brevo = Connection("brevo_api", "http", host="https://api.brevo.com/v3")
    given = Settings((mine, brevo))
    assert settings.with_demo(given, database=DATABASE, sandbox=("127.0.0.1", 1)).connections == given.connections
    assert not settings.in_sandbox(given)


DRY, NOTIFY = "algolia_customer_dispo_dry_run", "algolia_customer_dispo_dry_run_notify"


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, {DRY: "false", NOTIFY: "false"}),
        ({f"AIRFLOW_VAR_{DRY.upper()}": "true"}, {NOTIFY: "false"}),
        ({"AIRFLOW_CONN_ALGOLIA": "generic://"}, {DRY: "true", NOTIFY: "true"}),
    ],
)
def test_only_the_demo_index_is_patched_without_being_asked(environment, expected):
    given, _ = settings.without_overridden(settings.read(ROOT / "airflow_settings.yaml"), environment)
    found = settings.with_demo(given, database=DATABASE, sandbox=("127.0.0.1", 4711))
    assert found.variables == expected


def sizes(fitted):
    return {pool.name: pool.slots for pool in fitted.pools}


@pytest.mark.parametrize("processors", [1, 2, 4, 16, 64])
def test_the_pools_together_leave_a_slot_for_the_next_task_of_each(processors):
    given = settings.read(ROOT / "airflow_settings.yaml")
    slots = settings.executor_slots(given, {}, processors)
    fitted = sizes(settings.fit_pools(given, slots))
    assert sum(fitted.values()) <= slots
    assert min(fitted.values()) == 1
    assert fitted.keys() == sizes(given).keys() | {"default_pool"}
    assert all([fitted[pool.name] <= pool.slots for pool in given.pools])


def test_the_users_own_number_of_slots_counts_and_must_suffice():
    given, name = Settings(pools=(Pool("a", 8), Pool("b", 8))), "AIRFLOW__CORE__PARALLELISM"
    assert settings.executor_slots(given, {name: "3"}, 64) == 3
    for wrong in ("2", "0", "-1", "many", "4.5"):
        with pytest.raises(LocalError, match=rf"{name}={wrong} is invalid: specify at least 3"):
            settings.executor_slots(given, {name: wrong}, 64)


def test_the_largest_pools_shrink_first_and_no_pool_vanishes():
    given = Settings(pools=(Pool("a", 8), Pool("b", 8), Pool("c", 2), Pool("d", 1)))
    assert sizes(settings.fit_pools(given, 10)) == {"a": 3, "b": 3, "c": 2, "d": 1, "default_pool": 1}
    assert sizes(settings.fit_pools(given, 100)) == {"a": 8, "b": 8, "c": 2, "d": 1, "default_pool": 1}
    assert sizes(settings.fit_pools(given, 2)) == dict.fromkeys(["a", "b", "c", "d", "default_pool"], 1)


def test_the_users_environment_wins():
    given = Settings((DATABASE, Connection("x", "http")), {"depth": 1, "width": 2})
    kept, overridden = settings.without_overridden(
        given, {"AIRFLOW_CONN_SYNC_DB": "postgres://", "AIRFLOW_VAR_DEPTH": "3"}
    )
    assert overridden == ["sync_db"]
    assert [connection.id for connection in kept.connections] == ["x"]
    assert kept.variables == {"width": 2}
