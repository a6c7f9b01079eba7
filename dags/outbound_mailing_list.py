"""### Mailing list

Sends a contact per order and one per attendee to the mailing service (Brevo's contacts API, connection `brevo_api`)
whenever an order is placed, paid, canceled or changed. The change feed in PostgreSQL tells of it, from the first run
on; what equals what was sent last is not sent again. Mappings say which field goes where; sound ones are there to
begin with.

By hand: codes in `orders` send these now, `retry` lets what waits for a person be tried again, `cancel` takes orders
out of the queue, `mappings` sets others. `dry_run` shows what would be sent and which fields would change. A backfill
queues the orders that were placed in its intervals.

**Triage.** Green also when some orders wait for a person: `SELECT * FROM outbound_problems` says which, and why.
Correct it, then trigger with `retry`; a change of the order lets it be tried again too. Red: the service takes nothing
(it is down, or the API key is wrong). The queue keeps all, and the next good run sends it. What was sent when: `SELECT
* FROM outbound_history ORDER BY at DESC`.
"""

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, CronDataIntervalTimetable, TriggerRule

from include.operators.outbound import CloseOutboundOperator, OpenOutboundOperator, OutboundSyncOperator
from include.operators.params import outbound_params
from include.operators.retry_policy import ErrorTreePolicy
from include.operators.tags import Movement, Subject
from include.operators.teams import FailureNotifier, RecoveryNotifier

TARGET = "include.outbound.targets.mailing_list.MailingList"

with DAG(
    dag_id="outbound_mailing_list",
    schedule=CronDataIntervalTimetable("*/5 * * * *", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=True,  # a new installation writes to nobody before a person says so
    dagrun_timeout=timedelta(hours=6),
    default_args={
        "owner": "data-integration",
        "retries": 1,
        "retry_delay": timedelta(seconds=20),
        "retry_policy": ErrorTreePolicy(),
    },
    params=outbound_params(),
    tags=[Movement.OUTBOUND, Subject.ORDERS],
    doc_md=__doc__,
):
    opened = OpenOutboundOperator(task_id="fill_queue", target=TARGET)
    sent = OutboundSyncOperator.partial(
        task_id="send", target=TARGET, pool="mailing_list", execution_timeout=timedelta(hours=4)
    ).expand(claimer=opened.output)
    closed = CloseOutboundOperator(
        task_id="sum_up",
        target=TARGET,
        sent_by="send",
        trigger_rule=TriggerRule.ALL_DONE,
        on_failure_callback=FailureNotifier(),
        on_success_callback=RecoveryNotifier(),
    )
    sent >> closed
