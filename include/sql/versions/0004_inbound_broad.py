"""Settings of venue links, pictures, rows that a listing no longer has, edits by people, replay of rejected records."""

from include.store.migrate import run_sql_beside

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Create what further inbound providers need."""
    run_sql_beside(__file__)
