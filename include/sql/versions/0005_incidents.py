"""Incidents: each run counts once, and a late run is part of the incident."""

from include.store.migrate import run_sql_beside

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add what alerts of failed and of late runs need."""
    run_sql_beside(__file__)
