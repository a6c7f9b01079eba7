"""What the steps compare, fill and write share while a chunk is saved."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

from include.inbound.dates import Dates
from include.inbound.images import ChunkImages
from include.inbound.known import Known
from include.inbound.tally import Tally
from include.models import Providable
from include.providers.base import LocalProvider, ProvidableInfo
from include.store import Connection

Later = Mapping[str, Sequence[ProvidableInfo]]
"""Per key, the further records of an object that a chunk names more than once."""


@dataclass(slots=True)
class ChunkContext:
    """One attempt to save a chunk. An attempt that fails is repeated with a new context, in a new transaction.

    There are two modes. A run begins fast: rows are written without savepoints, new rows of leaf tables are filled
    while PostgreSQL takes the ones before them, and a key that comes twice is handled at once. If PostgreSQL refuses a
    row, the whole chunk fails with RowsRefused. From then on the run `is_careful`: it writes under savepoints, finds
    refused rows by halving and rejects just those, and handles one record per key at a time, so that a refused record
    does not cost the others of its key. Rows are written in the same order in both modes, with the same result.
    """

    provider: LocalProvider
    provider_id: int
    connection: Connection
    begin: Callable[[], None]
    """Begins the transaction; called before the first write, since lookups need none."""
    lists: Sequence[Sequence[ProvidableInfo]]
    """The objects of each record of the chunk."""
    infos: Mapping[type[Providable], Sequence[ProvidableInfo]]
    """The same objects by model, parents first."""
    dates: Dates
    tally: Tally
    known: Known
    images: ChunkImages
    kept_keys: set[tuple[type[Providable], str]]
    """Keys that the chunk does not name but that do not count as removed; see `Chunk.kept_keys`."""
    is_careful: bool
    is_dry_run: bool
    invented_ids: Iterator[int] = field(default_factory=lambda: count(-1, -1))
    """Primary keys of a dry run's new rows: a sequence would not roll back."""
