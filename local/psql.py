"""`make psql`: open psql on the database, from the package of the embedded PostgreSQL."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from local import database, postgres
from local.checkout import LocalError

if TYPE_CHECKING:
    from local.context import Local

NO_DATABASE = 2
"""psql's exit status for a failed connection."""


def psql(local: Local, statement: str, words: Sequence[str]) -> int:
    """Open psql, or run one statement; return psql's exit status."""
    with database.reachable(local, "psql") as conninfo:
        if conninfo is None:
            raise LocalError(f"there is no database yet. {database.NOTHING_YET}", NO_DATABASE)
        options, env = connection_options(conninfo, local.user_env, is_ours=not local.own_database)
        command = [str(program()), *options, *words]
        if statement.strip():
            command += ["--no-psqlrc", "--pset=pager=off", "--command", statement]
        return run_in_foreground(command, env)


def program() -> Path:
    """Return the newest psql of the embedded PostgreSQL's package, or the one in PATH."""
    ours = postgres.programs_folder() / "psql"
    if not ours.exists() and (path := shutil.which("psql")):
        return Path(path)
    return ours


def connection_options(
    conninfo: str, inherited: Mapping[str, str], *, is_ours: bool
) -> tuple[list[str], dict[str, str]]:
    """Return psql's arguments (visible to other users of the machine) and its environment (invisible to them).

    For the embedded server (`is_ours`), the user's PG… variables are ignored.
    """
    from psycopg.conninfo import conninfo_to_dict, make_conninfo
    from psycopg.pq import Conninfo

    known = {option.keyword.decode(): option for option in Conninfo.get_defaults()}
    theirs = {option.envvar.decode() for option in known.values() if option.envvar} if is_ours else set()
    env = {name: value for name, value in inherited.items() if name not in theirs | {"PGSERVICE"}}
    rest: dict[str, str] = {}
    for keyword, value in conninfo_to_dict(conninfo).items():
        option = known.get(keyword)
        if option is None or value is None:
            continue
        if option.envvar:
            env[option.envvar.decode()] = str(value)
        elif option.dispchar != b"*":  # psql asks for a secret that has no variable
            rest[keyword] = str(value)
    return ([f"--dbname={make_conninfo(**rest)}"] if rest else []), env


def run_in_foreground(command: Sequence[str], env: Mapping[str, str]) -> int:
    """Run a program to its end; return its exit status.

    In a terminal, Ctrl-C goes to the program only: psql cancels the running statement and continues, so neither this
    process nor `make` may stop.
    """
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC) if sys.stdin.isatty() else None
    except OSError:
        terminal = None
    if terminal is None:
        return _status(subprocess.run(command, env=dict(env), check=False).returncode)

    def to_front() -> None:
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # otherwise a background group that takes the terminal is stopped
        os.setpgid(0, 0)
        os.tcsetpgrp(terminal, os.getpgrp())
        signal.signal(signal.SIGTTOU, signal.SIG_DFL)
        signal.signal(signal.SIGTSTP, signal.SIG_IGN)  # nothing could resume it after Ctrl-Z

    before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    try:
        return _status(subprocess.run(command, env=dict(env), check=False, preexec_fn=to_front).returncode)
    finally:
        os.tcsetpgrp(terminal, os.getpgrp())
        signal.signal(signal.SIGTTOU, before)
        os.close(terminal)


def _status(returncode: int) -> int:
    """Convert to a shell's exit status: 128 plus the signal's number for a killed program."""
    return 128 - returncode if returncode < 0 else returncode
