"""The step *images*: the images of a chunk's records are downloaded, normalised and stored before its transaction.

If the run is killed in between, the next one finds the unused images in the storage. A failed image never costs its
object; the row keeps its old source, so that the next run tries again.

An image is stored as a JPEG of bounded size, named by its content. Size, quality and white background follow
`pcapi/utils/image_conversion.py` of https://github.com/pass-culture/pass-culture-main (images of products).
"""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from io import BytesIO
from time import perf_counter
from typing import TYPE_CHECKING, Any

import msgspec
import psycopg

from include.connectors.redaction import redact
from include.errors import (
    AccessRefused,
    BadImage,
    ConfigurationError,
    ProviderSyncError,
    RetryableError,
    ServiceUnavailable,
)
from include.inbound.dates import Dates
from include.models import Providable
from include.providers.base import LocalProvider, ProvidableInfo
from include.store import Connection
from include.store.objects import ObjectStorage
from include.store.rows import find_images, is_usable_key
from include.store.tables import table_of

if TYPE_CHECKING:
    from PIL import Image  # Pillow is loaded when the first image is normalised: most runs have none

log = logging.getLogger(__name__)

MAX_CONSECUTIVE_FAILURES = 5
"""After this number of failed downloads or uploads in a row, the run skips all further images."""
MAX_WARNINGS = 20
MAX_CACHED_RESULTS = 10_000
"""Image URLs whose results are cached per run."""
PROGRESS_SECONDS = 30.0
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "AVIF")
CONTENT_TYPE = "image/jpeg"
MAX_BYTES = 10_000_000
MAX_PIXELS = 50_000_000
"""A poster at print size; decoded it takes 150 to 200 MB."""
MIN_SIDE = 2
"""Images of one pixel are for counting visits."""
BOX, QUALITY = (750, 1125), 90
_TOO_MANY_PIXELS = f"the image has more than {MAX_PIXELS // 1_000_000} million pixels"

Entry = dict[str, Any]
"""What the column `thumbs` has per image number: `key` in the storage (None in a dry run) and `source`."""


class ChunkImages(msgspec.Struct):
    """The result for the images of a chunk."""

    entries: dict[type[Providable], dict[str, dict[str, Entry]]] = {}
    """Per model, key of the object and image number: the entry to store."""
    checked: int = 0
    failed: int = 0
    errors: Counter[str] = msgspec.field(default_factory=Counter)
    seconds: float = 0.0


