"""### Example register

Loads the films of a register, as an Airflow DAG of a provider without venues.
"""

from include.operators.inbound_dag import inbound_dag
from include.operators.tags import Subject

dag = inbound_dag(
    "example_register",
    provider="tests.contract.example_register.ExampleRegister",
    description="The films of a register.",
    schedule="15 4 * * *",
    subject=Subject.SHOWTIMES,
    tables=["product"],
    doc_md=__doc__,
    needs_venue=False,
)
