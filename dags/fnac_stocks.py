"""### Fnac stocks

Brings in how many copies of which book each linked Fnac shop has, and at what price in euros, from Fnac's stock API
(connection `fnac_stocks_api`, Basic credentials as login and password) into `offer` and `stock`. The venues are the
active rows of `venue_provider`.

Each venue is read from its marker on (the start of its last complete run), the first time wholly; nothing is created
for books we do not hold, that are not eligible, or of which nothing is available. A backfill run reads what changed
since the start of its interval: `airflow backfill create --dag-id fnac_stocks --max-active-runs 1 …`.

**Triage.** The red `close_load` names the venues that failed and why. A time-out, 5xx or busy link heals by itself: the
next run reads what this one missed. Wrong credentials or an unknown venue id: correct the connection or the row, then
clear the failed `sync_venues` with downstream; it goes on where it stopped. Rejected records: `SELECT * FROM
rejected_report WHERE resolution IS NULL`; repair them or the parser, then trigger with `replay_rejected`.
"""

from include.operators.inbound_dag import inbound_dag
from include.operators.tags import Subject

dag = inbound_dag(
    "fnac_stocks",
    provider="include.providers.fnac_stocks.FnacStocks",
    description="How many copies of which book each Fnac shop has, and at what price.",
    schedule="0 1 * * *",
    subject=Subject.STOCKS,
    tables=["offer", "stock"],
    doc_md=__doc__,
)
