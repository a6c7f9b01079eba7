"""Who feeds a venue: linking, changing the provider, pausing, settings.

The rules follow the venue providers of https://github.com/pass-culture/pass-culture-main. A link is checked by its
provider's service before anything is written. A change of provider is a decision of a person about everything that the
old one fed: the new one takes the rows over, and nothing more of them can be sold until it has said how many there are.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import msgspec
import psycopg

from include.errors import ConfigurationError, DatabaseUnavailable, LinkBusy
from include.models import LinkStatus, VenueLink
from include.providers import named_provider
from include.store import links as store
from include.store.locks import link_lock
from include.store.providers import register_provider

if TYPE_CHECKING:
    from include.connectors.http import HttpConnector
    from include.providers.base import LocalProvider

log = logging.getLogger(__name__)

Connection = psycopg.Connection[Any]
Connect = Callable[["type[LocalProvider]"], AbstractContextManager["HttpConnector | None"]]
"""Gives the connector to a provider's service for the length of a block."""
Action = Literal["link", "change", "settings", "activate", "deactivate"]

MAX_ID_LENGTH = 70
MAX_SHOWN = 200
"""Links that are described at once."""


class LinkRequest(msgspec.Struct, frozen=True):
    """What a person wants done. A venue is told by SIRET or id, a provider by `provider.local_class`."""

    action: Action
    venue: str | None = None
    link: int | None = None
    provider: str | None = None
    id_at_provider: str | None = None
    settings: dict[str, Any] | None = None


class LinkResult(msgspec.Struct, frozen=True):
    """What was done: a sentence for people, the link as it is now with its counts, and how many rows changed hands."""

    told: str
    link: LinkStatus
    offers_taken_over: int = 0
    stocks_taken_over: int = 0


class _Wanted(NamedTuple):
    link: VenueLink
    provider_class: type[LocalProvider]
    provider_id: int


_TAKES = {
    "link": ({"venue", "provider"}, {"id_at_provider", "settings"}),
    "change": ({"provider"}, {"venue", "link", "id_at_provider", "settings"}),
    "settings": ({"settings"}, {"venue", "link"}),
    "activate": (set(), {"venue", "link"}),
    "deactivate": (set(), {"venue", "link"}),
}
"""What an action needs, and what else it takes."""


def perform(connection: Connection, connect: Connect, request: LinkRequest) -> LinkResult:
    """Do what a request asks for; the connection has no transaction open.

    Raises:
        ConfigurationError: the request lacks something or has too much, or what the function of the action raises.
    """
    needed, more = _TAKES[request.action]
    asked = {name: value for name, value in msgspec.structs.asdict(request).items() if value is not None}
    asked.pop("action")
    if missing := sorted(needed - asked.keys()):
        raise ConfigurationError(f"To {_INFINITIVES[request.action]}, say also: {', '.join(missing)}")
    if extra := sorted(asked.keys() - needed - more):
        raise ConfigurationError(f"To {_INFINITIVES[request.action]}, leave out: {', '.join(extra)}")
    match request.action:
        case "link":
            return link_venue(connection, connect, **asked)
        case "change":
            return change_provider(connection, connect, **asked)
        case "settings":
            return change_settings(connection, connect, **asked)
        case _:
            return set_active(connection, is_active=request.action == "activate", **asked)


_INFINITIVES = {
    "link": "link a venue",
    "change": "change the provider of a venue",
    "settings": "change the settings of a link",
    "activate": "activate a link",
    "deactivate": "deactivate a link",
}
assert set(_INFINITIVES) == set(_TAKES) == set(get_args(Action))


def link_venue(
    connection: Connection,
    connect: Connect,
    *,
    venue: str,
    provider: str,
    id_at_provider: str | None = None,
    settings: dict[str, Any] | None = None,
) -> LinkResult:
    """Link a venue to a provider, which its next run then reads wholly.

    The venue's id at the provider is the one given, else that of `provider_pivot` for a provider with pivots, else the
    venue's SIRET. A link that was made already, by an earlier try say, is no error if it is active and has these
    settings.

    Raises:
        ConfigurationError: no such venue or provider, no id, the link exists but is not active or has other settings,
            or the service does not know the venue.
        RetryableError: the service cannot be reached.
    """
    with _working(connection):
        wanted = _wanted(connection, store.find_venue(connection, venue), provider, id_at_provider, settings or {})
        held = _same_link(connection, wanted)
        if held is not None and held.is_active and held.settings == wanted.link.settings:
            return LinkResult(f"Linked already: {_named(held)}", _counted(connection, held.id))
        _refuse_duplicate(connection, wanted)
        _check(connect, wanted)
        with _refusing(connection, "the venue was linked meanwhile"):
            link_id = store.insert_link(connection, wanted.link, wanted.provider_id)
        link = _counted(connection, link_id)
        told = f"Linked {_named(link)}"
        if rivals := _rivals(connection, wanted):
            told += (
                f". Mind that {', '.join(rivals)} uses the same keys in this venue: the two will write the same rows "
                "by turns. If one is to replace the other, deactivate this link and use the action change"
            )
    return LinkResult(told, link)


