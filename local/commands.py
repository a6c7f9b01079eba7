"""What the commands do. Each starts only what is not running yet, and ends what it started."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
from dotenv import dotenv_values

from include.operators.unknown_params import unknown_params
from local import airflow, connections, outbound, postgres, report, runs, settings, storage, watch
from local.airflow import Airflow, Api
from local.checkout import Checkout, LocalError, write_private
from local.console import Screen
from local.lock import Busy, CheckoutLock
from local.postgres import Server
from local.processes import Processes, Started, describe_exit
from local.signals import Interrupted, Signals
from local.waiting import Wait
from local.watch import Watch

DATABASE, ALGOLIA, TEAMS, BREVO = "sync_db", "algolia", "teams", "brevo_api"
"""Connections of the settings."""
REPLAY = "replay_rejected"
"""The parameter by which an inbound DAG reads its rejected records."""
RUN_LIMIT_SECONDS = 3600
MAX_FAILED_TASKS = 3
"""Of how many failed tasks of a run the logs are shown."""


@dataclass
class Local:
    """What every command needs, and what is running of it."""

    checkout: Checkout
    screen: Screen
    signals: Signals
    user_env: dict[str, str]
    """The user's own environment, with what `.env` adds."""
    stack: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        self.lock = CheckoutLock(self.checkout.state / "lock")
        self.processes = Processes(self.checkout.state / "processes.json")
        self.settings = settings.read(self.checkout.root / "airflow_settings.yaml")
        self.own_database = f"AIRFLOW_CONN_{DATABASE.upper()}" in self.user_env

    def wait(self, what: str) -> Wait:
        """A wait whose progress is printed."""
        return Wait(what, self.screen.say)

    @property
    def slots(self) -> int:
        """How many tasks Airflow runs at once."""
        return settings.executor_slots(self.settings, self.user_env, os.cpu_count() or 1)

    @property
    def data(self) -> Path:
        """The embedded server's data."""
        return self.checkout.state / "postgres"

    def conninfo(self, server: Server | None) -> str:
        """The database to synchronise: the user's own, or the embedded one."""
        name = f"AIRFLOW_CONN_{DATABASE.upper()}"
        if self.own_database:
            return connections.conninfo(name, self.user_env[name])
        if server is None:
            raise RuntimeError("the embedded server is not running")
        return server.conninfo("sync")


def user_environment(root: Path) -> dict[str, str]:
    """The environment, and below it the `.env` file of the clone."""
    from_file = {name: value for name, value in dotenv_values(root / ".env").items() if value is not None}
    return from_file | dict(os.environ)


@dataclass(frozen=True)
class Whole:
    """What is running, from PostgreSQL to a ready Airflow."""

    api: Api
    airflow: Airflow
    conninfo: str
    """The database to synchronise."""
    sandbox: str | None
    """The address of the sandbox, if it is needed."""
    stand_ins: list[str]
    """The connections that point there."""
    for_real: list[str]
    """DAGs that would send what is not the demo's, or not to the sandbox: they wait until a person starts them."""

    def check(self) -> None:
        """Restart what has exited; raise with the cause if that happens too often."""
        self.airflow.watch.check()


def run(local: Local) -> int:
    """Run every DAG once and show what it did."""
    dag_ids = local.checkout.dag_ids()
    if not dag_ids:
        raise LocalError("there is no DAG in dags/")
    claim(local, "run")
    with whole_airflow(local, airflow.free_port(), schedules=False) as whole:
        chosen = [dag_id for dag_id in dag_ids if dag_id not in whole.for_real]
        outcomes = run_once(local, whole, chosen, {}, limit_seconds=RUN_LIMIT_SECONDS)
        status = show_outcomes(local, outcomes, whole.conninfo)
    for dag_id in whole.for_real:
        local.screen.say(f"{dag_id} was left out, it would send for real: `make sync DAG={dag_id}` runs it")
    if status:
        local.screen.say("Not all of it worked: see above, and `make problems`.")
    else:
        local.screen.say("All of it worked.\nNext: `make up`, then http://127.0.0.1:8080")
    return status


