"""The type of source fields, their categories and type codes, and the format of values."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal

import msgspec

from include.models.orders import Inputs, Value

Getter = Callable[[Inputs], Value]

# Type codes of source fields. Questions have the same codes, and only they have TIME, DATE, PHONE and FILE.
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
    """A group of fields in forms; `sort` orders the groups."""

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
    """A source field.

    - `getter`: takes the inputs. Returns a list of option ids for a choice, a bool for yes/no, otherwise text or None.
      Dates are ISO 8601 in UTC, numbers are decimal text: "23.00".
    - `required_input`: the key of the inputs that the getter needs.
    - `enum_opts`: (value, label) pairs of the options of a choice.
    - `is_deprecated`: existing mappings may use it, forms do not offer it.
    """

    key: str
    label: str
    type: str
    category: Category
    getter: Getter
    required_input: str
    enum_opts: list[tuple[str, str]] = []
    is_deprecated: bool = False


def iso(moment: datetime | None) -> str | None:
    """Format a time as ISO 8601 in UTC; one without a time zone counts as UTC."""
    if moment is None:
        return None
    return (moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)).isoformat()


def amount(value: Decimal | None) -> str | None:
    """Format an amount of money with two decimal places."""
    return None if value is None else f"{value:.2f}"


def whole(value: int | None) -> str | None:
    """Format an integer."""
    return None if value is None else str(value)
