"""The cluster policy of the project: refuses a run with wrong parameters while it is created.

Airflow itself checks the values of known parameters against their schema. It accepts unknown parameters, even with
numbers that it later cannot pass to any task and that stop the dag-processor and the scheduler's workers.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance

log = logging.getLogger(__name__)

OUR_OPERATORS = "include.operators."
CREATED_BY_SCHEDULER = ("scheduled", "asset_triggered")
"""Types of runs that the scheduler creates. An exception here would stop it."""


def task_instance_mutation_hook(task_instance: TaskInstance, dag_run: DagRun | None) -> None:
    """Refuse a run with parameters that its DAG does not have, while Airflow creates its first task instances.

    Raises:
        ParamValidationError: the creator of the run gets a 400 over REST and in the form, or a command line error.
        InvalidBackfillConf: the same for a backfill.
    """
    if dag_run is None or not dag_run.conf:
        return
    try:
        reason = _reason_against(task_instance, dag_run)
    except Exception:
        log.exception("Could not check the parameters of %s; its tasks will check them", dag_run)
        return
    if not reason:
        return
    if dag_run.run_type == "backfill":
        from airflow.models.backfill import InvalidBackfillConf

        raise InvalidBackfillConf(f"{reason}. Airflow closes the empty backfill within three minutes, or cancel it")
    from airflow.exceptions import ParamValidationError

    raise ParamValidationError(reason)


def _reason_against(task_instance: TaskInstance, dag_run: DagRun) -> str | None:
    """Return what is wrong with the parameters of a run that is being created; None for any other run."""
    if dag_run.run_type in CREATED_BY_SCHEDULER or dag_run.state != "queued":
        return None
    from sqlalchemy import inspect

    if not inspect(task_instance).transient:  # the task instance already exists: its run is being cleared
        return None
    task = task_instance.task
    if not str(getattr(task, "_task_module", "")).startswith(OUR_OPERATORS):
        return None
    from include.operators.unknown_params import unknown_params

    if unknown := unknown_params(dag_run.conf, dict.fromkeys([*dag_run.dag.params, *task.params])):
        return f"{dag_run.dag_id} {unknown}"
    return _reason_not_encodable(dag_run.conf)


def _reason_not_encodable(conf: object) -> str | None:
    """Return why Airflow could not pass these parameters to a task; None if it can."""
    import msgspec

    try:
        msgspec.msgpack.encode(conf)
    except (OverflowError, UnicodeEncodeError, RecursionError, TypeError, ValueError) as error:
        return f"Airflow cannot pass these parameters to a task: {error}"
    return None