def change_provider(
    connection: Connection,
    connect: Connect,
    *,
    provider: str,
    venue: str | None = None,
    link: int | None = None,
    id_at_provider: str | None = None,
    settings: dict[str, Any] | None = None,
) -> LinkResult:
    """Let another provider feed what a link feeds; the link is told by its id, or by a venue that has one active link.

    What the old provider fed in the venue is the new one's from now on, with its bookings, and off sale beyond them
    until the next run, which reads everything. That goes for quantities that a person holds too; `fields_updated` stays
    as it is.

    Where keys hold the venue's id at the provider (`key_patterns`), they hold the new one then. A new provider that forms
    its keys in another way does not know the rows again, and makes its own beside them.

    Settings are those given. Without any the link has none, or keeps its own if the provider stays and the id changes.
    A change that was made already, by an earlier try say, is no error.

    Raises:
        ConfigurationError: as `link_venue`; or a key exists already under the new id. Nothing was changed.
        LinkBusy: the link is being synchronised.
        RetryableError: the service cannot be reached.
    """
    with _working(connection):
        held = _chosen(connection, venue, link, is_active=True)
        if settings is None:
            settings = held.settings if held.provider == provider.strip() else {}
        wanted = _wanted(connection, held, provider, id_at_provider, settings)
        new_id = wanted.link.venue_id_at_offer_provider
        if (wanted.provider_id, new_id) == (held.provider_id, held.venue_id_at_offer_provider):
            return _nothing_to_change(connection, held, settings)
        _refuse_duplicate(connection, wanted)
        _check(connect, wanted)
        with (
            link_lock(connection, held.provider_id, held.id),
            link_lock(connection, wanted.provider_id, held.id)
            if wanted.provider_id != held.provider_id
            else nullcontext(),
            _refusing(connection, "keys would collide, be too long, or the venue was linked meanwhile"),
        ):
            _lock_unchanged(connection, held)
            marks = _link_marks(held.provider)
            is_other_id = new_id != held.venue_id_at_offer_provider
            if is_other_id and (keys := store.keys_in_the_way(connection, held, new_id, marks)):
                raise ConfigurationError(
                    f"Nothing was changed: under the id {new_id} rows would get keys that others have: "
                    f"{', '.join(keys)}, and more if these are {store.MAX_NAMED}. Give those another id_at_providers, "
                    "or remove them, or link the venue under another id"
                )
            taken = store.take_over(connection, held, wanted.provider_id, new_id, marks)
            store.repoint_link(connection, wanted.link, wanted.provider_id)
            store.forget_progress(connection, held.id)
            given_up = store.give_up_rejections(connection, held.id, held.provider_id)
        now = _counted(connection, held.id)
    told = (
        f"Changed {_named(held)} to {_named(now)}: {taken.offers:,} offers and {taken.stocks:,} stocks changed hands; "
        f"nothing more of them can be booked until {now.provider} was read"
    )
    if taken.held_quantities:
        told += (
            f". Of {taken.held_quantities:,} stocks a person holds the quantity: they stay off sale until "
            "release_fields('stock', <id>, 'quantity') gives it back"
        )
    if given_up:
        told += f". {given_up:,} rejected records of {held.provider} are given up"
    return LinkResult(told, now, offers_taken_over=taken.offers, stocks_taken_over=taken.stocks)


def set_active(
    connection: Connection, *, is_active: bool, venue: str | None = None, link: int | None = None
) -> LinkResult:
    """Activate or deactivate a link, told by its id or by a venue that has only one to (de)activate.

    The next runs skip one that is not active, its rows stay as they are; a run that reads it just now goes on to its
    end. One that becomes active again is read wholly.

    Raises:
        ConfigurationError: there is no such link, or the venue has none or several.
    """
    with _working(connection):
        held = _chosen(connection, venue, link, is_active=not is_active)
        with connection.transaction():
            if held.is_active != is_active:
                store.switch_link(connection, held.id, is_active=is_active)
        now = _counted(connection, held.id)
    if held.is_active == is_active:
        return LinkResult(f"Nothing to do: {_named(now)} is {'' if is_active else 'not '}active", now)
    if is_active:
        return LinkResult(f"Activated {_named(now)}: the next run reads everything", now)
    return LinkResult(
        f"Deactivated {_named(now)}: the next runs skip it. {now.stocks_on_sale:,} of its stocks stay on sale, as they "
        "are, and can be booked",
        now,
    )