def up(local: Local, port: int) -> int:
    """Airflow with its web UI and the DAGs on their schedules, until Ctrl-C."""
    claim(local, "up")
    airflow.check_port(port)
    with whole_airflow(local, port, schedules=True) as whole:
        with local.screen.step("Reading the DAGs"):
            since = _file_times(local.checkout)
            airflow.wait_until_parsed(whole.api, local.checkout.dag_ids(), since=since, check=whole.check)
        set_on_schedule(local.checkout, whole.api, whole.for_real)
        local.screen.say(f"\nAirflow: {whole.airflow.url}")
        for user, may in airflow.USERS_MAY.items():
            local.screen.say(f"  sign in as {user:<8} with the password {local.checkout.password(user)}  ({may})")
        local.screen.say(f"  (the passwords are kept in {local.checkout.passwords})")
        if TEAMS in whole.stand_ins:
            local.screen.say(f"Messages to Teams: {whole.sandbox}/sandbox/teams.html")
        if ALGOLIA in whole.stand_ins:
            local.screen.say("`make rebuild` rebuilds the demo index; the next minute patches it.")
        if BREVO in whole.stand_ins:
            local.screen.say(f"Contacts of the mailing service: {whole.sandbox}/sandbox/brevo")
        for dag_id in whole.for_real:
            local.screen.say(f"{dag_id} would send for real: it was left paused when it was first seen so.")
        local.screen.say("In another terminal: `make status`, `make problems`, `make psql`")
        local.screen.say("Ctrl-C ends it all.")
        try:
            while True:
                whole.check()
                time.sleep(1)
        except Interrupted:
            local.screen.say("\nEnding")
    return 0


def replay(local: Local, dag_id: str, conf_text: str) -> int:
    """Run an inbound DAG once over the rejected records that wait; otherwise as `sync`."""
    return sync(local, dag_id, json.dumps(read_conf(conf_text) | {REPLAY: True}))


def sync(local: Local, dag_id: str, conf_text: str) -> int:
    """Run one DAG once, in the Airflow that is up or in one of its own."""
    conf = read_conf(conf_text)
    if dag_id not in local.checkout.dag_ids():
        names = ", ".join(local.checkout.dag_ids()) or "none"
        said = f"{dag_id} is not a DAG of this project" if dag_id else "say which DAG: `make sync DAG=<name>`"
        raise LocalError(f"{said}; the DAGs are: {names}", 2)
    waited = False
    while True:
        try:
            claim(local, "sync")
            break
        except Busy as busy:
            if busy.holder.get("command") == "up":
                return _sync_in(local, dag_id, conf)
            if not waited:
                local.screen.say(f"Waiting for `make {busy.holder.get('command', '…')}` in this clone to end")
            waited = True
            time.sleep(1)
    with whole_airflow(local, airflow.free_port(), schedules=False) as whole:
        outcomes = run_once(local, whole, [dag_id], conf, stream=True)
        return show_outcomes(local, outcomes, whole.conninfo, logs_shown=True)


def migrate(local: Local) -> int:
    """Bring the database up to date."""
    if local.own_database:
        migrate_database(local, local.conninfo(None))
        return 0
    try:
        claim(local, "migrate")
        local.stack.callback(postgres.stop, local.data)
    except Busy as busy:
        if busy.holder.get("command") != "up" or not postgres.is_running(local.data):
            raise
        server = postgres.start(local.data)  # finds it running
    else:
        server = start_postgres(local)
    migrate_database(local, local.conninfo(server))
    return 0


def start_postgres(local: Local) -> Server:
    """Start the embedded server, and create its databases if they are missing."""
    with local.screen.step("Starting PostgreSQL"):
        server = watch.start_postgres(local.data, local.screen.say, local.signals)
        postgres.create_databases(server, "airflow", "sync")
    return server


