"""The listing of a venue: which book is in which row, and which rows a generation changed.

- The EAN-13s of books ascend with their catalogue numbers. Venues list overlapping runs of numbers, so they share
  books; the venues of the other suppliers start again with the first run.
- A generation changes exactly its percentage of a venue's rows. The rows are divided into as many slices as there are
  rows to change, and a hash selects one row of each slice. The changed rows of a range can therefore be computed, in
  order, without looking at the other rows.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from sandbox.world import Generation, Settings, World, salt, scatter

_PREFIX = "9782"
_WINDOW = 100_000  # rows per step when the changes of several generations are counted

# Weighted sums of groups of four digits: the check digit of an EAN-13 follows from three of them.
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
    """The rows of a venue (by number) at one time; rows are identified by their index."""

    settings: Settings
    generations: tuple[Generation, ...]
    venue: int

    @classmethod
    def of(cls, world: World, venue: int) -> Listing:
        """Return the current listing of a venue."""
        return cls(world.settings, world.generations, venue)

    def refs(self, indexes: Iterable[int]) -> list[str]:
        """Return the references of rows."""
        first = self.venue % self.settings.venues * self.settings.shift
        return eans(self.settings, (first + index for index in indexes))

    def behind(self, ref: str) -> int:
        """Return the index of the first row after `ref`, which need not be in the listing."""
        return bisect_right(range(self.settings.books), ref, key=lambda index: self.refs([index])[0])

    def first_generation(self, since: datetime | None) -> int:
        """Return the first generation at or after a time (0 for None), or the number of generations if none is."""
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
        """Return the rows in `low <= index < high` that a generation from `first` on changed, in order."""
        later = range(first, len(self.generations))
        if any(self._count(generation) == self.settings.books for generation in later):
            return range(low, high)
        if len(later) == 1:
            return self._changed(first, low, high)
        return sorted(set().union(*(self._changed(generation, low, high) for generation in later)))

    def count(self, first: int, high: int | None = None) -> int:
        """Return the number of rows (below `high`) that a generation from `first` on changed."""
        if high is None and first == len(self.generations) - 1:
            return self._count(first)
        return _count(self, first, self.settings.books if high is None else high)

    def select(self, first: int, low: int, limit: int) -> list[int]:
        """Return the first `limit` rows, starting at `low`, that a generation from `first` on changed."""
        expected = sum(self._count(generation) for generation in range(first, len(self.generations)))
        found: list[int] = []
        while expected and low < self.settings.books and len(found) < limit:
            high = min(self.settings.books, low + limit * self.settings.books // expected + 1)
            found.extend(self.changed(first, low, high))
            low = high
        return found[:limit]

    def last_changes(self, first: int, low: int, high: int) -> dict[int, int]:
        """Return, for each row that a generation from `first` on changed, the last such generation."""
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
