"""One chunk: look up its rows, compare, fill and write, all in the caller's transaction.

Tables are handled one after the other, parents first. Per table there is one lookup without locks (`compare` finds
what is new and what may have changed), new rows are filled and copied, and changed rows are locked, filled from their
current values and updated (`write`, which calls `fill`). Unchanged rows cost nothing but their lookup.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import chain
from time import perf_counter

from include.inbound.compare import by_key, compare, with_good_dates, with_good_keys
from include.inbound.context import ChunkContext
from include.inbound.dates import Dates
from include.inbound.images import ChunkImages, ImageStep
from include.inbound.known import Known
from include.inbound.read import Reading
from include.inbound.rekeyed import find_rekeyed
from include.inbound.tally import Tally
from include.inbound.write import create, update
from include.models import Providable
from include.providers.base import LocalProvider, ProvidableInfo
from include.store import Connection
from include.store.rows import find_rows
from include.store.tables import ID, KEY, Table, table_of


class Chunk:
    """The objects of some records.

    Rekeyed rows are looked for only `in_complete_listing`: while a complete listing is read from its start.
    """

    def __init__(
        self,
        provider: LocalProvider,
        reading: Reading,
        *,
        provider_id: int,
        watermark: datetime | None,
        is_dry_run: bool,
        in_complete_listing: bool = False,
        image_step: ImageStep | None = None,
    ) -> None:
        self.requested_at = reading.requested_at
        self.rejections = reading.rejections
        self.infos = _by_model(reading.lists)
        self.kept_keys: set[tuple[type[Providable], str]] = set()
        """Keys that the listing does not name but whose rows are not removed: the rows would have taken over other
        keys, but that was rejected or is a dry run."""
        self._provider = provider
        self._provider_id = provider_id
        self._lists = reading.lists
        self._dates = Dates(reading.requested_at, provider.until, watermark)
        self._is_dry_run = is_dry_run
        is_overridden = type(provider).match_rekeyed is not LocalProvider.match_rekeyed
        self._finds_rekeyed = in_complete_listing and is_overridden
        self._images = ChunkImages()
        self._image_step = image_step

    def save(self, connection: Connection, begin: Callable[[], None], *, is_careful: bool) -> Tally:
        """Compare, fill and write, see `ChunkContext`; returns the counts. The connection is that of `sync_session`.

        After RowsRefused, save again with `is_careful`, and after ChunkConflict as before, in a new transaction.
        """
        if self._image_step is not None:  # once, before the transaction: its results also serve further attempts
            self._images = self._image_step.prepare(connection, self._provider_id, self.infos, self._dates)
            self._image_step = None
        context = ChunkContext(
            provider=self._provider,
            provider_id=self._provider_id,
            connection=connection,
            begin=begin,
            lists=self._lists,
            infos=self.infos,
            dates=self._dates,
            tally=self._new_tally(),
            known=Known(connection, self._provider_id, type(self._provider).__name__, self.infos),
            images=self._images,
            kept_keys=self.kept_keys,
            is_careful=is_careful,
            is_dry_run=self._is_dry_run,
        )
        self._provider.known = context.known
        try:
            last = next(reversed(self.infos), None)
            for model, infos in self.infos.items():
                self._save_table(context, model, infos, is_parent=model is not last)
        finally:
            self._provider.known = None
        return context.tally

    def _new_tally(self) -> Tally:
        """Return a tally that counts the records without objects: those skipped or rejected while reading."""
        tally = Tally(self._provider.masking())
        tally.chunks = 1
        tally.records = len(self._lists) + len(self.rejections)
        tally.skipped = len(self._lists) - sum(map(bool, self._lists))
        tally.checked = tally.skipped + len(self.rejections)
        tally.rejections = [*self.rejections]
        tally.images = self._images
        return tally

    def _save_table(
        self, context: ChunkContext, model: type[Providable], infos: list[ProvidableInfo], *, is_parent: bool
    ) -> None:
        """Save the objects of one table; in careful mode one record per key at a time."""
        roles = {info.role for info in infos}
        if "reference" in roles:
            infos = [info for info in infos if info.role != "reference"]
        if not infos:
            return
        context.tally.checked += len(infos)
        infos = with_good_dates(context, with_good_keys(context, infos))
        for batch in _each_key_once(infos) if context.is_careful else [infos]:
            self._save_infos(context, table_of(model), batch, is_parent=is_parent)

    def _save_infos(
        self, context: ChunkContext, table: Table, infos: Sequence[ProvidableInfo], *, is_parent: bool
    ) -> None:
        started = perf_counter()
        firsts, later = by_key(infos)
        has_undated = any([info.date_modified_at_provider is None and info.role == "sync" for info in infos])
        rows = find_rows(context.connection, table, self._provider_id, list(firsts), columns=has_undated)
        new, changed, unchanged = compare(context, table, firsts, later, {row[KEY]: row for row in rows})
        context.tally.unchanged += unchanged
        if new and not self._provider.can_create:
            context.tally.skipped += sum([1 + len(later.get(info.id_at_providers, ())) for info in new])
            new = []
        if is_parent:
            context.known.ids.setdefault(table.model, {}).update({row[KEY]: row[ID] for row in rows})
        rekeyed: dict[int, str] = {}
        if new and self._finds_rekeyed and table.model.parent and table.model in self._provider.complete_tables:
            new, moves = find_rekeyed(context, table, new, later)
            rekeyed = {row[ID]: row[KEY] for row, _ in moves}
            changed += [(row[ID], [info, *later.get(info.id_at_providers, ())]) for row, info in moves]
        context.tally.compare_seconds += perf_counter() - started
        if new or changed:
            started = perf_counter()
            if new:
                create(context, table, new, later, is_parent=is_parent)
            if changed:
                update(context, table, changed, rekeyed)
            context.tally.write_seconds += perf_counter() - started


def _by_model(lists: Sequence[Sequence[ProvidableInfo]]) -> dict[type[Providable], list[ProvidableInfo]]:
    """Group the objects by model. A model comes after all models that any record names before it: its parents."""
    infos = list(chain.from_iterable(lists))
    models = {info.type for info in infos}
    if len(models) <= 1:
        return dict.fromkeys(models, infos)
    place_of = dict.fromkeys(models, 0)
    for order in {tuple([info.type for info in infos]) for infos in lists}:
        for place, model in enumerate(order):
            place_of[model] = max(place_of[model], place)
    grouped: dict[type[Providable], list[ProvidableInfo]] = {
        model: [] for model in sorted(place_of, key=lambda model: (place_of[model], model.table_name))
    }
    for info in infos:
        grouped[info.type].append(info)
    return grouped


def _each_key_once(infos: Sequence[ProvidableInfo]) -> list[list[ProvidableInfo]]:
    """Return the first record of each key, then the second of those that have one, and so on."""
    rounds: list[list[ProvidableInfo]] = []
    times: Counter[str] = Counter()
    for info in infos:
        if times[info.id_at_providers] == len(rounds):
            rounds.append([])
        rounds[times[info.id_at_providers]].append(info)
        times[info.id_at_providers] += 1
    return rounds
