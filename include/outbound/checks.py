"""Checks of mappings before they are saved: all problems are reported at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from include.errors import SyncConfigError
from include.targets.entries import (
    ENTRY_KEYS,
    IGNORED_KEYS,
    INVALID_PREFIX,
    MAPPING_KEYS,
    listed,
    normalize_mapping,
    parse_value_map,
)
from include.targets.evaluate import describe
from include.targets.fields import Field
from include.targets.mapping import Entry, StaticMapping
from include.targets.overwrite import MODES

MAX_NAME_LENGTH = 128
_MAX_ID = 2**63 - 1
_PRETIX_MAPPING_KEYS = ("pretix_model", "pretix_id_field")

Fields = Mapping[str, Mapping[str, Field]]
"""Source fields by source model and key."""


@dataclass(frozen=True, slots=True)
class Problems:
    """Problems of mappings. `errors` prevent saving them, `warnings` do not."""

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Labeled:
    """A mapping in its stored form, and what messages call it."""

    mapping: StaticMapping
    label: str


def check(mappings: Iterable[object], fields_by_model: Fields) -> Problems:
    """Return all problems of the mappings of one target; each message names the mapping and entry.

    - `mappings`: StaticMapping objects or similar, or dictionaries.
    - `fields_by_model`: the source fields that a mapping of each source model can use.
    """
    problems = Problems()
    labeled = [
        found for number, each in enumerate(mappings, 1) if (found := _normalized(problems, number, each)) is not None
    ]
    if not labeled and not problems.errors:
        problems.warnings.append("There are no mappings: nothing will be sent")
    _check_uniqueness(problems, labeled)
    for each in labeled:
        _check_mapping(problems, each, fields_by_model)
    return problems


def _normalized(problems: Problems, number: int, given: object) -> _Labeled | None:
    """Return the mapping in its stored form; None (and an error) if it is not a mapping."""
    try:
        mapping = normalize_mapping(given)
    except SyncConfigError as error:
        problems.errors.append(f"Mapping no. {number}: {error}")
        return None
    name = mapping.id if _is_id(mapping.id) else f"no. {number}"
    label = f"Mapping {name} ({mapping.source_model or '?'} → {mapping.external_object_type or '?'})"
    if isinstance(given, Mapping):
        known = (*MAPPING_KEYS, *_PRETIX_MAPPING_KEYS, *IGNORED_KEYS)
        _warn_of_unknown_keys(problems, label, given, known, "it is not saved")
    return _Labeled(mapping, label)


def _warn_of_unknown_keys(
    problems: Problems, label: str, given: Iterable[object], known: Collection[str], consequence: str
) -> None:
    problems.warnings.extend(f"{label}: unknown key {key!r}, {consequence}" for key in given if key not in known)


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _MAX_ID


def _check_uniqueness(problems: Problems, mappings: Sequence[_Labeled]) -> None:
    by_id, by_type = defaultdict(list), defaultdict(list)
    for each in mappings:
        if not _is_id(each.mapping.id):
            problems.errors.append(f"{each.label}: the id must be an integer, not {each.mapping.id!r}")
        else:
            by_id[each.mapping.id].append(each)
        if each.mapping.external_object_type:
            by_type[str(each.mapping.external_object_type)].append(each)
    for id_, found in by_id.items():
        if len(found) > 1:
            problems.errors.append(f"{len(found)} mappings have the id {id_}: {_labels(found)}")
    for name, found in by_type.items():
        _check_object_type(problems, name, found)


def _check_object_type(problems: Problems, name: str, mappings: Sequence[_Labeled]) -> None:
    """Two mappings of one source model write the same objects. Of two models (buyer, guest) this may be intended."""
    models = [str(each.mapping.source_model) for each in mappings]
    for model in dict.fromkeys(models):
        if (count := models.count(model)) > 1:
            problems.errors.append(
                f"{count} mappings create {name} from {model or '?'}: merge their entries into one mapping"
            )
    if len(set(models)) > 1:
        problems.warnings.append(
            f"{_labels(mappings)} create the same type of object: if both produce the same object, the last one wins"
        )


def _labels(mappings: Iterable[_Labeled]) -> str:
    return ", ".join(each.label for each in mappings)


def _check_mapping(problems: Problems, labeled: _Labeled, fields_by_model: Fields) -> None:
    mapping, label = labeled.mapping, labeled.label
    model = str(mapping.source_model)
    if model not in fields_by_model:
        problems.errors.append(f"{label}: unknown source_model {model!r}; the models are: {listed(fields_by_model)}")
    _check_name(problems, label, "external_object_type", mapping.external_object_type)
    _check_name(problems, label, "external_id_field", mapping.external_id_field)
    if not mapping.source_id_field:
        problems.errors.append(f"{label}: source_id_field is missing; it identifies the object")
    else:
        _find_field(problems, f"{label}, source_id_field", mapping.source_id_field, model, fields_by_model)
    for number, entry in enumerate(mapping.property_mappings, 1):
        name = f"{label}, entry {number} ({entry['source_field'] or '?'} → {entry['external_field'] or '?'})"
        _check_entry(problems, name, entry, model, fields_by_model)
    _check_overwritten(problems, labeled)


def _check_entry(problems: Problems, label: str, entry: Entry, model: str, fields_by_model: Fields) -> None:
    _check_name(problems, label, "external_field", entry["external_field"])
    if entry["overwrite"] not in MODES:
        problems.errors.append(
            f"{label}: unknown overwrite mode {entry['overwrite']!r}; the modes are: {', '.join(MODES)}"
        )
    _warn_of_unknown_keys(problems, label, entry, ENTRY_KEYS, "it has no effect")
    key = entry["source_field"]
    found = None
    if not key:
        problems.errors.append(f"{label}: source_field is missing")
    elif str(key).startswith(INVALID_PREFIX):
        problems.warnings.append(
            f"{label}: the check-in list was not copied with its event; choose another one, nothing can be sent before"
        )
    else:
        found = _find_field(problems, label, key, model, fields_by_model)
    _check_value_map(problems, label, entry["value_map"], found)


def _check_name(problems: Problems, label: str, key: str, value: object) -> None:
    """Check a name at the target: text of 1 to MAX_NAME_LENGTH characters."""
    if not value:
        problems.errors.append(f"{label}: {key} is missing")
    elif not isinstance(value, str):
        problems.errors.append(f"{label}: {key} must be text, not {value!r}")
    elif len(value) > MAX_NAME_LENGTH:
        problems.errors.append(f"{label}: {key} has {len(value)} characters, the maximum is {MAX_NAME_LENGTH}")


def _find_field(problems: Problems, label: str, key: object, model: str, fields_by_model: Fields) -> Field | None:
    """Return the source field of this key; None (and an error) if a mapping of this model has none."""
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
            f"{label}: {key!r} needs {needed}, which {model} does not have; these models have it: {listed(others)}"
        )
    return None


def _check_value_map(problems: Problems, label: str, given: object, source: Field | None) -> None:
    try:
        value_map = parse_value_map(given)
    except ValueError as error:
        problems.errors.append(f"{label}: the value map is invalid: {error}")
        return
    if not value_map or source is None:
        return
    if not source.enum_opts:
        problems.warnings.append(f"{label}: the value map has no effect, the {describe(source)} has no options")
        return
    options = {str(value): str(name) for value, name in source.enum_opts}
    if missing := [f"{value} ({name})" for value, name in options.items() if value not in value_map]:
        problems.warnings.append(
            f"{label}: the value map lacks these options, objects with them cannot be sent: {listed(missing)}"
        )
    if unknown := [value for value in value_map if value not in options]:
        problems.warnings.append(
            f"{label}: the value map has values that are not options (any more): {listed(unknown)};"
            f" the options are: {listed(options)}"
        )


def _check_overwritten(problems: Problems, labeled: _Labeled) -> None:
    writers = defaultdict(list)
    for number, entry in enumerate(labeled.mapping.property_mappings, 1):
        if entry["overwrite"] == "overwrite" and entry["external_field"]:
            writers[str(entry["external_field"])].append(number)
    problems.warnings.extend(
        f"{labeled.label}, entries {' and '.join(map(str, numbers))}: all overwrite {name!r}, the last one wins"
        for name, numbers in writers.items()
        if len(numbers) > 1
    )
