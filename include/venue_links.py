"""Which provider feeds which venue: link a venue, change its provider or settings, activate or deactivate a link.

The rules follow the venue providers of https://github.com/pass-culture/pass-culture-main. The provider's service checks
a link before anything is written. Changing the provider transfers every row that the old provider fed: the new one
takes it over, and nothing more of it can be booked until the new provider has reported how many there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec
import psycopg

from include.errors import ConfigurationError, LinkBusy
from include.models import LinkStatus, VenueLink
from include.providers import named_provider
from include.store import Connection, database_failures
from include.store import links as store
from include.store.locks import link_lock
from include.store.providers import register_provider

if TYPE_CHECKING:
    from include.connectors.http import HttpConnector
    from include.providers.base import LocalProvider

Connect = Callable[["type[LocalProvider]"], AbstractContextManager["HttpConnector | None"]]
"""Opens the connector to a provider's service for the length of a block."""
Action = Literal["link", "change", "settings", "activate", "deactivate"]

MAX_ID_LENGTH = 70
MAX_SHOWN = 200
"""Links described at once."""


class LinkRequest(msgspec.Struct, frozen=True):
    """What to do with a link. `venue` is a SIRET or id, `link` an id, `provider` a `provider.local_class`."""

    action: Action
    venue: str | None = None
    link: int | None = None
    provider: str | None = None
    id_at_provider: str | None = None
    settings: dict[str, Any] | None = None


class LinkResult(msgspec.Struct, frozen=True):
    """A message for people on what was done; the link as it is now, with counts; and how many rows were transferred."""

    message: str
    link: LinkStatus
    offers_taken_over: int = 0
    stocks_taken_over: int = 0


class _NewLink(NamedTuple):
    """A link as it would be after the action, with its provider."""

    link: VenueLink
    provider_class: type[LocalProvider]
    provider_id: int


def perform(connection: Connection, connect: Connect, request: LinkRequest) -> LinkResult:
    """Run the action of a request; the connection must have no open transaction.

    Raises:
        ConfigurationError: a parameter of the request is missing or not allowed; or as the action's function raises.
    """
    action = _ACTIONS[request.action]
    given = {name: value for name, value in msgspec.structs.asdict(request).items() if value is not None}
    given.pop("action")
    if missing := sorted(action.needs - given.keys()):
        raise ConfigurationError(f"To {action.verb}, also specify: {', '.join(missing)}")
    if extra := sorted(given.keys() - action.needs - action.takes):
        raise ConfigurationError(f"To {action.verb}, leave out: {', '.join(extra)}")
    return action.run(connection, connect, **given)


def link_venue(
    connection: Connection,
    connect: Connect,
    *,
    venue: str,
    provider: str,
    id_at_provider: str | None = None,
    settings: dict[str, Any] | None = None,
) -> LinkResult:
    """Link a venue to a provider, whose next run then reads everything.

    The venue's id at the provider is the one given, else the one in `provider_pivot` (for a provider that needs pivots)
    or the venue's SIRET. If the link exists already, is active and has these settings, nothing is done: an earlier
    attempt may have made it.

    Raises:
        ConfigurationError: there is no such venue, provider or id; the link exists but is not active or has other
            settings; or the service does not know the venue.
        RetryableError: the service cannot be reached.
    """
    with _autocommit(connection):
        new = _new_link(connection, store.find_venue(connection, venue), provider, id_at_provider, settings or {})
        existing = _same_link(connection, new)
        if existing is not None and existing.is_active and existing.settings == new.link.settings:
            return LinkResult(f"Linked already: {_label(existing)}", _link_with_counts(connection, existing.id))
        _refuse_duplicate(connection, new)
        _check_with_service(connect, new)
        with _transaction(connection, on_conflict="the venue was linked meanwhile"):
            link_id = store.insert_link(connection, new.link, new.provider_id)
        link = _link_with_counts(connection, link_id)
        message = f"Linked {_label(link)}"
        if others := _links_with_same_keys(connection, new):
            message += (
                f". Note that {', '.join(others)} uses the same keys in this venue: both will overwrite the same rows. "
                "To replace the other provider, deactivate this link and use the action change"
            )
    return LinkResult(message, link)


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
    """Let another provider feed what a link feeds. `link` is an id; without it, `venue` must have one active link.

    The rows that the old provider fed in the venue become the new provider's, with their bookings. Beyond these they go
    off sale until the next run, which reads everything; that includes quantities with a manual override.
    `fields_updated` does not change. Keys that contain the venue's id at the provider (`key_patterns`) get the new id.
    A new provider that builds its keys differently does not recognise the rows, and creates its own.

    `settings` replace the link's settings. Without them the link has none, but keeps its own if only the id changes. A
    change that was made already is not an error: an earlier attempt may have made it.

    Raises:
        ConfigurationError: as `link_venue`; or a key exists already under the new id. Nothing was changed.
        LinkBusy: a run is reading the link.
        RetryableError: the service cannot be reached.
    """
    with _autocommit(connection):
        current = _find_link(connection, venue, link, is_active=True)
        if settings is None:
            settings = current.settings if current.provider == provider.strip() else {}
        new = _new_link(connection, current, provider, id_at_provider, settings)
        if new.provider_id == current.provider_id and new.link.venue_id_at_offer_provider == (
            current.venue_id_at_offer_provider
        ):
            return _nothing_to_change(connection, current, settings)
        _refuse_duplicate(connection, new)
        _check_with_service(connect, new)
        taken, given_up = _transfer(connection, current, new)
        now = _link_with_counts(connection, current.id)
    message = (
        f"Changed {_label(current)} to {_label(now)}: {taken.offers:,} offers and {taken.stocks:,} stocks were "
        f"transferred; nothing more of them can be booked until {now.provider} has been read"
    )
    if taken.overridden_quantities:
        message += (
            f". {taken.overridden_quantities:,} of the stocks have a manual override of the quantity: they stay off "
            "sale until release_fields('stock', <id>, 'quantity') releases it"
        )
    if given_up:
        message += f". {given_up:,} rejected records of {current.provider} will not be replayed"
    return LinkResult(message, now, offers_taken_over=taken.offers, stocks_taken_over=taken.stocks)


