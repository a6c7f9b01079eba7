"""Mappings as data: checked before they are saved, kept in versions, and used by targets that have none in code.

::

    fields = {model: data_fields(event, model) for model in ("Order", "OrderPosition")}
    version = save(connection, "crm", mappings, fields=fields, note="Phone numbers too")
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg

from include.errors import ConfigurationError, SyncConfigError
from include.outbound.properties import (
    ENTRY_KEYS,
    IGNORED_KEYS,
    INVALID_PREFIX,
    MAPPING_KEYS,
    MODES,
    describe,
    listed,
    normalize_mapping,
    parse_value_map,
    translate_property_mappings,
)
from include.store import outbound_mappings as store
from include.store.outbound_mappings import MappingVersion
from include.targets.base import StaticMapping

log = logging.getLogger(__name__)

MAX_NAME_LENGTH = 128
_LARGEST_ID = 2**63 - 1
_OTHER_MAPPING_KEYS = ("pretix_model", "pretix_id_field")

Fields = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Problems:
    """What is wrong with mappings: `errors` have to be corrected before they can be saved, `warnings` need not."""

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def check(mappings: Iterable[Any], fields_by_model: Fields, *, known_models: Collection[str] | None = None) -> Problems:
    """Everything that is wrong with the mappings of one target, each time with the mapping and entry.

    - `mappings`: StaticMapping or the like, or dictionaries.
    - `fields_by_model`: the source fields that a mapping of each model can have, by key.
    - `known_models`: the source models that the target can have; without it those of `fields_by_model`.
    """
    problems = Problems()
    models = tuple(fields_by_model if known_models is None else known_models)
    normalized = [
        found for number, each in enumerate(mappings, 1) if (found := _normalized(problems, number, each)) is not None
    ]
    if not normalized and not problems.errors:
        problems.warnings.append("There is no mapping: nothing will be sent")
    _check_uniqueness(problems, normalized)
    for mapping in normalized:
        _check_mapping(problems, mapping, fields_by_model, models)
    return problems


def _normalized(problems: Problems, number: int, mapping: Any) -> dict[str, Any] | None:
    """The mapping as it is stored, with its `label`; None if it is none."""
    try:
        found = _document(mapping)
    except SyncConfigError as error:
        problems.errors.append(f"Mapping no. {number}: {error}")
        return None
    name = found["id"] if _is_id(found["id"]) else f"no. {number}"
    label = f"Mapping {name} ({found['source_model'] or '?'} → {found['external_object_type'] or '?'})"
    if isinstance(mapping, Mapping):
        _warn_of_keys(problems, label, mapping, (*MAPPING_KEYS, *_OTHER_MAPPING_KEYS, *IGNORED_KEYS), "is not kept")
    return {**found, "label": label}


def _document(mapping: Any) -> dict[str, Any]:
    """A mapping as it is stored."""
    normalized = normalize_mapping(mapping)
    return {key: getattr(normalized, key) for key in MAPPING_KEYS}


def _warn_of_keys(
    problems: Problems, label: str, given: Mapping[str, Any], known: Collection[str], consequence: str
) -> None:
    problems.warnings.extend(f"{label}: {key!r} is not known and {consequence}" for key in given if key not in known)


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _LARGEST_ID


def _check_uniqueness(problems: Problems, mappings: Sequence[dict[str, Any]]) -> None:
    ids, types = defaultdict(list), defaultdict(list)
    for mapping in mappings:
        if not _is_id(mapping["id"]):
            problems.errors.append(f"{mapping['label']}: the id is a whole number, not {mapping['id']!r}")
        else:
            ids[mapping["id"]].append(mapping)
        if mapping["external_object_type"]:
            types[str(mapping["external_object_type"])].append(mapping)
    for id_, found in ids.items():
        if len(found) > 1:
            problems.errors.append(f"{len(found)} mappings have the id {id_}: {_labels(found)}")
    for name, found in types.items():
        _check_object_type(problems, name, found)


def _check_object_type(problems: Problems, name: str, mappings: Sequence[dict[str, Any]]) -> None:
    """Two of one source model would write the same objects; of two models that may be meant, as buyer and guest."""
    models = [str(mapping["source_model"]) for mapping in mappings]
    for model in dict.fromkeys(models):
        if (count := models.count(model)) > 1:
            problems.errors.append(f"{count} mappings make {name} out of {model or '?'}: keep one, with all entries")
    if len(set(models)) > 1:
        problems.warnings.append(
            f"{_labels(mappings)} make the same type of object: where both mean the same object, the later one wins"
        )


def _labels(mappings: Iterable[dict[str, Any]]) -> str:
    return ", ".join(str(mapping["label"]) for mapping in mappings)


def _check_mapping(
    problems: Problems, mapping: dict[str, Any], fields_by_model: Fields, models: Collection[str]
) -> None:
    label, model = mapping["label"], str(mapping["source_model"])
    if model not in models:
        problems.errors.append(f"{label}: unknown source_model {model!r}; the models are: {listed(models)}")
    for key in ("external_object_type", "external_id_field"):
        _check_name(problems, label, key, mapping[key])
    if not mapping["source_id_field"]:
        problems.errors.append(f"{label}: source_id_field is missing, which identifies the object")
    else:
        _find_field(problems, f"{label}, source_id_field", mapping["source_id_field"], model, fields_by_model)
    for number, entry in enumerate(mapping["property_mappings"], 1):
        name = f"{label}, entry {number} ({entry['source_field'] or '?'} → {entry['external_field'] or '?'})"
        _check_entry(problems, name, entry, model, fields_by_model)
    _check_overwritten(problems, mapping)


def _check_entry(problems: Problems, label: str, entry: dict[str, Any], model: str, fields_by_model: Fields) -> None:
    _check_name(problems, label, "external_field", entry["external_field"])
    if entry["overwrite"] not in MODES:
        problems.errors.append(
            f"{label}: unknown overwrite mode {entry['overwrite']!r}; the modes are: {', '.join(MODES)}"
        )
    _warn_of_keys(problems, label, entry, ENTRY_KEYS, "has no effect of its own")
    key = entry["source_field"]
    found = None
    if not key:
        problems.errors.append(f"{label}: source_field is missing")
    elif str(key).startswith(INVALID_PREFIX):
        problems.warnings.append(
            f"{label}: the check-in list was not copied with its event; nothing can be sent before you choose another"
        )
    else:
        found = _find_field(problems, label, key, model, fields_by_model)
    _check_value_map(problems, label, entry["value_map"], found)


def _check_name(problems: Problems, label: str, key: str, value: Any) -> None:
    """A name at the target: text of 1 to 128 characters."""
    if not value:
        problems.errors.append(f"{label}: {key} is missing")
    elif not isinstance(value, str):
        problems.errors.append(f"{label}: {key} is text, not {value!r}")
    elif len(value) > MAX_NAME_LENGTH:
        problems.errors.append(f"{label}: {key} has {len(value)} characters, at most {MAX_NAME_LENGTH} are possible")


def _find_field(problems: Problems, label: str, key: Any, model: str, fields_by_model: Fields) -> Any:
    """The source field of this key, None (and an error) if a mapping of this model has none."""
    available = fields_by_model.get(model)
    key = str(key)
    if available is not None and key in available:
        return available[key]
    others = {name: fields[key] for name, fields in fields_by_model.items() if key in fields}
    if not others:
        names = fields_by_model if available is None else {model: available}
        known = listed(dict.fromkeys(name for fields in names.values() for name in fields))
        problems.errors.append(f"{label}: unknown source field {key!r}; the fields are: {known}")
    elif available is not None:
        needed = next(iter(others.values())).required_input
        problems.errors.append(
            f"{label}: {key!r} needs {needed}, which {model} does not have; it is a field of: {listed(others)}"
        )
    return None


def _check_value_map(problems: Problems, label: str, given: Any, source: Any) -> None:
    try:
        value_map = parse_value_map(given)
    except ValueError as error:
        problems.errors.append(f"{label}: the value map is not right: {error}")
        return
    if not value_map or source is None:
        return
    if not source.enum_opts:
        problems.warnings.append(f"{label}: the value map has no effect, for the {describe(source)} has no options")
        return
    options = {str(value): str(name) for value, name in source.enum_opts}
    if missing := [f"{value} ({name})" for value, name in options.items() if value not in value_map]:
        problems.warnings.append(f"{label}: the value map lacks, and nothing can be sent for: {listed(missing)}")
    if unknown := [value for value in value_map if value not in options]:
        problems.warnings.append(
            f"{label}: the value map has what is no option (any more): {listed(unknown)};"
            f" the options are: {listed(options)}"
        )


def _check_overwritten(problems: Problems, mapping: dict[str, Any]) -> None:
    writers = defaultdict(list)
    for number, entry in enumerate(mapping["property_mappings"], 1):
        if entry["overwrite"] == "overwrite" and entry["external_field"]:
            writers[str(entry["external_field"])].append(number)
    problems.warnings.extend(
        f"{mapping['label']}, entries {' and '.join(map(str, numbers))}: all overwrite {name!r}, the last one wins"
        for name, numbers in writers.items()
        if len(numbers) > 1
    )


def save(
    connection: psycopg.Connection[Any], target: str, mappings: Iterable[Any], *, fields: Fields, note: str = ""
) -> int:
    """Make these mappings the current ones of a target; returns their version, the current one if they are the same.

    `fields` are the source fields of each model. Warnings are logged.

    Raises:
        ConfigurationError: there are problems; the message lists all of them.
    """
    mappings = list(mappings)
    problems = check(mappings, fields)
    if not target or len(target) > MAX_NAME_LENGTH:
        problems.errors.insert(0, f"The name of a target has 1 to {MAX_NAME_LENGTH} characters, not {len(target)}")
    if problems.errors:
        found = "\n".join(f"  - {each}" for each in problems.errors)
        raise ConfigurationError(f"The mappings of {target or 'a target'} cannot be saved:\n{found}")
    for warning in problems.warnings:
        log.warning("Mappings of %s: %s", target, warning)
    try:
        return store.add_version(connection, target, [_document(each) for each in mappings], note)
    except (TypeError, ValueError, psycopg.DataError) as error:
        raise ConfigurationError(f"The mappings of {target} cannot be stored as JSON: {error}") from error


def load(connection: psycopg.Connection[Any], target: str) -> list[StaticMapping]:
    """The current mappings of a target.

    Raises:
        ConfigurationError: it has none.
    """
    mappings = load_if_any(connection, target)
    if mappings is None:
        raise ConfigurationError(
            f"The target {target!r} has no mappings: save them with include.outbound.mappings.save(connection,"
            f" {target!r}, [...], fields=...); those that have some are: {listed(store.list_targets(connection))}"
        )
    return mappings


def load_if_any(connection: psycopg.Connection[Any], target: str) -> list[StaticMapping] | None:
    """The current mappings of a target; None if it has none."""
    current = store.find_current(connection, target)
    return None if current is None else [normalize_mapping(mapping) for mapping in current.mappings]


def versions(connection: psycopg.Connection[Any], target: str) -> list[MappingVersion]:
    """All versions of the mappings of a target, the newest first."""
    return store.list_versions(connection, target)


def restore(connection: psycopg.Connection[Any], target: str, version: int) -> int:
    """Make an older version current again, as a new one; returns that, or the current one if they are the same.

    Raises:
        ConfigurationError: there is no such version.
    """
    found = {each.version: each for each in store.list_versions(connection, target)}
    if version not in found:
        raise ConfigurationError(
            f"The mappings of {target!r} have no version {version}; there are: {listed(sorted(found))}"
        )
    return store.add_version(connection, target, found[version].mappings, f"Version {version} again")


def translate_all(
    connection: psycopg.Connection[Any],
    checkin_list_map: Mapping[Any, Any],
    *,
    targets: Collection[str] | None = None,
) -> dict[str, int]:
    """After an event was copied: let the stored mappings speak of the check-in lists of the copy.

    - `checkin_list_map`: id of a list → the list in the copy, or its id; what it does not have is marked as invalid.
    - `targets`: those whose mappings are meant; None means all.

    All or nothing. Returns the new version of each target whose mappings changed; `restore` takes one back.

    Raises:
        ConfigurationError: one of `targets` has no mappings.
        SyncConfigError: something in the map is no check-in list.
    """
    changed: dict[str, int] = {}
    with connection.transaction():
        store.lock_versions(connection)
        stored = store.list_targets(connection)
        if unknown := sorted(set(targets or ()) - set(stored)):
            raise ConfigurationError(f"No mappings of {listed(unknown)}; those that have some are: {listed(stored)}")
        for target in stored if targets is None else sorted(set(targets)):
            _translate_target(connection, target, checkin_list_map, changed)
    return changed


def _translate_target(
    connection: psycopg.Connection[Any], target: str, checkin_list_map: Mapping[Any, Any], changed: dict[str, int]
) -> None:
    """Translate the current mappings of one target; a new version is put into `changed`."""
    current = store.find_current(connection, target)
    if current is None:
        return
    translated = [_translated(mapping, checkin_list_map) for mapping in current.mappings]
    version = store.add_version(connection, target, translated, "Check-in lists of a copied event")
    if version != current.version:
        changed[target] = version


def _translated(mapping: dict[str, Any], checkin_list_map: Mapping[Any, Any]) -> dict[str, Any]:
    entries = translate_property_mappings(mapping["property_mappings"], checkin_list_map)
    return {**mapping, "property_mappings": entries}
