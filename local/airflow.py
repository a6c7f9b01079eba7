"""Airflow on this machine: its environment, its processes, its REST API."""

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
"""Who may sign in to the web UI, and in which role of `local.auth_manager`."""
USERS_MAY = {
    "admin": "everything",
    "operator": "trigger, clear, pause; no connections, no deleting",
    "viewer": "look",
}

REQUEST_SECONDS = 15
SLOW_REQUEST_SECONDS = 60
"""The time-out of a request that follows one without a response."""
ERROR_SECONDS = 120
"""How long the API may answer with server errors only."""
MAX_PARSES = 4
"""How often other files are read before one is said to define no DAG of its name."""
STOP_SECONDS = {"scheduler": 10.0, "triggerer": 5.0, "dag-processor": 5.0, "api-server": 2.0}
"""In the order in which they are stopped, with the seconds that each has to end by itself."""

COMMANDS = {
    "api-server": ["api-server"],
    "dag-processor": ["dag-processor"],
    "scheduler": ["scheduler", "--skip-serve-logs"],
    "triggerer": ["triggerer", "--skip-serve-logs"],
}

JOB_TYPES = {"dag-processor": "DagProcessorJob", "scheduler": "SchedulerJob", "triggerer": "TriggererJob"}

QUIET = ("http.access", "airflow.serialization.definitions.dag", "airflow.models.dag")
"""Loggers that repeat every request, such as the heartbeat of each task, and every DAG each time it is read."""

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
"""Airflow's own time-outs, on a machine that may be ten times slower for a while, or asleep: what is alive is slow.

What has died is noticed by `local.watch`, at once and without them."""

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def environment(
    checkout: Checkout, inherited: Mapping[str, str], *, metadata_url: str, port: int, slots: int, schedules: bool
) -> dict[str, str]:
    """The environment of every Airflow process, which runs up to `slots` tasks at once.

    What makes this an Airflow of its own is set, whatever the user's shell says; what only tunes it can be overridden.
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
        # Lets whoever may edit connections send requests to any address: right on one's own machine, nowhere else.
        "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
        "AIRFLOW__CORE__PARALLELISM": slots,
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": 10,
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": 15,
        "AIRFLOW__DAG_PROCESSOR__PRINT_STATS_INTERVAL": 0,
        "AIRFLOW__LOGGING__COLORED_CONSOLE_LOG": False,
        "AIRFLOW__LOGGING__NAMESPACE_LEVELS": " ".join(f"{name}=WARNING" for name in QUIET),
        # Also the longest time until the end of a task's process is noticed, which keeps its worker busy.
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": 1,
        "SCARF_ANALYTICS": False,
    }
    without = {"AIRFLOW_CONFIG", "PYTHONHOME", "VIRTUAL_ENV"}
    kept = {name: value for name, value in inherited.items() if name not in without}
    env = {name: str(value) for name, value in tuning.items()} | kept
    env |= {name: str(value) for name, value in fixed.items()}
    return env | past_proxies(inherited)


def past_proxies(inherited: Mapping[str, str]) -> dict[str, str]:
    """The variables by which what runs on this machine is reached without the user's proxy."""
    found = {}
    for name in ("NO_PROXY", "no_proxy"):
        hosts = [host for host in inherited.get(name, "").split(",") if host]
        found[name] = ",".join(dict.fromkeys([*hosts, *LOOPBACK]))
    return found


def free_port(preferred: int = 0) -> int:
    """A port that nobody listens on just now: the preferred one, or any."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", preferred))
        except OSError:
            if not preferred:
                raise
            return free_port()
        return int(probe.getsockname()[1])


def check_port(port: int) -> None:
    """Refuse a port that is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
            reason = "is taken by another program" if taken else f"cannot be used ({error})"
            raise LocalError(
                f"port {port} {reason}: end that program, or choose another port: `make up PORT={port % 65535 + 1}`", 2
            ) from None


