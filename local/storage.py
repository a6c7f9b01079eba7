"""The folder of the local run: keep it private, detect a full disk, remove old logs."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import time
from pathlib import Path

from local.checkout import LocalError

FULL_BYTES = 32_000_000
"""Less free space counts as full: PostgreSQL allocates its write-ahead log in segments of 16 MB."""
KEPT_DAYS = 7
"""Retention of task logs and of the DAG processor's logs."""

_FREE_SOME = ". Free some space, then run the command again"
_FULL = f": the disk is full{_FREE_SOME}"
_DENIED = ": permission denied. Give your user access to it, or clone the project elsewhere"
_NO_FOLDER = " is a file, but must be a folder: move it away, then run the command again"
_WHAT_TO_DO = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EACCES: _DENIED,
    errno.EPERM: _DENIED,
    errno.EROFS: " is on a read-only file system: clone the project to a folder that you can write to",
    errno.EEXIST: _NO_FOLDER,
    errno.ENOTDIR: _NO_FOLDER,
    errno.EISDIR: " is a folder, but must be a file: move it away, then run the command again",
}


def make_private(state: Path) -> None:
    """Remove all rights of other users, unless the folder is private already."""
    if not state.stat().st_mode & 0o077:
        return
    for folder, folders, files in os.walk(state):
        for name in (*folders, *files):
            path = Path(folder, name)
            mode = path.lstat().st_mode
            if mode & 0o077 and not stat.S_ISLNK(mode):
                path.chmod(stat.S_IMODE(mode) & 0o700)
    state.chmod(0o700)  # last, so that an interrupted walk is repeated


def is_full(path: Path) -> bool:
    """Return whether the disk of this path is too full to continue."""
    return _free_bytes(path) < FULL_BYTES


def check_room(path: Path) -> None:
    """Raise `LocalError` if the disk of this path is full."""
    if is_full(path):
        raise LocalError(full(path))


def full(path: Path) -> str:
    """Return the error message for a full disk."""
    return f"the disk is full: {_free_bytes(path) / 1e6:.0f} MB are free at {path}{_FREE_SOME}"


def explain(error: Exception, state: Path) -> str | None:
    """Return the message for an error of the file system, the database or a connection; None for other errors."""
    import httpx
    import psycopg

    if isinstance(error, psycopg.Error):
        if isinstance(error, psycopg.errors.DiskFull):
            return full(state)
        message = error.diag.message_primary or str(error).strip().partition("\n")[0] or type(error).__name__
        return f"PostgreSQL: {message}"
    if isinstance(error, httpx.HTTPError):
        return f"no valid response: {error}"
    if not isinstance(error, OSError) or error.errno is None:
        return None
    path = error.filename or state
    where = os.fsdecode(path) if isinstance(path, (str, bytes, os.PathLike)) else str(state)
    return f"{where}{_WHAT_TO_DO.get(error.errno, ': ' + (error.strerror or str(error)))}"


def remove_old_logs(task_logs: Path, dag_logs: Path, now: float | None = None) -> int:
    """Remove task logs and DAG processor logs that are older than a week; return the number of removed folders."""
    oldest = (time.time() if now is None else now) - KEPT_DAYS * 86_400
    removed = 0
    for folder in (*task_logs.glob("dag_id=*/run_id=*"), *dag_logs.glob("20*-*-*")):
        if folder.stat().st_mtime < oldest and _newest(folder) < oldest:
            shutil.rmtree(folder, ignore_errors=True)
            removed += 1
    return removed


def _free_bytes(path: Path) -> int:
    while not path.exists() and path != path.parent:
        path = path.parent
    return shutil.disk_usage(path).free


def _newest(folder: Path) -> float:
    """Return when a file below a folder was last written, which need not change the folder's own time."""
    return max((path.lstat().st_mtime for path in folder.rglob("*")), default=0.0)
