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
    env = environment(
        checkout, AIRFLOW_HOME="/home/me/airflow", AIRFLOW__CORE__EXECUTOR="CeleryExecutor", AIRFLOW_CONFIG="x"
    )
    assert env["AIRFLOW_HOME"] == str(checkout.root / ".local" / "airflow")
    assert env["AIRFLOW__CORE__EXECUTOR"] == "LocalExecutor"
    assert env["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == "http://127.0.0.1:8080/execution/"
    assert env["AIRFLOW__API__HOST"] == "127.0.0.1"
    assert "AIRFLOW_CONFIG" not in env
    assert all(isinstance(value, str) for value in env.values())


def test_nobody_is_an_administrator_without_a_password(checkout):
    env = environment(checkout, AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS="True")
    assert env["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS"] == "False"
    assert env["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"] == "admin:admin,operator:user,viewer:viewer"


def test_every_listed_user_can_sign_in_and_sees_the_rights(checkout):
    users = environment(checkout)["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"].split(",")
    assert [user.partition(":")[0] for user in users] == list(airflow.USER_RIGHTS) == ["admin", "operator", "viewer"]


def test_connections_can_be_tested_unless_the_user_says_otherwise(checkout):
    assert environment(checkout)["AIRFLOW__CORE__TEST_CONNECTION"] == "Enabled"
    assert environment(checkout, AIRFLOW__CORE__TEST_CONNECTION="Hidden")["AIRFLOW__CORE__TEST_CONNECTION"] == "Hidden"


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
    env = environment(
        checkout, AIRFLOW__CORE__PARALLELISM="32", AIRFLOW_CONN_SYNC_DB="postgres://", no_proxy="intra,localhost"
    )
    assert env["AIRFLOW__CORE__PARALLELISM"] == "32"
    assert env["AIRFLOW_CONN_SYNC_DB"] == "postgres://"
    assert env["no_proxy"] == "intra,localhost,127.0.0.1,::1"
    assert env["NO_PROXY"] == "127.0.0.1,localhost,::1"


def test_a_taken_port_is_named():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(LocalError, match=rf"port {port} is in use by another program.*make up PORT="):
            airflow.check_port(port)
    airflow.check_port(airflow.free_port())


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


def test_a_refusal_has_airflows_message():
    api = Api(
        "http://test", "pw", httpx.MockTransport(lambda _: httpx.Response(400, json={"detail": "limit: not a number"}))
    )
    with pytest.raises(LocalError, match="POST /api/v2/dags/d/dagRuns: limit: not a number"):
        api.trigger("d", {"limit": "x"})


def test_the_end_of_a_log_comes_with_its_path(tmp_path):
    log = Path(tmp_path / "x.log")
    log.write_text("\n".join(map(str, range(100))))
    assert airflow.last_lines(log, 2) == f"    98\n    99\n  full log: {log}"
    assert "nothing.log" in airflow.last_lines(tmp_path / "nothing.log")


def test_a_preferred_port_is_taken_if_it_is_free():
    port = airflow.free_port()
    assert airflow.free_port(port) == port
    with socket.create_server(("127.0.0.1", port)):
        assert airflow.free_port(port) != port


def test_a_refused_parameter_is_an_error_in_one_line():
    detail = (
        "Invalid input for param limit: -1 is less than the minimum of 1\n\nFailed validating 'minimum' in schema:\n {}"
    )
    request = httpx.Request("POST", "http://localhost/api/v2/dags/d/dagRuns")
    refused = httpx.Response(400, json={"detail": detail}, request=request)
    with pytest.raises(LocalError) as raised:
        Api("http://localhost", "password")._checked(refused)
    assert str(raised.value).endswith("dagRuns: Invalid input for param limit: -1 is less than the minimum of 1")


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


def test_an_api_that_never_responds_is_given_up_after_minutes():
    server = Server(*[httpx.ReadTimeout("timed out")] * 100)
    with pytest.raises(LocalError, match=r"^Airflow's api-server: no response for \d+ s$"):
        server.api().dags()
    assert 600 < server.now < 1200


def test_an_api_that_only_returns_errors_is_given_up_earlier():
    server = Server(*[httpx.Response(500)] * 1000)
    with pytest.raises(LocalError, match=r"api-server: status 500 for GET /api/v2/dags for \d+ s$"):
        server.api().dags()
    assert 60 < server.now < 300


def test_what_cannot_respond_any_more_is_not_waited_for():
    def check() -> None:
        raise LocalError("PostgreSQL was shut down")

    server = Server(httpx.ReadTimeout("timed out"), httpx.ReadTimeout("timed out"))
    with pytest.raises(LocalError, match="PostgreSQL was shut down"):
        server.api(check).dags()
    assert len(server.first) == 1


def test_an_ending_command_does_not_wait_for_responses():
    server = Server(*[httpx.ReadTimeout("timed out")] * 2)
    api = server.api()
    api.impatient = True
    with pytest.raises(LocalError, match="no response"):
        api.dags()
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


def test_the_users_time_outs_win(checkout):
    assert environment(checkout)["AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT"] == "300"
    given = environment(checkout, AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT="7")
    assert given["AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT"] == "7"


def test_every_setting_exists_in_airflow(checkout):
    code = "import os; from airflow.configuration import conf\n"
    code += "for name in os.environ['NAMES'].split():\n    section, _, option = name[9:].lower().partition('__')\n"
    code += "    known = conf.configuration_description.get(section, {}).get('options', {})\n"
    code += "    if option not in known: print(name)\n"
    names = " ".join(name for name in environment(checkout) if name.startswith("AIRFLOW__"))
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env={**os.environ, "NAMES": names}, capture_output=True, text=True, check=True)
    assert done.stdout == "", done.stderr
