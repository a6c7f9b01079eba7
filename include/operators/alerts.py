"""Alerts of a DAG: a run failed, timed out or is late, and the DAG works again. One alert per incident, not per run.

- A task that fails after its retries stores its error as XCom `failure`, in its own process. The last task of a DAG
  also reports the failure of the run, before the next run can start.
- The DAG's `on_failure_callback`, in the dag-processor, reports what no task sees: a run that timed out, a task that
  was killed or never started. A run that is reported twice counts once.
- The last task reports the recovery when it succeeds. A callback of the DAG would have to parse the DAG file after
  every good run.
- A deadline, in the triggerer, reports a run that does not end in time.

A DAG must end in one task, which succeeds if the run does. The database stores incidents. While it is unavailable, a
failure is reported unless the previous run failed, too.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG
from airflow.sdk.definitions.callback import AsyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

from include.errors import EarlierTaskFailed, ProviderSyncError
from include.operators.connections import database
from include.operators.notifiers import send_alert
from include.operators.runs import run_url, value_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from include.models.alerts import Alert
    from include.store.incidents import Incident

log = logging.getLogger(__name__)

FAILURE = "failure"
"""XCom key of a failed task's error."""
MAX_CAUSE_LENGTH = 1500
MAX_TRIAGE_LENGTH = 900
UNKNOWN_CAUSE = "See the log of the red task of the run"
ONE_MORE = "One more message follows when it works again."


class AlertingDAG(DAG):
    """A DAG that may have a deadline and be run by `dag.test()`, which fails on a deadline in Airflow 3.3.2."""

    def test(self, *args: Any, **kwargs: Any) -> Any:
        """Run the DAG in this process, as `DAG.test` does, without its deadline."""
        deadline, self.deadline = self.deadline, None
        try:
            return super().test(*args, **kwargs)
        finally:
            self.deadline = deadline


def run_alerts(*, late_after: timedelta | None = None) -> dict[str, Any]:
    """Return arguments for a `DAG`: alert when a run fails or times out. `task_alerts` belongs to them.

    :param late_after: also alert when a run has not ended within this time of being queued.
    """
    arguments: dict[str, Any] = {"on_failure_callback": report_failed_run}
    if late_after is not None:
        callback = AsyncCallback(report_late_run, kwargs={"within": in_words(late_after)})
        arguments["deadline"] = DeadlineAlert(
            reference=DeadlineReference.DAGRUN_QUEUED_AT, interval=late_after, callback=callback
        )
    return arguments


def task_alerts() -> dict[str, Any]:
    """Return entries for the `default_args` of a DAG: store the error of a failed task, report a recovery."""
    return {"on_failure_callback": report_failed_task, "on_success_callback": report_recovery}


def report_failed_task(context: Context) -> None:
    """Store the error of a task that failed after its retries. After the last task, report the failure of the run."""
    error = context.get("exception")
    if error is None:
        return  # the task was killed: the callback of the DAG reports it
    if not isinstance(error, EarlierTaskFailed):
        try:
            context["ti"].xcom_push(key=FAILURE, value=_describe(error))
        except Exception as problem:
            log.warning("Could not store the error for the alert: %s: %s", type(problem).__name__, problem)
    if not context["task"].downstream_task_ids:
        _report_failure(context, is_last_chance=False)


def report_failed_run(context: Context) -> None:
    """Report a run that failed or timed out, unless its last task has reported it."""
    _report_failure(context, is_last_chance=True)


def report_recovery(context: Context) -> None:
    """After the last task of a good run, close the incident and report that."""
    if context["task"].downstream_task_ids:
        return
    from include.store import incidents

    dag_id, run_id = context["dag"].dag_id, context["run_id"]
    try:
        import psycopg

        with database() as connection, connection.transaction() as transaction:
            incident = incidents.end_incident(connection, dag_id)
            if incident is None:
                return
            sent = send_alert(lambda: _recovered(dag_id, run_id, incident), context)
            if incident.was_reported and not sent:
                raise psycopg.Rollback(transaction)  # the next good run tries again
    except Exception as problem:  # the run was successful, and must not fail because of an alert
        log.warning("Could not look up the open incident: %s", _describe(problem))


async def report_late_run(context: Mapping[str, Any], within: str) -> None:
    """Report a run that has not ended in time. Runs in the triggerer, whose event loop must not wait for a database."""
    await asyncio.to_thread(_report_late, context["dag_run"], within)