@dataclass(frozen=True)
class Airflow:
    """The processes of a running Airflow, each restarted by the watch when it exits."""

    checkout: Checkout
    processes: Processes
    env: Mapping[str, str]
    metadata: str
    """How psycopg connects to the metadata database."""
    watch: Watch
    components: dict[str, Started] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Where its web UI and its REST API are."""
        return self.env["AIRFLOW__API__BASE_URL"]

    def start(self, *names: str) -> None:
        """Start some of the processes; they get ready side by side."""
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

    Airflow believes in a job for minutes after its last sign of life. Knowing that it is dead, a new scheduler runs
    the tasks of a killed one again at once.
    """
    import psycopg

    with psycopg.connect(metadata) as connection:
        connection.execute(
            "UPDATE job SET state = 'failed', end_date = now() WHERE job_type = %s AND state = 'running'", (job_type,)
        )


def wait_until_ready(airflow: Airflow, api: Api, since: datetime, *names: str) -> None:
    """Wait until the API responds and says that these processes are well, and have said so after `since`."""
    wait = Wait("Airflow", api.say)
    while True:
        airflow.watch.check()
        health = api.health()
        if health is None:
            state = "the api-server does not respond"
        else:
            missing = [name for name in names if not _is_well(health, name.replace("-", "_"), since)]
            if not missing:
                return
            state = f"{' and '.join(missing)} not ready"
        wait.still(state)
        time.sleep(0.2)


def warm_up(api: Api) -> None:
    """Let Airflow build its execution API, which it leaves to the first request.

    That takes seconds, minutes on a busy machine, and no other request gets a response meanwhile: better now than when
    the first tasks wait.
    """
    api.send("GET", "/execution/health")


def _is_well(health: Mapping[str, Any], name: str, since: datetime) -> bool:
    """A killed predecessor's last sign of life may be recent too: only what came after `since` counts."""
    part = health[name]
    return part["status"] == "healthy" and datetime.fromisoformat(part[f"latest_{name}_heartbeat"]) >= since


def migrate_metadata(
    checkout: Checkout, processes: Processes, env: Mapping[str, str], say: Callable[[str], None]
) -> None:
    """Create or update Airflow's own database."""
    log = checkout.logs / "airflow-migrate.log"
    command = [sys.executable, "-m", "airflow", "db", "migrate"]
    started = processes.start("airflow db migrate", command, env=env, cwd=checkout.root, log=log)
    wait = Wait("`airflow db migrate`", say)
    while (status := processes.finish(started)) is None:
        wait.still("running")
        time.sleep(0.1)
    if status:
        raise LocalError(f"`airflow db migrate` {describe_exit(status)}:\n{last_lines(log)}")


