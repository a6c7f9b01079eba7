"""Tags of the DAGs. Each DAG has one `Movement` and one `Subject`."""

from __future__ import annotations

from enum import StrEnum


class Movement(StrEnum):
    """The direction of the data."""

    INBOUND = "inbound"
    SEARCH = "search"
    OUTBOUND = "outbound"


class Subject(StrEnum):
    """The kind of the data."""

    STOCKS = "stocks"
    SHOWTIMES = "showtimes"
    OFFERS = "offers"
    ORDERS = "orders"
    LINKS = "links"
