"""Runs DAGs through Airflow's own machinery: a metadata database of the tests' own, PostgreSQL, the sandbox."""

import atexit
import json
import logging
import os
import shutil
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from threading import Thread
from time import monotonic
from typing import ClassVar
from uuid import uuid4

import psycopg
import pytest
import requests

from include.inbound import loads
from local import demo
from sandbox.testing import serving
from sandbox.world import Settings, World

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
SIGNATURE = "5ecret-signature"

if "airflow" not in sys.modules:  # Airflow reads this once, when it is imported
    home = os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="provider-sync-airflow-")
    atexit.register(shutil.rmtree, home, ignore_errors=True)


def pytest_collection_modifyitems(items):
    """Airflow's own warnings are Airflow's; ours stay errors."""
    for item in items:
        if HERE in item.path.parents:
            for rule in (r"error:::(include|dags|titelive)", "ignore"):
                item.add_marker(pytest.mark.filterwarnings(rule), append=False)


@pytest.fixture(scope="session")
def airflow(tmp_path_factory):
    """Airflow with a metadata database that is made once; gives its settings."""
    home = tmp_path_factory.mktemp("airflow")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", f"sqlite:///{home}/airflow.db")
        patch.setenv("AIRFLOW__CORE__DAGS_FOLDER", str(ROOT / "dags"))
        patch.setenv("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
        from airflow import settings
        from airflow.utils.db import initdb

        settings.dispose_orm()
        settings.configure_vars()
        settings.configure_orm()
        initdb()
        yield settings
        settings.dispose_orm()


@cache
def execution_api():
    """A client of Airflow's execution API, in this process, as the dag-processor has it."""
    from airflow.api_fastapi.execution_api.app import InProcessExecutionAPI
    from airflow.sdk.api.client import Client

    client = Client(base_url=None, token="", dry_run=True, transport=InProcessExecutionAPI().transport)
    client.base_url = "http://in-process.invalid./"
    return client


def run_callback(request):
    """Run a callback of a DAG in a process of Airflow's dag-processor; prints its log."""
    import structlog
    from airflow.dag_processing.processor import DagFileProcessorProcess

    request = type(request).from_json(request.to_json())
    with tempfile.TemporaryFile("w+b") as log:
        process = DagFileProcessorProcess.start(
            id=uuid4(),
            path=ROOT / "dags" / request.filepath,
            bundle_path=ROOT / "dags",
            bundle_name="dags-folder",
            dag_file_rel_path=request.filepath,
            callbacks=[request],
            logger=structlog.wrap_logger(
                structlog.BytesLogger(log), processors=[structlog.processors.JSONRenderer(dumps)]
            ),
            logger_filehandle=log,
            client=execution_api(),
        )
        deadline = monotonic() + 60
        while not process.is_ready and monotonic() < deadline:
            process._service_subprocess(0.1)
        log.seek(0)
        print(log.read().decode())  # noqa: T201
        assert process.is_ready
        process.cleanup_sockets_after_kill()
        process.selector.close()


def dumps(value, **options):
    """JSON as bytes, as the logger takes it."""
    return json.dumps(value, default=str).encode()


class Run:
    """A DAG run, driven to its end without waiting for the delays before retries; `waits` has those."""

    numbers = count()

    def __init__(self, dag, session):
        from airflow.serialization.serialized_objects import DagSerialization

        self.dag = dag
        self.scheduled = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag))
        self.scheduled.deadline = None  # Airflow looks for it in its database, by an id that only a stored DAG has
        self.scheduled.has_on_failure_callback = False  # `call_back` runs it
        self.session = session
        self.before_retry = lambda: None
        self.waits = {}
        self.tries = Counter()
        self.dag_run = None

    def create(self, conf, run_type, interval, *, state="running"):
        """Create the run, as the scheduler does."""
        from airflow.dag_processing.bundles.manager import DagBundlesManager
        from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db
        from airflow.utils.state import DagRunState
        from airflow.utils.types import DagRunTriggeredByType, DagRunType

        DagBundlesManager().sync_bundles_to_db(session=self.session)
        self.session.commit()
        bag = BundleDagBag(dag_folder=ROOT / "dags", bundle_path=ROOT / "dags", bundle_name="dags-folder")
        sync_bag_to_db(bag, "dags-folder", None)
        moment = datetime(2026, 6, 1, tzinfo=UTC) + timedelta(seconds=next(self.numbers))
        self.dag_run = self.scheduled.create_dagrun(
            run_id=f"{run_type}__{moment.isoformat()}",
            run_type=DagRunType(run_type),
            logical_date=moment,
            run_after=moment,
            data_interval=interval or (moment, moment),
            conf=conf,
            state=DagRunState(state),
            triggered_by=DagRunTriggeredByType.TEST,
            start_date=moment,
            session=self.session,
        )
        return self

    def drive(self):
        """Run what can be run until the run has ended; what dag.test does, but bounded in time."""
        from airflow.sdk.definitions.dag import _run_task

        deadline = monotonic() + 60
        while self.state == "running":
            if monotonic() > deadline:
                raise TimeoutError(f"the run has not ended: {self.tasks}")
            self.session.expire_all()
            schedulable, _ = self.dag_run.update_state(session=self.session)
            for instance in schedulable:
                instance.try_number += 1
                instance.state = "scheduled"
            self.session.commit()
            for instance in self.dag_run.get_task_instances(session=self.session):
                if instance.state == "scheduled":
                    self.tries[instance.task_id] += 1
                    _run_task(ti=instance, task=self.dag.task_dict[instance.task_id])
            self._skip_waits()
        if self.state == "failed":
            self.call_back("task_failure")
        return self

    def call_back(self, reason):
        """Run the DAG's callback of a failure, as the scheduler asks the dag-processor to."""
        from airflow.models.dagrun import DagRun
        from airflow.utils.session import create_session

        with create_session() as session:
            dag_run = session.get(DagRun, self.dag_run.id)
            failed = [each for each in dag_run.get_task_instances(session=session) if each.state == "failed"]
            last = max(failed, key=lambda instance: instance.end_date, default=None)
            run_callback(
                dag_run.produce_dag_callback(dag=self.scheduled, success=False, relevant_ti=last, reason=reason)
            )

    def _skip_waits(self):
        self.session.expire_all()
        for instance in self.dag_run.get_task_instances(session=self.session):
            if instance.state == "up_for_retry":
                instance.task = self.scheduled.get_task(instance.task_id)
                wait = instance.next_retry_datetime() - instance.end_date
                self.waits[instance.task_id] = wait.total_seconds()
                instance.end_date -= wait
                self.before_retry()
        self.session.commit()

    def clear(self, *task_ids, **options):
        """Clear tasks as the web UI does, and continue."""
        self.scheduled.clear(run_id=self.dag_run.run_id, task_ids=task_ids, session=self.session, **options)
        self.dag_run.state = "running"
        self.session.commit()
        return self.drive()

    @property
    def state(self):
        """How the run ended."""
        return str(getattr(self.dag_run.state, "value", self.dag_run.state))

    @property
    def tasks(self):
        """States of the task instances by task id, those of mapped tasks in the order of their index."""
        self.session.expire_all()
        states = {}
        for instance in sorted(self.dag_run.get_task_instances(session=self.session), key=lambda ti: ti.map_index):
            states.setdefault(instance.task_id, []).append(str(getattr(instance.state, "value", instance.state)))
        return states

    def labels(self, task_id):
        """What the web UI calls the instances of a mapped task."""
        self.session.expire_all()
        instances = self.dag_run.get_task_instances(session=self.session)
        return [ti.rendered_map_index for ti in instances if ti.task_id == task_id]

    def result(self, task_id, key="return_value"):
        """What a task pushed."""
        from airflow.models.xcom import XComModel
        from sqlalchemy import select

        rows = self.session.scalars(
            select(XComModel)
            .filter_by(run_id=self.dag_run.run_id, dag_id=self.dag.dag_id, task_id=task_id, key=key)
            .order_by(XComModel.map_index)
        )
        return [XComModel.deserialize_value(row) for row in rows]


