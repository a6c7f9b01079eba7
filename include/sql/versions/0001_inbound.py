"""Products, offers and stocks, the ledger of loads, rejected records and events."""

from include.store.migrate import run_sql_beside

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create everything that inbound providers need."""
    run_sql_beside(__file__)
