"""### `customerDispo` in the site's Algolia index

An external indexer rebuilds the site's index and moves the new one onto the old, which removes every `customerDispo`.
Every minute, this DAG checks Algolia's log for such a move (Airflow connection `algolia`, index in its extra). After a
move, it sets `customerDispo` on each offer: `'disponible'` where `disponibiliteForFO` is `'en stock'` and `nature` is
neither 1 nor 5, otherwise the value of `disponibiliteForFO`. It writes only records that differ, and creates none.

Start with the variables `algolia_customer_dispo_dry_run` and `…_dry_run_notify` set to true: runs then only read, and
the log and an alert show what they would change. The log can miss a move, so every n-th run compares the whole index
with the rule (`…_compare_every`). A run that exceeds `…_time_limit_minutes` is stopped.

**Triage.** Most failures resolve themselves: the next run, a minute later, resumes the open pass. `lacks the right
(ACL)`: the API key needs logs, browse and addObject. `has no index`: correct `index` in the extra of the connection.
To see what was done: `SELECT * FROM search_report ORDER BY id DESC`.
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
    is_paused_upon_creation=True,  # a new installation writes to no index until a person unpauses it
    dagrun_timeout=timedelta(hours=25),  # above the maximum time limit of a run
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
