"""Object storage for images, and an implementation of it as a folder."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Protocol
from uuid import uuid4


class ObjectStorage(Protocol):
    """Objects by key. Keys are derived from the content, so an existing object need not be written again."""

    def has(self, key: str) -> bool:
        """Whether there is an object with this key."""

    def put(self, key: str, data: bytes, content_type: str) -> None:
        """Write an object atomically; when this returns, it is durable."""


class FolderStorage:
    """A folder with one file per object, created with the first one. It does not store content types."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()

    def has(self, key: str) -> bool:
        """Whether there is an object with this key; ValueError for a key that leads out of the folder."""
        return self._path(key).is_file()

    def put(self, key: str, data: bytes, content_type: str) -> None:  # noqa: ARG002
        """Write an object atomically, also if the power fails; raises ValueError as `has` does, or OSError."""
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{uuid4().hex}.tmp")
        try:
            with unfinished.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)

    def _path(self, key: str) -> Path:
        path = (self._folder / key).resolve()
        if path == self._folder or not path.is_relative_to(self._folder):
            raise ValueError(f"the key {key!r} leads out of the storage")
        return path


def _sync_folder(folder: Path) -> None:
    """Make a new file name durable, on systems that can open folders."""
    with suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
