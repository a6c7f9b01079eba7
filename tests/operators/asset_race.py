"""Closes the tasks of eight DAGs in the same moment, on fresh metadata databases; prints what Airflow answered.

A process of its own, since an Airflow is bound to the metadata database that it was imported with.
Arguments: how to reach PostgreSQL as a SQLAlchemy URL with `{}` for the database, the migrated template, and how often.
"""

import json
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from threading import Barrier

import sqlalchemy

DAGS = 8
DAG_FILE = """
# An Airflow DAG.
from include.operators.inbound_dag import inbound_dag
from include.operators.tags import Subject

for number in range({dags}):
    name = f"supplier_{{number}}"
    globals()[name] = inbound_dag(
        name,
        provider="include.providers.titelive_stocks.TiteLiveStocks",
        description="A supplier.",
        schedule="0 1 * * *",
        subject=Subject.STOCKS,
        tables=["product", "offer", "stock"],
        doc_md="### A supplier",
    )
"""


def closing_tasks(folder, session):
    """Bring the DAGs in as the DAG processor does, and start a run of each whose closing task is running."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db
    from airflow.serialization.serialized_objects import DagSerialization
    from airflow.utils.state import DagRunState
    from airflow.utils.types import DagRunTriggeredByType, DagRunType

    DagBundlesManager().sync_bundles_to_db(session=session)
    session.commit()
    bag = BundleDagBag(dag_folder=folder, bundle_path=folder, bundle_name="dags-folder")
    sync_bag_to_db(bag, "dags-folder", None)
    now = datetime.now(UTC)
    found = []
    for dag in bag.dags.values():
        scheduled = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag))
        run = scheduled.create_dagrun(
            run_id="race",
            run_type=DagRunType.MANUAL,
            logical_date=now,
            run_after=now,
            data_interval=(now, now),
            conf={},
            state=DagRunState.RUNNING,
            triggered_by=DagRunTriggeredByType.TEST,
            start_date=now,
            session=session,
        )
        instance = run.get_task_instance("close_load", session=session)
        instance.state = "running"
        instance.start_date = now
        found.append((str(instance.id), dag.task_dict["close_load"].outlets))
    session.commit()
    return found


@cache
def execution_api():
    """Airflow's execution API; the first request builds it, which takes seconds."""
    from airflow.api_fastapi.execution_api.app import InProcessExecutionAPI

    return InProcessExecutionAPI()


def close_all(tasks):
    """Report the success of all tasks at once, as their supervisors do."""
    from airflow.sdk.api.client import Client
    from airflow.sdk.execution_time.task_runner import _build_asset_profiles

    transport, together = execution_api().transport, Barrier(len(tasks))
    Client(base_url="http://in-process.invalid./", token="", transport=transport).get("health/ping")

    def close(task):
        task_id, outlets = task
        client = Client(base_url="http://in-process.invalid./", token="", transport=transport)
        profiles = list(_build_asset_profiles(outlets))
        together.wait(30)
        try:
            client.task_instances.succeed(task_id, datetime.now(UTC), profiles, [], None)
        except Exception as error:
            return f"{type(error).__name__}: {error}"[:300]
        return "closed"

    with ThreadPoolExecutor(len(tasks)) as pool:
        return list(pool.map(close, tasks))


def race(url, template, number, folder):
    """One race on a database of its own; returns the answers, the states, and how many events each asset got."""
    import os

    name = f"race_{number}"
    admin = sqlalchemy.create_engine(url.format("postgres"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(sqlalchemy.text(f'CREATE DATABASE "{name}" TEMPLATE "{template}"'))
    admin.dispose()
    os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = url.format(name)
    from airflow import settings

    settings.dispose_orm()
    settings.configure_vars()
    settings.configure_orm()
    with settings.Session() as session:
        answers = close_all(closing_tasks(folder, session))
        session.expire_all()
        states = session.scalars(
            sqlalchemy.text("SELECT state FROM task_instance WHERE task_id = 'close_load' ORDER BY dag_id")
        ).all()
        events = session.execute(
            sqlalchemy.text("SELECT asset.name, count(*) FROM asset_event JOIN asset ON asset.id = asset_id GROUP BY 1")
        ).all()
    settings.dispose_orm()
    return {"answers": answers, "states": list(states), "events": dict(map(tuple, events))}


def main():
    """Print the races as JSON on the last line."""
    url, template, times = sys.argv[1], sys.argv[2], int(sys.argv[3])
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "suppliers.py").write_text(DAG_FILE.format(dags=DAGS))
        sys.stdout.write(json.dumps([race(url, template, number, folder) for number in range(times)]) + "\n")


if __name__ == "__main__":
    main()