def claim(local: Local, command: str) -> None:
    """Be the one command of this clone, until the end, and end what a killed one left behind."""
    local.lock.acquire(command)
    local.stack.callback(local.lock.release)
    storage.make_private(local.checkout.state)
    if found := local.processes.end_leftovers():
        local.screen.say(f"Ended what a killed run had left: {', '.join(found)}")


def stop(local: Local) -> int:
    """End what a killed command has left running in this clone."""
    claim(local, "stop")
    postgres.stop(local.data)
    return 0


def advance(local: Local, percent: float) -> int:
    """Change a share of what the sandbox lists, and a few demo orders, whether or not they run."""
    from local import demo

    if not 0 < percent <= 100:
        raise LocalError(f"PERCENT={percent:g} is not a share: give a number above 0 and at most 100", 2)
    state = local.checkout.state / "sandbox.json"
    try:
        claim(local, "advance")
        local.checkout.state.mkdir(parents=True, exist_ok=True)
        demo.advance(state, percent)
        changed = _change_orders_at_rest(local)
    except Busy as busy:
        address = busy.holder.get("sandbox")
        if not address:
            raise
        answer = httpx.post(f"{address}/sandbox/advance", json={"percent": percent}, trust_env=False, timeout=300)
        if answer.is_error:
            raise LocalError(f"the sandbox refused (status {answer.status_code})") from None
        changed = outbound.change_orders(busy.holder["conninfo"]) if busy.holder.get("has_demo") else []
    except ValueError as error:
        raise LocalError(str(error), 2) from None
    local.screen.say(f"{percent:g} % of each venue's books have changed; the next run finds them")
    if changed:
        local.screen.say(f"So have orders: {', '.join(changed)}")
    return 0


def _change_orders_at_rest(local: Local) -> list[str]:
    """Change demo orders in the embedded database while nothing runs; before the first run there are none."""
    if local.own_database or not (local.data / "PG_VERSION").exists():
        return []
    local.stack.callback(postgres.stop, local.data)
    server = start_postgres(local)
    return outbound.change_orders(server.conninfo("sync"))


def rebuild(local: Local) -> int:
    """Rebuild the demo index of the sandbox that runs."""
    try:
        claim(local, "rebuild")
    except Busy as busy:
        holder = busy.holder
    else:
        raise LocalError("nothing runs whose index could be rebuilt: start `make up` first")
    if "stand_ins" not in holder:
        raise LocalError(f"`make {holder.get('command', '…')}` has no sandbox, or it is not ready yet: try again")
    if ALGOLIA not in holder["stand_ins"]:
        raise LocalError(f"the connection {ALGOLIA} does not point to the sandbox: only its index can be rebuilt")
    rebuild_index(local, str(holder["sandbox"]))
    local.screen.say("All its records lack what was patched; the next run of the DAG finds the move")
    return 0


def airflow_cli(local: Local, words: list[str]) -> int:
    """Airflow's own command line, on the Airflow that `make up` runs; its exit status."""
    holder = local.lock.holder()
    if holder.get("command") != "up" or "metadata_url" not in holder:
        raise LocalError(
            "`make airflow` talks to the Airflow that `make up` runs: start that first, and let it get ready"
        )
    env = airflow.environment(
        local.checkout,
        local.user_env,
        metadata_url=holder["metadata_url"],
        port=int(holder["port"]),
        slots=local.slots,
        schedules=True,
    )
    return subprocess.run(
        [sys.executable, "-m", "airflow", *words], env=env, cwd=local.checkout.root, check=False
    ).returncode


@contextmanager
def whole_airflow(local: Local, port: int, *, schedules: bool) -> Iterator[Whole]:
    """All that a run needs, from PostgreSQL to a ready Airflow; ended in the opposite order, whatever happens."""
    begin = time.monotonic()
    with ExitStack() as stack:
        stack.callback(_say_ended, local)
        try:
            whole = _start_all(local, stack, port, schedules=schedules)
            local.screen.say(f"  ready after {time.monotonic() - begin:.1f} s")
            yield whole
        finally:
            local.signals.close()