def last_lines(path: Path, count: int = 25) -> str:
    """The end of a log, with its path."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        lines = []
    return "\n".join([*(f"    {line}" for line in lines[-count:]), f"  the whole log: {path}"])


class Api:
    """The REST API of a running Airflow, as its administrator."""

    def __init__(
        self,
        url: str,
        password: str,
        transport: httpx.BaseTransport | None = None,
        *,
        say: Callable[[str], None] = lambda _: None,
        check: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Connect to `url`. While a response is missing, `check` is called, which raises if none can come."""
        self._client = httpx.Client(base_url=url, trust_env=False, transport=transport)
        self._password = password
        self.say = say
        self.impatient = False
        """Set while ending: then a request that fails is not sent again."""
        self._check = check
        self._clock = clock
        self._sleep = sleep

    def close(self) -> None:
        """Close its connections."""
        self._client.close()

    def health(self) -> dict[str, Any] | None:
        """How the parts of Airflow are; None if it does not respond."""
        try:
            response = self._client.get("/api/v2/monitor/health", timeout=REQUEST_SECONDS)
        except httpx.TransportError:
            return None
        return None if response.is_server_error else self._checked(response)

    def request(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """The content of a response; signs in when needed. A request may arrive twice: see `send`."""
        return self._checked(self._signed_in(method, f"/api/v2{path}", **options))

    def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request until a response comes that is no server error, for as long as one can come."""
        wait = Wait("Airflow's api-server", self.say, clock=self._clock)
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
        """Create or replace connections, variables and pools; remove the connections that the environment sets."""
        overwrite: dict[str, Any] = {"action": "create", "action_on_existence": "overwrite"}
        connections = [connection.body() for connection in settings.connections]
        gone = {"action": "delete", "entities": list(overridden), "action_on_non_existence": "skip"}
        variables = [{"key": name, "value": value} for name, value in settings.variables.items()]
        pools = [
            {"name": pool.name, "slots": pool.slots, "description": pool.description, "include_deferred": False}
            for pool in settings.pools
        ]
        for path, actions in (
            ("/connections", [overwrite | {"entities": connections}, gone]),
            ("/variables", [overwrite | {"entities": variables}]),
            ("/pools", [overwrite | {"entities": pools}]),
        ):
            wanted: list[dict[str, Any]] = [action for action in actions if action["entities"]]
            if not wanted:
                continue
            answer = self.request("PATCH", path, json={"actions": wanted})
            errors = [error for part in answer.values() if part for error in part.get("errors", [])]
            if errors:
                raise LocalError(f"airflow_settings.yaml: Airflow refused {path.removeprefix('/')}: {errors}")

    def dags(self) -> dict[str, dict[str, Any]]:
        """All DAGs by their id."""
        answer = self.request("GET", "/dags", params={"limit": 1000, "exclude_stale": False})
        return {dag["dag_id"]: dag for dag in answer["dags"]}

    def params(self, dag_id: str) -> dict[str, Any]:
        """The parameters that a DAG takes."""
        return dict(self.request("GET", f"/dags/{dag_id}/details").get("params") or {})

    def import_errors(self) -> list[dict[str, Any]]:
        """The DAG files that cannot be imported."""
        errors: list[dict[str, Any]] = self.request("GET", "/importErrors", params={"limit": 100})["import_errors"]
        return errors

    def set_paused(self, dag_id: str, paused: bool) -> None:
        """Pause or unpause a DAG."""
        self.request("PATCH", f"/dags/{dag_id}", params={"update_mask": "is_paused"}, json={"is_paused": paused})

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> str:
        """Start a run as the web UI's trigger button does; returns its id.

        The id is ours, so that a request that arrives twice starts one run.
        """
        now = datetime.now(UTC).isoformat()
        run_id = f"manual__{now}"
        body = {"dag_run_id": run_id, "logical_date": now, "conf": dict(conf or {})}
        response = self._signed_in("POST", f"/api/v2/dags/{dag_id}/dagRuns", json=body)
        if response.status_code == httpx.codes.CONFLICT:  # the response to an earlier attempt was lost
            return str(self.run(dag_id, run_id)["dag_run_id"])
        return str(self._checked(response)["dag_run_id"])

    def runs(self, dag_id: str, states: Iterable[str]) -> list[dict[str, Any]]:
        """The runs of a DAG in one of these states."""
        params = {"state": list(states), "limit": 100}
        runs: list[dict[str, Any]] = self.request("GET", f"/dags/{dag_id}/dagRuns", params=params)["dag_runs"]
        return runs

    def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """One run."""
        return self.request("GET", f"/dags/{dag_id}/dagRuns/{run_id}")

    def fail_run(self, dag_id: str, run_id: str, note: str) -> None:
        """Mark a run, and what of it is unfinished, as failed."""
        self.request("PATCH", f"/dags/{dag_id}/dagRuns/{run_id}", json={"state": "failed", "note": note})

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """The task instances of a run."""
        found: list[dict[str, Any]] = []
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances"
        while True:
            answer = self.request("GET", path, params={"limit": 100, "offset": len(found)})
            found += answer["task_instances"]
            if not answer["task_instances"] or len(found) >= (answer.get("total_entries") or 0):
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
            said = str(detail).partition("\n\n")[0]  # behind it comes the schema that a parameter does not fit
            raise LocalError(f"Airflow refused {response.request.method} {response.request.url.path}: {said}")
        answer: dict[str, Any] = response.json()
        return answer


def wait_until_parsed(api: Api, dag_ids: Iterable[str], since: datetime, check: Callable[[], None]) -> None:
    """Wait until the files of these DAGs have been read after `since`; what cannot be imported is an error."""
    wanted = set(dag_ids)
    wait = Wait("Airflow's dag-processor", api.say)
    parses: dict[str, set[str]] = {}
    while True:
        check()
        for dag_id, dag in api.dags().items():
            if dag["last_parsed_time"] and datetime.fromisoformat(dag["last_parsed_time"]) >= since:
                parses.setdefault(dag_id, set()).add(dag["last_parsed_time"])
        missing = wanted - parses.keys()
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
        if any(len(times) >= MAX_PARSES for times in parses.values()):  # the files take turns
            raise LocalError(f"Airflow found no DAG {names}: the file has to define a DAG of its own name")
        wait.still(f"{names} not read")
        time.sleep(0.3)
