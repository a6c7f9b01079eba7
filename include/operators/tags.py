"""The tags of the DAGs: one of each family."""

from __future__ import annotations

from enum import StrEnum


class Movement(StrEnum):
    """Which way data flows."""

    INBOUND = "inbound"
    SEARCH = "search"
    OUTBOUND = "outbound"


class Subject(StrEnum):
    """What it is about."""

    STOCKS = "stocks"
    SHOWTIMES = "showtimes"
    OFFERS = "offers"
    ORDERS = "orders"
    LINKS = "links"