def _start_all(local: Local, stack: ExitStack, port: int, *, schedules: bool) -> Whole:
    """Start one after the other, and put on the stack how each is ended."""
    screen, checkout = local.screen, local.checkout
    ours, overridden = settings.without_overridden(local.settings, local.user_env)
    storage.check_room(checkout.state)
    stack.callback(lambda: postgres.stop(local.data, local.signals.patience(postgres.STOP_SECONDS)))
    server = start_postgres(local)
    stack.callback(lambda: local.processes.stop_all(local.signals.patience(5)))
    watching = Watch(
        local.data, checkout.logs, local.processes, task_logs=checkout.task_logs, say=screen.say, signals=local.signals
    )
    sandbox = url = None
    if stand_ins := settings.in_sandbox(ours):
        sandbox = ("127.0.0.1", _sandbox_port(local))
        url = start_sandbox(local, watching, *sandbox, rebuild=ALGOLIA in stand_ins)
    env = airflow.environment(
        checkout,
        local.user_env,
        metadata_url=server.sqlalchemy_url("airflow"),
        port=port,
        slots=local.slots,
        schedules=schedules,
    )
    migrate_metadata_if_needed(local, env, server)
    migrate_database(local, local.conninfo(server))
    targets = outbound.targets(checkout.dags)
    for_real = outbound.for_real(targets, own_database=local.own_database, stand_ins=stand_ins)
    if not local.own_database:
        load_demo(local, server, {dag_id: target for dag_id, target in targets.items() if dag_id not in for_real})
    for user in airflow.USERS:
        checkout.password(user)
    api = Api(env["AIRFLOW__API__BASE_URL"], checkout.password("admin"), say=screen.say, check=watching.check)
    with screen.step("Starting Airflow"):
        since = datetime.now(UTC)
        running = Airflow(checkout, local.processes, env, server.conninfo("airflow"), watching)
        stack.callback(stop_airflow, local, running)
        stack.callback(api.close)  # first: the api-server waits for open connections
        with local.signals.hold():
            running.start("api-server", "dag-processor")
        airflow.wait_until_ready(running, api, since)
        demo = settings.Connection(
            DATABASE, "postgres", host=server.socket_folder, port=server.port, login="postgres", schema="sync"
        )
        shown = settings.with_demo(settings.fit_pools(ours, local.slots), database=demo, sandbox=sandbox)
        api.import_settings(shown, overridden)
        cut = 0 if schedules else runs.end_cut_off_runs(api, checkout.dag_ids())
        hold_back(checkout, api, for_real)
    if cut:
        screen.say(f"  marked {cut} runs as failed that were cut off when an earlier Airflow ended")
    if url and ALGOLIA in stand_ins:
        rebuild_index(local, url)
    with screen.step("Warming up the execution API"):
        airflow.warm_up(api)
    # Last: no task may begin with the settings of an earlier start, when the index may have been another.
    last = ["scheduler", "triggerer"] if schedules else ["scheduler"]
    with screen.step("Starting the scheduler"):
        with local.signals.hold():
            running.start(*last)
        airflow.wait_until_ready(running, api, since, *last, "dag-processor")
    local.lock.tell(
        url=running.url,
        port=port,
        conninfo=local.conninfo(server),
        metadata_url=server.sqlalchemy_url("airflow"),
        sandbox=url,
        stand_ins=stand_ins,
        has_demo=not local.own_database,
    )
    return Whole(api, running, local.conninfo(server), url, stand_ins, for_real)


def _say_ended(local: Local) -> None:
    local.screen.say(f"Nothing is left running; ending took {local.signals.closing_seconds():.1f} s")


def stop_airflow(local: Local, running: Airflow) -> None:
    """Scheduler first: it waits for its tasks. What does not end in time is killed with its whole session."""
    for name, seconds in airflow.STOP_SECONDS.items():
        if name not in running.components:
            continue
        ended = local.processes.stop(running.components[name], local.signals.patience(seconds))
        if name == "scheduler" and not ended:
            local.screen.say("  the scheduler did not end in time and was killed; unfinished tasks are run again")


