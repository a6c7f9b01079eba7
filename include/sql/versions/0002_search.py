"""What was seen of a search index, the passes over it, and episodes of failure."""

from include.store.migrate import run_sql_beside

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create what the patching of search indices, and notifications, need."""
    run_sql_beside(__file__)