def change_settings(
    connection: Connection,
    connect: Connect,
    *,
    settings: dict[str, Any],
    venue: str | None = None,
    link: int | None = None,
) -> LinkResult:
    """Give a link other settings, all of them; the next run reads everything with these.

    Raises:
        ConfigurationError: there is no such link, or its provider's service refuses the settings.
        LinkBusy: the link is being synchronised.
        RetryableError: the service cannot be reached.
    """
    with _working(connection):
        held = _chosen(connection, venue, link, is_active=True)
        wanted = _wanted(connection, held, held.provider, held.venue_id_at_offer_provider, settings)
        _check(connect, wanted)
        with link_lock(connection, held.provider_id, held.id), connection.transaction():
            _lock_unchanged(connection, held)
            store.set_settings(connection, held.id, wanted.link.settings)
            store.forget_progress(connection, held.id)
        now = _counted(connection, held.id)
    return LinkResult(f"{_named(now)} has new settings: the next run reads everything with them", now)


def describe_links(connection: Connection, *, venue: str | None = None) -> tuple[list[LinkStatus], int]:
    """Links with what they feed, by venue, at most `MAX_SHOWN`; and how many there are. `venue` narrows them.

    Raises:
        ConfigurationError: there is no such venue.
    """
    with _working(connection):
        venue_id = store.find_venue(connection, venue).venue_id if venue else None
        found = store.list_links(connection, venue_id=venue_id, limit=MAX_SHOWN, with_counts=True)
        return found, store.count_links(connection, venue_id=venue_id)


@contextmanager
def _working(connection: Connection) -> Iterator[None]:
    """Set the connection to autocommit, give it back as it was, and name what PostgreSQL's failure means."""
    was_autocommit = connection.autocommit
    connection.autocommit = True
    try:
        yield
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise DatabaseUnavailable(f"PostgreSQL gave up: {reason}", retry_after=10) from error
    finally:
        if not connection.closed:
            connection.autocommit = was_autocommit


@contextmanager
def _refusing(connection: Connection, why: str) -> Iterator[None]:
    """A transaction in which PostgreSQL's refusal is the request's fault."""
    try:
        with connection.transaction():
            yield
    except psycopg.IntegrityError as error:
        raise ConfigurationError(f"Nothing was changed, {why}: {error.diag.message_detail or error}") from error


def _wanted(
    connection: Connection, venue: VenueLink, name: str, id_at_provider: str | None, settings: dict[str, Any]
) -> _Wanted:
    """The link as it would be; `venue` gives its venue and its own id."""
    provider_class = named_provider(name)
    provider_id = register_provider(connection, provider_class.row_name(), provider_class.name)
    if not store.provider_is_active(connection, provider_id):
        raise ConfigurationError(
            f"The provider {provider_class.row_name()} is not active, so nothing of it is read: "
            f"set is_active of row {provider_id} of provider"
        )
    pivot = store.pivot_of(connection, provider_id, venue.venue_id) if provider_class.needs_pivot else venue.siret
    label = f"{venue.venue_name} (venue {venue.venue_id})"
    if pivot is None and provider_class.needs_pivot:
        raise ConfigurationError(
            f"{provider_class.row_name()} does not know venues by SIRET, and provider_pivot does not say what it calls "
            f"{label}: insert a row with provider_id {provider_id}, venue_id {venue.venue_id} and its id_at_provider"
        )
    known_as = (id_at_provider or "").strip() or pivot
    if not known_as:
        raise ConfigurationError(
            f"{label} has no SIRET: give id_at_provider, by which {provider_class.row_name()} knows it"
        )
    if len(known_as) > MAX_ID_LENGTH or not known_as.isprintable():
        raise ConfigurationError(
            f"id_at_provider {known_as[:100]!r}: 1 to {MAX_ID_LENGTH} printable characters are needed"
        )
    if b"\\u0000" in msgspec.json.encode(settings):
        raise ConfigurationError("settings: PostgreSQL cannot hold the character NUL")
    link = VenueLink(
        id=venue.id,
        venue_id=venue.venue_id,
        venue_id_at_offer_provider=known_as,
        siret=venue.siret,
        venue_name=venue.venue_name,
        departement_code=venue.departement_code,
        booking_email=venue.booking_email,
        withdrawal_details=venue.withdrawal_details,
        settings=settings,
    )
    return _Wanted(link, provider_class, provider_id)


