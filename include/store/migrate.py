"""Brings the database up to date: the revisions of its tables, then its views, functions for users, and comments.

- `include/sql/versions` has the revisions. Each is a small Python file that names its predecessor, and a `.sql` file of
  the same name. A released revision does not change.
- `include/sql/views` and `include/sql/functions` have one `CREATE OR REPLACE` statement per file, and
  `include/sql/comments.sql` describes everything in the database. They fit the newest revision, and are applied again
  when they have changed. A revision that changes a column first drops the views that use it.
"""

from __future__ import annotations

import hashlib
import re
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import sqlalchemy
from alembic import command, op
from alembic.config import Config
from alembic.script import ScriptDirectory

from include.errors import ConfigurationError, DatabaseUnavailable

SQL_FOLDER = Path(__file__).parent.parent / "sql"
OLDEST_POSTGRESQL = 15
MIGRATION_LOCK = 7_230_917_001
"""Key of the advisory lock that lets one migration run at a time."""


def migrate(conninfo: str) -> list[str]:
    """Run the missing revisions; returns them, oldest first.

    All of them, and the views and comments, are one transaction: a failure changes nothing. Concurrent calls wait for
    each other.

    :param conninfo: a PostgreSQL connection string or URI.

    Raises:
        DatabaseUnavailable: PostgreSQL cannot be reached.
        ConfigurationError: `conninfo` is invalid, the server is older than PostgreSQL 15, or a newer version of the
            project has migrated the database.
    """
    import psycopg

    config = Config()
    config.set_main_option("script_location", str(SQL_FOLDER).replace("%", "%%"))  # read by configparser
    scripts = ScriptDirectory.from_config(config)
    revisions = list(scripts.walk_revisions())
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(conninfo), poolclass=sqlalchemy.NullPool
    )
    try:
        connection = engine.connect()
    except sqlalchemy.exc.OperationalError as error:
        raise DatabaseUnavailable(f"PostgreSQL cannot be reached: {str(error.orig).strip()}") from None
    except sqlalchemy.exc.ProgrammingError:  # its text may contain the password
        raise ConfigurationError("The address of the database is not a PostgreSQL connection string or URI") from None
    with connection:
        version = connection.dialect.server_version_info or (0,)
        if int(version[0]) < OLDEST_POSTGRESQL:
            raise ConfigurationError(
                f"PostgreSQL {version[0]} is too old, {OLDEST_POSTGRESQL} or newer is required:"
                " upgrade the server, or set AIRFLOW_CONN_SYNC_DB to a newer one"
            )
        connection.exec_driver_sql("SELECT pg_advisory_lock(%s)", (MIGRATION_LOCK,))
        connection.commit()
        before = _current_revisions(connection)
        if unknown := [revision for revision in before if revision not in {each.revision for each in revisions}]:
            raise ConfigurationError(
                f"The database is at revision {', '.join(unknown)}, which this version of the project does not have: a "
                "newer version has migrated it. Update the project, or restore an older backup"
            )
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        apply_definitions(connection)
        connection.commit()
        after = _current_revisions(connection)
        connection.exec_driver_sql("SELECT pg_advisory_unlock(%s)", (MIGRATION_LOCK,))
        connection.commit()
    engine.dispose()
    ran = [script.revision for script in scripts.iterate_revisions(tuple(after), tuple(before) or "base")]
    return ran[::-1]


def run_sql_file(revision_file: str) -> None:
    """Run the `.sql` file next to a revision file, in the transaction of the migration."""
    _driver(op.get_bind()).execute(Path(revision_file).with_suffix(".sql").read_text(encoding="utf-8"))


def apply_definitions(connection: sqlalchemy.Connection) -> None:
    """Create or replace all views, functions and comments, unless the database has exactly these.

    A comment on Alembic's table stores their digest. `CREATE OR REPLACE` keeps the grants of a view and the views that
    users built on it. It cannot remove or rename columns; in that case all views are dropped first.
    """
    import psycopg

    views = _views()
    others = "\n".join([*_read("functions").values(), (SQL_FOLDER / "comments.sql").read_text(encoding="utf-8")])
    digest = hashlib.sha256("\n".join([*views.values(), others]).encode()).hexdigest()
    version_comment = f"Revision of the database schema. Digest of its views, functions and comments: {digest}"
    driver = _driver(connection)
    driver.execute("SET LOCAL lock_timeout = '10s'")
    missing = driver.execute(
        "SELECT obj_description('alembic_version'::regclass, 'pg_class') IS DISTINCT FROM %s"
        " OR EXISTS (SELECT FROM unnest(%s::text[]) AS name WHERE to_regclass(quote_ident(name)) IS NULL)",
        (version_comment, list(views)),
    ).fetchone()
    if not missing[0]:
        return
    try:
        with driver.transaction():
            driver.execute("\n".join(views.values()))
    except psycopg.errors.InvalidTableDefinition:
        driver.execute(f"DROP VIEW IF EXISTS {', '.join(views)}")
        driver.execute("\n".join(views.values()))
    driver.execute(others)
    driver.execute(f"COMMENT ON TABLE alembic_version IS '{version_comment}'")


def _views() -> dict[str, str]:
    """Return the statements of all views by name, each after the views that it reads."""
    views = _read("views")
    reads = {  # lists, not sets: the order must be the same in every process
        name: [other for other in views if other != name and re.search(rf"\b{other}\b", text)]
        for name, text in views.items()
    }
    return {name: views[name] for name in TopologicalSorter(reads).static_order()}


def _read(folder: str) -> dict[str, str]:
    return {file.stem: file.read_text(encoding="utf-8") for file in sorted((SQL_FOLDER / folder).glob("*.sql"))}


def _driver(connection: sqlalchemy.Connection) -> Any:
    """Return the psycopg connection, which runs several statements at once."""
    return connection.connection.driver_connection


def _current_revisions(connection: sqlalchemy.Connection) -> list[str]:
    if connection.exec_driver_sql("SELECT to_regclass('alembic_version')").scalar() is None:
        return []
    return [row[0] for row in connection.exec_driver_sql("SELECT version_num FROM alembic_version")]