def _report_failure(context: Context, *, is_last_chance: bool) -> None:
    """Count the run in the incident of its DAG, and send an alert unless one was delivered for this incident."""
    from include.store import incidents

    dag, run_id, sent = context["dag"], context["run_id"], False
    try:
        cause = _cause(context)
        try:
            with database() as connection, connection.transaction():
                incident = incidents.record_failure(connection, dag.dag_id, cause, run_id)
                if incident.notified_at is None:
                    sent = send_alert(lambda: _failing(context, incident.error, incident.failures), context)
                if sent:
                    incidents.record_alert(connection, dag.dag_id)
        except Exception as problem:
            log.warning("Could not record the incident: %s", _describe(problem))
            if is_last_chance and not sent and not _failed_before(context):
                send_alert(lambda: _failing(context, cause, 1), context)
    except Exception as problem:
        log.warning("Could not report the failure: %s", _describe(problem))


def _report_late(run: Mapping[str, Any], within: str) -> None:
    from include.store import incidents

    dag_id, run_id = run["dag_id"], run["dag_run_id"]
    if value_of(run.get("run_type")) == "backfill":
        return  # the runs of a backfill wait for each other
    state, tasks = _state_now(dag_id, run_id, value_of(run.get("state")))
    if state not in ("queued", "running"):
        log.info("No alert for a late run: run %s of %s is %s by now", run_id, dag_id, state)
        return

    def make_alert() -> Alert:
        return _late(dag_id, run_id, within, {"State": state, "Tasks": tasks, "Queued at": run.get("queued_at")})

    sent = False
    try:
        with database() as connection, connection.transaction():
            incident = incidents.record_late(connection, dag_id, f"run {run_id} has not ended within {within}")
            if incident.late_notified_at is None:
                sent = send_alert(make_alert)
            if sent:
                incidents.record_late_alert(connection, dag_id)
    except Exception as problem:
        log.warning("Could not record the incident: %s", _describe(problem))
        if not sent:
            send_alert(make_alert)


def _failing(context: Context, cause: str, failures: int) -> Alert:
    from include.models.alerts import Alert

    dag, run_id = context["dag"], context["run_id"]
    happened = "timed out" if context.get("reason") == "timed_out" else "failing"
    advice = _triage(dag) or "The next good run catches up by itself."
    facts: dict[str, object] = {"Failed runs": failures, "What to do": f"{advice} {ONE_MORE}", "Run": run_id}
    if user := getattr(context.get("dag_run"), "triggering_user_name", None):
        facts["Triggered by"] = user
    return Alert(
        title=f"{dag.dag_id}: {happened}",
        body=cause or UNKNOWN_CAUSE,
        facts=facts,
        tone="bad",
        url=run_url(dag.dag_id, run_id),
    )


def _late(dag_id: str, run_id: str, within: str, facts: Mapping[str, object]) -> Alert:
    from include.models.alerts import Alert

    advice = (
        "Open the run. If a task is running, read its log. If it is scheduled or queued, Airflow has no free slot for "
        f"it. If the run is queued, an earlier run of this DAG is still running. {ONE_MORE}"
    )
    body = f"The run has not ended within {within} of being queued."
    shown = {**{name: value for name, value in facts.items() if value}, "What to do": advice, "Run": run_id}
    return Alert(title=f"{dag_id}: late", body=body, facts=shown, tone="bad", url=run_url(dag_id, run_id))


def _recovered(dag_id: str, run_id: str, incident: Incident) -> Alert:
    from include.models.alerts import Alert

    facts: dict[str, object] = {"Since": f"{incident.began_at:%Y-%m-%d %H:%M:%S %Z}"}
    if incident.failures:
        facts |= {"Failed runs": incident.failures, "Last error": incident.error or UNKNOWN_CAUSE}
    else:
        facts["Was late"] = incident.error
    return Alert(title=f"{dag_id}: works again", facts=facts, tone="good", url=run_url(dag_id, run_id))


