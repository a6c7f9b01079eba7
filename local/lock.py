"""The lock that allows one command per checkout. The kernel releases it however its process ends."""

from __future__ import annotations

import fcntl
import json
import os
import time
from pathlib import Path
from typing import Any

from local.checkout import LocalError


class Busy(LocalError):
    """Another command is running in this checkout; `holder` is what it published."""

    def __init__(self, holder: dict[str, Any]) -> None:
        command, pid = holder.get("command", "another command"), holder.get("pid", "unknown")
        super().__init__(
            f"`make {command}` is already running in this checkout (process {pid}): "
            f"stop it first, with Ctrl-C or `kill {pid}`"
        )
        self.holder = holder


class CheckoutLock:
    """The lock and its file, in which the owner publishes facts for other commands, such as Airflow's URL."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None
        self._facts: dict[str, Any] = {}

    def acquire(self, command: str) -> None:
        """Take the lock, or raise `Busy`."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        for _ in range(3):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.02)  # another command may be testing the lock
        else:
            os.close(descriptor)
            raise Busy(self.holder())
        self._descriptor = descriptor
        self._facts = {}
        self.publish(command=command, pid=os.getpid())

    def publish(self, **facts: Any) -> None:
        """Add facts for other commands to read with `holder`. Values must be JSON."""
        if self._descriptor is None:
            raise RuntimeError("the lock must be acquired first")
        self._facts |= facts
        text = json.dumps(self._facts).encode()
        os.pwrite(self._descriptor, text, 0)
        os.ftruncate(self._descriptor, len(text))

    def holder(self) -> dict[str, Any]:
        """Return what the lock's owner published; empty if the lock is free or the file cannot be read."""
        for _ in range(5):
            if not self._is_locked():
                return {}
            try:
                facts = json.loads(self.path.read_text(encoding="utf-8"))
            except (FileNotFoundError, json.JSONDecodeError):
                time.sleep(0.05)
                continue
            return dict(facts)
        return {}

    def _is_locked(self) -> bool:
        """Test the kernel lock: unlike the file's content, it does not survive a killed owner."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def release(self) -> None:
        """Release the lock and empty its file."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            # Closing is not enough: a child between fork and exec has the file open too.
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            os.close(self._descriptor)
            self._descriptor = None