def _sandbox_port(local: Local) -> int:
    """The port of the run before if it is free, so that the addresses of pictures that the sandbox lists stay."""
    kept = local.checkout.state / "sandbox-port"
    before = kept.read_text() if kept.exists() else ""
    port = airflow.free_port(int(before) if before.isdecimal() else 0)
    kept.write_text(str(port))
    return port


def start_sandbox(local: Local, watching: Watch, host: str, port: int, *, rebuild: bool) -> str:
    """Start the stand-ins for the outside services and wait until they respond; returns their address.

    They are restarted at the same address, with `rebuild` also the demo index, which lives in their memory.
    """
    log = local.checkout.logs / "sandbox.log"
    url = f"http://{host}:{port}"
    env = local.user_env | {"PYTHONPATH": str(local.checkout.root)}
    command = [sys.executable, "-u", "-m", "sandbox", "--host", host, "--port", str(port)]
    command += ["--state", str(local.checkout.state / "sandbox.json")]

    def start() -> Started:
        return local.processes.start("sandbox", command, env=env, cwd=local.checkout.root, log=log)

    def wait_until_ready(started: Started) -> None:
        wait = local.wait("the sandbox")
        while not log.read_text(encoding="utf-8", errors="replace").strip():
            if (status := local.processes.exit_status(started)) is not None:
                raise LocalError(f"the sandbox {describe_exit(status)}:\n{airflow.last_lines(log)}")
            wait.still("not ready")
            time.sleep(0.1)

    def restarted(started: Started) -> None:
        wait_until_ready(started)
        if rebuild:
            rebuild_index(local, url)

    with local.screen.step("Starting the sandbox"):
        with local.signals.hold():
            started = watching.add("the sandbox", start, restarted)
        wait_until_ready(started)
        if (status := local.processes.exit_status(started)) is not None:
            raise LocalError(f"the sandbox {describe_exit(status)}:\n{airflow.last_lines(log)}")
    return url


def rebuild_index(local: Local, url: str) -> None:
    """Rebuild the demo index in the sandbox at this address."""
    from local import demo

    index = next(connection for connection in local.settings.connections if connection.id == ALGOLIA)
    with local.screen.step("Rebuilding the demo index"):
        demo.rebuild(local.checkout, local.user_env | airflow.past_proxies(local.user_env), url, index)


def migrate_metadata_if_needed(local: Local, env: Mapping[str, str], server: Server) -> None:
    """Airflow's own database; asking Airflow takes seconds, so what was done is remembered."""
    import psycopg

    stamp = local.checkout.state / "airflow-migrated.json"

    def state() -> dict[str, Any]:
        with psycopg.connect(server.conninfo("airflow")) as connection:
            there = connection.execute("SELECT to_regclass('alembic_version') IS NOT NULL").fetchone() == (True,)
            revision = connection.execute("SELECT version_num FROM alembic_version").fetchall() if there else []
            return {"airflow": version("apache-airflow-core"), "revision": [list(row) for row in revision]}

    if stamp.exists() and json.loads(stamp.read_text(encoding="utf-8")) == state():
        return
    with local.screen.step("Creating Airflow's database"):
        airflow.migrate_metadata(local.checkout, local.processes, env, local.screen.say)
    write_private(stamp, json.dumps(state()))


def migrate_database(local: Local, conninfo: str) -> None:
    """The database to synchronise."""
    import psycopg

    from include.errors import ProviderSyncError
    from include.inbound.loads import register_providers
    from include.store.migrate import migrate as migrate_store

    with local.screen.step("Bringing the database up to date"):
        try:
            ran = migrate_store(conninfo)
            with psycopg.connect(conninfo) as connection:
                register_providers(connection)
        except ProviderSyncError as error:
            raise LocalError(str(error)) from error
    if ran:
        local.screen.say(f"  ran {', '.join(ran)}")