def _check(connect: Connect, wanted: _Wanted) -> None:
    """Let the provider ask its service about the link as it would be."""
    with connect(wanted.provider_class) as connector:
        provider = wanted.provider_class(wanted.link, connector)
        try:
            provider.check_link()
        finally:
            provider.close()


def _link_marks(provider: str) -> Sequence[str]:
    """How a link's id stands in the keys of a provider, also of one that the project has no more."""
    try:
        return named_provider(provider).key_patterns
    except ConfigurationError:
        return ()


def _nothing_to_change(connection: Connection, held: LinkStatus, settings: dict[str, Any]) -> LinkResult:
    if settings != held.settings:
        raise ConfigurationError(f"That is {_named(held)} already: the action settings changes its settings")
    if not held.is_active:
        raise ConfigurationError(f"That is {_named(held)} already, it is not active: activate it")
    return LinkResult(f"Nothing to change: that is {_named(held)} already", _counted(connection, held.id))


def _same_link(connection: Connection, wanted: _Wanted) -> LinkStatus | None:
    """Another link of the venue to the provider under the same id."""
    same = (wanted.provider_id, wanted.link.venue_id_at_offer_provider)
    for link in store.list_links(connection, venue_id=wanted.link.venue_id):
        if (link.provider_id, link.venue_id_at_offer_provider) == same and link.id != wanted.link.id:
            return link
    return None


def _rivals(connection: Connection, wanted: _Wanted) -> list[str]:
    """Other providers with an active link of the venue under the same id, whose keys look the same."""
    marks = wanted.provider_class.key_patterns
    return [
        _named(link)
        for link in store.list_links(connection, venue_id=wanted.link.venue_id)
        if link.is_active
        and link.provider_id != wanted.provider_id
        and link.venue_id_at_offer_provider == wanted.link.venue_id_at_offer_provider
        and marks
        and _link_marks(link.provider) == marks
    ]


def _refuse_duplicate(connection: Connection, wanted: _Wanted) -> None:
    link = _same_link(connection, wanted)
    if link is None:
        return
    if not link.is_active:
        raise ConfigurationError(f"There is {_named(link)} already, it is not active: activate link {link.id}")
    if link.settings != wanted.link.settings:
        raise ConfigurationError(
            f"There is {_named(link)} already, with other settings: the action settings changes them"
        )
    raise ConfigurationError(f"There is {_named(link)} already")


def _chosen(connection: Connection, venue: str | None, link_id: int | None, *, is_active: bool) -> LinkStatus:
    """The link with this id; without one, the only link of the venue that is (not) active."""
    venue_id = store.find_venue(connection, venue).venue_id if venue else None
    if link_id is None and venue_id is None:
        raise ConfigurationError("Say which link: its id in `link`, or a venue that has only one in `venue`")
    found = store.list_links(connection, venue_id=venue_id, link_id=link_id)
    if link_id is None:
        there_are = "; ".join(map(_named, found)) or "none"
        found = [each for each in found if each.is_active == is_active]
        if len(found) != 1:
            kind = "active" if is_active else "inactive"
            raise ConfigurationError(
                f"Venue {venue} has {len(found) or 'no'} {kind} links: give the id in `link`. Its links: {there_are}"
            )
    if not found:
        raise ConfigurationError(
            f"There is no link {link_id}{f' of venue {venue}' if venue else ''}: the action show lists the links"
        )
    return found[0]


def _lock_unchanged(connection: Connection, held: LinkStatus) -> None:
    """Lock the link's row; whoever changed it since it was read and checked goes first."""
    now = store.lock_link(connection, held.id)
    if now is None:
        raise ConfigurationError(f"Link {held.id} does not exist any more")
    if (now.provider_id, now.venue_id_at_offer_provider) != (held.provider_id, held.venue_id_at_offer_provider):
        raise LinkBusy(f"Link {held.id} was changed by somebody else at the same moment", retry_after=10)


def _counted(connection: Connection, link_id: int) -> LinkStatus:
    found = store.list_links(connection, link_id=link_id, with_counts=True)
    if not found:
        raise ConfigurationError(f"Link {link_id} does not exist any more")
    return found[0]


def _named(link: LinkStatus) -> str:
    known_as = link.venue_id_at_offer_provider
    siret = f"SIRET {link.siret}" if link.siret else "no SIRET"
    return f"link {link.id} of {link.venue_name} ({siret}) to {link.provider} as {known_as}"
