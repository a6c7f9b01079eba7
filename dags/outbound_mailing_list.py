"""### Mailing list

Sends a contact per order and one per attendee to the mailing service (Brevo's contacts API, connection `brevo_api`)
whenever an order is placed, paid, canceled or changed. Changes come from the change feed in PostgreSQL, starting with
the first run; objects that equal what was sent last are not sent again. Mappings define which field goes where; default
mappings are included.

In Airflow's trigger form, `orders` sends these orders now, `retry` retries parked orders, `cancel` takes orders out of
the queue, and `mappings` saves new mappings. After an event was copied, `copy_event_from` and `copy_event_to` make the
mappings use the check-in lists of the copy. `dry_run` logs what would be sent and which fields would change. A backfill
queues the orders placed in its intervals.

**Triage.** A run is green even if orders are parked: `SELECT * FROM outbound_problems` lists them with the reason. Fix
the cause, then trigger a run with `retry`; any change of the order retries it too. A run is red if the service rejects
every request (it is down, or the API key is wrong): the orders stay queued, and the next successful run sends them.
The history of what was sent: `SELECT * FROM outbound_history ORDER BY at DESC`.
"""

from include.operators.outbound_dag import outbound_dag
from include.operators.tags import Subject

dag = outbound_dag(
    "outbound_mailing_list",
    target="include.targets.mailing_list.MailingList",
    description="Sends a contact per order and attendee to the mailing service whenever an order changes.",
    schedule="*/5 * * * *",
    subject=Subject.ORDERS,
    pool="mailing_list",
    doc_md=__doc__,
)
