"""The tests' PostgreSQL servers: the embedded one, or the version that `PG` and `PG_BIN` ask for."""

import os
import pwd
import shutil
import subprocess
from pathlib import Path

from local import postgres as embedded
from tests.postgres_programs import FETCHED, VersionMissing, programs

_UNPRIVILEGED = "nobody"  # PostgreSQL refuses to run as root


def chosen_programs() -> Path | None:
    """The programs that the environment asks for; None for the embedded server."""
    return programs(version=os.environ.get("PG", ""), folder=os.environ.get("PG_BIN", ""))


def start(data: Path) -> embedded.Server:
    """Start a server, or start it again after a stop, and wait until it answers; `embedded.stop(data)` ends it."""
    folder = chosen_programs()
    if folder is None:
        return embedded.start(data)
    data.mkdir(parents=True, exist_ok=True)
    data = data.resolve()
    if os.geteuid() == 0:
        folder = _readable(folder, data)
    if not (data / "PG_VERSION").exists():
        _run([folder / "initdb", "-D", data, "-U", "postgres", "--auth=trust", "--encoding=utf8", "--no-sync"], data)
    started = [folder / "pg_ctl", "-w", "-D", data, "-l", data / "log", "-o", f"-h '' -k '{data}' -p 5432", "start"]
    _run(started, data)
    return embedded.Server(data, str(data), 5432)


def _readable(folder: Path, data: Path) -> Path:
    """Let an unprivileged user own the data and run the programs, which it may not reach where they are."""
    user = pwd.getpwnam(_UNPRIVILEGED)
    os.chown(data, user.pw_uid, user.pw_gid)
    data.parent.chmod(0o711)
    try:
        subprocess.run([folder / "postgres", "--version"], check=True, capture_output=True, user=_UNPRIVILEGED, cwd="/")
    except PermissionError:
        if not folder.is_relative_to(FETCHED):
            raise VersionMissing(f"{_UNPRIVILEGED}, as whom PostgreSQL runs for root, cannot read {folder}") from None
        package = FETCHED / folder.relative_to(FETCHED).parts[0]
        copy = data.with_name(package.name)
        if not copy.exists():
            shutil.copytree(package, copy, symlinks=True)
            for each in (copy, *copy.rglob("*")):
                os.chown(each, user.pw_uid, user.pw_gid, follow_symlinks=False)
        return copy / folder.relative_to(package)
    return folder


def _run(command: list[str | Path], data: Path) -> None:
    """Run a program as a user who is not root. Its output goes to a file: the server inherits and keeps it open."""
    privileges = {}
    if os.geteuid() == 0:
        user = pwd.getpwnam(_UNPRIVILEGED)
        privileges = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    said = data.with_name(f"{Path(command[0]).name}.log")
    with said.open("w") as output:
        ended = subprocess.run(command, cwd=data, stdout=output, stderr=subprocess.STDOUT, check=False, **privileges)
    if ended.returncode:
        raise RuntimeError(f"{Path(command[0]).name} failed:\n{said.read_text()}")
