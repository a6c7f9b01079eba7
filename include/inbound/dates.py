"""Which is newer: a record or the stored row. A record never overwrites values of a later date.

`Table.update` repeats the rule in SQL, which also covers writes between the lookup and the update. Stored dates are
those up to which *this provider* has written a row, in seconds since 1970; None if it never has.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from include.providers.base import ProvidableInfo

FUTURE_TOLERANCE = timedelta(days=1)
"""A date further ahead of our clock is ignored: it would keep later corrections out."""


class Dates:
    """The dates that decide about the records of a chunk, whose first page was requested at `requested_at`.

    `until` is the end of the interval that is read, if any, and `watermark` the start of the last complete run.
    """

    def __init__(self, requested_at: datetime, until: datetime | None, watermark: datetime | None) -> None:
        self.latest = requested_at + FUTURE_TOLERANCE
        self.undated = requested_at if until is None else min(requested_at, until)
        """The date of records that have none."""
        self.undated_time = self.undated.timestamp()
        # Only the end of an interval is compared with the watermark: request times come from another clock.
        self.undated_is_old = until is not None and watermark is not None and self.undated < watermark
        """A complete run since then has seen everything: undated records cannot change existing rows."""

    def may_change(self, info: ProvidableInfo, stored: float | None) -> bool:
        """Whether a record may change a row with this date. `compare` inlines this rule."""
        if info.role == "create only":
            return False
        date = info.date_modified_at_provider
        if date is None:
            return self._undated_may_change(stored)
        return stored is None or stored < date.timestamp()

    def may_change_images(self, info: ProvidableInfo, stored: float | None) -> bool:
        """Whether a record's images may replace those of a row with this date, which may be equal."""
        date = info.date_modified_at_provider
        if date is None:
            return self._undated_may_change(stored)
        return stored is None or stored <= date.timestamp()

    def row_is_newer(self, info: ProvidableInfo, stored: float | None) -> bool:
        """Whether a row with this date is newer than a record that would take it over under another key."""
        return stored is not None and stored > (info.date_modified_at_provider or self.undated).timestamp()

    def _undated_may_change(self, stored: float | None) -> bool:
        return not self.undated_is_old and (stored is None or stored <= self.undated_time)
