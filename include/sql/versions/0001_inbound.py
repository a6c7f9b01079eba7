"""Products, offers and stocks, the ledger of loads, rejected records and events."""

from include.store.migrate import run_sql_file

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables of inbound providers."""
    run_sql_file(__file__)
