"""The contract that every inbound provider implements.

Two attributes and three methods make a provider; everything else has a default::

    class BookStocks(LocalProvider):
        name = "Book stocks"
        can_create = True

        def open(self) -> None:
            self.records = read_csv("books.csv", since=self.since)

        def __next__(self) -> list[ProvidableInfo]:
            self.record = next(self.records)
            return [self.create_providable_info(Stock, self.record.ref, self.record.modified)]

        def fill_object_attributes(self, obj: Providable) -> None:
            obj.quantity = self.record.available

A provider iterates and fills. Connectors send the requests; the engine (`include.inbound.run`) looks rows up, compares
them and writes them. A source that is listed in pages starts from `include.providers.paged.PagedProvider`.
The contract follows the `local_providers` of https://github.com/pass-culture/pass-culture-main.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeVar

import msgspec

from include.errors import ConfigurationError
from include.masking import Fields
from include.models import Providable, VenueLink

if TYPE_CHECKING:
    from include.connectors.http import HttpConnector
    from include.connectors.third_party import ThirdPartyRule
    from include.models.report import SyncReport
    from include.store import Connection

P = TypeVar("P", bound=Providable)

Role = Literal["sync", "create only", "reference"]


class ProvidableInfo(msgspec.Struct, gc=False):
    """One object that a source record describes; exists until its chunk is written.

    `date_modified_at_provider` is None if the source gives no date: the engine then compares contents.
    `new_id_at_provider` is the reference within the venue, for tables that have that column.
    """

    type: type[Providable]
    id_at_providers: str
    date_modified_at_provider: datetime | None = None
    new_id_at_provider: str = ""
    record: Any = None
    role: Role = "sync"


class KnownRows(Protocol):
    """The rows that the engine looked up for the current chunk."""

    def id_of(self, model: type[Providable], id_at_providers: str) -> int:
        """Return the primary key of an object of this chunk."""

    def row_of(self, model: type[P], id_at_providers: str) -> P:
        """Return an object of this chunk with the values stored in the database."""


class RecordObjects:
    """What a provider calls to describe the objects of its current record, and to look up rows related to it."""

    record: Any = None
    known: KnownRows | None = None

    def create_providable_info(
        self,
        model: type[Providable],
        id_at_providers: str,
        date_modified_at_provider: datetime | None = None,
        new_id_at_provider: str = "",
    ) -> ProvidableInfo:
        """Describe an object of the current record, to be created or updated."""
        return ProvidableInfo(
            model, id_at_providers, date_modified_at_provider, new_id_at_provider, self.record, "sync"
        )

    def create_only_info(
        self, model: type[Providable], id_at_providers: str, new_id_at_provider: str = ""
    ) -> ProvidableInfo:
        """Describe an object that is created if it is unknown and never updated."""
        return ProvidableInfo(model, id_at_providers, None, new_id_at_provider, self.record, "create only")

    def create_reference(self, model: type[Providable], id_at_providers: str) -> ProvidableInfo:
        """Name an object that the record refers to: the engine looks it up with the chunk, and never writes it."""
        return ProvidableInfo(model, id_at_providers, None, "", self.record, "reference")

    def id_of(self, model: type[Providable], id_at_providers: str) -> int:
        """Return the primary key of a parent of this record, which may be one that this chunk creates.

        Raises:
            SkipObject: the parent is unknown, was not created or was rejected; its child is left out too.
        """
        return self._known.id_of(model, id_at_providers)

    def row_of(self, model: type[P], id_at_providers: str) -> P:
        """Return a parent or reference of this record with its stored values; raises as `id_of` does."""
        return self._known.row_of(model, id_at_providers)

    @property
    def _known(self) -> KnownRows:
        if self.known is None:
            raise ConfigurationError("id_of and row_of can only be used in fill_object_attributes")
        return self.known


class LocalProvider(RecordObjects, ABC):
    """An iterator over the records of a source; each step returns the objects that one record describes."""

    # ---- Identity and connection

    name: ClassVar[str]
    """Display name."""
    can_create: ClassVar[bool]
    """False for a source that only completes existing objects; unknown ones are counted as skipped."""
    conn_id: ClassVar[str] = ""
    """Airflow connection of the service, of type `http`; empty for a source that is not read over HTTP."""
    requests_per_second: ClassVar[float | None] = None
    """Rate limit for the whole installation; None: no limit. The extra `requests_per_second` of the Airflow connection
    takes precedence."""
    local_class: ClassVar[str] = ""
    """`provider.local_class` of the provider's row; empty: the class name. Classes that read two versions of one source
    share a row."""
    scheme_version: ClassVar[int] = 1
    """Version of the structure that this class reads. A new version adds a scheme to the ledger."""

    # ---- What a listing covers

    needs_venue: ClassVar[bool] = True
    """True if each venue link has its own listing; False if one listing covers everything, as for a register."""
    needs_pivot: ClassVar[bool] = False
    """True if a venue's id at the provider comes from `provider_pivot`; False if it is entered or the SIRET."""
    window: ClassVar[Literal["none", "since", "between"]] = "none"
    """What the source can filter by: nothing, records changed since a time, or records changed between two times."""
    overlap: ClassVar[timedelta] = timedelta(minutes=5)
    """How far before its watermark a run starts reading, in case the supplier's clock is behind."""

    # ---- Keys and removal detection

    key_patterns: ClassVar[tuple[str, ...]] = ()
    """How keys contain the link's id at the provider, for example `@{}`.

    The engine tells by them which link a row belongs to, and rewrites them when the id changes. Every key in
    `complete_tables` must match one. Empty: keys do not contain the id; then a venue with two links to the provider has
    no removal detection.
    """
    complete_tables: ClassVar[tuple[type[Providable], ...]] = ()
    """Tables for which a full listing names every row of the venue that is not yet in the past: a row that it lacks was
    removed at the source. Empty: no removal detection.
    """
    max_removed_share: ClassVar[float] = 0.5
    """Largest share of a venue's rows that one listing may remove; a listing that lacks more is refused."""

    # ---- Rejected records and personal data

    error_allowance: ClassVar[int] = 1000
    error_share: ClassVar[float] = 0.1
    """Error budget of a new scheme: this number of rejected records plus this share of the records read. A budget set
    in the ledger takes precedence."""
    masked_fields: ClassVar[frozenset[str]] = frozenset()
    """Fields masked in payloads stored for diagnosis, in addition to the usual personal ones."""
    public_fields: ClassVar[frozenset[str]] = frozenset()
    """Fields that have the name of a personal field but are public in this source, such as the names of actors."""

    def __init__(self, venue_provider: VenueLink | None = None, connector: HttpConnector | None = None) -> None:
        self.venue_provider = venue_provider
        self._connector = connector
        self.records: Iterator[Any] = iter(())
        self.record = None
        self.key = ""
        """Key of the object being filled, for records that describe several objects of a type."""
        self.since: datetime | None = None
        self.until: datetime | None = None
        self.resume_from: str | None = None
        self.started_at = datetime.now(UTC)
        self.fetch_image: Callable[[str], bytes] | None = None
        """Downloads an image by its URL; set by the engine when images are stored."""

    def open(self) -> None:
        """Set `self.records`; called once, before the first record.

        Read the records changed between `self.since` and `self.until` (None: no bound). `self.resume_from` is the
        `cursor` of the last record that an earlier attempt committed.
        """

    def close(self) -> None:
        """Release the source; called once, also after an error."""
        close = getattr(self.records, "close", None)
        if close is not None:
            close()

    def __iter__(self) -> Iterator[list[ProvidableInfo]]:
        return self

    @abstractmethod
    def __next__(self) -> list[ProvidableInfo]:
        """Read one record into `self.record`; return the objects that it describes, parents before children.

        An empty list skips the record.

        Raises:
            RejectRecord: the record cannot be used; it is stored with the reason, and the listing continues.
            StopIteration: the listing has ended.
        """

    @abstractmethod
    def fill_object_attributes(self, obj: Providable) -> None:
        """Set the fields of `obj` from `self.record`; called only for objects that are new or may have changed.

        On an update, `obj` has the row's current values, read under lock before anything is written. On a creation,
        `obj.id` is None and the fields have the column defaults. The engine may call this several times for an object,
        and each call must set the same values.

        Raises:
            SkipObject: leave this object out.
            RejectRecord: reject the record; any other exception rejects it too.
        """

    def fill_removed_attributes(self, obj: Providable) -> None:  # noqa: ARG002
        """Set the fields of `obj` that change because a complete listing (see `complete_tables`) no longer has it.

        `obj` has the row's current values, read under lock. Manual overrides stay. A row that stays on sale is filled
        again by every listing that still lacks it, since the right values may change with its bookings. When a later
        listing has the object again, `fill_object_attributes` fills it as usual.

        Raises:
            SkipObject: leave the row unchanged.
        """
        raise ConfigurationError(
            f"{type(self).__name__} has complete_tables, so it has to define fill_removed_attributes"
        )

    def match_rekeyed(
        self,
        new: Sequence[ProvidableInfo],  # noqa: ARG002
        unmatched_rows: Sequence[tuple[str, Providable]],  # noqa: ARG002
    ) -> Mapping[str, ProvidableInfo]:
        """Match new objects to existing rows whose key changed, because the key contains something that changed.

        Called per record and per table of `complete_tables`, and only while a complete listing is read from its start
        (never in a replay, with a limit, or after resuming). A record must name all children of its parents: otherwise
        a child that a later record names would look removed.

        Args:
            new: the objects of the record that are not in the database.
            unmatched_rows: key and row of objects with the same parents that the listing has not named so far, without
                rows that were removed earlier.

        Returns:
            The matching `new` object per key of `unmatched_rows`. The row takes over its key and values, and keeps
            everything that refers to it.
        """
        return {}

    def get_object_thumb_index(self) -> int:
        """Return the number of the image that the current record has for its object, from 1; 0 for none."""
        return 0

    def get_object_thumb_source(self) -> str | None:
        """Return what identifies the image without downloading it, usually its URL; None: download it every time."""
        return None

    def get_object_thumb(self) -> bytes:
        """Return the image in its source format, or empty bytes if there is none after all.

        Called only if `get_object_thumb_source` differs from the stored one. By default, downloads that URL.
        """
        source = self.get_object_thumb_source()
        return b"" if not source or self.fetch_image is None else self.fetch_image(source)

    def decode_record(self, raw: bytes) -> Any:  # noqa: ARG002
        """Decode the stored payload of a rejected record into a record as `self.records` yields it, for a replay.

        Raises:
            RejectRecord: the record still cannot be used.
        """
        raise ConfigurationError(
            f"{type(self).__name__} cannot replay rejected records: it has to define decode_record"
        )

    def check_link(self) -> None:
        """Check, before a venue is linked, that the service knows the venue and that the link's settings are valid.

        Raises:
            ConfigurationError: they are not; the message says what to do.
        """

    @property
    def cursor(self) -> str | None:
        """Where to resume after the current record; None if the source must be listed again from its start."""
        return None

    @property
    def requested_at(self) -> datetime:
        """Time at which the page of the current record was requested: the date of records that have none."""
        return getattr(self.records, "requested_at", None) or self.started_at

    @property
    def connector(self) -> HttpConnector:
        """The connector passed to the constructor; raises ConfigurationError if there is none."""
        if self._connector is None:
            raise ConfigurationError(f"{type(self).__name__} needs a connector: pass one to its constructor")
        return self._connector

    @property
    def third_party(self) -> ThirdPartyRule:
        """The rule for the URLs that this source supplies: where they may lead."""
        from include.connectors.third_party import ThirdPartyRule

        return ThirdPartyRule(self.conn_id) if self._connector is None else self._connector.third_party

    def unknown_venue(self, hint: str = "") -> ConfigurationError:
        """Return the error of `check_link` for a venue that the service does not know (404).

        A wrong path in the Airflow connection has the same effect, so the message names both.
        """
        return ConfigurationError(
            f"{self.name} does not know {self.venue.venue_id_at_offer_provider}: check the id, or the address of the "
            f"Airflow connection {self.conn_id}{f'. {hint}' if hint else ''}"
        )

    @property
    def venue(self) -> VenueLink:
        """The venue link passed to the constructor; raises ConfigurationError if there is none."""
        if self.venue_provider is None:
            raise ConfigurationError(f"{type(self).__name__} needs a venue link: pass one to its constructor")
        return self.venue_provider

    @classmethod
    def row_name(cls) -> str:
        """Return `provider.local_class` of this class."""
        return cls.local_class or cls.__name__

    @classmethod
    def has_images(cls) -> bool:
        """Whether records of this source may have images."""
        return cls.get_object_thumb_index is not LocalProvider.get_object_thumb_index

    @classmethod
    def masking(cls) -> Fields:
        """Return which fields are masked in payloads of this source that are stored or shown."""
        return Fields(cls.masked_fields, cls.public_fields)

    def updateObjects(self, limit: int | None = None, *, connection: Connection) -> SyncReport:  # noqa: N802
        """Run `include.inbound.sync.sync_provider` with default settings, under the name that pass Culture gave it."""
        from include.inbound.run import sync_provider  # the one import from a lower layer that is allowed

        return sync_provider(self, connection, limit=limit)
