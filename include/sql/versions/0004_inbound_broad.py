"""Settings of venue links, images, removed rows, manual overrides, replay of rejected records."""

from include.store.migrate import run_sql_file

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Extend the tables of inbound providers."""
    run_sql_file(__file__)