def _transfer(connection: Connection, current: LinkStatus, new: _NewLink) -> tuple[store.TakenOver, int]:
    """Make `current` the new link and transfer its rows; return what was transferred, and the rejections closed."""
    new_id = new.link.venue_id_at_offer_provider
    is_same_provider = new.provider_id == current.provider_id
    with (
        link_lock(connection, current.provider_id, current.id),
        # The new provider's runs must wait too: they take the lock under its own id.
        nullcontext() if is_same_provider else link_lock(connection, new.provider_id, current.id),
        _transaction(connection, on_conflict="keys would collide, be too long, or the venue was linked meanwhile"),
    ):
        _lock_unchanged(connection, current)
        patterns = _key_patterns(current.provider)
        is_other_id = new_id != current.venue_id_at_offer_provider
        if is_other_id and (keys := store.find_key_conflicts(connection, current, new_id, patterns)):
            raise ConfigurationError(
                f"Nothing was changed: under the id {new_id} rows would get keys that other rows have: "
                f"{', '.join(keys)}, and more if these are {store.MAX_NAMED}. Give those another id_at_providers, or "
                "remove them, or link the venue under another id"
            )
        taken = store.take_over(connection, current, new.provider_id, new_id, patterns)
        store.repoint_link(connection, new.link, new.provider_id)
        store.forget_progress(connection, current.id)
        return taken, store.give_up_rejections(connection, current.id, current.provider_id)


def set_active(
    connection: Connection, _connect: Connect, *, is_active: bool, venue: str | None = None, link: int | None = None
) -> LinkResult:
    """Activate or deactivate a link, given by its id or by a venue that has only one to (de)activate.

    The next runs skip an inactive link, and its rows stay as they are; a run that is reading it continues to its end.
    After activating, the next run reads everything.

    Raises:
        ConfigurationError: there is no such link, or the venue has none or several.
    """
    with _autocommit(connection):
        current = _find_link(connection, venue, link, is_active=not is_active)
        with connection.transaction():
            if current.is_active != is_active:
                store.switch_link(connection, current.id, is_active=is_active)
        now = _link_with_counts(connection, current.id)
    if current.is_active == is_active:
        message = f"Nothing to do: {_label(now)} is {'' if is_active else 'not '}active"
    elif is_active:
        message = f"Activated {_label(now)}: the next run reads everything"
    else:
        message = (
            f"Deactivated {_label(now)}: the next runs skip it. {now.stocks_on_sale:,} of its stocks stay on sale, "
            "unchanged, and can be booked"
        )
    return LinkResult(message, now)


def change_settings(
    connection: Connection,
    connect: Connect,
    *,
    settings: dict[str, Any],
    venue: str | None = None,
    link: int | None = None,
) -> LinkResult:
    """Replace all settings of a link; the next run reads everything with the new ones.

    Raises:
        ConfigurationError: there is no such link, or the provider refuses the settings.
        LinkBusy: a run is reading the link.
        RetryableError: the service cannot be reached.
    """
    with _autocommit(connection):
        current = _find_link(connection, venue, link, is_active=True)
        new = _new_link(connection, current, current.provider, current.venue_id_at_offer_provider, settings)
        _check_with_service(connect, new)
        with link_lock(connection, current.provider_id, current.id), connection.transaction():
            _lock_unchanged(connection, current)
            store.set_settings(connection, current.id, new.link.settings)
            store.forget_progress(connection, current.id)
        now = _link_with_counts(connection, current.id)
    return LinkResult(f"Changed the settings of {_label(now)}: the next run reads everything with them", now)


