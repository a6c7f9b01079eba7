"""Venue links: which provider feeds which venue."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec


class VenueLink(msgspec.Struct, frozen=True):
    """A row of `venue_provider` with the columns of its venue that providers need."""

    id: int
    venue_id: int
    venue_id_at_offer_provider: str
    """The venue's id at the provider; for bookshops its SIRET."""
    siret: str | None = None
    venue_name: str = ""
    departement_code: str | None = None
    booking_email: str | None = None
    withdrawal_details: str | None = None
    internal_id: str | None = None
    """A second id of the venue at the provider, from `provider_pivot`."""
    settings: dict[str, Any] = msgspec.field(default_factory=dict)
    """Settings of this link, such as prices; the provider class defines their shape."""

    @property
    def label(self) -> str:
        """The name of this link in logs and reports."""
        return f"{self.venue_name or self.venue_id_at_offer_provider} (link {self.id})"


class LinkStatus(VenueLink, frozen=True, kw_only=True):
    """A venue link with its provider and the number of rows that it feeds (0 unless counted)."""

    provider: str
    """`provider.local_class`."""
    provider_id: int
    is_active: bool
    last_sync_date: datetime | None = None
    offers: int = 0
    stocks: int = 0
    stocks_on_sale: int = 0
