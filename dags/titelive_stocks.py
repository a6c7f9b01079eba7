"""### TiteLive stocks

Brings in how many copies of which book each linked bookshop has, and at what price, from TiteLive's stock API
(connection `titelive_stocks_api`) into `offer` and `stock`. The venues are the active rows of `venue_provider`.

Each venue is read from its marker on (the start of its last complete run), the first time wholly; nothing is created
for books we do not hold, that are not eligible, or of which nothing is available. A backfill run reads what changed
since the start of its interval: `airflow backfill create --dag-id titelive_stocks --max-active-runs 1 …`.

**Triage.** The red `close_load` names the venues that failed and why. A time-out, 5xx or busy link heals by itself:
the next run reads what this one missed. Wrong credentials or an unknown venue id: correct the connection or the row,
then clear the failed `sync_venues` with downstream; it goes on where it stopped. Rejected records: `SELECT reason,
payload FROM rejected_record ORDER BY id DESC`.
"""

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, CronDataIntervalTimetable, TriggerRule

from include.operators.assets import changes_of
from include.operators.load import CloseLoadOperator, OpenLoadOperator
from include.operators.params import sync_params
from include.operators.provider_sync import ProviderSyncOperator
from include.operators.retry_policy import ErrorTreePolicy
from include.operators.tags import Movement, Subject

with DAG(
    dag_id="titelive_stocks",
    schedule=CronDataIntervalTimetable("30 2 * * *", timezone="Europe/Paris"),
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
    tags=[Movement.INBOUND, Subject.STOCKS],
    doc_md=__doc__,
):
    opened = OpenLoadOperator(task_id="open_load", provider="include.providers.titelive_stocks.TiteLiveStocks")
    synced = ProviderSyncOperator.partial(
        task_id="sync_venues", pool="titelive_stocks", execution_timeout=timedelta(hours=6)
    ).expand(batch=opened.output)
    closed = CloseLoadOperator(
        task_id="close_load",
        opened_by=opened.task_id,
        trigger_rule=TriggerRule.ALL_DONE,
        outlets=[changes_of("offer"), changes_of("stock")],
    )
    synced >> closed
