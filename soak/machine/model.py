"""The model: what the tables must contain, computed from the rules record by record in dictionaries.

Times are seconds from the beginning of the story. A chunk is applied table by table, parents first; within a table each
record counts as if it had come alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from soak.machine.supplier import Record

DAY = 86_400.0
COLUMNS = {
    "gadget": ("name", "quantity", "price", "extra"),
    "part": ("amount",),
    "product": ("name", "description", "duration_minutes"),
}
SHARED = frozenset({"product"})
PARTS: list[str] = ["created", "updated", "unchanged", "skipped", "rejected"]

_RULES: dict[str, dict[str, Callable[[Any], bool]]] = {
    "gadget": {
        "name": lambda name: name is not None and len(name) <= 20,
        "price": lambda price: price is None or price >= 0,
    },
    "part": {"amount": lambda amount: amount is None or amount >= 0},
    "product": {
        "name": lambda name: name is not None and 1 <= len(name) <= 140,
        "duration_minutes": lambda minutes: minutes is None or minutes > 0,
    },
}


def is_refused(table: str, key: str, values: dict[str, Any]) -> bool:
    """Return whether the database refuses a row."""
    return not key or not all(allows(values.get(name)) for name, allows in _RULES[table].items())


@dataclass
class Row:
    """A row. `dates` are the modification dates of each provider, `overrides` the fields that a person edited."""

    values: dict[str, Any]
    last: str | None = None
    date: float | None = None
    dates: dict[str, float] = field(default_factory=dict)
    overrides: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Feed:
    """What decides how the records of a run apply."""

    provider: str
    table: str
    requested: float
    """When the records were requested."""
    until: float | None = None
    has_watermark: bool = False
    """Whether a complete run came before."""
    can_create: bool = True

    @property
    def guard(self) -> float:
        """The date for records that have none."""
        return self.requested if self.until is None else min(self.requested, self.until)

    def date_of(self, record: Record) -> float | None:
        """Return a record's date, unless it is implausibly far in the future."""
        return None if record.date is None or record.date > self.requested + DAY else record.date


Tables = dict[str, dict[str, Row]]


