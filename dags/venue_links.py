"""### Venue links

Shows and changes which provider feeds which venue. By default, a run only shows the links: venue, provider, the venue's
id at the provider, when it was last read, and how many of its stocks are on sale. With the form you can link a venue to
a provider, change the provider of a link, the venue's id there or the settings, and activate or deactivate a link. The
provider's service checks the venue first; nothing is written if it does not know the venue.

A change of provider transfers all rows that the old provider fed, with their bookings. Nothing more of them can be
booked until the new provider has been read, so trigger its DAG next: the end of the log names it. A deactivated link is
no longer read, and its stocks stay on sale unchanged.

**Triage.** The last line of a red `change_links` says what to correct: an unknown provider (the line lists the known
ones), a venue that the service does not know, a link that exists already, a key that another row has. Nothing was
changed; trigger the DAG again. `LinkBusy` (a run is reading the link) and a service that does not respond are retried
for some minutes; if that is not enough, clear the task in Airflow once the run has ended or the service is up.
"""

from datetime import timedelta

from include.operators.alerts import AlertingDAG
from include.operators.assets import table_asset
from include.operators.defaults import Priority, dag_defaults
from include.operators.params import venue_link_params
from include.operators.tags import Movement, Subject
from include.operators.venue_links import VenueLinkOperator

with AlertingDAG(
    "venue_links",
    **dag_defaults(
        __doc__,
        description="Shows and changes which provider feeds which venue.",
        schedule=None,
        priority=Priority.PERSON,
        retries=5,
        retry_delay=timedelta(minutes=2),
    ),
    is_paused_upon_creation=False,  # only a person triggers it, and it must then run at once
    dagrun_timeout=timedelta(hours=4),
    params=venue_link_params(),
    tags=[Movement.INBOUND, Subject.LINKS],
):
    VenueLinkOperator(
        task_id="change_links",
        pool="venue_links",
        execution_timeout=timedelta(hours=1),
        outlets=[table_asset("offer"), table_asset("stock")],
    )
