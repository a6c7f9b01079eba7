"""Airflow in the local run: its environment, its processes, its REST API."""

from __future__ import annotations

import errno
import os
import socket
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from local.checkout import Checkout, LocalError
from local.processes import Processes, Started, describe_exit
from local.settings import Settings
from local.waiting import Wait
from local.watch import Watch

USERS = {"admin": "admin", "operator": "user", "viewer": "viewer"}
"""Users of the web UI, with their roles in `local.auth_manager`."""
USER_RIGHTS = {
    "admin": "all rights",
    "operator": "trigger, clear, pause; no connections, no deleting",
    "viewer": "read only",
}

REQUEST_SECONDS = 15
SLOW_REQUEST_SECONDS = 60
"""Timeout of a request after one that got no response."""
ERROR_SECONDS = 120
"""How long the API may respond with server errors only."""
MAX_PARSES = 4
"""Number of times that another file is parsed before a missing DAG counts as not defined."""
STOP_SECONDS = {"scheduler": 10.0, "triggerer": 5.0, "dag-processor": 5.0, "api-server": 2.0}
"""The components in the order in which they are stopped, with the seconds that each gets to stop by itself."""

COMMANDS = {
    "api-server": ["api-server"],
    "dag-processor": ["dag-processor"],
    "scheduler": ["scheduler", "--skip-serve-logs"],
    "triggerer": ["triggerer", "--skip-serve-logs"],
}

JOB_TYPES = {"dag-processor": "DagProcessorJob", "scheduler": "SchedulerJob", "triggerer": "TriggererJob"}

QUIET = ("http.access", "airflow.serialization.definitions.dag", "airflow.models.dag")
"""Loggers that report every request (for example each task's heartbeat) and every parsed DAG."""

PATIENCE = {
    "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": 60,
    "AIRFLOW__WORKERS__EXECUTION_API_RETRIES": 15,
    "AIRFLOW__WORKERS__EXECUTION_API_RETRY_WAIT_MAX": 30,
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": 600,
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": 3600,
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": 180,
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": 180,
    "AIRFLOW__DAG_PROCESSOR__HEALTH_CHECK_THRESHOLD": 180,
    "AIRFLOW__DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT": 600,
    "AIRFLOW__DAG_PROCESSOR__STALE_DAG_THRESHOLD": 600,
    "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": 300,
    "AIRFLOW__EXECUTION_API__JWT_EXPIRATION_TIME": 86_400,
}
"""Airflow's timeouts, raised for a machine that may be ten times slower for a while, or asleep.

`local.watch` notices components that have died at once, without these timeouts."""

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def environment(
    checkout: Checkout, inherited: Mapping[str, str], *, metadata_url: str, port: int, slots: int, schedules: bool
) -> dict[str, str]:
    """Return the environment of every Airflow process, which runs up to `slots` tasks in parallel.

    Settings that separate this Airflow from others always apply; the user's environment may override the tuning.
    """
    base_url = f"http://127.0.0.1:{port}"
    fixed = {
        "AIRFLOW_HOME": checkout.airflow_home,
        "PYTHONPATH": checkout.root,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{inherited.get('PATH', os.defpath)}",
        "AIRFLOW__CORE__DAGS_FOLDER": checkout.dags,
        "AIRFLOW__CORE__PLUGINS_FOLDER": checkout.root / "plugins",
        "AIRFLOW__CORE__LOAD_EXAMPLES": False,
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__FERNET_KEY": checkout.secret("fernet_key"),
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": False,
        "AIRFLOW__CORE__AUTH_MANAGER": "local.auth_manager.LocalAuthManager",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{user}:{role}" for user, role in USERS.items()),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": checkout.passwords,
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": False,
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{base_url}/execution/",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": metadata_url,
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": port,
        "AIRFLOW__API__BASE_URL": base_url,
        "AIRFLOW__API__WORKERS": 1,
        "AIRFLOW__API__SECRET_KEY": checkout.secret("api_secret_key"),
        "AIRFLOW__API_AUTH__JWT_SECRET": checkout.secret("jwt_secret"),
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": checkout.task_logs,
        "AIRFLOW__LOGGING__FILE_TASK_HANDLER_NEW_FOLDER_PERMISSIONS": "0o700",
        "AIRFLOW__LOGGING__FILE_TASK_HANDLER_NEW_FILE_PERMISSIONS": "0o600",
        "AIRFLOW__LOGGING__DAG_PROCESSOR_CHILD_PROCESS_LOG_DIRECTORY": checkout.logs / "dag-files",
        "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": schedules,
    }
    tuning = PATIENCE | {
        "AIRFLOW__API__INSTANCE_NAME": "Provider Sync",
        # Allows users who may edit connections to send requests to any address: fine on one's own machine only.
        "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
        "AIRFLOW__CORE__PARALLELISM": slots,
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": 10,
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": 15,
        "AIRFLOW__DAG_PROCESSOR__PRINT_STATS_INTERVAL": 0,
        "AIRFLOW__LOGGING__COLORED_CONSOLE_LOG": False,
        "AIRFLOW__LOGGING__NAMESPACE_LEVELS": " ".join(f"{name}=WARNING" for name in QUIET),
        # A worker also notices only at this interval that its task's process has ended.
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": 1,
        "SCARF_ANALYTICS": False,
    }
    without = {"AIRFLOW_CONFIG", "PYTHONHOME", "VIRTUAL_ENV"}
    remaining = {name: value for name, value in inherited.items() if name not in without}
    env = {name: str(value) for name, value in tuning.items()} | remaining
    env |= {name: str(value) for name, value in fixed.items()}
    return env | past_proxies(inherited)


