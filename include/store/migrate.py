"""Brings the database up to date with the revisions in `include/sql/versions`.

A revision is a small Python file that names its predecessor, and a `.sql` file of the same name that does the work.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import sqlalchemy
from alembic import command, op
from alembic.config import Config
from alembic.script import ScriptDirectory

from include.errors import ConfigurationError, DatabaseUnavailable

log = logging.getLogger(__name__)

SQL_FOLDER = Path(__file__).parent.parent / "sql"
OLDEST_POSTGRESQL = 15
MIGRATION_LOCK = 7_230_917_001
"""Key of the advisory lock that lets one migration run at a time."""


def migrate(conninfo: str) -> list[str]:
    """Run what is missing; returns the revisions that were run, oldest first.

    `conninfo` is a PostgreSQL connection string or URI. Every revision is one transaction; two callers at once wait
    for each other.

    Raises:
        DatabaseUnavailable: no connection could be made.
        ConfigurationError: the address makes no sense, the server is older than PostgreSQL 15, or a newer version of
            the project has migrated the database.
    """
    import psycopg

    config = Config()
    config.set_main_option("script_location", str(SQL_FOLDER).replace("%", "%%"))  # of configparser
    scripts = ScriptDirectory.from_config(config)
    revisions = list(scripts.walk_revisions())
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(conninfo), poolclass=sqlalchemy.NullPool
    )
    try:
        connection = engine.connect()
    except sqlalchemy.exc.OperationalError as error:
        raise DatabaseUnavailable(f"PostgreSQL cannot be reached: {str(error.orig).strip()}") from None
    except sqlalchemy.exc.ProgrammingError:  # whose text repeats parts of it, passwords too
        raise ConfigurationError("The address of the database is not a PostgreSQL connection string or URI") from None
    with connection:
        version = connection.dialect.server_version_info or (0,)
        if int(version[0]) < OLDEST_POSTGRESQL:
            raise ConfigurationError(
                f"PostgreSQL {version[0]} is too old, {OLDEST_POSTGRESQL} or newer is needed:"
                " upgrade the server, or let AIRFLOW_CONN_SYNC_DB name a newer one"
            )
        connection.exec_driver_sql("SELECT pg_advisory_lock(%s)", (MIGRATION_LOCK,))
        connection.commit()
        before = _current_revisions(connection)
        if unknown := [revision for revision in before if revision not in {each.revision for each in revisions}]:
            raise ConfigurationError(
                f"The database is at revision {', '.join(unknown)}, which this version of the project does not have: a "
                "newer version has migrated it. Update the project, or restore a backup from before"
            )
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        connection.commit()
        after = _current_revisions(connection)
        connection.exec_driver_sql("SELECT pg_advisory_unlock(%s)", (MIGRATION_LOCK,))
        connection.commit()
    engine.dispose()
    ran = [script.revision for script in scripts.iterate_revisions(tuple(after), tuple(before) or "base")]
    return ran[::-1]


def run_sql_beside(revision_file: str) -> None:
    """Run the `.sql` file that stands beside a revision file, in the revision's transaction."""
    sql = Path(revision_file).with_suffix(".sql").read_text(encoding="utf-8")
    driver: Any = op.get_bind().connection.driver_connection
    driver.execute(sql)


def _current_revisions(connection: sqlalchemy.Connection) -> list[str]:
    if connection.exec_driver_sql("SELECT to_regclass('alembic_version')").scalar() is None:
        return []
    return [row[0] for row in connection.exec_driver_sql("SELECT version_num FROM alembic_version")]
