"""### Allociné stocks

Brings in what each linked cinema shows, from Allociné (connection `allocine_api`, its key as the header `Authorization:
Bearer …` in the extra): a `product` per movie with its poster, an `offer` in the original language (VO) and one in
French (VF), a `stock` per showtime, in UTC by the cinema's département. Prices, `is_duo` and quantity are settings of
the venue link: the DAG `venue_links` sets them.

Allociné always lists everything from today on, so one run is enough: a backfill in Airflow has nothing to add. What a
whole listing no longer has as an ordinary digital showtime (special events and IMAX are not for us) is taken off sale;
a showtime with bookings is kept, with nothing more to be booked, and listed in the view `gone_with_bookings`. A
showtime that moved by up to three hours keeps its bookings.

**Triage.** The red `close_load` names the cinemas that failed and why. A time-out, 5xx or busy link heals by itself:
the next run reads all again. A listing that lacks more than half of what we hold is not believed: look at the cinema on
the site, and if it is right, trigger with that venue link and `accept_shrunk`. A link without a price: set it by the
DAG `venue_links`. Rejected movies: `SELECT * FROM rejected_report WHERE resolution IS NULL`; repair them or the parser,
then trigger with `replay_rejected`. Pictures that failed cost nothing but themselves, the next run tries them again.
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
