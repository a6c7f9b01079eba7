"""Builds the DAG of an inbound provider, which has three tasks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from airflow.sdk import DAG, TriggerRule

from include.operators.alerts import AlertingDAG
from include.operators.assets import table_asset
from include.operators.defaults import Priority, dag_defaults
from include.operators.load import CloseLoadOperator, OpenLoadOperator
from include.operators.params import sync_params
from include.operators.provider_sync import ProviderSyncOperator
from include.operators.tags import Movement, Subject


def inbound_dag(
    dag_id: str,
    *,
    provider: str,
    description: str,
    schedule: str,
    subject: Subject,
    tables: Sequence[str],
    doc_md: str | None,
    needs_venue: bool = True,
) -> DAG:
    """Return a DAG that opens a load of a provider, syncs its venues in batches, and closes the load.

    :param provider: dotted path of the provider class.
    :param description: one sentence on what the DAG loads; the schedule is appended in words.
    :param schedule: cron expression in Paris time. A run reads from the venue's watermark; a backfill run reads its
        interval.
    :param tables: the tables that it writes; a run that wrote rows emits an event of the table's asset.
    :param needs_venue: `needs_venue` of the provider class; if false, the form has no field for venue links.

    All tasks run in a pool with the name of the DAG. Its slots limit how many of them call the service at once, and
    the slots of all pools together leave room for urgent DAGs.
    """
    with AlertingDAG(
        dag_id,
        **dag_defaults(
            doc_md,
            description=description,
            schedule=schedule,
            priority=Priority.LOADS,
            retries=3,
            retry_delay=timedelta(minutes=2),
            late_after=timedelta(hours=5),  # before business hours
        ),
        is_paused_upon_creation=True,  # a new installation calls no service until a person unpauses it
        dagrun_timeout=timedelta(hours=12),
        params=sync_params(needs_venue=needs_venue),
        tags=[Movement.INBOUND, subject],
    ) as dag:
        opened = OpenLoadOperator(
            task_id="open_load", provider=provider, pool=dag_id, execution_timeout=timedelta(minutes=30)
        )
        synced = ProviderSyncOperator.partial(
            task_id="sync_venues",
            pool=dag_id,
            execution_timeout=timedelta(hours=6),
            map_index_template="{{ task.label }}",
        ).expand(batch=opened.output)
        closed = CloseLoadOperator(
            task_id="close_load",
            opened_by=opened.task_id,
            pool=dag_id,
            priority_weight=int(Priority.CLOSING),
            execution_timeout=timedelta(minutes=30),
            trigger_rule=TriggerRule.ALL_DONE,
            outlets=[table_asset(table) for table in tables],
        )
        synced >> closed
    return dag
