"""The stack of a local run: PostgreSQL, the sandbox and Airflow, started in order and stopped in reverse."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from local import airflow, demo, outbound, postgres, runs, sandbox, settings, storage, watch
from local.airflow import Airflow, Api
from local.checkout import LocalError, write_private
from local.context import ALGOLIA, DATABASE, Local
from local.postgres import Server
from local.schedules import pause_live
from local.watch import Watch


@dataclass(frozen=True)
class Stack:
    """A running stack."""

    api: Api
    airflow: Airflow
    conninfo: str
    """The database to sync."""
    sandbox: str | None
    """The sandbox's URL; None if no connection points to it."""
    stand_ins: list[str]
    """Ids of the connections that point to the sandbox."""
    live: dict[str, str]
    """DAGs that would send data which is not the demo's, or to a service which is not the sandbox; with the reason."""

    def check(self) -> None:
        """Restart components that have exited; raise `LocalError` with the cause if that happens too often."""
        self.airflow.watch.check()


@contextmanager
def running_stack(local: Local, port: int, *, schedules: bool) -> Iterator[Stack]:
    """Start the stack, with Airflow's API at `port`; stop all of it at the end, whatever happens.

    Without `schedules`, Airflow runs only the DAGs that are triggered.
    """
    begin = time.monotonic()
    with ExitStack() as cleanup:
        cleanup.callback(_say_stopped, local)
        try:
            stack = _start(local, cleanup, port, schedules=schedules)
            local.screen.say(f"  ready after {time.monotonic() - begin:.1f} s")
            yield stack
        finally:
            local.signals.close()


def _start(local: Local, cleanup: ExitStack, port: int, *, schedules: bool) -> Stack:
    """Start the components one after the other; `cleanup` stops them in reverse order."""
    screen, checkout = local.screen, local.checkout
    ours, overridden = settings.without_overridden(local.settings, local.user_env)
    storage.check_room(checkout.state)
    cleanup.callback(lambda: postgres.stop(local.data, local.signals.patience(postgres.STOP_SECONDS)))
    server = start_postgres(local)
    cleanup.callback(lambda: local.processes.stop_all(local.signals.patience(5)))
    watching = Watch(
        local.data,
        checkout.logs,
        local.processes,
        task_logs=checkout.task_logs,
        notify=screen.say,
        signals=local.signals,
    )
    address = url = None
    if stand_ins := settings.in_sandbox(ours):
        address = ("127.0.0.1", sandbox.choose_port(local))
        url = sandbox.start(local, watching, *address, rebuild=ALGOLIA in stand_ins)
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
    live = outbound.live(targets, own_database=local.own_database, stand_ins=stand_ins)
    if not local.own_database:
        load_demo(local, server, {dag_id: target for dag_id, target in targets.items() if dag_id not in live})
    shown = settings.with_demo(
        settings.fit_pools(ours, local.slots),
        database=settings.Connection(
            DATABASE, "postgres", host=server.socket_folder, port=server.port, login="postgres", schema="sync"
        ),
        sandbox=address,
    )
    running = Airflow(checkout, local.processes, env, server.conninfo("airflow"), watching)
    since = datetime.now(UTC)
    api = _start_airflow(local, cleanup, running, since)
    with screen.step("Importing the settings"):
        api.import_settings(shown, overridden)
        # With schedules, Airflow continues the interrupted runs.
        interrupted = 0 if schedules else runs.fail_interrupted_runs(api, checkout.dag_ids())
        pause_live(checkout, api, live)
    if interrupted:
        screen.say(f"  marked as failed: {interrupted} runs that were interrupted when an earlier Airflow stopped")
    if url and ALGOLIA in stand_ins:
        sandbox.rebuild_index(local, url)
    with screen.step("Warming up the execution API"):
        airflow.warm_up(api)
    # The scheduler comes last, so that no task starts with the settings, or the index, of an earlier run.
    last = ["scheduler", "triggerer"] if schedules else ["scheduler"]
    with screen.step("Starting the scheduler"):
        with local.signals.hold():
            running.start(*last)
        airflow.wait_until_ready(running, api, since, *last, "dag-processor")
    local.lock.publish(
        url=running.url,
        port=port,
        conninfo=local.conninfo(server),
        metadata_url=server.sqlalchemy_url("airflow"),
        sandbox=url,
        stand_ins=stand_ins,
        has_demo=not local.own_database,
    )
    return Stack(api, running, local.conninfo(server), url, stand_ins, live)


