"""`customerDispo`: what the site tells its customers about an offer's availability."""

from __future__ import annotations

import re

from include.patches.base import Patch, Record, Values

IN_STOCK = "en stock"
AVAILABLE = "disponible"
NEVER_AVAILABLE = (1, 5)
"""Natures whose offers are never shown as available: 1 is 'Elite', 5 is 'Proxauto VO'."""


def customer_dispo(record: Record) -> Values:
    """'disponible' for what is in stock, unless of a nature that never is; else what `disponibiliteForFO` says."""
    if "disponibiliteForFO" not in record:
        return {}
    availability = record["disponibiliteForFO"]
    if availability == IN_STOCK and _number(record.get("nature")) not in NEVER_AVAILABLE:
        return {"customerDispo": AVAILABLE}
    return {"customerDispo": availability}


def near_miss(record: Record) -> str | None:
    """Tell of an availability that is meant as 'en stock' but not written so."""
    availability = record.get("disponibiliteForFO")
    if not isinstance(availability, str) or availability == IN_STOCK:
        return None
    if re.sub(r"[\s_-]+", " ", availability).strip().casefold() == IN_STOCK:
        return f"disponibiliteForFO {availability!r} is not {IN_STOCK!r}"
    return None


def _number(nature: object) -> float | None:
    """A nature as a number, also from text; true and false are none."""
    if isinstance(nature, bool) or not isinstance(nature, int | float | str):
        return None
    try:
        return float(nature)
    except (ValueError, OverflowError):
        return None


CUSTOMER_DISPO = Patch(
    "customer_dispo", ("disponibiliteForFO", "nature"), ("customerDispo",), customer_dispo, near_miss
)
