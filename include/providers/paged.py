"""A provider whose source is listed in pages over HTTP: what all of those have in common.

A subclass states facts as class attributes and defines `path`, `paginator` and `describe`, next to
`fill_object_attributes`; `include/providers/stock_api.py` is an example, and `python -m scaffold` writes one.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, Generic, TypeVar

from include.connectors.decoding import PageDecoder, raw_field
from include.connectors.pagination import Paginator
from include.connectors.records import Page, RecordStream
from include.errors import ConfigurationError, RejectRecord, RequestRefused
from include.providers.base import LocalProvider, ProvidableInfo

R = TypeVar("R")

OK, NOT_FOUND = 200, 404


class PagedProvider(LocalProvider, Generic[R]):
    """Reads records of type `R` page by page, prefetching the next page while the current one is processed."""

    decode: ClassVar[PageDecoder[Any]]
    """Decodes the body of a response into a page."""
    key_field: ClassVar[str] = ""
    """Field of a record that all keys of its objects start with, after `key_prefix`. Read from the bytes of a record
    that cannot be decoded, so that its rows do not count as removed. Empty: unknown."""
    key_prefix: ClassVar[str] = ""
    cursor_field: ClassVar[str] = ""
    """Field of a record that a later attempt resumes after, by `resume_from`; empty if it starts from scratch."""
    unknown_venue_hint: ClassVar[str] = ""
    """Added to the error for a venue that the service does not know: where its id comes from."""

    record: R

    @property
    @abstractmethod
    def path(self) -> str:
        """Path of the listing below the address of the Airflow connection; quote what comes from outside."""

    @abstractmethod
    def paginator(self) -> Paginator:
        """Return a new paginator, with the filters of this run (`since`, `until`, `resume_from`, the venue)."""

    @abstractmethod
    def describe(self, record: R) -> list[ProvidableInfo]:
        """Return the objects that a record describes, as `LocalProvider.__next__` does."""

    def open(self) -> None:
        """Start reading the listing."""
        self.records: RecordStream[R] = RecordStream(self._pages())

    def _pages(self) -> Iterator[Page[R]]:
        paginator = self.paginator()
        while not paginator.finished:
            response = self.connector.get(self.path, paginator.params, decode=self.decode)
            yield Page(paginator.records(response.value), response.requested_at, paginator.page)
            paginator.advance(response.value)

    def __next__(self) -> list[ProvidableInfo]:
        """Read a record and describe it; a rejected one gets the start of its keys as its reference."""
        try:
            self.record = record = next(self.records)
        except RejectRecord as error:
            if error.reference is None and isinstance(error.payload, bytes):
                error.reference = self.reference(error.payload)
            raise
        return self.describe(record)

    def reference(self, raw: bytes) -> str | None:
        """Return what the keys of a record that cannot be decoded start with, or None if that cannot be read."""
        value = raw_field(raw, self.key_field) if self.key_field else None
        return None if value in (None, "") else f"{self.key_prefix}{value}"

    @property
    def cursor(self) -> str | None:
        """`cursor_field` of the current record."""
        return str(getattr(self.record, self.cursor_field)) if self.cursor_field and self.record is not None else None

    def decode_record(self, raw: bytes) -> R:
        """Decode one record by itself."""
        record: R = self.decode.record(raw)
        return record

    def check_link(self) -> None:
        """Check the settings, then request one record of the listing: the service must respond with 200.

        Raises:
            ConfigurationError: the service does not know the venue, or the link has settings that the provider does
                not use.
        """
        self.check_settings()
        params = self.paginator().probe_params
        try:
            is_known = self.connector.get(self.path, params, decode=self.decode).status == OK
        except RequestRefused as error:
            if error.status != NOT_FOUND or self.venue_provider is None:
                raise
            is_known = False
        if not is_known:
            raise self.unknown_venue(self.unknown_venue_hint)

    def check_settings(self) -> None:
        """Check the settings of the venue link; by default, there must be none.

        Raises:
            ConfigurationError: they are not valid.
        """
        if self.venue_provider is not None and self.venue_provider.settings:
            settings = ", ".join(sorted(self.venue_provider.settings))
            raise ConfigurationError(f"{self.name} has no settings: leave out {settings}")
