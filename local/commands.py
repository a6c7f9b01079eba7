"""The commands. Each starts only what is not running yet, and stops what it started."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import httpx

from include.operators.unknown_params import unknown_params
from local import airflow, demo, outbound, postgres, report, runs, storage
from local.airflow import Api
from local.checkout import Checkout, LocalError
from local.context import ALGOLIA, BREVO, TEAMS, Local, claim
from local.lock import Busy
from local.sandbox import rebuild_index
from local.schedules import unpause_new
from local.signals import Interrupted
from local.stack import Stack, migrate_database, running_stack, start_postgres

REPLAY = "replay_rejected"
"""The parameter with which an inbound DAG replays its rejected records."""
RUN_LIMIT_SECONDS = 3600
MAX_FAILED_TASKS = 3
"""Maximum number of failed tasks per run whose logs are printed."""


def run(local: Local) -> int:
    """Run every DAG once and print what it did."""
    dag_ids = local.checkout.dag_ids()
    if not dag_ids:
        raise LocalError("dags/ contains no DAG")
    claim(local, "run")
    with running_stack(local, airflow.free_port(), schedules=False) as stack:
        chosen = [dag_id for dag_id in dag_ids if dag_id not in stack.live]
        results = run_once(local, stack, chosen, {}, limit_seconds=RUN_LIMIT_SECONDS)
        status = show_results(local, results, stack.conninfo)
    for dag_id, reason in stack.live.items():
        local.screen.say(f"{dag_id} was skipped: {reason}. `make sync DAG={dag_id}` runs it.")
    if status:
        local.screen.say("Some DAGs failed: see above, and run `make problems`.")
    else:
        local.screen.say("All DAGs succeeded.\nNext: `make up`, then open http://127.0.0.1:8080")
    return status


def up(local: Local, port: int) -> int:
    """Run Airflow with its web UI and the DAGs on their schedules, until Ctrl-C."""
    claim(local, "up")
    airflow.check_port(port)
    with running_stack(local, port, schedules=True) as stack:
        with local.screen.step("Parsing the DAG files"):
            since = _newest_code(local.checkout)
            airflow.wait_until_parsed(stack.api, local.checkout.dag_ids(), since=since, check=stack.check)
        unpause_new(local.checkout, stack.api, stack.live)
        _say_ready(local, stack)
        try:
            while True:
                stack.check()
                time.sleep(1)
        except Interrupted:
            local.screen.say("\nStopping")
    return 0


def _say_ready(local: Local, stack: Stack) -> None:
    """Print the addresses and how to sign in."""
    say = local.screen.say
    say(f"\nAirflow: {stack.airflow.url}")
    for user, rights in airflow.USER_RIGHTS.items():
        say(f"  sign in as {user:<8} with the password {local.checkout.password(user)}  ({rights})")
    say(f"  (the passwords are stored in {local.checkout.passwords})")
    if TEAMS in stack.stand_ins:
        say(f"Teams messages: {stack.sandbox}/sandbox/teams.html")
    if ALGOLIA in stack.stand_ins:
        say("`make rebuild` rebuilds the demo index; the DAG patches it within a minute.")
    if BREVO in stack.stand_ins:
        say(f"Mailing list contacts: {stack.sandbox}/sandbox/brevo")
    dags = stack.api.dags() if stack.live else {}
    for dag_id, reason in stack.live.items():
        say(f"{dag_id} is {'paused' if dags[dag_id]['is_paused'] else 'active'}: {reason}.")
    say("In another terminal: `make status`, `make problems`, `make psql`")
    say("Press Ctrl-C to stop everything.")


def replay(local: Local, dag_id: str, conf_text: str) -> int:
    """Run an inbound DAG once over its unresolved rejected records; otherwise like `sync`."""
    return sync(local, dag_id, json.dumps(read_conf(conf_text) | {REPLAY: True}))


def sync(local: Local, dag_id: str, conf_text: str) -> int:
    """Run one DAG once: in the Airflow of `make up` if that runs, otherwise in a stack of its own."""
    conf = read_conf(conf_text)
    if dag_id not in local.checkout.dag_ids():
        names = ", ".join(local.checkout.dag_ids()) or "none"
        problem = f"{dag_id} is not a DAG of this project" if dag_id else "specify a DAG: `make sync DAG=<name>`"
        raise LocalError(f"{problem}; the DAGs are: {names}", 2)
    has_waited = False
    while True:
        try:
            claim(local, "sync")
            break
        except Busy as busy:
            if busy.holder.get("command") == "up":
                return _sync_in_up(local, dag_id, conf)
            if not has_waited:
                local.screen.say(f"Waiting for `make {busy.holder.get('command', '…')}` in this checkout to finish")
            has_waited = True
            time.sleep(1)
    with running_stack(local, airflow.free_port(), schedules=False) as stack:
        results = run_once(local, stack, [dag_id], conf, stream=True)
        return show_results(local, results, stack.conninfo, logs_shown=True)


def _sync_in_up(local: Local, dag_id: str, conf: dict[str, Any]) -> int:
    """Run a DAG once in the Airflow of `make up`, and follow it from here."""
    wait = local.wait("`make up`")
    while "url" not in (holder := local.lock.holder()):
        if not holder:
            raise LocalError("`make up` has stopped: try again")
        wait.still("not ready")
        time.sleep(0.5)
    pid = holder["pid"]

    def check() -> None:
        if local.lock.holder().get("pid") != pid:
            raise LocalError(f"`make up` (process {pid}) has stopped, and with it the run of {dag_id}")

    api = Api(holder["url"], local.checkout.password("admin"), notify=local.screen.say, check=check)
    local.cleanup.callback(api.close)
    airflow.wait_until_parsed(api, [dag_id], since=_newest_code(local.checkout), check=check)
    check_conf(api, [dag_id], conf)
    if api.dags()[dag_id]["is_paused"]:
        page = f"{holder['url']}/dags/{dag_id}"
        raise LocalError(f"{dag_id} is paused in the Airflow of `make up`: unpause it at {page}", 2)
    started = runs.trigger(api, [dag_id], conf)
    page = f"{holder['url']}/dags/{dag_id}/runs/{started[0].run_id}"
    local.screen.say(f"Running {dag_id} in the Airflow of `make up`: {page}")
    results = runs.follow(
        api,
        started,
        local.screen,
        task_logs=local.checkout.task_logs,
        check=check,
        each_round=runs.LogFollower(started[0], local.checkout.task_logs, local.screen),
    )
    return show_results(local, results, holder["conninfo"], logs_shown=True)


def migrate(local: Local) -> int:
    """Migrate the database to sync."""
    if local.own_database:
        migrate_database(local, local.conninfo(None))
        return 0
    try:
        claim(local, "migrate")
        local.cleanup.callback(postgres.stop, local.data)
    except Busy as busy:
        if busy.holder.get("command") != "up" or not postgres.is_running(local.data):
            raise
        server = postgres.start(local.data)  # it is running: this only connects
    else:
        server = start_postgres(local)
    migrate_database(local, local.conninfo(server))
    return 0


def stop(local: Local) -> int:
    """Stop what a killed command has left running in this checkout."""
    claim(local, "stop")
    postgres.stop(local.data)
    return 0


def advance(local: Local, percent: float) -> int:
    """Change a share of what the sandbox lists and a few demo orders, whether or not the stack is running."""
    if not 0 < percent <= 100:
        raise LocalError(f"PERCENT={percent:g} is invalid: specify a number above 0 and at most 100", 2)
    state = local.checkout.state / "sandbox.json"
    try:
        claim(local, "advance")
        local.checkout.state.mkdir(parents=True, exist_ok=True)
        demo.advance(state, percent)
        changed = _change_orders_when_stopped(local)
    except Busy as busy:
        address = busy.holder.get("sandbox")
        if not address:
            raise
        response = httpx.post(f"{address}/sandbox/advance", json={"percent": percent}, trust_env=False, timeout=300)
        if response.is_error:
            raise LocalError(f"the sandbox refused the request (status {response.status_code})") from None
        changed = outbound.change_orders(busy.holder["conninfo"]) if busy.holder.get("has_demo") else []
    except ValueError as error:
        raise LocalError(str(error), 2) from None
    local.screen.say(f"Changed {percent:g} % of each venue's books; the next run syncs them.")
    if changed:
        local.screen.say(f"Changed orders: {', '.join(changed)}.")
    return 0


def _change_orders_when_stopped(local: Local) -> list[str]:
    """Change demo orders in the embedded database while nothing runs; before the first run there are none."""
    if local.own_database or not (local.data / "PG_VERSION").exists():
        return []
    local.cleanup.callback(postgres.stop, local.data)
    server = start_postgres(local)
    return outbound.change_orders(server.conninfo("sync"))


def rebuild(local: Local) -> int:
    """Rebuild the demo index of the running sandbox."""
    try:
        claim(local, "rebuild")
    except Busy as busy:
        holder = busy.holder
    else:
        raise LocalError("no sandbox is running: start `make up` first")
    if "stand_ins" not in holder:
        raise LocalError(f"`make {holder.get('command', '…')}` has no sandbox, or it is not ready yet: try again")
    if ALGOLIA not in holder["stand_ins"]:
        raise LocalError(f"the connection {ALGOLIA} does not point to the sandbox: only its index can be rebuilt")
    rebuild_index(local, str(holder["sandbox"]))
    local.screen.say("Index rebuilt without the patched attributes; the next run will restore them.")
    return 0


def airflow_cli(local: Local, words: list[str]) -> int:
    """Run Airflow's command line on the Airflow of `make up`; return its exit status."""
    holder = local.lock.holder()
    if holder.get("command") != "up" or "metadata_url" not in holder:
        raise LocalError("`make airflow` needs a running Airflow: start `make up` first, and wait until it is ready")
    env = airflow.environment(
        local.checkout,
        local.user_env,
        metadata_url=holder["metadata_url"],
        port=int(holder["port"]),
        slots=local.slots,
        schedules=True,
    )
    command = [sys.executable, "-m", "airflow", *words]
    return subprocess.run(command, env=env, cwd=local.checkout.root, check=False).returncode