class Model:
    """The tables, the watermarks and the numbers of open rejected records."""

    def __init__(self) -> None:
        self.tables: Tables = {name: {} for name in COLUMNS}
        self.watermarks: dict[str, int] = {}
        """Per provider, the number of the source's last change before its last complete run began."""
        self.rejected: Counter[int] = Counter()
        """Per operation instance."""

    def apply(self, feed: Feed, records: Sequence[Record], *, one_by_one: bool = False) -> tuple[Counter[str], bool]:
        """Apply a chunk; returns the counts, and whether rows are written one by one from now on.

        They are as soon as the database has refused a row.
        """
        before = deepcopy(self.tables)
        counts, has_refused = self._try(feed, records, one_by_one=one_by_one)
        if has_refused and not one_by_one:
            self.tables = before
            counts, _ = self._try(feed, records, one_by_one=True)
        return counts, one_by_one or has_refused

    def _try(self, feed: Feed, records: Sequence[Record], *, one_by_one: bool) -> tuple[Counter[str], bool]:
        counts: Counter[str] = Counter()
        for record in records:
            if record.flaw == "unreadable":
                counts["rejected"] += 1
            elif record.flaw in ("left out", "empty"):
                counts["skipped"] += 1
        described = [record for record in records if record.flaw not in ("unreadable", "left out", "empty")]
        parts = [record for record in described if record.part is not None]
        self._apply(feed, feed.table, described, counts, one_by_one=one_by_one)
        self._apply(feed, "part", parts, counts, one_by_one=one_by_one)
        has_refused = bool(counts.pop("refused", 0))
        return counts, has_refused

    def _apply(
        self, feed: Feed, table: str, records: Iterable[Record], counts: Counter[str], *, one_by_one: bool
    ) -> None:
        rows = self.tables[table]
        before = deepcopy(rows)
        says_more: dict[str, bool] = {}
        for record in records:
            what = self._one(feed, table, record)
            counts["rejected" if what == "refused" else what] += 1
            counts["refused"] += what == "refused"
            if what == "updated" and (old := before.get(record.key)) is not None:
                is_dated = feed.date_of(record) is not None
                says_more[record.key] = says_more.get(record.key, _own_date(old, table, feed) is None) or is_dated
        for key, is_written in says_more.items():
            if (
                not (is_written or one_by_one) and rows[key].values == before[key].values
            ):  # what cancels out is not written at all
                rows[key] = before[key]
                counts["updated"] -= 1
                counts["unchanged"] += 1

    def _one(self, feed: Feed, table: str, record: Record) -> str:  # noqa: PLR0911 - a result per rule
        """Apply one object; returns its result."""
        rows = self.tables[table]
        is_create_only = record.is_create_only and table != "part"
        if "\0" in record.key or (record.flaw == "naive" and not is_create_only):
            return "rejected"
        date = None if is_create_only else feed.date_of(record)
        row = rows.get(record.key)
        if row is None and not feed.can_create:
            return "skipped"
        if row is not None:
            own = _own_date(row, table, feed)
            if is_create_only or not self._may_be_newer(feed, date, own):
                return "unchanged"
        if record.flaw in ("skipped", "broken"):
            return "skipped" if record.flaw == "skipped" else "rejected"
        if table == "part" and record.key not in self.tables["gadget"]:
            return "skipped"
        sent = record.part if table == "part" else record.fields
        assert sent is not None
        values = dict.fromkeys(COLUMNS[table]) if row is None else dict(row.values)
        values |= {name: value for name, value in sent.items() if row is None or name not in row.overrides}
        if row is not None and date is None and own is not None and values == row.values:
            return "unchanged"
        if is_refused(table, record.key, values):
            return "refused"
        time = feed.guard if date is None else date
        dates = {**(row.dates if row else {}), feed.provider: time} if table in SHARED else {}
        rows[record.key] = Row(values, feed.provider, time, dates, row.overrides if row else frozenset())
        return "created" if row is None else "updated"

    @staticmethod
    def _may_be_newer(feed: Feed, date: float | None, own: float | None) -> bool:
        if date is not None:
            return own is None or own < date
        is_of_the_past = feed.until is not None and feed.has_watermark
        return not is_of_the_past and (own is None or own <= feed.guard)

    def edit(self, table: str, key: str, values: dict[str, Any]) -> None:
        """A person edits fields: those with new values become overrides."""
        row = self.tables[table][key]
        changed = {name for name, value in values.items() if row.values[name] != value}
        row.values |= values
        row.overrides |= changed

    def release(self, table: str, key: str, fields: Sequence[str]) -> None:
        """A person releases overrides, all of them without `fields`; the row loses its dates."""
        row = self.tables[table][key]
        row.overrides = row.overrides - frozenset(fields) if fields else frozenset()
        row.date, row.dates = None, {}

    def remove(self, table: str, key: str) -> None:
        """A person deletes a row, and the part that belongs to it."""
        del self.tables[table][key]
        if table == "gadget":
            self.tables["part"].pop(key, None)


def _own_date(row: Row, table: str, feed: Feed) -> float | None:
    if table in SHARED:
        return row.dates.get(feed.provider)
    return row.date if row.last == feed.provider else None


def chunks(records: Sequence[Record], size: int) -> Iterator[tuple[int, int, bool]]:
    """Yield the beginning and the end of each chunk, and whether it is complete.

    A complete chunk has at least `size` objects and ends after a record that could be read.
    """
    begin = objects = 0
    for place, record in enumerate(records):
        is_single = record.flaw in ("unreadable", "left out", "empty") or record.part is None
        objects += 1 if is_single else 2
        if objects >= size and record.flaw != "unreadable":
            yield begin, place + 1, True
            begin, objects = place + 1, 0
    if begin < len(records):
        yield begin, len(records), False