class _Action(NamedTuple):
    """A row of the table of actions: what messages call it, its parameters, and its function."""

    verb: str
    needs: set[str]
    takes: set[str]
    run: Callable[..., LinkResult]


_ACTIONS: dict[Action, _Action] = {
    "link": _Action("link a venue", {"venue", "provider"}, {"id_at_provider", "settings"}, link_venue),
    "change": _Action(
        "change the provider of a venue", {"provider"}, {"venue", "link", "id_at_provider", "settings"}, change_provider
    ),
    "settings": _Action("change the settings of a link", {"settings"}, {"venue", "link"}, change_settings),
    "activate": _Action("activate a link", set(), {"venue", "link"}, partial(set_active, is_active=True)),
    "deactivate": _Action("deactivate a link", set(), {"venue", "link"}, partial(set_active, is_active=False)),
}


def describe_links(connection: Connection, *, venue: str | None = None) -> tuple[list[LinkStatus], int]:
    """Return at most `MAX_SHOWN` links (of a venue) with counts of what they feed, and how many links there are.

    Raises:
        ConfigurationError: there is no such venue.
    """
    with _autocommit(connection):
        venue_id = store.find_venue(connection, venue).venue_id if venue else None
        found = store.list_links(connection, venue_id=venue_id, limit=MAX_SHOWN, with_counts=True)
        return found, store.count_links(connection, venue_id=venue_id)


@contextmanager
def _autocommit(connection: Connection) -> Iterator[None]:
    """Set autocommit for a block, and restore it afterwards; failures of PostgreSQL become DatabaseUnavailable."""
    was_autocommit = connection.autocommit
    connection.autocommit = True
    try:
        with database_failures(connection):
            yield
    finally:
        if not connection.closed:
            connection.autocommit = was_autocommit


@contextmanager
def _transaction(connection: Connection, *, on_conflict: str) -> Iterator[None]:
    """Run a transaction in which a violated constraint is an error of the request."""
    try:
        with connection.transaction():
            yield
    except psycopg.IntegrityError as error:
        raise ConfigurationError(f"Nothing was changed, {on_conflict}: {error.diag.message_detail or error}") from error


def _new_link(
    connection: Connection, venue: VenueLink, name: str, id_at_provider: str | None, settings: dict[str, Any]
) -> _NewLink:
    """Return the link of a venue to the provider called `name`; `venue` supplies the venue and the link's own id."""
    provider_class = named_provider(name)
    provider_id = register_provider(connection, provider_class.row_name(), provider_class.name)
    if not store.provider_is_active(connection, provider_id):
        raise ConfigurationError(
            f"The provider {provider_class.row_name()} is not active, so none of its links are read: "
            f"set is_active of row {provider_id} of provider"
        )
    if b"\\u0000" in msgspec.json.encode(settings):
        raise ConfigurationError("settings: PostgreSQL cannot store the character NUL")
    link = VenueLink(
        id=venue.id,
        venue_id=venue.venue_id,
        venue_id_at_offer_provider=_id_at_provider(connection, venue, provider_class, provider_id, id_at_provider),
        siret=venue.siret,
        venue_name=venue.venue_name,
        departement_code=venue.departement_code,
        booking_email=venue.booking_email,
        withdrawal_details=venue.withdrawal_details,
        settings=settings,
    )
    return _NewLink(link, provider_class, provider_id)


def _id_at_provider(
    connection: Connection, venue: VenueLink, provider_class: type[LocalProvider], provider_id: int, given: str | None
) -> str:
    """Return what a provider calls a venue: the given id, else the one of `provider_pivot` or the SIRET."""
    pivot = store.pivot_of(connection, provider_id, venue.venue_id) if provider_class.needs_pivot else venue.siret
    label = f"{venue.venue_name} (venue {venue.venue_id})"
    if pivot is None and provider_class.needs_pivot:
        raise ConfigurationError(
            f"{provider_class.row_name()} does not know venues by SIRET, and provider_pivot has no id for {label}: "
            f"insert a row with provider_id {provider_id}, venue_id {venue.venue_id} and its id_at_provider"
        )
    chosen = (given or "").strip() or pivot
    if not chosen:
        raise ConfigurationError(
            f"{label} has no SIRET: give id_at_provider, by which {provider_class.row_name()} knows it"
        )
    if len(chosen) > MAX_ID_LENGTH or not chosen.isprintable():
        raise ConfigurationError(
            f"id_at_provider {chosen[:100]!r}: it must have 1 to {MAX_ID_LENGTH} printable characters"
        )
    return chosen


