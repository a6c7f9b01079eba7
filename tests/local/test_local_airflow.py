"""The environment of Airflow's processes, and the client of its API."""

import json
import os
import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from local import airflow, runs
from local.airflow import Api
from local.checkout import Checkout, LocalError
from local.settings import Connection, Pool, Settings


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path)


def environment(checkout: Checkout, **inherited: str) -> dict[str, str]:
    return airflow.environment(
        checkout, inherited, metadata_url="postgresql+psycopg2://x", port=8080, slots=9, schedules=True
    )


def test_the_components_share_one_airflow_of_their_own(checkout):
    theirs = {"AIRFLOW_HOME": "/home/me/airflow", "AIRFLOW_CONFIG": "x", "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor"}
    env = environment(checkout, AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS="True", **theirs)
    assert env["AIRFLOW_HOME"] == str(checkout.root / ".local" / "airflow")
    assert env["AIRFLOW__CORE__EXECUTOR"] == "LocalExecutor"
    assert env["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == "http://127.0.0.1:8080/execution/"
    assert env["AIRFLOW__API__HOST"] == "127.0.0.1"
    assert env["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS"] == "False"
    assert env["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"] == "admin:admin,operator:user,viewer:viewer"
    assert list(airflow.USER_RIGHTS) == ["admin", "operator", "viewer"]
    assert "AIRFLOW_CONFIG" not in env
    assert all(isinstance(value, str) for value in env.values())


def test_every_component_has_a_command_and_is_stopped():
    assert set(airflow.COMMANDS) == set(airflow.STOP_SECONDS)
    assert "triggerer" in airflow.COMMANDS
    assert next(iter(airflow.STOP_SECONDS)) == "scheduler"


@pytest.mark.filterwarnings("ignore")  # Airflow's own
@pytest.mark.parametrize(
    ("user", "may_trigger", "may_delete", "may_see_connections"),
    [("admin", True, True, True), ("operator", True, False, False), ("viewer", False, False, False)],
)
def test_an_operator_triggers_but_only_an_admin_deletes(user, may_trigger, may_delete, may_see_connections):
    from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    from local.auth_manager import LocalAuthManager

    manager, someone = LocalAuthManager(), SimpleAuthManagerUser(username=user, role=airflow.USERS[user])
    run = DagAccessEntity.RUN
    assert manager.is_authorized_dag(method="GET", user=someone)
    for entity in (run, DagAccessEntity.TASK_INSTANCE):
        assert manager.is_authorized_dag(method="POST", user=someone, access_entity=entity) is may_trigger
    assert manager.is_authorized_dag(method="PUT", user=someone) is may_trigger
    for entity in (None, run):
        assert manager.is_authorized_dag(method="DELETE", user=someone, access_entity=entity) is may_delete
    assert manager.is_authorized_connection(method="GET", user=someone) is may_see_connections
    assert manager.is_authorized_connection(method="DELETE", user=someone) is may_see_connections


def test_secrets_are_kept_private_and_the_same(checkout):
    secrets = [environment(checkout)["AIRFLOW__API_AUTH__JWT_SECRET"] for _ in range(2)]
    assert secrets[0] == secrets[1]
    assert checkout.password("admin") == Checkout(checkout.root).password("admin") != checkout.password("viewer")
    for file in (checkout.state / "secrets.json", checkout.passwords):
        assert file.stat().st_mode & 0o077 == 0
    assert set(json.loads(checkout.passwords.read_text())) == {"admin", "viewer"}


def test_tuning_connections_and_proxies_are_the_users(checkout):
    usual = environment(checkout)
    assert usual["AIRFLOW__CORE__TEST_CONNECTION"] == "Enabled"
    assert usual["AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT"] == "300"
    theirs = {
        "AIRFLOW__CORE__PARALLELISM": "32",
        "AIRFLOW__CORE__TEST_CONNECTION": "Hidden",
        "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "7",
        "AIRFLOW_CONN_SYNC_DB": "postgres://",
    }
    env = environment(checkout, no_proxy="intra,localhost", **theirs)
    assert theirs.items() <= env.items()
    assert env["no_proxy"] == "intra,localhost,127.0.0.1,::1"
    assert env["NO_PROXY"] == "127.0.0.1,localhost,::1"


def test_a_taken_port_is_named_and_a_preferred_one_is_used_if_it_is_free():
    port = airflow.free_port()
    assert airflow.free_port(port) == port
    airflow.check_port(port)
    with socket.create_server(("127.0.0.1", port)):
        assert airflow.free_port(port) != port
        with pytest.raises(LocalError, match=rf"port {port} is in use by another program.*make up PORT="):
            airflow.check_port(port)


def test_the_dags_are_the_files(checkout):
    checkout.dags.mkdir()
    for name in ("b.py", "a.py", "_private.py", "notes.md"):
        (checkout.dags / name).touch()
    assert checkout.dag_ids() == ["a", "b"]


def test_signs_in_when_required_and_imports_everything():
    seen: list[tuple[str, str]] = []

    def respond(request: httpx.Request) -> httpx.Response:
        seen.append((request.method, request.url.path))
        if request.url.path == "/auth/token":
            assert json.loads(request.content) == {"username": "admin", "password": "pw"}
            return httpx.Response(201, json={"access_token": "token"})
        if request.headers.get("authorization") != "Bearer token":
            return httpx.Response(401)
        return httpx.Response(200, json={"create": {"success": [], "errors": []}, "delete": None})

    api = Api("http://test", "pw", httpx.MockTransport(respond))
    api.import_settings(Settings((Connection("a", "http"),), {"v": 1}, (Pool("p", 8),)), ["sync_db"])
    assert seen == [
        ("PATCH", "/api/v2/connections"),
        ("POST", "/auth/token"),
        *(("PATCH", f"/api/v2/{what}") for what in ("connections", "variables", "pools")),
    ]


def test_interrupted_runs_are_failed_except_those_of_unknown_dags():
    failed: list[str] = []

    def respond(request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/api/v2/dags")
        if request.method == "PATCH":
            failed.append(path)
            assert json.loads(request.content)["state"] == "failed"
        found = {"": {"dags": [{"dag_id": "old"}]}, "/old/dagRuns": {"dag_runs": [{"dag_run_id": "r"}]}}
        return httpx.Response(200, json=found.get(path, {})) if path != "/new/dagRuns" else httpx.Response(404)

    api = Api("http://test", "pw", httpx.MockTransport(respond))
    assert runs.fail_interrupted_runs(api, ["new", "old"]) == 1
    assert failed == ["/old/dagRuns/r"]


def test_a_refusal_has_the_first_line_of_airflows_message():
    detail = "limit: -1 is less than the minimum of 1\n\nFailed validating 'minimum' in schema:\n {}"
    api = Api("http://test", "pw", httpx.MockTransport(lambda _: httpx.Response(400, json={"detail": detail})))
    with pytest.raises(LocalError, match=r"POST /api/v2/dags/d/dagRuns: limit: -1 is less than the minimum of 1$"):
        api.trigger("d", {"limit": -1})


def test_the_end_of_a_log_comes_with_its_path(tmp_path):
    log = Path(tmp_path / "x.log")
    log.write_text("\n".join(map(str, range(100))))
    assert airflow.last_lines(log, 2) == f"    98\n    99\n  full log: {log}"
    assert "nothing.log" in airflow.last_lines(tmp_path / "nothing.log")


class Server:
    """Airflow's API on a machine with a fake clock: it loses responses, or returns errors, before it works."""

    def __init__(self, *first: Exception | httpx.Response, lost: bool = False) -> None:
        self.first = list(first)
        self.lost = lost
        self.now = 0.0
        self.printed: list[str] = []
        self.checks = 0
        self.run_ids: list[str] = []

    def api(self, check=None) -> Api:
        return Api(
            "http://test",
            "pw",
            httpx.MockTransport(self.respond),
            notify=self.printed.append,
            check=check or self.check,
            clock=lambda: self.now,
            sleep=self.sleep,
        )

    def check(self) -> None:
        self.checks += 1

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def respond(self, request: httpx.Request) -> httpx.Response:
        response = self.first.pop(0) if self.first else None
        if isinstance(response, httpx.TimeoutException):
            self.now += request.extensions["timeout"]["read"]
        if request.method == "POST" and (response is None or self.lost):
            run_id = json.loads(request.content)["dag_run_id"]
            known = run_id in self.run_ids
            self.run_ids.append(run_id)
            if response is None:
                return httpx.Response(409 if known else 200, json={"dag_run_id": run_id, "detail": "known"})
        if isinstance(response, Exception):
            raise response
        return response or httpx.Response(200, json={"dag_run_id": request.url.path.rpartition("/")[2]})


def test_requests_without_a_response_are_no_outage():
    server = Server(*[httpx.ReadTimeout("timed out")] * 8, *[httpx.ConnectError("refused")] * 5)
    assert server.api().run("d", "r") == {"dag_run_id": "r"}
    assert server.checks == 13
    assert server.printed[0] == "  waiting for Airflow's api-server: no response for 15 s"
    assert server.printed[1] == "  waiting for Airflow's api-server: no response for 30 s"
    assert server.now > 250


def test_a_run_whose_response_was_lost_is_started_once():
    server = Server(httpx.ReadTimeout("timed out"), lost=True)
    run_id = server.api().trigger("d", {})
    assert run_id.startswith("manual__")
    assert server.run_ids == [run_id, run_id]


@pytest.mark.parametrize(
    ("response", "impatient", "state", "after"),
    [
        (httpx.ReadTimeout("timed out"), False, "no response", (600, 1200)),
        (httpx.Response(500), False, "status 500 for GET /api/v2/dags", (60, 300)),
        (httpx.ReadTimeout("timed out"), True, "no response", (15, 15)),  # a command that is ending
    ],
)
def test_an_api_that_does_not_work_is_given_up_at_last(response, impatient, state, after):
    server = Server(*[response] * 1000)
    api = server.api()
    api.impatient = impatient
    with pytest.raises(LocalError, match=rf"^Airflow's api-server: {state} for \d+ s$"):
        api.dags()
    assert after[0] <= server.now <= after[1]


def test_what_cannot_respond_any_more_is_not_waited_for():
    def check() -> None:
        raise LocalError("PostgreSQL was shut down")

    server = Server(httpx.ReadTimeout("timed out"), httpx.ReadTimeout("timed out"))
    with pytest.raises(LocalError, match="PostgreSQL was shut down"):
        server.api(check).dags()
    assert len(server.first) == 1


def dags(*times: str) -> httpx.Response:
    found = [{"dag_id": name, "last_parsed_time": moment} for name, moment in zip("ab", times, strict=False)]
    return httpx.Response(200, json={"dags": found})


def test_a_file_without_its_dag_is_reported_after_several_parses_of_the_others():
    moments = [f"2026-01-01T00:00:{second:02}+00:00" for second in range(0, 60, 15)]
    responses = [
        response for moment in moments for response in (dags(moment), httpx.Response(200, json={"import_errors": []}))
    ]
    server = Server(*responses)
    since = datetime(2026, 1, 1, tzinfo=UTC)
    with pytest.raises(LocalError, match="Airflow found no DAG b: the file must define a DAG whose id is the file"):
        airflow.wait_until_parsed(server.api(), ["a", "b"], since, server.check)
    assert server.first == []
    airflow.wait_until_parsed(Server(dags(*moments[:2])).api(), ["a", "b"], since, server.check)


def test_every_setting_exists_in_airflow(checkout):
    code = "import os; from airflow.configuration import conf\n"
    code += "for name in os.environ['NAMES'].split():\n    section, _, option = name[9:].lower().partition('__')\n"
    code += "    known = conf.configuration_description.get(section, {}).get('options', {})\n"
    code += "    if option not in known: print(name)\n"
    names = " ".join(name for name in environment(checkout) if name.startswith("AIRFLOW__"))
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env={**os.environ, "NAMES": names}, capture_output=True, text=True, check=True)
    assert done.stdout == "", done.stderr
