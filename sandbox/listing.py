"""What a venue lists: which book stands in which row, and which rows a generation changed.

- Book `number` of the catalogue has an EAN-13, and a higher number has a higher one. Venues list overlapping runs of
  numbers, so they share books; the venues beyond `venues` (other suppliers') begin again with the first run.
- A generation changes exactly its percentage of a venue's rows. The rows are cut into as many slices as rows are to
  change, and a hash picks one row of each slice: so a range can be asked for what changed in it, in order, without
  looking at its other rows.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from sandbox.world import Generation, Settings, World, salt, scatter

_PREFIX = "9782"
_WINDOW = 100_000  # rows looked at together when the changes of several generations are counted

# The weighted sums of four digits: an EAN-13's check digit comes from three of them.
_SUMS = [sum((3 if place % 2 else 1) * int(digit) for place, digit in enumerate(f"{n:04d}")) for n in range(10_000)]


def eans(settings: Settings, numbers: Iterable[int]) -> list[str]:
    """Return the EAN-13s of catalogue numbers."""
    stride = 10**8 // settings.catalogue_size
    by = salt(settings.seed, "ean")
    prefix_sum = _SUMS[int(_PREFIX)]
    found = []
    for number in numbers:
        middle = number * stride + scatter(number, by) % stride
        check = -(prefix_sum + _SUMS[middle // 10_000] + _SUMS[middle % 10_000]) % 10
        found.append(f"{_PREFIX}{middle:08d}{check}")
    return found


@dataclass(frozen=True)
class Listing:
    """The rows of one venue at one moment; a row is told by its index. Venues are numbered here."""

    settings: Settings
    generations: tuple[Generation, ...]
    venue: int

    @classmethod
    def of(cls, world: World, venue: int) -> Listing:
        """Return the listing as it is now."""
        return cls(world.settings, world.generations, venue)

    def refs(self, indexes: Iterable[int]) -> list[str]:
        """Return the references of rows."""
        first = self.venue % self.settings.venues * self.settings.shift
        return eans(self.settings, (first + index for index in indexes))

    def behind(self, ref: str) -> int:
        """Return the index of the first row behind `ref`, which need not be in the listing."""
        return bisect_right(range(self.settings.books), ref, key=lambda index: self.refs([index])[0])

    def first_generation(self, since: datetime | None) -> int:
        """Return the first generation at or after a moment; all of them have passed when it is in the future."""
        return bisect_left(self.generations, since, key=lambda generation: generation.at) if since else 0

    def _count(self, generation: int) -> int:
        return max(1, round(self.settings.books * self.generations[generation].percent / 100))

    def _changed(self, generation: int, low: int, high: int) -> Sequence[int]:
        books, count = self.settings.books, self._count(generation)
        if low >= high or count == books:
            return range(low, high)
        by = salt(self.settings.seed, "changed", self.venue, generation)
        found = []
        for part in range(((low + 1) * count - 1) // books, (high * count - 1) // books + 1):
            start = part * books // count
            index = start + scatter(part, by) % ((part + 1) * books // count - start)
            if low <= index < high:
                found.append(index)
        return found

    def changed(self, first: int, low: int, high: int) -> Sequence[int]:
        """Return the rows in `low <= index < high` that generation `first` or a later one changed, in order."""
        later = range(first, len(self.generations))
        if any(self._count(generation) == self.settings.books for generation in later):
            return range(low, high)
        if len(later) == 1:
            return self._changed(first, low, high)
        return sorted(set().union(*(self._changed(generation, low, high) for generation in later)))

    def count(self, first: int, high: int | None = None) -> int:
        """Count the rows (below `high`) that generation `first` or a later one changed."""
        if high is None and first == len(self.generations) - 1:
            return self._count(first)
        return _count(self, first, self.settings.books if high is None else high)

    def select(self, first: int, low: int, limit: int) -> list[int]:
        """Return the first `limit` rows from `low` on that generation `first` or a later one changed."""
        expected = sum(self._count(generation) for generation in range(first, len(self.generations)))
        found: list[int] = []
        while expected and low < self.settings.books and len(found) < limit:
            high = min(self.settings.books, low + limit * self.settings.books // expected + 1)
            found.extend(self.changed(first, low, high))
            low = high
        return found[:limit]

    def last_changes(self, first: int, low: int, high: int) -> dict[int, int]:
        """Return which generation, of `first` and the later ones, changed which row last."""
        last: dict[int, int] = {}
        for generation in range(max(first, 1), len(self.generations)):
            last.update(dict.fromkeys(self._changed(generation, low, high), generation))
        return last


@lru_cache(maxsize=4096)
def _count(listing: Listing, first: int, high: int) -> int:
    if first == 0:
        return high
    windows = ((low, min(low + _WINDOW, high)) for low in range(0, high, _WINDOW))
    return sum(len(listing.changed(first, low, up_to)) for low, up_to in windows)
