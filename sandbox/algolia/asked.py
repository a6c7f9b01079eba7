"""What a call of `algolia` asks for, and how it is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import msgspec

from sandbox.algolia.logs import Logs
from sandbox.algolia.store import Index, Store

T = TypeVar("T")


class Refused(Exception):
    """The call is answered with this status and message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def parse(text: bytes, kind: type[T]) -> T:
    """Read JSON that must be of this kind."""
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(400, str(error)) from error


@dataclass
class Asked:
    """One call."""

    store: Store
    logs: Logs
    path: dict[str, str]
    """What the path names: `index`, `object`, `task`."""
    query: dict[str, str]
    body: bytes
    rights: frozenset[str] = frozenset()
    again: bool = False
    """Whether a browse shall come to the same page again."""
    operations: int = 1
    """How many operations the log counts."""
    hits: int | None = None
    """How many records a search or a browse found."""

    def need(self, right: str) -> None:
        """Refuse a key that has not this right."""
        if not self.rights & {right, "*"}:
            raise Refused(403, "Method not allowed with this API key")

    @property
    def name(self) -> str:
        """The name of the index."""
        return self.path["index"]

    @property
    def index(self) -> Index:
        """The index, which must exist."""
        index = self.store.indices.get(self.name)
        if index is None:
            raise Refused(404, f"Index {self.name} does not exist")
        return index

    def read(self, kind: type[T]) -> T:
        """Return the body, which must be of this kind."""
        return parse(self.body or b"{}", kind)

    def number(self, name: str, default: int, least: int, most: int) -> int:
        """Return a number of the query."""
        text = self.query.get(name, str(default))
        if not text.isdecimal() or not least <= int(text) <= most:
            raise Refused(400, f"Invalid value for {name}: {text}")
        return int(text)
