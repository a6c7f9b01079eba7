"""### `customerDispo` in the site's Algolia index

An external indexer rebuilds the site's index and moves the new one onto the old: every `customerDispo` is then gone.
Every minute this DAG reads Algolia's log for such a move (Airflow connection `algolia`, index in its extra). After one
it gives each offer its `customerDispo`: `'disponible'` where `disponibiliteForFO` is `'en stock'` and `nature` is
neither 1 nor 5, otherwise the value of `disponibiliteForFO`. Only records that differ are written, none is created.

Start with the variables `algolia_customer_dispo_dry_run` and `…_dry_run_notify` on true: runs then read only, and say
in the log and in an alert what they would do. The log of writes can miss a move, so every n-th run compares
the index with the rule (`…_compare_every`); a run that takes longer than `…_time_limit_minutes` is ended.

**Triage.** Most failures heal by themselves: the next minute takes up what is open. `lacks the right (ACL)`: the key
needs logs, browse and addObject. `knows no index`: correct `index` in the extra. What was done: `SELECT * FROM
search_report ORDER BY id DESC`.
"""

from datetime import timedelta

from include.operators.alerts import AlertingDAG
from include.operators.defaults import Priority, dag_defaults, urgent_queue
from include.operators.params import search_params
from include.operators.search import SearchPatchOperator
from include.operators.tags import Movement, Subject

with AlertingDAG(
    "algolia_customer_dispo",
    **dag_defaults(
        __doc__,
        description="Restores customerDispo after each rebuild of the site's index.",
        schedule="* * * * *",
        has_intervals=False,
        priority=Priority.SEARCH,
        retries=1,
        retry_delay=timedelta(seconds=10),
        late_after=timedelta(minutes=5),
    ),
    is_paused_upon_creation=True,  # a new installation touches no index before a person says so
    dagrun_timeout=timedelta(hours=25),  # above the longest time limit of a run
    params=search_params(),
    tags=[Movement.SEARCH, Subject.OFFERS],
):
    SearchPatchOperator(
        task_id="patch_index",
        pool="algolia",
        queue=urgent_queue(),
        execution_timeout=timedelta(hours=24, minutes=30),
        patches=["include.patches.customer_dispo.CUSTOMER_DISPO"],
    )
