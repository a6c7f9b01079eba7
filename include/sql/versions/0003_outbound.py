"""Orders of ticketed events, the change feed, and what is sent to outbound targets."""

from include.store.migrate import run_sql_beside

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Create what outbound targets need."""
    run_sql_beside(__file__)