def load_demo(local: Local, server: Server, targets: outbound.Targets) -> None:
    """The demo venues, products and orders, into the embedded database only.

    The targets are subscribed first: what is loaded reaches their queues as everything later does.
    """
    from local.demo import load

    with local.screen.step("Loading the demo venues, products and orders"):
        outbound.subscribe(server.conninfo("sync"), targets.values())
        load(server.conninfo("sync"))


def run_once(
    local: Local,
    whole: Whole,
    dag_ids: list[str],
    conf: Mapping[str, Any],
    *,
    stream: bool = False,
    limit_seconds: float | None = None,
) -> list[runs.Outcome]:
    """Run DAGs once each, side by side, and leave them paused or not as they were."""
    api = whole.api
    with local.screen.step("Reading the DAGs"):
        airflow.wait_until_parsed(api, dag_ids, since=_file_times(local.checkout), check=whole.check)
    check_conf(api, dag_ids, conf)
    paused = [dag_id for dag_id, dag in api.dags().items() if dag_id in dag_ids and dag["is_paused"]]
    for dag_id in paused:
        api.set_paused(dag_id, False)
    started: list[runs.Run] = []
    try:
        with local.screen.step("Running " + (dag_ids[0] if len(dag_ids) == 1 else f"{len(dag_ids)} DAGs")):
            started += runs.trigger(api, dag_ids, conf)
            each_round = runs.LogFollower(started[0], local.checkout.task_logs, local.screen) if stream else _nothing
            return runs.follow(
                api,
                started,
                local.screen,
                task_logs=local.checkout.task_logs,
                check=whole.check,
                each_round=each_round,
                limit_seconds=limit_seconds,
            )
    except BaseException:
        api.impatient = True
        with suppress(LocalError):
            runs.end_cut_off_runs(api, dag_ids)
        raise
    finally:
        with suppress(LocalError):  # an Airflow that is gone cannot be told
            for dag_id in paused:
                api.set_paused(dag_id, True)


def set_on_schedule(checkout: Checkout, api: Api, for_real: list[str]) -> None:
    """Put DAGs on their schedule when this clone first sees them; later the user's choice in the web UI stands."""
    seen = _seen(checkout)
    dags = api.dags()
    for dag_id in checkout.dag_ids():
        if dag_id not in for_real and dag_id not in seen and dags[dag_id]["is_paused"]:
            api.set_paused(dag_id, False)
    _keep_seen(checkout, seen | (set(checkout.dag_ids()) - set(for_real)))


def hold_back(checkout: Checkout, api: Api, for_real: list[str]) -> None:
    """Pause DAGs when they would send for real for the first time; later the user's choice in the web UI stands."""
    seen, dags = _seen(checkout), api.dags()
    new = [dag_id for dag_id in for_real if f"{dag_id} for real" not in seen]
    for dag_id in new:
        if dag_id in dags and not dags[dag_id]["is_paused"]:
            api.set_paused(dag_id, True)
    if new:
        _keep_seen(checkout, seen | {f"{dag_id} for real" for dag_id in new})


