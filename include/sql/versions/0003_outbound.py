"""Orders of ticketed events, the change feed, and the queue and results of outbound targets."""

from include.store.migrate import run_sql_file

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Create the tables of outbound targets."""
    run_sql_file(__file__)
