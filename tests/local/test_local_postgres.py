"""The embedded PostgreSQL: starts, stops, starts again after a kill, also under a long path."""

import os
import signal
import tempfile
from pathlib import Path

import psutil
import psycopg
import pytest

from local import postgres


@pytest.fixture
def data():
    # Not in pytest's folder, which others may not enter: the server runs as a user of its own when we are root.
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        path = Path(folder) / ("long" * 30) / "postgres"
        path.parent.mkdir()
        Path(folder).chmod(0o755)
        yield path
        postgres.stop(path)


def postmaster(data: Path) -> int:
    return int((data / "postmaster.pid").read_text().split()[0])


def test_its_life(data):
    server = postgres.start(data)
    postgres.create_databases(server, "one", "two")
    postgres.create_databases(server, "one", "two")
    with psycopg.connect(server.conninfo("one")) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS a")
    assert postgres.start(data) == server  # found running

    killed = psutil.Process(postmaster(data))
    killed.send_signal(signal.SIGKILL)
    killed.wait(10)
    assert not postgres.is_running(data)
    # The number now belongs to somebody else, who is not to be taken for the server.
    pid_file = data / "postmaster.pid"
    pid_file.write_text("\n".join([str(os.getpid()), *pid_file.read_text().splitlines()[1:]]) + "\n")
    assert not postgres.is_running(data)
    server = postgres.start(data)
    with psycopg.connect(server.conninfo("one")) as connection:
        assert connection.execute("SELECT a FROM kept").fetchone() == (1,)

    postgres.stop(data)
    assert not postgres.is_running(data)
    postgres.stop(data)