def _seen(checkout: Checkout) -> set[str]:
    file = checkout.state / "dags-seen.json"
    return set(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else set()


def _keep_seen(checkout: Checkout, seen: set[str]) -> None:
    write_private(checkout.state / "dags-seen.json", json.dumps(sorted(seen)))


def show_outcomes(local: Local, outcomes: list[runs.Outcome], conninfo: str, *, logs_shown: bool = False) -> int:
    """Print the report and the logs of what failed, as far as the report does not say it; the exit status."""
    local.screen.say()
    run_ids = [f"{outcome.run.dag_id}/{outcome.run.run_id}" for outcome in outcomes]
    told = report.show(local.screen, conninfo, run_ids)
    for outcome in outcomes:
        mark = "✓" if outcome.worked else "✗"
        local.screen.say(f"{mark} {outcome.run.dag_id}: {outcome.state} in {outcome.seconds:.1f} s")
        if outcome.worked:
            continue
        failed = list(runs.failed_logs(outcome, local.checkout.task_logs))
        for name, log in failed[:MAX_FAILED_TASKS]:
            local.screen.say(f"  task {name} failed" + ("" if log else "; it left no log"))
            if log:
                if not logs_shown and not runs.tells(log, told):
                    local.screen.say(runs.tail(log))
                local.screen.say(f"  the whole log: {log}")
        if len(failed) > MAX_FAILED_TASKS:
            local.screen.say(f"  and {len(failed) - MAX_FAILED_TASKS} more failed tasks")
    if all(outcome.worked for outcome in outcomes):
        return 0
    if storage.is_full(local.checkout.state):
        local.screen.say(f"The cause may be that {storage.full(local.checkout.state)}")
    return 1


def read_conf(text: str) -> dict[str, Any]:
    """The run's parameters, a JSON object."""
    if not text.strip():
        return {}
    try:
        conf = json.loads(text)
    except json.JSONDecodeError as error:
        raise LocalError(f"CONF is not JSON ({error}); write it like CONF='{{\"limit\": 10}}'", 2) from None
    if not isinstance(conf, dict):
        raise LocalError("CONF has to be a JSON object, like CONF='{\"limit\": 10}'", 2)
    return conf


def check_conf(api: Api, dag_ids: list[str], conf: Mapping[str, Any]) -> None:
    """Refuse parameters that a DAG does not have: it would ignore them, a mistyped dry run say, and do all it does."""
    for dag_id in dag_ids if conf else ():
        known = api.params(dag_id)
        if conf.get(REPLAY) and REPLAY not in known:
            raise LocalError(f"{dag_id} has no rejected records to replay: only DAGs that load a provider have", 2)
        if unknown := unknown_params(conf, known):
            raise LocalError(f"{dag_id} {unknown}", 2)


def _sync_in(local: Local, dag_id: str, conf: dict[str, Any]) -> int:
    """Run a DAG once in the Airflow that `make up` runs, and follow it from here."""
    wait = local.wait("`make up`")
    while "url" not in (holder := local.lock.holder()):
        if not holder:
            raise LocalError("`make up` has ended: try again")
        wait.still("not ready")
        time.sleep(0.5)
    pid = holder["pid"]

    def check() -> None:
        if local.lock.holder().get("pid") != pid:
            raise LocalError(f"`make up` (process {pid}) has ended, and the run of {dag_id} with it")

    api = Api(holder["url"], local.checkout.password("admin"), say=local.screen.say, check=check)
    local.stack.callback(api.close)
    airflow.wait_until_parsed(api, [dag_id], since=_file_times(local.checkout), check=check)
    check_conf(api, [dag_id], conf)
    if api.dags()[dag_id]["is_paused"]:
        page = f"{holder['url']}/dags/{dag_id}"
        raise LocalError(f"{dag_id} is paused in the Airflow that is up: unpause it at {page}", 2)
    started = runs.trigger(api, [dag_id], conf)
    page = f"{holder['url']}/dags/{dag_id}/runs/{started[0].run_id}"
    local.screen.say(f"Running {dag_id} in the Airflow that is up: {page}")
    outcomes = runs.follow(
        api,
        started,
        local.screen,
        task_logs=local.checkout.task_logs,
        check=check,
        each_round=runs.LogFollower(started[0], local.checkout.task_logs, local.screen),
    )
    return show_outcomes(local, outcomes, holder["conninfo"], logs_shown=True)


def _file_times(checkout: Checkout) -> datetime:
    """The newest change of the code that a DAG is read from."""
    files = [*checkout.dags.glob("*.py"), *(checkout.root / "include").rglob("*.py")]
    return datetime.fromtimestamp(max((file.stat().st_mtime for file in files), default=0), UTC)


def _nothing() -> None:
    """Nothing to do in this round."""
