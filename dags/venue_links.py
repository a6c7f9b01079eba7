"""### Venue links

Says who feeds which venue. As it is, a run only shows the links: venue, provider, the venue's id there, when it was
last read, how many of its stocks are on sale. The form links a venue to a provider, changes the provider of a link (or
the venue's id there), its settings, and activates or deactivates it. The provider's service is asked first whether it
knows the venue; what it refuses is not written.

A change of provider hands over all that the old one fed, with its bookings. Nothing more of it can be booked until the
new provider was read, so trigger that one's DAG next: the end of the log names it. What is deactivated is not read any
more and stays on sale as it is.

**Triage.** The last line of a red `change_links` says what to correct: an unknown provider (with those there are), a
venue that the service does not know, a link that exists already, a key that another row has. Nothing was changed then;
trigger again. `LinkBusy` (the link is being read) and a service that does not answer are tried again by themselves for
some minutes; if that was not enough, clear the task in Airflow when the run is over or the service is up.
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
    is_paused_upon_creation=False,  # it runs only when a person triggers it, and then at once
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
