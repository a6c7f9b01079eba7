"""The DAG of an inbound provider: the same three tasks for each."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, CronDataIntervalTimetable, TriggerRule

from include.operators.assets import changes_of
from include.operators.load import CloseLoadOperator, OpenLoadOperator
from include.operators.params import sync_params
from include.operators.provider_sync import ProviderSyncOperator
from include.operators.retry_policy import ErrorTreePolicy
from include.operators.tags import Movement, Subject


def inbound_dag(
    dag_id: str, *, provider: str, schedule: str, subject: Subject, tables: Sequence[str], doc_md: str | None
) -> DAG:
    """The DAG that brings in what a provider lists: open a load, synchronise its batches, close it.

    :param provider: dotted path of the provider class.
    :param schedule: cron expression, in Paris time; a run reads from the venue's marker on, a backfill its interval.
    :param tables: the tables that it feeds; their assets get an event when rows were written.

    Its pool has the name of the DAG, and bounds how many tasks ask the service at once.
    """
    with DAG(
        dag_id=dag_id,
        schedule=CronDataIntervalTimetable(schedule, timezone="Europe/Paris"),
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        catchup=False,
        max_active_runs=1,
        is_paused_upon_creation=True,  # a new installation asks no service before a person says so
        dagrun_timeout=timedelta(hours=12),
        default_args={
            "owner": "data-integration",
            "retries": 3,
            "retry_delay": timedelta(minutes=2),
            "retry_policy": ErrorTreePolicy(),
        },
        params=sync_params(),
        tags=[Movement.INBOUND, subject],
        doc_md=doc_md,
    ) as dag:
        opened = OpenLoadOperator(task_id="open_load", provider=provider)
        synced = ProviderSyncOperator.partial(
            task_id="sync_venues", pool=dag_id, execution_timeout=timedelta(hours=6)
        ).expand(batch=opened.output)
        closed = CloseLoadOperator(
            task_id="close_load",
            opened_by=opened.task_id,
            trigger_rule=TriggerRule.ALL_DONE,
            outlets=[changes_of(table) for table in tables],
        )
        synced >> closed
    return dag