class ImageStep:
    """Stores the images of one run; must be closed. The provider gets an `ImageFetcher` unless it has its own.

    A dry run downloads nothing; every new source counts as an image, without a key.
    """

    def __init__(self, provider: LocalProvider, storage: ObjectStorage, *, is_dry_run: bool) -> None:
        from include.connectors.images import ImageFetcher

        self._provider = provider
        self._storage = storage
        self._is_dry_run = is_dry_run
        self._own_fetcher = ImageFetcher(provider.third_party) if provider.fetch_image is None else None
        if self._own_fetcher is not None:
            provider.fetch_image = self._own_fetcher
        self._results: dict[str, str | ProviderSyncError | None] = {}
        self._consecutive_failures = 0
        self._warnings = 0

    def close(self) -> None:
        """Close the connections, unless they are the provider's."""
        if self._own_fetcher is not None:
            self._own_fetcher.close()
            self._provider.fetch_image = None

    def prepare(
        self,
        connection: Connection,
        provider_id: int,
        infos: Mapping[type[Providable], Sequence[ProvidableInfo]],
        dates: Dates,
    ) -> ChunkImages:
        """Store the images that differ from those of the rows; returns the entries to write."""
        began = perf_counter()
        images = ChunkImages()
        for model, same_model in infos.items():
            possible = [info for info in same_model if info.role == "sync"] if model.has_thumbs else []
            if numbered := [(info, number) for info in possible if (number := self._number(info, images))]:
                images.checked += len(numbered)
                keys = [*{info.id_at_providers for info, _ in numbered}]
                found = find_images(connection, table_of(model), provider_id, keys)
                self._prepare_model(model, numbered, {row[0]: row[1:] for row in found}, dates, images)
        images.seconds = perf_counter() - began
        return images

    def _prepare_model(
        self,
        model: type[Providable],
        numbered: Sequence[tuple[ProvidableInfo, int]],
        rows: Mapping[str, Sequence[Any]],
        dates: Dates,
        images: ChunkImages,
    ) -> None:
        """Store the images of one table; `rows` has date, overrides and entries of the existing rows by key."""
        entries = images.entries[model] = {}
        latest: dict[str, float] = {}  # the date of the last record of a key that comes more than once
        logged_at = perf_counter()
        for place, (info, number) in enumerate(numbered):
            key = info.id_at_providers
            date, overrides, stored = rows.get(key, (None, None, {}))
            if "thumbs" in (overrides or ()) or not dates.may_change_images(info, latest.get(key, date)):
                continue
            if key not in rows and not self._would_be_created(model, info):
                continue
            if info.date_modified_at_provider is not None:
                latest[key] = info.date_modified_at_provider.timestamp()
            slot = str(number)
            current = entries.get(key, {}).get(slot) or stored.get(slot)
            entry = self._entry(info, current if isinstance(current, dict) else None, images)
            if entry is not None and entry != current:
                entries.setdefault(key, {})[slot] = entry
            if perf_counter() - logged_at >= PROGRESS_SECONDS:
                logged_at = perf_counter()
                log.info("Images: %s of %s checked", place + 1, len(numbered))

    def _number(self, info: ProvidableInfo, images: ChunkImages) -> int:
        """Return the number of the record's image; 0 if it has none, or if the object will be rejected anyway."""
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
            images.checked += 1
            self._note_failure(info, error, images)
            return 0

    def _would_be_created(self, model: type[Providable], info: ProvidableInfo) -> bool:
        """Whether an unknown object would be created, so that its image is worth a download."""
        if not self._provider.can_create:
            return False
        self._provider.record, self._provider.key = info.record, info.id_at_providers
        try:
            self._provider.fill_object_attributes(model())
        except ConfigurationError:  # it looks up its parents, which are not known yet
            return True
        except Exception:  # skipped or rejected; the fill step will find out again and count it
            return False
        return True

    def _entry(self, info: ProvidableInfo, current: Entry | None, images: ChunkImages) -> Entry | None:
        """Return the image entry to store, or None to keep the current one."""
        self._provider.record, self._provider.key = info.record, info.id_at_providers
        try:
            source = self._provider.get_object_thumb_source()
            if current and source is not None and current.get("source") == source:
                return None
            if self._is_dry_run:
                return None if current and source is None else {"key": None, "source": source}
            key = self._stored(source)
        except psycopg.Error:
            raise
        except Exception as error:
            self._note_failure(info, error, images)
            return None
        return None if key is None else {"key": key, "source": source}

    def _stored(self, source: str | None) -> str | None:
        """Download and store the current image; returns its key, or None if there is no image after all.

        Results are cached by URL; any other kind of source may name another image in each record.
        """
        if source is None or "://" not in source:
            return self._download_and_store()
        if source not in self._results:
            if len(self._results) >= MAX_CACHED_RESULTS:
                del self._results[next(iter(self._results))]
            try:
                self._results[source] = self._download_and_store()
            except ProviderSyncError as error:
                self._results[source] = error
        result = self._results[source]
        if isinstance(result, ProviderSyncError):
            raise result.with_traceback(None)
        return result

    def _download_and_store(self) -> str | None:
        if self._consecutive_failures >= MAX_CONSECUTIVE_FAILURES:
            raise ServiceUnavailable(f"skipped after {MAX_CONSECUTIVE_FAILURES} consecutive failures")
        try:
            raw = self._provider.get_object_thumb()
            key = self._store(raw) if raw else None
        except (RetryableError, AccessRefused):
            self._consecutive_failures += 1
            if self._consecutive_failures == MAX_CONSECUTIVE_FAILURES:
                log.warning(
                    "%s consecutive images failed; skipping images for the rest of this run", MAX_CONSECUTIVE_FAILURES
                )
            raise
        except Exception:
            self._consecutive_failures = 0
            raise
        self._consecutive_failures = 0
        return key

    def _store(self, raw: bytes) -> str:
        data = normalise(raw)
        key = content_key(data)
        try:
            if not self._storage.has(key):
                self._storage.put(key, data, CONTENT_TYPE)
        except Exception as error:
            raise ServiceUnavailable(f"the image cannot be stored: {type(error).__name__}: {redact(error)}") from error
        return key

    def _note_failure(self, info: ProvidableInfo, error: Exception, images: ChunkImages) -> None:
        other = f"{type(error).__name__}: {redact(error)}"
        reason, shown = (error.message, str(error)) if isinstance(error, ProviderSyncError) else (other, other)
        images.failed += 1
        images.errors[reason] += 1
        if self._warnings < MAX_WARNINGS:
            self._warnings += 1
            log.warning("Image of %s %s: %s", info.type.__name__, info.id_at_providers, shown)
            if self._warnings == MAX_WARNINGS:
                log.warning("Further failed images are only counted")