@pytest.fixture
def load_dag(airflow):
    """A function that gives a DAG of the project, freshly parsed."""
    from airflow.dag_processing.dagbag import DagBag

    return lambda dag_id: DagBag(str(ROOT / "dags" / f"{dag_id}.py")).dags[dag_id]


class StandIn:
    """The sandbox at a URL: its faults, what it was asked, and the cards that it got as Teams."""

    rule: ClassVar = {}
    """What all faults of a test have in common."""

    def __init__(self, url):
        self.url = url

    def fault(self, fault, **rule):
        body = [{"fault": fault, **self.rule, **rule}]
        requests.post(f"{self.url}/sandbox/faults", json=body, timeout=10).raise_for_status()

    def heal(self):
        requests.delete(f"{self.url}/sandbox/faults", timeout=10)

    def requests(self):
        """The requests so far, oldest first; and clear them."""
        return self._take("requests")

    def cards(self):
        """The cards so far, oldest first; and clear them."""
        return self._take("teams")

    def titles(self):
        return [card["title"] for card in self.cards()]

    @property
    def teams_url(self):
        """The address of a Teams workflow."""
        query = f"api-version=2016-06-01&sp=x&sv=1.0&sig={SIGNATURE}"
        return f"{self.url}/workflows/abc/triggers/manual/paths/invoke?{query}"

    def _take(self, what):
        found = requests.get(f"{self.url}/sandbox/{what}", timeout=10).json()
        requests.delete(f"{self.url}/sandbox/{what}", timeout=10)
        return found


class Service(StandIn):
    """The sandbox's stock service."""

    def __init__(self, url, world):
        super().__init__(url)
        self.world = world
        self.sirets = world.sirets


VENUES, BOOKS = 3, 40


@pytest.fixture
def serve():
    """A function that starts the sandbox; returns its service. The connection has to be set by `connect_service`."""
    with ExitStack() as running:

        def start(**settings):
            world = World(Settings(venues=VENUES, books=BOOKS, **settings))
            return Service(running.enter_context(serving(world)), world)

        yield start


