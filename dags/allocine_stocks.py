"""### Allociné stocks

Loads the program of each linked cinema from Allociné (Airflow connection `allocine_api`, with the API key in its extra
as the header `Authorization: Bearer …`): a `product` per movie with its poster, an `offer` in the original language
(VO) and one in French (VF), and a `stock` per showtime, in UTC by the cinema's département. Prices, `is_duo` and
quantity are settings of the venue link: set them with the DAG `venue_links`.

Allociné always lists everything from today on, so one run is enough and a backfill adds nothing. A showtime that a
complete listing no longer has as an ordinary digital projection (special events and IMAX are left out) is taken off
sale; one with bookings stays, accepts no further bookings, and appears in the view `gone_with_bookings`. A showtime
that was rescheduled by up to three hours keeps its bookings.

**Triage.** The red `close_load` names the cinemas that failed and why. Time-outs, 5xx and busy links recover by
themselves: the next run reads everything again. A listing that lacks more than half of the stored showtimes is refused:
check the cinema on Allociné's site, and if the listing is right, trigger the DAG with that venue link and
`accept_shrunk`. A link without a price: set it with the DAG `venue_links`. Rejected movies: `SELECT * FROM
rejected_report WHERE resolution IS NULL`; repair them or the parser, then trigger with `replay_rejected`. A failed
image does not affect its movie, and the next run retries it.
"""

from include.operators.inbound_dag import inbound_dag
from include.operators.tags import Subject

dag = inbound_dag(
    "allocine_stocks",
    provider="include.providers.allocine_stocks.AllocineStocks",
    description="What each cinema shows: movies with their posters, offers in VO and VF, and showtimes.",
    schedule="0 23 * * *",
    subject=Subject.SHOWTIMES,
    tables=["product", "offer", "stock"],
    doc_md=__doc__,
)