def past_proxies(inherited: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that exclude this machine from the user's proxy."""
    found = {}
    for name in ("NO_PROXY", "no_proxy"):
        hosts = [host for host in inherited.get(name, "").split(",") if host]
        found[name] = ",".join(dict.fromkeys([*hosts, *LOOPBACK]))
    return found


def free_port(preferred: int = 0) -> int:
    """Return a port that is free now: the preferred one if possible."""
    try:
        return _bind(preferred)
    except OSError:
        return _bind(0)


def check_port(port: int) -> None:
    """Raise `LocalError` if the port cannot be used."""
    try:
        _bind(port)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        reason = "is in use by another program" if taken else f"cannot be used ({error})"
        raise LocalError(
            f"port {port} {reason}: stop that program, or choose another port: `make up PORT={port % 65535 + 1}`", 2
        ) from None


def _bind(port: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Airflow:
    """A running Airflow. The watch restarts its processes when they exit."""

    checkout: Checkout
    processes: Processes
    env: Mapping[str, str]
    metadata: str
    """Connection string of the metadata database."""
    watch: Watch
    components: dict[str, Started] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Base URL of the web UI and the REST API."""
        return self.env["AIRFLOW__API__BASE_URL"]

    def start(self, *names: str) -> None:
        """Start components, without waiting until they are ready."""
        for name in names:
            self.watch.add(f"Airflow's {name}", partial(self._start, name))

    def _start(self, name: str) -> Started:
        if name in JOB_TYPES:
            end_jobs(self.metadata, JOB_TYPES[name])
        command, log = [sys.executable, "-m", "airflow", *COMMANDS[name]], self.checkout.logs / f"{name}.log"
        self.components[name] = self.processes.start(name, command, env=self.env, cwd=self.checkout.root, log=log)
        return self.components[name]


def end_jobs(metadata: str, job_type: str) -> None:
    """Mark the jobs of a component that no longer runs as failed.

    Otherwise Airflow considers a job alive for minutes after its last heartbeat, and a new scheduler waits as long
    before it reruns the tasks of a killed one.
    """
    import psycopg

    with psycopg.connect(metadata) as connection:
        connection.execute(
            "UPDATE job SET state = 'failed', end_date = now() WHERE job_type = %s AND state = 'running'", (job_type,)
        )


def wait_until_ready(airflow: Airflow, api: Api, since: datetime, *names: str) -> None:
    """Wait until the API responds, and reports these components as healthy with a heartbeat after `since`."""
    wait = Wait("Airflow", api.notify)
    while True:
        airflow.watch.check()
        health = api.health()
        if health is None:
            state = "the api-server does not respond"
        else:
            missing = [name for name in names if not _is_healthy(health, name.replace("-", "_"), since)]
            if not missing:
                return
            state = f"{' and '.join(missing)} not ready"
        wait.still(state)
        time.sleep(0.2)


def warm_up(api: Api) -> None:
    """Send a first request to the execution API, which makes Airflow build it.

    That takes seconds, on a busy machine minutes, during which no other request gets a response. Do it before tasks
    wait for it.
    """
    api.send("GET", "/execution/health")


def _is_healthy(health: Mapping[str, Any], name: str, since: datetime) -> bool:
    """Only a heartbeat after `since` counts: a killed predecessor may have sent a recent one too."""
    part = health[name]
    return part["status"] == "healthy" and datetime.fromisoformat(part[f"latest_{name}_heartbeat"]) >= since


def migrate_metadata(
    checkout: Checkout, processes: Processes, env: Mapping[str, str], notify: Callable[[str], None]
) -> None:
    """Create or migrate Airflow's metadata database."""
    log = checkout.logs / "airflow-migrate.log"
    command = [sys.executable, "-m", "airflow", "db", "migrate"]
    started = processes.start("airflow db migrate", command, env=env, cwd=checkout.root, log=log)
    wait = Wait("`airflow db migrate`", notify)
    while (status := processes.finish(started)) is None:
        wait.still("running")
        time.sleep(0.1)
    if status:
        raise LocalError(f"`airflow db migrate` {describe_exit(status)}:\n{last_lines(log)}")


def last_lines(path: Path, count: int = 25) -> str:
    """Return the end of a log, with its path."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        lines = []
    return "\n".join([*(f"    {line}" for line in lines[-count:]), f"  full log: {path}"])


class Api:
    """A client of Airflow's REST API that signs in as admin."""

    def __init__(
        self,
        url: str,
        password: str,
        transport: httpx.BaseTransport | None = None,
        *,
        notify: Callable[[str], None] = lambda _: None,
        check: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Connect to `url`. While there is no response, `check` is called; it raises if Airflow is gone."""
        self._client = httpx.Client(base_url=url, trust_env=False, transport=transport)
        self._password = password
        self.notify = notify
        self.impatient = False
        """Set during shutdown: a failed request is not repeated then."""
        self._check = check
        self._clock = clock
        self._sleep = sleep

    def close(self) -> None:
        """Close the HTTP connections."""
        self._client.close()

    def health(self) -> dict[str, Any] | None:
        """Return the health of Airflow's components; None if the API does not respond."""
        try:
            response = self._client.get("/api/v2/monitor/health", timeout=REQUEST_SECONDS)
        except httpx.TransportError:
            return None
        return None if response.is_server_error else self._checked(response)

    def request(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """Send a request, signing in if needed; return the decoded response. It may arrive twice: see `send`."""
        return self._checked(self._signed_in(method, f"/api/v2{path}", **options))

    def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request, repeatedly if necessary, until there is a response that is not a server error.

        Raises:
            LocalError: there was none within the time limit, or `check` found that Airflow is gone.
        """
        wait = Wait("Airflow's api-server", self.notify, clock=self._clock)
        seconds = REQUEST_SECONDS
        while True:
            try:
                response = self._client.request(method, path, timeout=seconds, **options)
            except httpx.TransportError:
                state, limit = "no response", None
                seconds = SLOW_REQUEST_SECONDS if wait.seconds > SLOW_REQUEST_SECONDS else REQUEST_SECONDS
            else:
                if not response.is_server_error:
                    return response
                state, limit = f"status {response.status_code} for {method} {path}", ERROR_SECONDS
            self._check()
            wait.still(state, 0 if self.impatient else limit)
            self._sleep(0.5)

    def import_settings(self, settings: Settings, overridden: Iterable[str]) -> None:
        """Create or replace connections, variables and pools; delete the connections that the environment overrides."""
        overwrite: dict[str, Any] = {"action": "create", "action_on_existence": "overwrite"}
        connections = [connection.body() for connection in settings.connections]
        delete = {"action": "delete", "entities": list(overridden), "action_on_non_existence": "skip"}
        variables = [{"key": name, "value": value} for name, value in settings.variables.items()]
        pools = [
            {"name": pool.name, "slots": pool.slots, "description": pool.description, "include_deferred": False}
            for pool in settings.pools
        ]
        for path, actions in (
            ("/connections", [overwrite | {"entities": connections}, delete]),
            ("/variables", [overwrite | {"entities": variables}]),
            ("/pools", [overwrite | {"entities": pools}]),
        ):
            requested: list[dict[str, Any]] = [action for action in actions if action["entities"]]
            if not requested:
                continue
            response = self.request("PATCH", path, json={"actions": requested})
            errors = [error for part in response.values() if part for error in part.get("errors", [])]
            if errors:
                raise LocalError(f"airflow_settings.yaml: Airflow refused {path.removeprefix('/')}: {errors}")

    def dags(self) -> dict[str, dict[str, Any]]:
        """Return all DAGs by id."""
        response = self.request("GET", "/dags", params={"limit": 1000, "exclude_stale": False})
        return {dag["dag_id"]: dag for dag in response["dags"]}

    def params(self, dag_id: str) -> dict[str, Any]:
        """Return the parameters of a DAG."""
        return dict(self.request("GET", f"/dags/{dag_id}/details").get("params") or {})

    def import_errors(self) -> list[dict[str, Any]]:
        """Return the DAG files that cannot be imported, with their tracebacks."""
        errors: list[dict[str, Any]] = self.request("GET", "/importErrors", params={"limit": 100})["import_errors"]
        return errors

    def set_paused(self, dag_id: str, paused: bool) -> None:
        """Pause or unpause a DAG."""
        self.request("PATCH", f"/dags/{dag_id}", params={"update_mask": "is_paused"}, json={"is_paused": paused})

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> str:
        """Trigger a run as the web UI does; return its id.

        We choose the id, so that a request that arrives twice starts one run only.
        """
        now = datetime.now(UTC).isoformat()
        run_id = f"manual__{now}"
        body = {"dag_run_id": run_id, "logical_date": now, "conf": dict(conf or {})}
        response = self._signed_in("POST", f"/api/v2/dags/{dag_id}/dagRuns", json=body)
        if response.status_code == httpx.codes.CONFLICT:  # an earlier attempt arrived, but its response was lost
            return str(self.run(dag_id, run_id)["dag_run_id"])
        return str(self._checked(response)["dag_run_id"])

    def runs(self, dag_id: str, states: Iterable[str]) -> list[dict[str, Any]]:
        """Return the runs of a DAG in these states."""
        params = {"state": list(states), "limit": 100}
        runs: list[dict[str, Any]] = self.request("GET", f"/dags/{dag_id}/dagRuns", params=params)["dag_runs"]
        return runs

    def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """Return a run."""
        return self.request("GET", f"/dags/{dag_id}/dagRuns/{run_id}")

    def fail_run(self, dag_id: str, run_id: str, note: str) -> None:
        """Mark a run and its unfinished tasks as failed."""
        self.request("PATCH", f"/dags/{dag_id}/dagRuns/{run_id}", json={"state": "failed", "note": note})

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return the task instances of a run."""
        found: list[dict[str, Any]] = []
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances"
        while True:
            page = self.request("GET", path, params={"limit": 100, "offset": len(found)})
            found += page["task_instances"]
            if not page["task_instances"] or len(found) >= (page.get("total_entries") or 0):
                return found

    def _signed_in(self, method: str, path: str, **options: Any) -> httpx.Response:
        response = self.send(method, path, **options)
        if response.status_code == httpx.codes.UNAUTHORIZED:
            body = {"username": "admin", "password": self._password}
            token = self._checked(self.send("POST", "/auth/token", json=body))["access_token"]
            self._client.headers["Authorization"] = f"Bearer {token}"
            response = self.send(method, path, **options)
        return response

    def _checked(self, response: httpx.Response) -> dict[str, Any]:
        if response.is_error:
            try:
                detail = response.json()["detail"]
            except (ValueError, KeyError, TypeError):
                detail = response.text[:500]
            message = str(detail).partition("\n\n")[0]  # without the JSON schema that a parameter violates
            raise LocalError(f"Airflow refused {response.request.method} {response.request.url.path}: {message}")
        content: dict[str, Any] = response.json()
        return content


def wait_until_parsed(api: Api, dag_ids: Iterable[str], since: datetime, check: Callable[[], None]) -> None:
    """Wait until the files of these DAGs have been parsed after `since`.

    Raises:
        LocalError: a file cannot be imported, or defines no DAG of its name.
    """
    expected = set(dag_ids)
    wait = Wait("Airflow's dag-processor", api.notify)
    parses: dict[str, set[str]] = {}
    while True:
        check()
        for dag_id, dag in api.dags().items():
            if dag["last_parsed_time"] and datetime.fromisoformat(dag["last_parsed_time"]) >= since:
                parses.setdefault(dag_id, set()).add(dag["last_parsed_time"])
        missing = expected - parses.keys()
        if not missing:
            return
        broken = {
            Path(error["filename"]).stem: error["stack_trace"]
            for error in api.import_errors()
            if datetime.fromisoformat(error["timestamp"]) >= since
        }
        if named := sorted(missing & broken.keys()):
            raise LocalError("\n".join(f"dags/{name}.py cannot be imported:\n{broken[name]}" for name in named))
        names = ", ".join(sorted(missing))
        if any(len(times) >= MAX_PARSES for times in parses.values()):  # the files are parsed in turn
            raise LocalError(f"Airflow found no DAG {names}: the file must define a DAG whose id is the file name")
        wait.still(f"{names} not parsed")
        time.sleep(0.3)
