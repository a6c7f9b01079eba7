"""A request as it is sent, and a response before it is decoded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Request:
    """A request without the address of its service. `path` may be a whole URL."""

    method: str
    path: str
    params: Mapping[str, Any] | None
    body: bytes | None
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RawResponse:
    """A response before decoding. The body of a response that is not 2xx is only its beginning."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str
