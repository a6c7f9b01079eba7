"""### Mailing list

Sends a contact per order and one per attendee to the mailing service (Brevo's contacts API, connection `brevo_api`)
whenever an order is placed, paid, canceled or changed. The change feed in PostgreSQL tells of it, from the first run
on; what equals what was sent last is not sent again. Mappings say which field goes where; sound ones are there to
begin with.

From Airflow's trigger form: codes in `orders` send these now, `retry` lets what waits for a person be tried again,
`cancel` takes orders out of the queue, `mappings` sets others. `dry_run` shows what would be sent and which fields
would change. A backfill queues the orders that were placed in its intervals.

**Triage.** Green also when some orders wait for a person: `SELECT * FROM outbound_problems` says which, and why.
Correct it, then trigger with `retry`; a change of the order lets it be tried again too. Red: the service takes nothing
(it is down, or the API key is wrong). The queue keeps all, and the next good run sends it. What was sent when: `SELECT
* FROM outbound_history ORDER BY at DESC`.
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
