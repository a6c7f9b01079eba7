"""The contract that every inbound provider fills.

Two attributes and two methods make a provider; the rest of this class has sound defaults::

    class TiteLiveStocks(LocalProvider):
        name = "TiteLive stocks"
        can_create = True

        def __next__(self) -> list[ProvidableInfo]:
            self.record = next(self.records)
            return [self.create_providable_info(Stock, self.record.ref, self.record.modified)]

        def fill_object_attributes(self, obj: Providable) -> None:
            obj.quantity = self.record.available

A provider only iterates and fills. Connectors fetch; the engine (`include.inbound.run`) looks up, compares, writes.
The shape is that of the `local_providers` of https://github.com/pass-culture/pass-culture-main.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeVar

import msgspec

from include.errors import ConfigurationError
from include.models import Providable, VenueLink

if TYPE_CHECKING:
    import psycopg

    from include.connectors.http import HttpConnector
    from include.connectors.third_party import ThirdPartyRule
    from include.models.report import SyncReport

P = TypeVar("P", bound=Providable)

Role = Literal["sync", "create only", "reference"]


class ProvidableInfo(msgspec.Struct, gc=False):
    """What a source record says of one object; lives as long as its chunk.

    `date_modified_at_provider` None means that the source gives no date: then the content decides.
    `new_id_at_provider` is the reference within the venue, for tables that have one.
    """

    type: type[Providable]
    id_at_providers: str
    date_modified_at_provider: datetime | None = None
    new_id_at_provider: str = ""
    record: Any = None
    role: Role = "sync"


class KnownRows(Protocol):
    """What the engine knows of the current chunk."""

    def id_of(self, model: type[Providable], id_at_providers: str) -> int:
        """Primary key of an object of this chunk."""

    def row_of(self, model: type[P], id_at_providers: str) -> P:
        """An object of this chunk as the database holds it."""


class LocalProvider(ABC):
    """An iterator over the records of a source; each step gives the objects that one record describes."""

    name: ClassVar[str]
    """Display name."""
    can_create: ClassVar[bool]
    """False for a source that only completes objects we know; unknown ones are then counted as skipped."""

    conn_id: ClassVar[str] = ""
    """Airflow connection of the service, type `http`; empty for a source that is not reached by HTTP."""
    requests_per_second: ClassVar[float | None] = None
    """Pace for the whole installation; the connection's extra `requests_per_second` goes before. None: no limit."""
    needs_pivot: ClassVar[bool] = False
    """True when a venue's id at the provider comes from `provider_pivot`, False when it is given or the SIRET."""
    needs_venue: ClassVar[bool] = True
    """True when there is a listing per venue link, False for one listing for all."""
    window: ClassVar[Literal["none", "since", "between"]] = "none"
    """What the source can filter on: nothing, records changed since a time, or changed between two times."""
    overlap: ClassVar[timedelta] = timedelta(minutes=5)
    """How far before its marker a run reads, for a supplier whose clock is a little behind."""
    link_marks: ClassVar[tuple[str, ...]] = ()
    """How the link's id stands in keys, `@{}` say: of which link a row is, and what changes when the id does.

    Every key of the tables of `complete` has one of them. Empty: keys do not hold it; then nothing is taken for gone in
    a venue with two links of the provider.
    """
    complete: ClassVar[tuple[type[Providable], ...]] = ()
    """Tables of which a full listing names each row of the venue that is not history yet: what it lacks is gone.

    Without an entry here nothing is ever taken for gone.
    """
    most_gone: ClassVar[float] = 0.5
    """Share of a venue's rows that may be gone at once; a listing that lacks more is not believed."""
    local_class: ClassVar[str] = ""
    """Name of the provider's row, the name of the class if empty; two classes share it that read two structures."""
    scheme_version: ClassVar[int] = 1
    """Version of the structure that this class reads; a new one adds a scheme to the ledger."""
    error_allowance: ClassVar[int] = 1000
    error_share: ClassVar[float] = 0.1
    """Error budget of a new scheme: so many rejected records, and this share of those read. The ledger may say else."""
    masked_fields: ClassVar[frozenset[str]] = frozenset()
    """Fields masked in payloads kept for diagnosis, beside the usual personal ones."""
    public_fields: ClassVar[frozenset[str]] = frozenset()
    """Fields that are called like personal ones and are public in this source, such as the names of actors."""

    def __init__(self, venue_provider: VenueLink | None = None, connector: HttpConnector | None = None) -> None:
        self.venue_provider = venue_provider
        self._connector = connector
        self.records: Iterator[Any] = iter(())
        self.record: Any = None
        self.key = ""
        """Key of the object that is being filled, for records that describe several of a kind."""
        self.since: datetime | None = None
        self.until: datetime | None = None
        self.resume_from: str | None = None
        self.started_at = datetime.now(UTC)
        self.known: KnownRows | None = None
        self.pictures: Callable[[str], bytes] | None = None
        """Fetches a picture by its address; handed in by whoever has a storage for it."""

    def open(self) -> None:  # noqa: B027 - a hook that providers without a connector leave as it is
        """Set `self.records`; called once, before the first record.

        `self.since` and `self.until` bound what is wanted (None: everything), and `self.resume_from` is the `cursor`
        of the last record that an earlier try saved.
        """

    def close(self) -> None:
        """Let go of the source; called once, also after an error."""
        close = getattr(self.records, "close", None)
        if close is not None:
            close()

    def __iter__(self) -> Iterator[list[ProvidableInfo]]:
        return self

    @abstractmethod
    def __next__(self) -> list[ProvidableInfo]:
        """Read one record into `self.record`; return the objects that it describes, parents before children.

        An empty list skips the record. `RejectRecord` puts it aside; `StopIteration` ends the listing.
        """

    @abstractmethod
    def fill_object_attributes(self, obj: Providable) -> None:
        """Set on `obj` what `self.record` says; called only for objects that are new or may have changed.

        On an update `obj` holds the row's current values, read under lock before anything is written; on a creation
        `obj.id` is None and it holds the column defaults. It may be called several times for an object and must
        then set the same. `SkipObject` leaves the object out, `RejectRecord` puts the record aside; any other
        exception too.
        """

    def fill_gone_attributes(self, obj: Providable) -> None:  # noqa: ARG002
        """Set on `obj` what follows from its being gone: a complete listing (see `complete`) no longer has it.

        `obj` holds the row's current values, read under lock. What a person edited stays; `SkipObject` leaves the row
        as it is. One that stays on sale is filled again by each listing that still lacks it, since what follows may
        change with its bookings. When a later listing has the object again it is filled as usual.
        """
        raise ConfigurationError(
            f"{type(self).__name__} has complete listings, so it has to define fill_gone_attributes"
        )

    def recognise(
        self,
        new: Sequence[ProvidableInfo],  # noqa: ARG002
        unlisted: Sequence[tuple[str, Providable]],  # noqa: ARG002
    ) -> Mapping[str, ProvidableInfo]:
        """Tell which objects are known under another key, because the key holds something that changed.

        Called per record and table of `complete` with the objects of the record that are unknown, and with key and row
        of those that belong to the same parents and that the listing has not named so far; rows that are gone already
        are not among them. A record must name all children of its parents: else one that a later record names would
        seem to have vanished. Asked only while a whole listing is read from its start, never in a replay, with a limit
        or from a cursor on. Returns the info per key held: the row takes over its key and its values, and keeps what
        hangs on it.
        """
        return {}

    def get_object_thumb_index(self) -> int:
        """Number of the picture that the current record has of its object, from 1 on; 0 for none."""
        return 0

    def get_object_thumb_source(self) -> str | None:
        """What tells this picture from another without fetching it, its address say; None: fetch it each time."""
        return None

    def get_object_thumb(self) -> bytes:
        """The picture as the source has it; called only when `get_object_thumb_source` is not what we hold.

        The usual way fetches the source's address. Empty bytes mean that there is none after all.
        """
        source = self.get_object_thumb_source()
        return b"" if not source or self.pictures is None else self.pictures(source)

    def decode_record(self, raw: bytes) -> Any:  # noqa: ARG002
        """A record as `self.records` gives it, from the payload kept of a rejected one: what a replay needs.

        Raises:
            RejectRecord: it still cannot be used.
        """
        raise ConfigurationError(
            f"{type(self).__name__} cannot replay rejected records: it has to define decode_record"
        )

    def check_link(self) -> None:  # noqa: B027 - a hook
        """Ask the service whether it knows the venue and whether the link's settings are right, before it is linked.

        Raises:
            ConfigurationError: they are not, with what to do.
        """

    @property
    def cursor(self) -> str | None:
        """Where to go on from after the current record; None when the source must be listed again from its start."""
        return None

    @property
    def asked_at(self) -> datetime:
        """When the page of the current record was asked for: the date of records that have none."""
        return getattr(self.records, "asked_at", None) or self.started_at

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
        """Describe an object that is created when unknown and otherwise left as it is."""
        return ProvidableInfo(model, id_at_providers, None, new_id_at_provider, self.record, "create only")

    def create_reference(self, model: type[Providable], id_at_providers: str) -> ProvidableInfo:
        """Name an object that the record refers to: looked up with the chunk when asked for, never written."""
        return ProvidableInfo(model, id_at_providers, None, "", self.record, "reference")

    def id_of(self, model: type[Providable], id_at_providers: str) -> int:
        """Primary key of a parent of this record, also of one that is just being created.

        Raises:
            SkipObject: there is none (not known, not created, or rejected), so its child is left out too.
        """
        return self._known.id_of(model, id_at_providers)

    def row_of(self, model: type[P], id_at_providers: str) -> P:
        """A parent or reference of this record as the database holds it; raises as `id_of` does."""
        return self._known.row_of(model, id_at_providers)

    @property
    def _known(self) -> KnownRows:
        if self.known is None:
            raise ConfigurationError("id_of and row_of can only be used in fill_object_attributes")
        return self.known

    @property
    def connector(self) -> HttpConnector:
        """The connector handed in; raises ConfigurationError when there is none."""
        if self._connector is None:
            raise ConfigurationError(f"{type(self).__name__} needs a connector: pass one to its constructor")
        return self._connector

    @property
    def third_party(self) -> ThirdPartyRule:
        """The rule for URLs that this source lists: where they may lead."""
        from include.connectors.third_party import ThirdPartyRule

        return ThirdPartyRule(self.conn_id) if self._connector is None else self._connector.third_party

    def unknown_venue(self, hint: str = "") -> ConfigurationError:
        """The error of `check_link` for a venue that the service does not know (404).

        A wrong path in the address of the connection has the same result, so the text names both.
        """
        return ConfigurationError(
            f"{self.name} does not know {self.venue.venue_id_at_offer_provider}: check the id, or the address of the "
            f"Airflow connection {self.conn_id}{f'. {hint}' if hint else ''}"
        )

    @property
    def venue(self) -> VenueLink:
        """The venue link handed in; raises ConfigurationError when there is none."""
        if self.venue_provider is None:
            raise ConfigurationError(f"{type(self).__name__} needs a venue link: pass one to its constructor")
        return self.venue_provider

    @classmethod
    def row_name(cls) -> str:
        """`provider.local_class` of this class."""
        return cls.local_class or cls.__name__

    @classmethod
    def has_pictures(cls) -> bool:
        """Whether records of this source may have pictures."""
        return cls.get_object_thumb_index is not LocalProvider.get_object_thumb_index

    def updateObjects(self, limit: int | None = None, *, connection: psycopg.Connection[Any]) -> SyncReport:  # noqa: N802
        """Synchronise with the default settings: `include.inbound.run.sync_provider` by its traditional name."""
        from include.inbound.run import sync_provider

        return sync_provider(self, connection, limit=limit)
