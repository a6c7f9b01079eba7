"""Bringing a database up to date."""

import os
import re
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from include.errors import ConfigurationError, DatabaseUnavailable
from include.store import migrate as module
from include.store.migrate import migrate

ROOT = Path(__file__).parents[2]


@pytest.fixture
def empty(new_database):
    return new_database(template="template0")


def tables(conninfo):
    with psycopg.connect(conninfo) as connection:
        return {name for (name,) in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}


def major(conninfo):
    with psycopg.connect(conninfo) as connection:
        return connection.info.server_version // 10_000


def test_it_runs_what_is_missing_once(empty):
    ran = migrate(empty)
    assert ran[0] == "0001"
    assert ran == sorted(ran)
    assert migrate(empty) == []
    assert {"product", "offer", "stock", "catalog", "rejected_record", "service_pace"} <= tables(empty)


def test_a_database_of_a_newer_version_is_left_alone_with_one_sentence(empty):
    migrate(empty)
    with psycopg.connect(empty, autocommit=True) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(ConfigurationError, match="at revision 9999, which this version of the project does not have"):
        migrate(empty)
    with psycopg.connect(empty) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("9999",)]


@pytest.mark.parametrize("revision", [None, "0003"])
def test_two_at_once_wait_for_each_other(empty, at_revision, revision):
    conninfo = at_revision(revision) if revision else empty
    command = [sys.executable, "-c", f"from include.store.migrate import migrate; print(migrate({conninfo!r}))"]
    running = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = sorted(one.communicate(timeout=60)[0].strip() for one in running)
    assert [one.returncode for one in running] == [0, 0]
    assert said[1] == "[]"
    assert "'0004'" in said[0]


def test_a_failed_revision_leaves_nothing(empty):
    with psycopg.connect(empty) as connection:
        connection.execute("CREATE TABLE stock (id bigint)")
    with pytest.raises(Exception, match='"stock" already exists'):
        migrate(empty)
    assert "product" not in tables(empty)
    with psycopg.connect(empty) as connection:
        connection.execute("DROP TABLE stock")
    assert migrate(empty)


def test_a_server_that_is_too_old_is_refused(empty, monkeypatch):
    monkeypatch.setattr(module, "OLDEST_POSTGRESQL", 99)
    with pytest.raises(
        ConfigurationError,
        match=rf"PostgreSQL {major(empty)} is too old, 99 or newer is required: .*AIRFLOW_CONN_SYNC_DB",
    ):
        migrate(empty)
    assert tables(empty) == set()


@pytest.mark.parametrize(
    ("conninfo", "error", "message"),
    [
        ("postgresql://someone:hidden-word@127.0.0.1:1/x?connect_timeout=2", DatabaseUnavailable, "cannot be reached"),
        ("host=/nowhere dbname=x", DatabaseUnavailable, "cannot be reached"),
        ("what is this hidden-word", ConfigurationError, "not a PostgreSQL connection string"),
    ],
)
def test_a_server_that_cannot_be_reached(conninfo, error, message):
    with pytest.raises(error, match=message) as raised:
        migrate(conninfo)
    assert "hidden-word" not in str(raised.value)


# Upgrades

RELEASED_VIEWS = {
    "0001": ["load_report"],
    "0002": ["search_report"],
    "0003": [
        "source_event", "source_order", "source_position", "source_offer", "outbound_report", "outbound_problems",
        "outbound_history",
    ],
    "0004": ["load_report", "gone_with_bookings", "fields_held_back", "rejected_report"],
    "0005": [],
    "0006": [],
}  # fmt: skip
"""The views that each revision created when it was released."""

RELEASED_FUNCTION = """
    CREATE FUNCTION release_fields(table_name text, row_id bigint, VARIADIC fields text[] DEFAULT '{}') RETURNS text[]
    LANGUAGE plpgsql AS $$ BEGIN RETURN fields; END $$
"""
"""Stands for the function that revision 0004 created when it was released."""

CATALOG = """
    SELECT 'relation', relname, relkind::text, array_to_string(reloptions, ' '), obj_description(oid, 'pg_class')
    FROM pg_class WHERE relnamespace = 'public'::regnamespace
    UNION ALL
    SELECT 'column', attrelid::regclass::text, format('%s %s', attname, format_type(atttypid, atttypmod)),
           format('%s %s %s', attnotnull, attidentity, pg_get_expr(adbin, adrelid)), col_description(attrelid, attnum)
    FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
    JOIN pg_class ON pg_class.oid = attrelid
    WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v') AND attnum > 0 AND NOT attisdropped
    UNION ALL
    SELECT 'view', viewname, definition, NULL, NULL FROM pg_views WHERE schemaname = 'public'
    UNION ALL
    SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid),
           obj_description(oid, 'pg_constraint')
    FROM pg_constraint WHERE connamespace = 'public'::regnamespace
    UNION ALL
    SELECT 'index', indexname, indexdef, NULL, NULL FROM pg_indexes WHERE schemaname = 'public'
    UNION ALL
    SELECT 'function', proname, pg_get_functiondef(oid), proacl::text, obj_description(oid, 'pg_proc')
    FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    UNION ALL
    SELECT 'trigger', tgrelid::regclass::text, pg_get_triggerdef(oid), NULL, NULL FROM pg_trigger WHERE NOT tgisinternal
"""


def catalog(conninfo):
    """Everything that is defined in a database, with its comments."""
    with psycopg.connect(conninfo) as connection:
        return sorted(connection.execute(CATALOG).fetchall(), key=repr)


def released_view(name, revision):
    text = (module.SQL_FOLDER / "views" / f"{name}.sql").read_text(encoding="utf-8")
    if (name, revision) == ("load_report", "0001"):  # 0004 added these columns
        text = re.sub(r",\s+catalog_scheme\.version AS scheme_version,.*?(?=\nFROM)", "", text, flags=re.DOTALL)
        assert "scheme_version" not in text
    return text