def run_once(
    local: Local,
    stack: Stack,
    dag_ids: list[str],
    conf: Mapping[str, Any],
    *,
    stream: bool = False,
    limit_seconds: float | None = None,
) -> list[runs.RunResult]:
    """Run DAGs once each, in parallel. DAGs that are paused are unpaused for the run only."""
    api = stack.api
    with local.screen.step("Parsing the DAG files"):
        airflow.wait_until_parsed(api, dag_ids, since=_newest_code(local.checkout), check=stack.check)
    check_conf(api, dag_ids, conf)
    paused = [dag_id for dag_id, dag in api.dags().items() if dag_id in dag_ids and dag["is_paused"]]
    for dag_id in paused:
        api.set_paused(dag_id, False)
    started: list[runs.Run] = []
    try:
        with local.screen.step("Running " + (dag_ids[0] if len(dag_ids) == 1 else f"{len(dag_ids)} DAGs")):
            started += runs.trigger(api, dag_ids, conf)
            return runs.follow(
                api,
                started,
                local.screen,
                task_logs=local.checkout.task_logs,
                check=stack.check,
                each_round=runs.LogFollower(started[0], local.checkout.task_logs, local.screen) if stream else None,
                limit_seconds=limit_seconds,
            )
    except BaseException:
        api.impatient = True
        with suppress(LocalError):
            runs.fail_interrupted_runs(api, dag_ids)
        raise
    finally:
        with suppress(LocalError):  # Airflow may be gone
            for dag_id in paused:
                api.set_paused(dag_id, True)