def normalise(raw: bytes) -> bytes:
    """Return an image as a progressive RGB JPEG: upright, on white, without metadata; equal input gives equal bytes.

    An image wider than 750 pixels is scaled to fit 750 by 1125; of an animation, the first frame is used. BadImage if
    the format, which is detected from the content, is unknown, or the image is too large, too small, or broken.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    if not raw:
        raise BadImage("the image is empty")
    if len(raw) > MAX_BYTES:
        raise BadImage(f"the image has more than {MAX_BYTES // 1_000_000} MB")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(BytesIO(raw), formats=FORMATS) as image:
                width, height = image.size  # from the header, before anything is decoded
                if width * height > MAX_PIXELS:
                    raise BadImage(_TOO_MANY_PIXELS)
                if min(width, height) < MIN_SIDE:
                    raise BadImage(f"the image has only {width} by {height} pixels")
                return _as_jpeg(_flattened(ImageOps.exif_transpose(image)))
    except BadImage:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise BadImage(_TOO_MANY_PIXELS) from None
    except UnidentifiedImageError:
        raise BadImage(f"it is not an image in a known format ({', '.join(FORMATS)})") from None
    except Exception as error:  # broken files lead Pillow's decoders to raise all kinds of exceptions
        raise BadImage("the image is broken", reason=f"{type(error).__name__}: {error}") from error


def content_key(data: bytes) -> str:
    """Return the key of a normalised image in the object storage; equal content has the same key."""
    digest = hashlib.sha256(data).hexdigest()
    return f"thumbs/{digest[:2]}/{digest}.jpg"


def _flattened(image: Image.Image) -> Image.Image:
    """Return the image in RGB on a white background, without metadata."""
    from PIL import Image

    flat = Image.new("RGB", image.size, "white")
    if image.mode.startswith("I"):  # 16 bits: convert would clip them instead of scaling
        image = image.convert("I").point(lambda value: value * (1 / 256) + 0).convert("L")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        flat.paste(image, mask=image.getchannel("A"))
    else:
        flat.paste(image.convert("RGB"))
    return flat


def _as_jpeg(image: Image.Image) -> bytes:
    from PIL.Image import Resampling

    if image.width > BOX[0]:
        image.thumbnail(BOX, Resampling.LANCZOS)
    data = BytesIO()
    image.save(data, "JPEG", quality=QUALITY, optimize=True, progressive=True)
    return data.getvalue()
