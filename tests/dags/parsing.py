"""Run in a fresh process by the tests: imports every DAG file and prints, as JSON, what that took and gave."""

import importlib
import json
import sys
from pathlib import Path
from time import process_time

import airflow.sdk  # noqa: F401 - what every DAG file needs is not counted

before = set(sys.modules)
folder = Path(sys.argv[1])
sys.path.insert(0, str(folder))
seconds = {}
for path in sorted(folder.glob("*.py")):
    began = process_time()
    importlib.import_module(path.stem)
    seconds[path.stem] = process_time() - began
imported = sorted(set(sys.modules) - before)

from airflow.dag_processing.dagbag import DagBag  # noqa: E402
from airflow.models.serialized_dag import SerializedDagModel  # noqa: E402
from airflow.serialization.serialized_objects import DagSerialization  # noqa: E402

dags = DagBag(str(folder)).dags
hashes = {dag_id: SerializedDagModel.hash(DagSerialization.to_dict(dag)) for dag_id, dag in dags.items()}
sys.stdout.write(json.dumps({"seconds": seconds, "imported": imported, "hashes": hashes}))
