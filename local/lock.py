"""One local run per clone. The lock is the kernel's: it ends with the process that held it, however that ended."""

from __future__ import annotations

import fcntl
import json
import os
import time
from pathlib import Path
from typing import Any

from local.checkout import LocalError


class Busy(LocalError):
    """Another command runs in this clone; `holder` is what it says about itself."""

    def __init__(self, holder: dict[str, Any]) -> None:
        command, pid = holder.get("command", "another command"), holder.get("pid", "unknown")
        super().__init__(
            f"`make {command}` is already running in this clone (process {pid}): "
            f"end it first, with Ctrl-C or `kill {pid}`"
        )
        self.holder = holder


class CheckoutLock:
    """Held from `acquire` to `release`. The file tells others who holds it, and where to reach its Airflow."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None
        self._told: dict[str, Any] = {}

    def acquire(self, command: str) -> None:
        """Take the lock, or raise `Busy`."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        for _ in range(3):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.02)  # somebody may have looked whether it is held
        else:
            os.close(descriptor)
            raise Busy(self.holder())
        self._descriptor = descriptor
        self._told = {}
        self.tell(command=command, pid=os.getpid())

    def tell(self, **facts: Any) -> None:
        """Add to what others can read."""
        if self._descriptor is None:
            raise RuntimeError("the lock is not held")
        self._told |= facts
        text = json.dumps(self._told).encode()
        os.pwrite(self._descriptor, text, 0)
        os.ftruncate(self._descriptor, len(text))

    def holder(self) -> dict[str, Any]:
        """What the holder says about itself; empty if nobody holds the lock, or if that cannot be read just now."""
        for _ in range(5):
            if not self._is_held():
                return {}
            try:
                told = json.loads(self.path.read_text(encoding="utf-8"))
            except (FileNotFoundError, json.JSONDecodeError):
                time.sleep(0.05)
                continue
            return dict(told)
        return {}

    def _is_held(self) -> bool:
        """The text of a killed holder stays in the file; the kernel's lock does not."""
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
        """Give the lock back; the file stays, and is empty."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)  # a child between its fork and its exec has it open too
            os.close(self._descriptor)
            self._descriptor = None
