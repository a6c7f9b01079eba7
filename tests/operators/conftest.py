"""Runs DAGs through Airflow's own machinery: a metadata database of the tests' own, PostgreSQL, the sandbox."""

import atexit
import json
import logging
import os
import shutil
import sys
import tempfile
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from threading import Thread
from time import monotonic
from urllib.request import Request, urlopen
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

    def create(self, conf, run_type, interval):
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
            state=DagRunState.RUNNING,
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


class Service:
    """The sandbox's stock service, and what it was asked."""

    def __init__(self, url, world):
        self.url = url
        self.world = world
        self.sirets = world.sirets

    def fault(self, fault, **rule):
        """Put a fault in force."""
        body = json.dumps([{"fault": fault, **rule}]).encode()
        request = Request(f"{self.url}/sandbox/faults", body, {"Content-Type": "application/json"}, method="POST")
        urlopen(request).close()

    def heal(self):
        """End all faults."""
        urlopen(Request(f"{self.url}/sandbox/faults", method="DELETE")).close()

    def requests(self):
        """The requests so far, oldest first; and clear them."""
        with urlopen(f"{self.url}/sandbox/requests") as answer:
            seen = json.load(answer)
        urlopen(Request(f"{self.url}/sandbox/requests", method="DELETE")).close()
        return seen


VENUES, BOOKS = 3, 40


@pytest.fixture
def serve(monkeypatch):
    """A function that starts the sandbox; returns its service. The connection has to be set by `connect_service`."""
    running = []

    def start(**settings):
        world = World(Settings(venues=VENUES, books=BOOKS, **settings))
        context = serving(world)
        service = Service(context.__enter__(), world)
        running.append(context)
        return service

    yield start
    for context in running:
        context.__exit__(None, None, None)


@pytest.fixture
def connect_service(monkeypatch):
    """A function that sets the Airflow connection of the stock service."""

    def connect(service, *, extra=None, **fields):
        host = f"{service.url}/titelive/stocks" if service else ""
        body = {"conn_type": "http", "host": host, **fields}
        body["extra"] = {"requests_per_second": 1000, "attempts": 1, **(extra or {})}
        monkeypatch.setenv("AIRFLOW_CONN_TITELIVE_STOCKS_API", json.dumps(body))

    return connect


@pytest.fixture
def service(serve, connect_service):
    """The stock service of three venues, with its Airflow connection."""
    service = serve()
    connect_service(service)
    return service


@pytest.fixture
def set_database(monkeypatch):
    """A function that makes a database the one of the Airflow connection `sync_db`."""

    def set_database(conninfo):
        parts = psycopg.conninfo.conninfo_to_dict(conninfo)
        body = {
            "conn_type": "postgres",
            "host": parts["host"],
            "port": int(parts["port"]),
            "login": parts["user"],
            "schema": parts["dbname"],
        }
        monkeypatch.setenv("AIRFLOW_CONN_SYNC_DB", json.dumps(body))

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


@pytest.fixture
def output(caplog, capfd):
    """A function that gives all that was logged and printed since it was last called."""

    def read():
        text = caplog.text + "".join(capfd.readouterr())
        caplog.clear()
        return text

    return read


@pytest.fixture
def run(airflow, load_dag, caplog):
    """A function that runs a DAG with parameters, manually or of another type; returns the `Run`."""
    caplog.set_level(logging.INFO)
    session = airflow.Session()

    def start(conf=None, *, run_type="manual", interval=None, at_most_batches=None, before_retry=None):
        dag = load_dag("titelive_stocks")
        if at_most_batches:
            dag.task_dict["open_load"].at_most_batches = at_most_batches
        started = Run(dag, session).create(conf, run_type, interval)
        if before_retry:
            started.before_retry = before_retry
        return started.drive()

    yield start
    session.rollback()
    session.close()


class Recorder(BaseHTTPRequestHandler):
    """A stock service with nothing to list, which keeps the headers of what it was asked."""

    def do_GET(self):
        self.server.recorded = dict(self.headers)
        body = b'{"total": 0, "stocks": []}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def recorder():
    """A service that keeps the headers it gets: `url` and `recorded`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Recorder)
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


SIGNATURE = "5ecret-signature"


@pytest.fixture(scope="module")
def teams_sandbox():
    """The address of the stand-in for Teams."""
    with serving(World(Settings(books=10, offers=0, teams_signature=SIGNATURE))) as url:
        yield url


class Channel:
    """The stand-in for Teams."""

    def __init__(self, url):
        self.root = url
        self.url = f"{url}/workflows/abc/triggers/manual/paths/invoke?api-version=1&sp=x&sv=1.0&sig={SIGNATURE}"

    def cards(self):
        cards = requests.get(f"{self.root}/sandbox/teams", timeout=10).json()
        requests.delete(f"{self.root}/sandbox/teams", timeout=10)
        return cards

    def titles(self):
        return [card["title"] for card in self.cards()]

    def fault(self, fault, **rule):
        body = [{"fault": fault, "service": "teams", **rule}]
        assert requests.post(f"{self.root}/sandbox/faults", json=body, timeout=10).ok

    def heal(self):
        requests.delete(f"{self.root}/sandbox/faults", timeout=10)


@pytest.fixture
def set_teams(airflow, monkeypatch):
    """A function that sets the Airflow connection `teams`."""

    def set_teams(**fields):
        monkeypatch.setenv("AIRFLOW_CONN_TEAMS", json.dumps({"conn_type": "http", **fields}))

    return set_teams


@pytest.fixture
def channel(teams_sandbox, set_teams, caplog, monkeypatch):
    """The channel, set as the connection `teams`; nothing sleeps before it tries again."""
    monkeypatch.setattr("include.connectors.cancellation.time.sleep", lambda seconds: None)
    caplog.set_level(logging.INFO)
    assert requests.post(f"{teams_sandbox}/sandbox/reset", timeout=10).ok
    channel = Channel(teams_sandbox)
    set_teams(password=channel.url)
    return channel
