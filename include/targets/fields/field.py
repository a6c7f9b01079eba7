"""What a source field is, its categories, and how values are written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec

Inputs = Mapping[str, Any]
Getter = Callable[[Inputs], Any]

NUMBER = "N"
TEXT = "S"
LONG_TEXT = "T"
YES_NO = "B"
CHOICE = "C"
CHOICES = "M"
DATE = "D"
TIME = "H"
DATETIME = "W"
COUNTRY = "CC"
PHONE = "TEL"
FILE = "F"


class Category(msgspec.Struct, frozen=True):
    """Under what a field is shown; categories are shown by `sort`."""

    sort: int
    label: str


POSITION = Category(10, "Order position")
ATTENDEE = Category(11, "Attendee")
QUESTIONS = Category(12, "Questions")
PRODUCT = Category(20, "Product")
ORDER = Category(21, "Order")
INVOICE_ADDRESS = Category(22, "Invoice address")
EVENT = Category(30, "Event")
DATES = Category(31, "Event or its date")
OFFER = Category(40, "Offer")
STOCK = Category(41, "Stock")


class Field(msgspec.Struct, frozen=True):
    """A fact that can be sent.

    - `required_input`: the key of the inputs without which there is no such fact.
    - `getter`: takes the inputs; returns a list of option ids for a choice, a bool for yes or no, else text or None.
      Dates are ISO 8601 in UTC, numbers decimal: "23.00".
    - `enum_opts`: (value, label) of the values that a choice can have.
    - `is_deprecated`: kept for mappings that have it, not offered to new ones.
    """

    key: str
    label: str
    type: str
    category: Category
    required_input: str
    getter: Getter
    enum_opts: list[tuple[str, str]] = []
    is_deprecated: bool = False


def iso(moment: datetime | None) -> str | None:
    """ISO 8601 in UTC, whatever the time zone of the session that read it."""
    if moment is None:
        return None
    return (moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)).isoformat()


def amount(value: Decimal | None) -> str | None:
    """An amount of money with two places."""
    return None if value is None else f"{value:.2f}"


def whole(value: int | None) -> str | None:
    """A whole number as text."""
    return None if value is None else str(value)
