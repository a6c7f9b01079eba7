"""How the peers ask for the listing: requests, one page after the other, until an empty one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import requests


def pages(url: str, decode: Callable[[bytes], Any]) -> Iterator[list[dict[str, Any]]]:
    """The records of each page."""
    parameters: dict[str, str | int] = {"limit": 1000}
    with requests.Session() as session:
        while True:
            answer = session.get(url, params=parameters, timeout=60)
            answer.raise_for_status()
            records = decode(answer.content)["stocks"]
            if not records:
                return
            yield records
            parameters["after"] = records[-1]["ref"]
