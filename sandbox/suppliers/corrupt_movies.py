"""Corrupt records of a showtime listing: the kinds of the fault `bad_records`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

from sandbox.suppliers.corrupt_records import Corruption, write

Edge = Mapping[str, Any]


def _change(change: Callable[[dict[str, Any]], object]) -> Corruption:
    def corrupt(edge: Edge) -> bytes:
        node = copy.deepcopy(edge["node"])
        change(node)
        return write({"node": node})

    return corrupt


def _movie(**values: object) -> Corruption:
    """Give the movie other values; Ellipsis removes a key."""

    def change(node: dict[str, Any]) -> None:
        node["movie"] = {key: value for key, value in (node["movie"] | values).items() if value is not ...}

    return _change(change)


def _showtime(**values: object) -> Corruption:
    """Give the first showtime other values."""
    return _change(lambda node: node["showtimes"][0].update(values))


def _title(change: Callable[[str], str]) -> Corruption:
    return _change(lambda node: node["movie"].update(title=change(node["movie"]["title"])))


BAD_RECORDS: dict[str, Corruption] = {
    "missing_id": _movie(id=...),
    "missing_internal_id": _movie(internalId=...),
    "missing_title": _movie(title=...),
    "missing_type": _movie(type=...),
    "missing_genres": _movie(genres=...),
    "missing_companies": _movie(companies=...),
    "missing_showtimes": _change(lambda node: node.pop("showtimes")),
    "number_id": _movie(id=37832),
    "text_internal_id": _movie(internalId="many"),
    "number_title": _movie(title=1984),
    "list_type": _movie(type=["FEATURE_FILM"]),
    "text_genres": _movie(genres="DRAMA"),
    "null_companies": _movie(companies=None),
    "bad_runtime": _movie(runtime="a while"),
    "null_movie": _change(lambda node: node.update(movie=None)),
    "null_showtimes": _change(lambda node: node.update(showtimes=None)),
    "null_showtime": _change(lambda node: node["showtimes"].__setitem__(0, None)),
    "bad_starts_at": _showtime(startsAt="tomorrow night"),
    "null_starts_at": _showtime(startsAt=None),
    "unknown_version": _showtime(diffusionVersion="MUMBLED"),
    "nul_in_title": _title(lambda title: title + "\0"),
    "lone_surrogate": _title(lambda title: title + "\ud800"),
    "invalid_utf8": lambda edge: _title(lambda title: title + "�")(edge).replace("�".encode(), b"\xff"),
    "long_title": _title(lambda title: (title + " " + "o" * 300)[:300]),
    "not_an_object": lambda edge: write(edge["node"]["movie"]["internalId"]),
}