def show_results(local: Local, results: list[runs.RunResult], conninfo: str, *, logs_shown: bool = False) -> int:
    """Print the report, and the log of each failed task whose error is not in the report; return the exit status."""
    local.screen.say()
    run_ids = [f"{result.run.dag_id}/{result.run.run_id}" for result in results]
    reported = report.show(local.screen, conninfo, run_ids)
    for result in results:
        mark = "✓" if result.succeeded else "✗"
        local.screen.say(f"{mark} {result.run.dag_id}: {result.state} in {result.seconds:.1f} s")
        if result.succeeded:
            continue
        failed = list(runs.failed_logs(result, local.checkout.task_logs))
        for name, log in failed[:MAX_FAILED_TASKS]:
            local.screen.say(f"  task {name} failed" + ("" if log else " without a log"))
            if log:
                if not logs_shown and not runs.contains_error(log, reported):
                    local.screen.say(runs.tail(log))
                local.screen.say(f"  full log: {log}")
        if len(failed) > MAX_FAILED_TASKS:
            local.screen.say(f"  and {len(failed) - MAX_FAILED_TASKS} more failed tasks")
    if all(result.succeeded for result in results):
        return 0
    if storage.is_full(local.checkout.state):
        local.screen.say(f"Possible cause: {storage.full(local.checkout.state)}")
    return 1


def read_conf(text: str) -> dict[str, Any]:
    """Parse CONF, the parameters of a run."""
    if not text.strip():
        return {}
    try:
        conf = json.loads(text)
    except json.JSONDecodeError as error:
        raise LocalError(f"CONF is not valid JSON ({error}); example: CONF='{{\"limit\": 10}}'", 2) from None
    if not isinstance(conf, dict):
        raise LocalError("CONF must be a JSON object; example: CONF='{\"limit\": 10}'", 2)
    return conf


def check_conf(api: Api, dag_ids: list[str], conf: Mapping[str, Any]) -> None:
    """Refuse unknown parameters. Airflow would ignore them: a mistyped `dry_run` would become a real run."""
    for dag_id in dag_ids if conf else ():
        known = api.params(dag_id)
        if conf.get(REPLAY) and REPLAY not in known:
            raise LocalError(f"{dag_id} has no rejected records to replay: only DAGs that load a provider have them", 2)
        if unknown := unknown_params(conf, known):
            raise LocalError(f"{dag_id} {unknown}", 2)


def _newest_code(checkout: Checkout) -> datetime:
    """Return the modification time of the newest file that DAGs are read from."""
    files = [*checkout.dags.glob("*.py"), *(checkout.root / "include").rglob("*.py")]
    return datetime.fromtimestamp(max((file.stat().st_mtime for file in files), default=0), UTC)
