"""Incidents: each run counts once, and a late run is part of the incident."""

from include.store.migrate import run_sql_file

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the columns for alerts of failed and late runs."""
    run_sql_file(__file__)
