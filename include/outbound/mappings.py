"""Stored mappings: checked before they are saved, kept in versions, used by targets that define none in code.

::

    fields = {model: data_fields(event, model) for model in ("Order", "OrderPosition")}
    version = save(connection, "crm", mappings, fields=fields, note="Phone numbers too")
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

import psycopg

from include.errors import ConfigurationError
from include.outbound.checks import MAX_NAME_LENGTH, Fields, check
from include.store import outbound_mappings as store
from include.targets.entries import MAPPING_KEYS, listed, normalize_mapping, translate_property_mappings
from include.targets.mapping import StaticMapping

log = logging.getLogger(__name__)


def save(
    connection: psycopg.Connection, target: str, mappings: Iterable[object], *, fields: Fields, note: str = ""
) -> int:
    """Make these mappings the current version of a target; returns its number. Equal mappings get no new version.

    `fields` are the source fields by source model. Warnings are logged.

    Raises:
        ConfigurationError: there are problems; the message lists all of them.
    """
    mappings = list(mappings)
    problems = check(mappings, fields)
    if not target or len(target) > MAX_NAME_LENGTH:
        problems.errors.insert(
            0, f"The identifier of a target has 1 to {MAX_NAME_LENGTH} characters, not {len(target)}"
        )
    if problems.errors:
        found = "\n".join(f"  - {each}" for each in problems.errors)
        raise ConfigurationError(f"The mappings of {target or 'a target'} cannot be saved:\n{found}")
    for warning in problems.warnings:
        log.warning("Mappings of %s: %s", target, warning)
    normalized = [normalize_mapping(each) for each in mappings]
    documents = [{key: getattr(mapping, key) for key in MAPPING_KEYS} for mapping in normalized]
    try:
        return store.add_version(connection, target, documents, note)
    except (TypeError, ValueError, psycopg.DataError) as error:
        raise ConfigurationError(f"The mappings of {target} cannot be stored as JSON: {error}") from error


def load(connection: psycopg.Connection, target: str) -> list[StaticMapping] | None:
    """Return the current mappings of a target; None if it has none."""
    current = store.find_current(connection, target)
    return None if current is None else [normalize_mapping(mapping) for mapping in current.mappings]


def restore(connection: psycopg.Connection, target: str, version: int) -> int:
    """Make an older version current again, as a new version; returns its number.

    Raises:
        ConfigurationError: there is no such version; the message lists those there are.
    """
    found = {each.version: each for each in store.list_versions(connection, target)}
    if version not in found:
        raise ConfigurationError(
            f"The mappings of {target!r} have no version {version}; the versions are: {listed(sorted(found))}"
        )
    return store.add_version(connection, target, found[version].mappings, f"Version {version} again")


def translate_all(connection: psycopg.Connection, checkin_list_map: Mapping[int, int]) -> dict[str, int]:
    """After an event was copied, make all stored mappings refer to the check-in lists of the copy.

    `checkin_list_map` maps the id of each list to that of its copy. Entries of other lists are marked as invalid. All
    mappings are translated in one transaction. Returns the new version of each target whose mappings changed;
    `restore` undoes it.

    Raises:
        SyncConfigError: stored mappings cannot be read.
    """
    changed: dict[str, int] = {}
    with connection.transaction():
        store.lock_versions(connection)
        for target in store.list_targets(connection):
            current = store.find_current(connection, target)
            if current is None:
                continue
            translated = [
                {**each, "property_mappings": translate_property_mappings(each["property_mappings"], checkin_list_map)}
                for each in current.mappings
            ]
            version = store.add_version(connection, target, translated, "Check-in lists of a copied event")
            if version != current.version:
                changed[target] = version
    return changed
