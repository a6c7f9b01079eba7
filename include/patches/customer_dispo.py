"""`customerDispo`: the availability of an offer as the site shows it to customers."""

from __future__ import annotations

import re

from include.patches.base import Patch, Record, Values

IN_STOCK = "en stock"
AVAILABLE = "disponible"
NEVER_AVAILABLE = (1, 5)
"""Natures whose offers are never shown as available: 1 is 'Elite', 5 is 'Proxauto VO'."""


def customer_dispo(record: Record) -> Values:
    """Return 'disponible' for an offer in stock, unless its nature is in `NEVER_AVAILABLE`.

    Any other offer gets the value of `disponibiliteForFO`; null stays null. A record without that attribute is left
    unchanged.
    """
    if "disponibiliteForFO" not in record:
        return {}
    availability = record["disponibiliteForFO"]
    if availability == IN_STOCK and _number(record.get("nature")) not in NEVER_AVAILABLE:
        return {"customerDispo": AVAILABLE}
    return {"customerDispo": availability}


def near_miss(record: Record) -> str | None:
    """Return a remark on an availability that is 'en stock' except for case, spaces, hyphens or underscores."""
    availability = record.get("disponibiliteForFO")
    if not isinstance(availability, str) or availability == IN_STOCK:
        return None
    if re.sub(r"[\s_-]+", " ", availability).strip().casefold() == IN_STOCK:
        return f"disponibiliteForFO {availability!r} is not {IN_STOCK!r}"
    return None


def _number(nature: object) -> float | None:
    """Return a nature as a number, also if it is written as text; None for booleans and everything else."""
    if isinstance(nature, bool) or not isinstance(nature, int | float | str):
        return None
    try:
        return float(nature)
    except (ValueError, OverflowError):
        return None


CUSTOMER_DISPO = Patch(
    "customer_dispo",
    reads=("disponibiliteForFO", "nature"),
    writes=("customerDispo",),
    values=customer_dispo,
    remark=near_miss,
)
