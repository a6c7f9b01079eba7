"""Search indices, the passes over them, and incidents."""

from include.store.migrate import run_sql_file

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create the tables of the search engine and of alerts."""
    run_sql_file(__file__)