@pytest.fixture
def at_revision(new_database, monkeypatch):
    """A function that makes a database as a release with this newest revision left it, with other comments."""

    def make(revision):
        conninfo = new_database(template="template0")
        with monkeypatch.context() as older:
            upgrade = module.command.upgrade
            older.setattr(module.command, "upgrade", lambda config, _: upgrade(config, revision))
            older.setattr(module, "apply_definitions", lambda connection: None)
            migrate(conninfo)
        with psycopg.connect(conninfo) as connection:
            if revision >= "0004":
                connection.execute(RELEASED_FUNCTION)
            for each, names in RELEASED_VIEWS.items():
                for name in names if each <= revision else ():
                    connection.execute(released_view(name, each))
            connection.execute("COMMENT ON COLUMN stock.price IS 'another comment'")
            connection.execute("COMMENT ON VIEW load_report IS 'another comment'")
        return conninfo

    return make


@pytest.mark.parametrize("revision", RELEASED_VIEWS)
def test_an_upgraded_database_is_identical_to_a_new_one(empty, at_revision, revision):
    migrate(empty)
    older = at_revision(revision)
    before = catalog(older)
    assert migrate(older) == [each for each in RELEASED_VIEWS if each > revision]
    after = catalog(older)
    assert after != before
    assert after == catalog(empty)


def test_every_revision_is_among_those_that_are_tested():
    assert set(RELEASED_VIEWS) == {file.stem[:4] for file in (module.SQL_FOLDER / "versions").glob("*.sql")}


def test_views_and_comments_are_not_in_the_revisions():
    """They are defined once, in `views`, `functions` and `comments.sql`."""
    for file in (module.SQL_FOLDER / "versions").glob("*.sql"):
        assert not re.search(r"(VIEW|COMMENT ON|FUNCTION release_fields)\b", file.read_text(encoding="utf-8")), (
            file.name
        )


def test_every_table_view_and_column_has_a_comment(empty):
    migrate(empty)
    found = [row for row in catalog(empty) if row[0] == "column" or (row[0] == "relation" and row[2] in ("r", "v"))]
    assert len(found) > 400
    assert [row[:3] for row in found if not row[4]] == []


def test_up_to_date_views_are_not_touched(empty):
    """Replacing a view locks it against its readers. Another hash seed gives sets another order."""
    migrate(empty)
    command = [sys.executable, "-c", f"from include.store.migrate import migrate; print(migrate({empty!r}))"]
    with psycopg.connect(empty) as reader:
        reader.execute("SELECT FROM load_report")
        for seed in ("1", "2", "3"):
            environment = {**os.environ, "PYTHONHASHSEED": seed}
            done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
            assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize(
    "change",
    [
        "DROP VIEW load_report",
        "ALTER VIEW source_order RENAME COLUMN code TO order_code; COMMENT ON TABLE alembic_version IS 'older'",
        "COMMENT ON COLUMN stock.price IS NULL; COMMENT ON TABLE alembic_version IS NULL",
    ],
)
def test_changed_views_and_comments_are_applied_without_a_revision(empty, change):
    migrate(empty)
    expected = catalog(empty)
    with psycopg.connect(empty) as connection:
        connection.execute(change)
    assert catalog(empty) != expected
    assert migrate(empty) == []
    assert catalog(empty) == expected


def test_grants_and_views_of_users_on_a_view_stay(at_revision):
    older = at_revision("0003")
    with psycopg.connect(older) as connection:
        connection.execute("GRANT SELECT ON load_report TO PUBLIC")
        connection.execute("CREATE VIEW mine AS SELECT provider, checked FROM load_report")
    migrate(older)
    with psycopg.connect(older) as connection:
        granted = connection.execute("SELECT relacl::text FROM pg_class WHERE relname = 'load_report'").fetchone()[0]
        connection.execute("SELECT * FROM mine")
    assert "=r/" in granted


def test_a_view_that_fails_leaves_the_database_as_it_was(at_revision):
    older = at_revision("0003")
    with psycopg.connect(older) as connection:
        connection.execute("ALTER VIEW source_order RENAME COLUMN code TO order_code")
        connection.execute("CREATE VIEW mine AS SELECT order_code FROM source_order")
    before = catalog(older)
    with pytest.raises(psycopg.errors.DependentObjectsStillExist, match="mine"):
        migrate(older)
    assert catalog(older) == before


def test_records_rejected_before_they_could_be_replayed_are_given_up(at_revision):
    """Whether newer rows exist is unknown."""
    older = at_revision("0003")
    with psycopg.connect(older) as connection:
        connection.execute(
            "WITH made AS (INSERT INTO provider (name, local_class) VALUES ('P', 'P') RETURNING id)"
            " INSERT INTO rejected_record (provider_id, reason, payload) SELECT id, 'bad', '{}' FROM made"
        )
    assert migrate(older)[0] == "0004"
    with psycopg.connect(older) as connection:
        found = connection.execute("SELECT resolution, resolved_at IS NOT NULL FROM rejected_record").fetchall()
    assert found == [("given up", True)]


def test_it_does_not_wait_long_for_a_reader(at_revision, monkeypatch):
    """Bookings would queue behind it."""
    older = at_revision("0003")
    read_text = Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda *args, **more: read_text(*args, **more).replace("'10s'", "'50ms'"))
    with psycopg.connect(older) as reader:
        reader.execute("SET idle_in_transaction_session_timeout = '15s'")  # so that nothing waits forever
        reader.execute("SELECT FROM stock")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            migrate(older)
    assert migrate(older)[0] == "0004"
