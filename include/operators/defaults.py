"""Defaults of all DAGs of the project: names, limits, priorities, and the queue for urgent tasks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Any

from airflow.sdk import CronDataIntervalTimetable
from airflow.sdk.configuration import conf

from include.operators.alerts import run_alerts, task_alerts
from include.operators.retry_policy import ErrorTreePolicy

ZONE = "Europe/Paris"


class Priority(IntEnum):
    """Absolute weights: among the tasks that are ready to run, the scheduler starts the one with the highest first.

    Airflow's default rule adds the weights of downstream tasks, so that the first task of a long DAG would overtake the
    only task of a short one.
    """

    LOADS = 10
    CLOSING = 20
    PERSON = 30
    OUTBOUND = 40
    SEARCH = 50


def dag_defaults(
    doc: str | None,
    *,
    description: str,
    schedule: str | None,
    zone: str = ZONE,
    has_intervals: bool = True,
    priority: Priority,
    retries: int,
    retry_delay: timedelta,
    late_after: timedelta | None = None,
) -> dict[str, Any]:
    """Return the arguments of a `DAG` of the project.

    :param doc: the docstring of the DAG file; its heading becomes the display name.
    :param description: one sentence; the schedule is appended in words.
    :param schedule: cron expression; None for a DAG that is triggered manually.
    :param zone: time zone of the schedule.
    :param has_intervals: False for a DAG whose runs ignore their data interval, so that it cannot be backfilled.
    :param priority: weight of the tasks, unless a task sets its own.
    :param late_after: alert when a run has not ended within this time of being queued.
    """
    title = (doc or "").strip().partition("\n")[0].lstrip("# ")
    return {
        "dag_display_name": title or None,
        "description": f"{description} {schedule_in_words(schedule, zone)}.",
        "schedule": CronDataIntervalTimetable(schedule, timezone=zone) if schedule and has_intervals else schedule,
        "start_date": datetime(2026, 1, 1, tzinfo=UTC),
        "catchup": False,
        "max_active_runs": 1,
        "doc_md": doc,
        **run_alerts(late_after=late_after),
        "default_args": {
            "owner": "data-integration",
            "retries": retries,
            "retry_delay": retry_delay,
            "retry_policy": ErrorTreePolicy(),
            "weight_rule": "absolute",
            "priority_weight": int(priority),
            **task_alerts(),
        },
    }


def schedule_in_words(schedule: str | None, zone: str = ZONE) -> str:
    """Return a cron expression as a phrase: `Every day at 02:30, Paris time`."""
    if schedule is None:
        return "Runs when triggered"
    from cron_descriptor import ExpressionDescriptor, Options  # type: ignore[import-untyped]

    options = Options()
    options.use_24hour_time_format = True
    words: str = ExpressionDescriptor(schedule, options).get_description()
    if not words.startswith("At "):
        return words
    is_daily = ", " not in words
    place = zone.rpartition("/")[2].replace("_", " ")
    return f"{'Every day at' if is_daily else 'At'}{words.removeprefix('At')}, {place} time"


def urgent_queue() -> str:
    """Return the Celery queue of tasks that must start within seconds.

    `AIRFLOW__PROVIDER_SYNC__URGENT_QUEUE` sets it; the default is the queue of all tasks. With the Celery executor, a
    separate worker (`airflow celery worker --queues urgent`) prevents loads from delaying these tasks. Other executors
    ignore it.
    """
    queue = conf.get("provider_sync", "urgent_queue", fallback="") or conf.get("operators", "default_queue")
    return str(queue)