def _check_with_service(connect: Connect, new: _NewLink) -> None:
    """Let the provider check the new link with its service."""
    with connect(new.provider_class) as connector:
        provider = new.provider_class(new.link, connector)
        try:
            provider.check_link()
        finally:
            provider.close()


def _key_patterns(provider: str) -> Sequence[str]:
    """Return the provider's key patterns; empty if its class no longer exists."""
    try:
        return named_provider(provider).key_patterns
    except ConfigurationError:
        return ()


def _nothing_to_change(connection: Connection, current: LinkStatus, settings: dict[str, Any]) -> LinkResult:
    if settings != current.settings:
        raise ConfigurationError(f"That is {_label(current)} already: the action settings changes its settings")
    if not current.is_active:
        raise ConfigurationError(f"That is {_label(current)} already, but it is not active: activate it")
    return LinkResult(f"Nothing to change: that is {_label(current)}", _link_with_counts(connection, current.id))


def _same_link(connection: Connection, new: _NewLink) -> LinkStatus | None:
    """Return another link of the venue to the same provider under the same id."""
    same = (new.provider_id, new.link.venue_id_at_offer_provider)
    for link in store.list_links(connection, venue_id=new.link.venue_id):
        if (link.provider_id, link.venue_id_at_offer_provider) == same and link.id != new.link.id:
            return link
    return None


def _links_with_same_keys(connection: Connection, new: _NewLink) -> list[str]:
    """Return the venue's active links to other providers that build the same keys: same id and same patterns."""
    patterns = new.provider_class.key_patterns
    return [
        _label(link)
        for link in store.list_links(connection, venue_id=new.link.venue_id)
        if link.is_active
        and link.provider_id != new.provider_id
        and link.venue_id_at_offer_provider == new.link.venue_id_at_offer_provider
        and patterns
        and _key_patterns(link.provider) == patterns
    ]


def _refuse_duplicate(connection: Connection, new: _NewLink) -> None:
    link = _same_link(connection, new)
    if link is None:
        return
    hint = ""
    if not link.is_active:
        hint = f", but it is not active: activate link {link.id}"
    elif link.settings != new.link.settings:
        hint = ", with other settings: the action settings changes them"
    raise ConfigurationError(f"There is {_label(link)} already{hint}")


def _find_link(connection: Connection, venue: str | None, link_id: int | None, *, is_active: bool) -> LinkStatus:
    """Return the link with this id; without an id, the only (in)active link of the venue."""
    venue_id = store.find_venue(connection, venue).venue_id if venue else None
    if link_id is None and venue_id is None:
        raise ConfigurationError("Specify `link` (an id) or a `venue` that has exactly one link")
    found = store.list_links(connection, venue_id=venue_id, link_id=link_id)
    if link_id is None:
        all_links = "; ".join(map(_label, found)) or "none"
        found = [each for each in found if each.is_active == is_active]
        if len(found) != 1:
            kind = "active" if is_active else "inactive"
            raise ConfigurationError(
                f"Venue {venue} has {len(found) or 'no'} {kind} links: give the id in `link`. Its links: {all_links}"
            )
    if not found:
        raise ConfigurationError(
            f"There is no link {link_id}{f' of venue {venue}' if venue else ''}: the action show lists the links"
        )
    return found[0]


def _lock_unchanged(connection: Connection, current: LinkStatus) -> None:
    """Lock the link's row; raise LinkBusy if it changed since it was checked."""
    now = store.lock_link(connection, current.id)
    if now is None:
        raise ConfigurationError(f"Link {current.id} no longer exists")
    if (now.provider_id, now.venue_id_at_offer_provider) != (current.provider_id, current.venue_id_at_offer_provider):
        raise LinkBusy(f"Link {current.id} was changed by someone else at the same time", retry_after=10)


def _link_with_counts(connection: Connection, link_id: int) -> LinkStatus:
    found = store.list_links(connection, link_id=link_id, with_counts=True)
    if not found:
        raise ConfigurationError(f"Link {link_id} no longer exists")
    return found[0]


def _label(link: LinkStatus) -> str:
    id_at_provider = link.venue_id_at_offer_provider
    siret = f"SIRET {link.siret}" if link.siret else "no SIRET"
    return f"link {link.id} of {link.venue_name} ({siret}) to {link.provider} as {id_at_provider}"
