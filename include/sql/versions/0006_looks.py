"""When each search index was last checked."""

from include.store.migrate import run_sql_file

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the column."""
    run_sql_file(__file__)
