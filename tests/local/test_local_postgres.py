"""The embedded PostgreSQL starts, stops, restarts after a kill, runs in any folder, and reports why it does not."""

import os
import signal
import tempfile
import time
from pathlib import Path

import psutil
import psycopg
import pytest

from local import postgres
from local.checkout import LocalError


@pytest.fixture
def data():
    # Not in pytest's folder, which other users may not enter: as root, we run the server as another user.
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
    assert postgres.start(data) == server  # already running

    killed = psutil.Process(postmaster(data))
    killed.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while postgres.is_running(data):
        assert time.monotonic() < deadline
    assert postgres.how_it_ended(data) == "was killed (signal 9)"
    # The pid now belongs to another process, which must not be mistaken for the server.
    pid_file = data / "postmaster.pid"
    pid_file.write_text("\n".join([str(os.getpid()), *pid_file.read_text().splitlines()[1:]]) + "\n")
    assert not postgres.is_running(data)
    server = postgres.start(data)
    with psycopg.connect(server.conninfo("one")) as connection:
        assert connection.execute("SELECT a FROM kept").fetchone() == (1,)

    postgres.stop(data)
    assert not postgres.is_running(data)
    postgres.stop(data)


@pytest.fixture
def folder():
    with tempfile.TemporaryDirectory(dir="/tmp") as made:
        yield Path(made)


@pytest.mark.parametrize("name", ["a b", "l'été", 'say "hi"', "back\\slash", "100%s", "$HOME`id`", "a,b", "漢字"])
def test_it_starts_in_a_folder_of_any_name(folder, name):
    data = folder / name / ".local" / "postgres"
    server = postgres.start(data)
    try:
        with psycopg.connect(server.conninfo("postgres")) as connection:
            assert connection.execute("SHOW data_directory").fetchone() == (str(data),)
        assert Path(server.socket_folder).stat().st_mode & 0o077 == 0
    finally:
        postgres.stop(data)
    assert not postgres.is_running(data)


def test_a_new_folder_stays_private_and_an_error_that_cannot_pass_is_reported_at_once(folder):
    data, half = folder / ".local" / "postgres", folder / ".local" / "postgres.new"
    data.parent.mkdir(mode=0o700)
    half.mkdir()  # left over from an interrupted creation
    (half / "PG_VERSION").write_text("18\n")
    postgres.start(data)
    assert not half.exists()
    postgres.stop(data)
    assert data.parent.stat().st_mode & 0o777 == 0o700
    (data / "postgresql.auto.conf").write_text("shared_buffers = 'a lot'\n")
    begin = time.monotonic()
    with pytest.raises(LocalError, match=r'did not start: invalid value for parameter "shared_buffers".*\n.*log: /'):
        postgres.start(data)
    assert time.monotonic() - begin < 10
