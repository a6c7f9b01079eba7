"""When each search index was last looked at."""

from include.store.migrate import run_sql_beside

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the column."""
    run_sql_beside(__file__)