@pytest.fixture
def set_connection(monkeypatch):
    """A function that sets an Airflow connection."""

    def set_connection(name, **fields):
        monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps({"conn_type": "http", **fields}))

    return set_connection


@pytest.fixture
def connect_service(set_connection):
    """A function that sets the Airflow connection of the stock service."""

    def connect(service, *, extra=None, **fields):
        host = f"{service.url}/titelive/stocks" if service else ""
        extra = {"requests_per_second": 1000, "attempts": 1, **(extra or {})}
        set_connection("titelive_stocks_api", **{"host": host, **fields}, extra=extra)

    return connect


@pytest.fixture
def service(serve, connect_service):
    """The stock service of three venues, with its Airflow connection."""
    service = serve()
    connect_service(service)
    return service


@pytest.fixture
def set_database(set_connection):
    """A function that makes a database the one of the Airflow connection `sync_db`."""

    def set_database(conninfo):
        parts = psycopg.conninfo.conninfo_to_dict(conninfo)
        fields = {"host": parts["host"], "port": int(parts["port"]), "login": parts["user"], "schema": parts["dbname"]}
        set_connection("sync_db", conn_type="postgres", **fields)

    return set_database


@pytest.fixture
def shops(database, set_database, monkeypatch):
    """The database with the venues that the service lists, linked; set as `sync_db`. Gives a connection to it."""
    monkeypatch.setenv("SANDBOX_VENUES", str(VENUES))
    monkeypatch.setenv("SANDBOX_BOOKS", str(BOOKS))
    set_database(database)
    with psycopg.connect(database, autocommit=True) as connection:
        loads.register_providers(connection)
        with connection.transaction():
            demo.load_venues(connection, World(Settings(venues=VENUES, books=BOOKS)), providers=["TiteLiveStocks"])
        yield connection


def link_shops(connection, number):
    """Link this many new venues to TiteLive."""
    loads.register_providers(connection)
    connection.execute(
        "WITH venues AS (INSERT INTO venue (name, siret)"
        " SELECT 'Shop ' || number, lpad(number::text, 14, '0') FROM generate_series(1, %s) AS number"
        " RETURNING id, siret)"
        " INSERT INTO venue_provider (venue_id, provider_id, venue_id_at_offer_provider)"
        " SELECT venues.id, provider.id, siret FROM venues, provider WHERE local_class = 'TiteLiveStocks'",
        (number,),
    )


@pytest.fixture
def output(caplog, capfd):
    """A function that gives all that was logged and printed since it was last called."""

    def read():
        text = caplog.text + "".join(capfd.readouterr())
        caplog.clear()
        return text

    return read


@pytest.fixture
def run_dag(airflow, load_dag, caplog, monkeypatch):
    """A function that runs a DAG of the project with parameters, manually or of another type; returns the `Run`."""
    monkeypatch.setattr("include.connectors.http.random.random", lambda: 0.0)
    caplog.set_level(logging.INFO)
    session = airflow.Session()

    def start(dag_id, conf=None, *, run_type="manual", interval=None, at_most_batches=None, before_retry=None):
        dag = load_dag(dag_id)
        if at_most_batches:
            dag.task_dict["open_load"].at_most_batches = at_most_batches
        started = Run(dag, session).create(conf, run_type, interval)
        if before_retry:
            started.before_retry = before_retry
        return started.drive()

    yield start
    session.rollback()
    session.close()


@pytest.fixture
def run(run_dag):
    """A function that runs the DAG of an inbound provider."""
    return partial(run_dag, "titelive_stocks")


class Recorder(BaseHTTPRequestHandler):
    """A stock service with nothing to list, and a webhook: it keeps path, headers and JSON of its requests."""

    def do_GET(self):
        sent = self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.server.recorded.append((self.path, dict(self.headers), json.loads(sent or "null")))
        body = b'{"total": 0, "stocks": []}'
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        self.do_GET()

    def log_message(self, *arguments):
        pass


@pytest.fixture
def recorder():
    """A service that keeps what it gets: `url` and `recorded`; it answers with `status`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Recorder)
    server.url = f"http://127.0.0.1:{server.server_port}"
    server.recorded, server.status = [], 200
    yield from run_server(server)


def run_server(server):
    """Serve from a thread until the fixture ends."""
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def teams_sandbox():
    """The address of the stand-in for Teams."""
    with serving(World(Settings(books=10, offers=0, teams_signature=SIGNATURE))) as url:
        yield url


class Channel(StandIn):
    """The stand-in for Teams."""

    rule: ClassVar = {"service": "teams"}


@pytest.fixture
def channel(airflow, teams_sandbox, set_connection, caplog, monkeypatch):
    """The channel, set as the connection `teams`; nothing sleeps before it tries again."""
    monkeypatch.setattr("include.connectors.cancellation.time.sleep", lambda seconds: None)
    caplog.set_level(logging.INFO)
    requests.post(f"{teams_sandbox}/sandbox/reset", timeout=10).raise_for_status()
    channel = Channel(teams_sandbox)
    set_connection("teams", password=channel.teams_url)
    return channel