def _start_airflow(local: Local, cleanup: ExitStack, running: Airflow, since: datetime) -> Api:
    """Start the components of Airflow that must be ready before the scheduler; return its API."""
    for user in airflow.USERS:
        local.checkout.password(user)
    api = Api(running.url, local.checkout.password("admin"), notify=local.screen.say, check=running.watch.check)
    with local.screen.step("Starting Airflow"):
        cleanup.callback(stop_airflow, local, running)
        cleanup.callback(api.close)  # before the api-server stops, which waits for open connections
        with local.signals.hold():
            running.start("api-server", "dag-processor")
        airflow.wait_until_ready(running, api, since)
    return api


def _say_stopped(local: Local) -> None:
    local.screen.say(f"Everything is stopped (took {local.signals.closing_seconds():.1f} s).")


def stop_airflow(local: Local, running: Airflow) -> None:
    """Stop Airflow's components, the scheduler first, since it waits for its tasks; kill those that do not stop."""
    for name, seconds in airflow.STOP_SECONDS.items():
        if name not in running.components:
            continue
        stopped = local.processes.stop(running.components[name], local.signals.patience(seconds))
        if name == "scheduler" and not stopped:
            local.screen.say("  the scheduler did not stop in time and was killed; unfinished tasks will run again")


def start_postgres(local: Local) -> Server:
    """Start the embedded server, and create its databases if they are missing."""
    with local.screen.step("Starting PostgreSQL"):
        server = watch.start_postgres(local.data, local.screen.say, local.signals)
        postgres.create_databases(server, "airflow", "sync")
    return server


def migrate_metadata_if_needed(local: Local, env: Mapping[str, str], server: Server) -> None:
    """Create or migrate Airflow's metadata database.

    `airflow db migrate` takes seconds even if there is nothing to do, so the migrated state is stored and compared.
    """
    import psycopg

    file = local.checkout.state / "airflow-migrated.json"

    def state() -> dict[str, Any]:
        with psycopg.connect(server.conninfo("airflow")) as connection:
            exists = connection.execute("SELECT to_regclass('alembic_version') IS NOT NULL").fetchone() == (True,)
            revision = connection.execute("SELECT version_num FROM alembic_version").fetchall() if exists else []
            return {"airflow": version("apache-airflow-core"), "revision": [list(row) for row in revision]}

    if file.exists() and json.loads(file.read_text(encoding="utf-8")) == state():
        return
    with local.screen.step("Migrating Airflow's metadata database"):
        airflow.migrate_metadata(local.checkout, local.processes, env, local.screen.say)
    write_private(file, json.dumps(state()))


def migrate_database(local: Local, conninfo: str) -> None:
    """Migrate the database to sync, and register the project's providers in it."""
    import psycopg

    from include.errors import ProviderSyncError
    from include.inbound.loads import register_providers
    from include.store.migrate import migrate as migrate_store

    with local.screen.step("Migrating the database"):
        try:
            applied = migrate_store(conninfo)
            with psycopg.connect(conninfo) as connection:
                register_providers(connection)
        except ProviderSyncError as error:
            raise LocalError(str(error)) from error
    if applied:
        local.screen.say(f"  applied {', '.join(applied)}")


def load_demo(local: Local, server: Server, targets: outbound.Targets) -> None:
    """Load the demo venues, products and orders into the embedded database.

    The targets are subscribed first, so that the demo orders reach their queues like any later change.
    """
    with local.screen.step("Loading the demo venues, products and orders"):
        outbound.subscribe(server.conninfo("sync"), targets.values())
        demo.load(server.conninfo("sync"))
