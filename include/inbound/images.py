"""The pictures of a chunk's records: found, fetched, made fit and stored before the chunk's transaction begins.

No transaction is open while the network is asked, and what a row names is in the storage before the row is committed:
a run that is killed in between leaves a picture that nobody names yet, which the next run finds there.
A picture that fails never costs its object. Its source is not kept, so the next run tries again.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from time import perf_counter
from typing import Any

import msgspec
import psycopg

from include.connectors.redaction import redact
from include.errors import AccessRefused, ConfigurationError, ProviderSyncError, RetryableError, ServiceUnavailable
from include.models import Providable
from include.providers.base import LocalProvider, ProvidableInfo
from include.store.objects import ObjectStorage
from include.store.rows import Connection, find_thumbs, is_usable_key
from include.store.tables import table_of

log = logging.getLogger(__name__)

FAILURES_IN_A_ROW = 5
"""So many pictures one after the other that a host did not give, or the storage not take: then none is asked for."""
MAX_WARNINGS = 20
MAX_REMEMBERED = 10_000
"""Sources of which a run remembers what came of them."""
PROGRESS_SECONDS = 30.0

IsNotOlder = Callable[[ProvidableInfo, float | None], bool]
"""Whether a record may change a row of this date (seconds since 1970, or None)."""


class ChunkThumbs(msgspec.Struct):
    """What came of the pictures of a chunk: per model, key of the object and number, what its row is to hold."""

    wanted: dict[type[Providable], dict[str, dict[str, dict[str, Any]]]] = {}
    checked: int = 0
    failed: int = 0
    errors: Counter[str] = msgspec.field(default_factory=Counter)
    seconds: float = 0.0


class ThumbStep:
    """The pictures of one run. `close` it at the end.

    The provider gets an `ImageFetcher` unless it has one. In a dry run nothing is fetched: what would be asked for is
    taken for new, with no key.
    """

    def __init__(self, provider: LocalProvider, storage: ObjectStorage, *, is_dry_run: bool) -> None:
        from include.connectors.images import ImageFetcher

        self._provider = provider
        self._storage = storage
        self._is_dry_run = is_dry_run
        self._own_fetcher = ImageFetcher(provider.third_party) if provider.fetch_image is None else None
        if self._own_fetcher is not None:
            provider.fetch_image = self._own_fetcher
        self._outcomes: dict[str, str | ProviderSyncError | None] = {}
        self._in_a_row = 0
        self._has_given_up = False
        self._warned = 0

    def close(self) -> None:
        """Close the connections, if they are not the provider's."""
        if self._own_fetcher is not None:
            self._own_fetcher.close()
            self._provider.fetch_image = None

    def prepare(
        self,
        connection: Connection,
        provider_id: int,
        infos: Mapping[type[Providable], Sequence[ProvidableInfo]],
        is_not_older: IsNotOlder,
    ) -> ChunkThumbs:
        """Store the pictures that differ from what the rows hold, and tell what these are to hold.

        Objects that would not be created, or whose pictures a person chose, are not asked for theirs.
        """
        began = perf_counter()
        thumbs = ChunkThumbs()
        for model, some in infos.items():
            if model.has_thumbs:
                self._prepare_model(
                    connection, provider_id, model, infos=some, is_not_older=is_not_older, thumbs=thumbs
                )
        thumbs.seconds = perf_counter() - began
        return thumbs

    def _prepare_model(
        self,
        connection: Connection,
        provider_id: int,
        model: type[Providable],
        *,
        infos: Sequence[ProvidableInfo],
        is_not_older: IsNotOlder,
        thumbs: ChunkThumbs,
    ) -> None:
        numbered = [(info, number) for info in infos if info.role == "sync" and (number := self._number(info, thumbs))]
        if not numbered:
            return
        thumbs.checked += len(numbered)
        keys = [*{info.id_at_providers for info, _ in numbered}]
        rows = {row[0]: row[1:] for row in find_thumbs(connection, table_of(model), provider_id, keys)}
        wanted = thumbs.wanted[model] = {}
        dates: dict[str, float] = {}
        told = perf_counter()
        for place, (info, number) in enumerate(numbered):
            key = info.id_at_providers
            date, protected, held = rows.get(key, (None, None, {}))
            if key in rows:
                if "thumbs" in (protected or ()) or not is_not_older(info, dates.get(key, date)):
                    continue
            elif not is_not_older(info, dates.get(key)) or not self._would_be_created(model, info):
                continue
            if info.date_modified_at_provider is not None:
                dates[key] = info.date_modified_at_provider.timestamp()
            slot = str(number)
            now = wanted.get(key, {}).get(slot) or held.get(slot)
            thumb = self._thumb(info, now if isinstance(now, dict) else None, thumbs)
            if thumb is not None and thumb != now:
                wanted.setdefault(key, {})[slot] = thumb
            if perf_counter() - told >= PROGRESS_SECONDS:
                told = perf_counter()
                log.info("Pictures: %s of %s looked at", place + 1, len(numbered))

    def _number(self, info: ProvidableInfo, thumbs: ChunkThumbs) -> int:
        """Which picture of its object a record has; 0 for none, and for objects that are rejected anyway."""
        date = info.date_modified_at_provider
        if not is_usable_key(info.id_at_providers) or not (
            date is None or (isinstance(date, datetime) and date.tzinfo is not None)
        ):
            return 0
        self._provider.record, self._provider.key = info.record, info.id_at_providers
        try:
            return max(0, self._provider.get_object_thumb_index())
        except psycopg.Error:
            raise
        except Exception as error:
            thumbs.checked += 1
            self._note_failure(info, error, thumbs)
            return 0

    def _would_be_created(self, model: type[Providable], info: ProvidableInfo) -> bool:
        """Whether an unknown object is one for us, so that its picture is worth fetching."""
        if not self._provider.can_create:
            return False
        self._provider.record, self._provider.key = info.record, info.id_at_providers
        try:
            self._provider.fill_object_attributes(model())
        except ConfigurationError:  # it asks for parents, which are not known yet
            return True
        except Exception:  # skipped or rejected: filling it again will tell
            return False
        return True

    def _thumb(self, info: ProvidableInfo, held: dict[str, Any] | None, thumbs: ChunkThumbs) -> dict[str, Any] | None:
        """What a row is to hold of the current picture; None if it is to stay as it is."""
        self._provider.record, self._provider.key = info.record, info.id_at_providers
        source = None
        try:
            source = self._provider.get_object_thumb_source()
            if held and source is not None and held.get("source") == source:
                return None
            if self._is_dry_run:
                return None if held and source is None else {"key": None, "source": source}
            key = self._stored(source)
        except psycopg.Error:
            raise
        except Exception as error:
            self._note_failure(info, error, thumbs)
            return None
        return None if key is None else {"key": key, "source": source}

    def _stored(self, source: str | None) -> str | None:
        """Fetch the current picture and store it; returns its key, None if there is none after all.

        Only an address stands for the same picture in every record: what came of it is remembered.
        """
        if source is None or "://" not in source:
            return self._fetch_and_store()
        if source not in self._outcomes:
            if len(self._outcomes) >= MAX_REMEMBERED:
                del self._outcomes[next(iter(self._outcomes))]
            try:
                self._outcomes[source] = self._fetch_and_store()
            except ProviderSyncError as error:
                self._outcomes[source] = error
        outcome = self._outcomes[source]
        if isinstance(outcome, ProviderSyncError):
            raise outcome.with_traceback(None)
        return outcome

    def _fetch_and_store(self) -> str | None:
        if self._has_given_up:
            raise ServiceUnavailable(f"not asked for, after {FAILURES_IN_A_ROW} in a row that could not be had")
        try:
            raw = self._provider.get_object_thumb()
            key = self._store(raw) if raw else None
        except (RetryableError, AccessRefused):
            self._in_a_row += 1
            if self._in_a_row == FAILURES_IN_A_ROW:
                self._has_given_up = True
                log.warning("%s pictures in a row could not be had: no more are asked for in this run", self._in_a_row)
            raise
        except Exception:
            self._in_a_row = 0
            raise
        self._in_a_row = 0
        return key

    def _store(self, raw: bytes) -> str:
        from include.inbound.thumbs import CONTENT_TYPE, content_key, normalise

        data = normalise(raw)
        key = content_key(data)
        try:
            if not self._storage.has(key):
                self._storage.put(key, data, CONTENT_TYPE)
        except Exception as error:
            raise ServiceUnavailable(
                f"the picture cannot be stored: {type(error).__name__}: {redact(error)}"
            ) from error
        return key

    def _note_failure(self, info: ProvidableInfo, error: Exception, thumbs: ChunkThumbs) -> None:
        is_ours = isinstance(error, ProviderSyncError)
        reason = error.message if isinstance(error, ProviderSyncError) else f"{type(error).__name__}: {redact(error)}"
        thumbs.failed += 1
        thumbs.errors[reason] += 1
        if self._warned < MAX_WARNINGS:
            self._warned += 1
            shown = error if is_ours else reason
            log.warning("Picture of %s %s: %s", info.type.__name__, info.id_at_providers, shown)
            if self._warned == MAX_WARNINGS:
                log.warning("Further pictures that fail are only counted")


def thumb_step(provider: LocalProvider, storage: ObjectStorage | None, *, is_dry_run: bool) -> ThumbStep | None:
    """The step of a run; None without a storage, or for a provider without pictures."""
    if storage is None or not provider.has_images():
        return None
    return ThumbStep(provider, storage, is_dry_run=is_dry_run)


def take_thumbs(obj: Any, wanted: Mapping[str, dict[str, Any]]) -> tuple[int, int] | None:
    """Set pictures on an object, beside those it has; returns how many are new and how many other than before.

    None when it has them all. One that only has another source by now counts as neither, nor does that of a dry run.
    """
    missing = {slot: thumb for slot, thumb in wanted.items() if obj.thumbs.get(slot) != thumb}
    if not missing:
        return None
    created = updated = 0
    for slot, thumb in missing.items():
        held = obj.thumbs.get(slot)
        if thumb["key"] is None:
            continue
        if not isinstance(held, dict) or not held.get("key"):
            created += 1
        elif held["key"] != thumb["key"]:
            updated += 1
    obj.thumbs = {**obj.thumbs, **missing}
    return created, updated
