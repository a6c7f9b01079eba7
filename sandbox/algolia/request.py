"""A request to the Algolia stand-in, and the error that refuses one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import msgspec

from sandbox.algolia.logs import Logs
from sandbox.algolia.store import Index, Store

T = TypeVar("T")


class ApiError(Exception):
    """An error response with a status and a message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def parse(text: bytes, kind: type[T]) -> T:
    """Decode JSON as a type; raise `ApiError` (400) if it does not match."""
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ApiError(400, str(error)) from error


@dataclass
class ApiRequest:
    """A request after routing."""

    store: Store
    logs: Logs
    path: dict[str, str]
    """Values of the path: `index`, `object`, `task`."""
    query: dict[str, str]
    body: bytes
    rights: frozenset[str] = frozenset()
    repeats_page: bool = False
    """Whether a browse returns the cursor of its own page: the fault `repeat_page`."""
    operations: int = 1
    """Number of operations, for the log."""
    hits: int | None = None
    """Number of records that a search or a browse found, for the log."""

    def require(self, right: str) -> None:
        """Raise `ApiError` (403) unless the API key has this right."""
        if not self.rights & {right, "*"}:
            raise ApiError(403, "Method not allowed with this API key")

    @property
    def name(self) -> str:
        """The name of the index."""
        return self.path["index"]

    @property
    def index(self) -> Index:
        """The index; raises `ApiError` (404) if it does not exist."""
        index = self.store.indices.get(self.name)
        if index is None:
            raise ApiError(404, f"Index {self.name} does not exist")
        return index

    def read(self, kind: type[T]) -> T:
        """Decode the body as a type; raise `ApiError` (400) if it does not match."""
        return parse(self.body or b"{}", kind)

    def number(self, name: str, default: int, minimum: int, maximum: int) -> int:
        """Return a number of the query string; raise `ApiError` (400) if it is invalid or out of range."""
        text = self.query.get(name, str(default))
        if not text.isdecimal() or not minimum <= int(text) <= maximum:
            raise ApiError(400, f"Invalid value for {name}: {text}")
        return int(text)
