"""### Libraires stocks

Loads the stock and price (in euros) of each book in each linked bookshop from the stock API of leslibraires.fr
(connection `libraires_stocks_api`) into `offer` and `stock`. The DAG `venue_links` links venues.

Each venue is read from its watermark (the start of its last complete run) on, the first time completely. Nothing is
created for books that are unknown, not eligible or not available. A backfill run reads what changed since the start of
its interval: `airflow backfill create --dag-id libraires_stocks --max-active-runs 1 …`.

**Triage.** The red `close_load` names the venues that failed and why. Time-outs, 5xx and busy links recover by
themselves: the next run reads what this one missed. Wrong credentials or an unknown venue id: correct the connection or
the link, then clear the failed `sync_venues` with downstream; it resumes where it stopped. Rejected records: `SELECT *
FROM rejected_report WHERE resolution IS NULL`; repair them or the parser, then trigger with `replay_rejected`.
"""

from include.operators.inbound_dag import inbound_dag
from include.operators.tags import Subject

dag = inbound_dag(
    "libraires_stocks",
    provider="include.providers.libraires_stocks.LibrairesStocks",
    description="How many copies of which book each bookshop of leslibraires.fr has, and at what price.",
    schedule="0 22 * * *",
    subject=Subject.STOCKS,
    tables=["offer", "stock"],
    doc_md=__doc__,
)
