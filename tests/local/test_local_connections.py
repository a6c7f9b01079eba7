"""An Airflow connection becomes a PostgreSQL connection string."""

import pytest
from psycopg.conninfo import conninfo_to_dict

from local.checkout import LocalError
from local.connections import conninfo


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "postgres://u:p%40ss@db.example.org:5433/sync",
            "host=db.example.org port=5433 user=u password=p@ss dbname=sync",
        ),
        ("postgresql://db/sync?sslmode=require&cursor=dict", "host=db dbname=sync sslmode=require"),
        ("postgres://u@%2Frun%2Fsocket/sync", "host=/run/socket user=u dbname=sync"),
        (
            'postgres://db/sync?__extra__={"sslmode": "require", "options": "-c x=1"}',
            "host=db dbname=sync sslmode=require options='-c x=1'",
        ),
        ("postgres://u@[::1]:5432/sync", "host=::1 port=5432 user=u dbname=sync"),
        ("postgres:///sync", "dbname=sync"),
        (
            '{"conn_type": "postgres", "host": "db", "port": 5433, "login": "u", "password": "a b", "schema": "sync"}',
            "host=db port=5433 user=u password='a b' dbname=sync",
        ),
        (
            ' {"host": "db", "schema": "sync", "extra": {"sslmode": "require", "iam": false}}',
            "host=db dbname=sync sslmode=require",
        ),
        (
            '{"conn_type": "postgres", "host": "db", "extra": "{\\"connect_timeout\\": 3}"}',
            "host=db connect_timeout=3",
        ),
    ],
)
def test_both_forms(text, expected):
    assert conninfo_to_dict(conninfo("AIRFLOW_CONN_SYNC_DB", text)) == conninfo_to_dict(expected)


@pytest.mark.parametrize(
    "text",
    [
        "mysql://u:secret@db/x",
        "",
        "{x",
        '["a"]',
        '{"conn_type": "http"}',
        "postgres://db:port/x",
        "postgres://db/x?__extra__={bad",
        "postgres://db/x?__extra__=[1]",
        '{"conn_type": "postgres", "extra": "[1]"}',
    ],
)
def test_an_unusable_connection_is_an_error_with_its_name(text):
    with pytest.raises(LocalError, match="AIRFLOW_CONN_SYNC_DB") as error:
        conninfo("AIRFLOW_CONN_SYNC_DB", text)
    assert error.value.status == 2
    assert "secret" not in str(error.value)