def _cause(context: Context) -> str:
    """Return why a run failed, for people; empty if the cause is unknown."""
    dag, reason, error = context["dag"], context.get("reason"), context.get("exception")
    if reason == "timed_out":
        task = getattr(context.get("ti"), "task_id", None)
        ended = f"The run was stopped after {in_words(dag.dagrun_timeout)} (dagrun_timeout)"
        return f"{ended}; the task {task} was not finished" if task else ended
    if error is not None and not isinstance(error, EarlierTaskFailed):
        return _describe(error)
    try:
        if found := _stored_errors(dag, context["run_id"]):
            return found
    except Exception as problem:
        log.warning("Could not read from Airflow which tasks failed: %s", _describe(problem))
    if reason == "all_tasks_deadlocked":
        return "No task of the run can start: they wait for something that cannot happen"
    return _describe(error) if error is not None else ""


def _stored_errors(dag: DAG, run_id: str) -> str:
    """Return the stored errors of the last failed task of a run, in the order of the DAG."""
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
    from airflow.sdk.execution_time.xcom import XCom

    states = RuntimeTaskInstance.get_task_states(dag_id=dag.dag_id, run_ids=[run_id]).get(run_id, {})
    failed = [name for name, state in states.items() if value_of(state) == "failed"]
    for task in sorted(dag.tasks, key=lambda task: -len(task.get_flat_relative_ids(upstream=True))):
        if not any(_is_of(name, task.task_id) for name in failed):
            continue
        causes = XCom.get_all(key=FAILURE, dag_id=dag.dag_id, task_id=task.task_id, run_id=run_id)
        if causes:
            return "\n".join(dict.fromkeys(map(str, causes)))[:MAX_CAUSE_LENGTH]
    if not failed:
        return ""
    return (
        f"{', '.join(sorted(failed))} ended without an error: it was killed (out of memory?), its worker stopped, or "
        "Airflow could not store its result"
    )


def _is_of(name: str, task_id: str) -> bool:
    """Return whether a name among the task states, `task` or `task_<map index>`, belongs to a task."""
    return re.fullmatch(rf"{re.escape(task_id)}(_\d+)?", name) is not None


def _state_now(dag_id: str, run_id: str, state: str) -> tuple[str, str]:
    """Return the current state of a run and those of its tasks; falls back to the given state of the run."""
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    try:
        state = value_of(RuntimeTaskInstance.get_dagrun_state(dag_id, run_id))
        tasks = RuntimeTaskInstance.get_task_states(dag_id=dag_id, run_ids=[run_id]).get(run_id, {})
    except Exception as problem:
        log.warning("Could not read the state of the run from Airflow: %s", _describe(problem))
        return state, ""
    open_tasks = {name: value_of(each or "not started") for name, each in tasks.items()}
    return state, ", ".join(f"{name} {each}" for name, each in sorted(open_tasks.items()) if each != "success")


def _describe(error: BaseException | str) -> str:
    """Return the text of an error without secrets, with its class unless the message was written for users."""
    from airflow.sdk.exceptions import AirflowException

    from include.connectors.redaction import redact

    is_for_users = isinstance(error, ProviderSyncError | AirflowException | str)
    text = str(error) if is_for_users else f"{type(error).__name__}: {error}"
    redacted = redact(text[: 2 * MAX_CAUSE_LENGTH])[:MAX_CAUSE_LENGTH]  # redacting a long text is slow
    return re.sub(r"\n +- ", "\n- ", redacted)  # becomes a list where Markdown is rendered


def _failed_before(context: Context) -> bool:
    """Return whether the previous run failed."""
    try:
        previous = context["ti"].get_previous_dagrun()
    except Exception:
        return False
    return previous is not None and value_of(previous.state) == "failed"


def _triage(dag: DAG) -> str:
    """Return the Triage paragraph of a DAG's doc."""
    found = re.search(r"\*\*Triage\.?\*\*\s*(.+?)(?:\n\s*\n|\Z)", dag.doc_md or "", re.DOTALL)
    text = " ".join(found[1].split()) if found else ""
    return text if len(text) <= MAX_TRIAGE_LENGTH else f"{text[:MAX_TRIAGE_LENGTH].rpartition('. ')[0]}."


def in_words(duration: timedelta | None) -> str:
    """Return a duration as `5 min` or `12 h`."""
    seconds = int(duration.total_seconds()) if duration else 0
    parts = [(seconds // 3600, "h"), (seconds % 3600 // 60, "min"), (seconds % 60, "s")]
    return " ".join(f"{number} {unit}" for number, unit in parts if number) or "0 s"
