"""The DAG of an outbound target: fill the queue, drain it, sum up."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, TriggerRule

from include.operators.alerts import AlertingDAG
from include.operators.defaults import Priority, dag_defaults
from include.operators.outbound import CloseOutboundOperator, OpenOutboundOperator, OutboundSyncOperator
from include.operators.params import outbound_params
from include.operators.tags import Movement, Subject


def outbound_dag(
    dag_id: str, *, target: str, description: str, schedule: str, subject: Subject, pool: str, doc_md: str | None
) -> DAG:
    """Build the DAG that sends changes to a target.

    :param target: dotted path of the target class.
    :param description: one sentence on what the DAG sends; its schedule is added in words.
    :param schedule: cron expression in UTC; a backfill run queues the orders placed in its interval.
    :param pool: Airflow pool of all tasks; its slots limit how many run concurrently.
    """
    with AlertingDAG(
        dag_id,
        **dag_defaults(
            doc_md,
            description=description,
            schedule=schedule,
            zone="UTC",
            priority=Priority.OUTBOUND,
            retries=1,
            retry_delay=timedelta(seconds=20),
            late_after=timedelta(minutes=30),
        ),
        is_paused_upon_creation=True,  # a new installation sends nothing until a person unpauses the DAG
        dagrun_timeout=timedelta(hours=6),
        params=outbound_params(),
        tags=[Movement.OUTBOUND, subject],
    ) as dag:
        filled = OpenOutboundOperator(
            task_id="fill_queue", target=target, pool=pool, execution_timeout=timedelta(minutes=30)
        )
        sent = OutboundSyncOperator.partial(
            task_id="send",
            target=target,
            pool=pool,
            execution_timeout=timedelta(hours=4),
            map_index_template="{{ task.label }}",
        ).expand(worker=filled.output)
        summed_up = CloseOutboundOperator(
            task_id="sum_up",
            target=target,
            sent_by="send",
            pool=pool,
            execution_timeout=timedelta(minutes=30),
            trigger_rule=TriggerRule.ALL_DONE,
        )
        sent >> summed_up
    return dag
