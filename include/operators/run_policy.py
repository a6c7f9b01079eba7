"""Refuses a run when it is created, so that its creator sees why: the cluster policy of the project.

Airflow itself checks the values of known parameters against their schema. It accepts unknown parameters, and numbers
in them that it later cannot hand to any task: those stop the dag-processor and the scheduler's workers.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance

log = logging.getLogger(__name__)

OURS = "include.operators."
NOT_BY_PEOPLE = ("scheduled", "asset_triggered")
"""Types of runs that the scheduler creates: it must never meet an error here."""


def task_instance_mutation_hook(task_instance: TaskInstance, dag_run: DagRun | None) -> None:
    """Refuse a run whose parameters are not those of its DAG, while Airflow creates its first task instances.

    Raises:
        ParamValidationError: to whoever creates the run: 400 over REST and in the form, an error on the command line.
        InvalidBackfillConf: the same for a backfill.
    """
    if dag_run is None or not dag_run.conf:
        return
    try:
        reason = _why_refused(task_instance, dag_run)
    except Exception:
        log.exception("The parameters of %s were not checked; its tasks will check them", dag_run)
        return
    if not reason:
        return
    if dag_run.run_type == "backfill":
        from airflow.models.backfill import InvalidBackfillConf

        raise InvalidBackfillConf(f"{reason}. Airflow closes the empty backfill within three minutes, or cancel it")
    from airflow.exceptions import ParamValidationError

    raise ParamValidationError(reason)


def _why_refused(task_instance: TaskInstance, dag_run: DagRun) -> str | None:
    """What is wrong with the parameters of a run that is being created; None for every other run."""
    if dag_run.run_type in NOT_BY_PEOPLE or dag_run.state != "queued":
        return None
    from sqlalchemy import inspect

    if not inspect(task_instance).transient:  # a task instance that exists already, of a run that is cleared
        return None
    task = task_instance.task
    if not str(getattr(task, "_task_module", "")).startswith(OURS):
        return None
    from include.operators.unknown_params import unknown_params

    if unknown := unknown_params(dag_run.conf, dict.fromkeys([*dag_run.dag.params, *task.params])):
        return f"{dag_run.dag_id} {unknown}"
    return _why_not_sent(dag_run.conf)


def _why_not_sent(conf: object) -> str | None:
    """Why Airflow could not hand these parameters to a task."""
    import msgspec

    try:
        msgspec.msgpack.encode(conf)
    except (OverflowError, UnicodeEncodeError, RecursionError, TypeError, ValueError) as error:
        return f"Airflow cannot hand these parameters to a task: {error}"
    return None
