"""Entries and mappings as data: reading them, converting them to the form in which they are stored, translating them.

The format is that of https://docs.pretix.eu/dev/development/api/datasync.html, under neutral names.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from include.errors import SyncConfigError
from include.models.orders import Scalar
from include.targets.compatibility import NEUTRAL_NAMES
from include.targets.mapping import Entry, StaticMapping

INVALID_PREFIX = "_invalid_"
"""Marks the key of a check-in list that the copy of an event does not have."""
ENTRY_KEYS = ("source_field", "external_field", "value_map", "overwrite")
MAPPING_KEYS = (
    "id", "source_model", "external_object_type", "source_id_field", "external_id_field", "property_mappings",
)  # fmt: skip
IGNORED_KEYS = ("ORDER", "DELETE")
"""Keys that forms leave in the entries that they save."""
MAX_LISTED = 60
"""Names listed in a message."""

_CHECKIN_DATE = re.compile(r"checkin_date_[0-9]+")


def listed(names: Iterable[object]) -> str:
    """Join names for the end of a message, at most MAX_LISTED of them."""
    found = [str(name) for name in names]
    more = f" and {len(found) - MAX_LISTED} more" if len(found) > MAX_LISTED else ""
    return (", ".join(found[:MAX_LISTED]) or "none") + more


# Value maps


def parse_value_map(value: object) -> dict[str, Scalar]:
    """Return the target's values by source option, from JSON text or a dictionary; empty for "", None and "{}".

    Raises:
        ValueError: it is neither, or a value is not a string, number, boolean or null.
    """
    if isinstance(value, str):
        value = _decode(value)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ValueError(f"expected a JSON object of option → value, got {type(value).__name__}")
    if wrong := [option for option, each in value.items() if not _is_scalar(each)]:
        raise ValueError(f"values must be strings, numbers, booleans or null: {listed(wrong)}")
    return {str(option): each for option, each in value.items()}


def _decode(text: str) -> object:
    try:
        return json.loads(text) if text.strip() else None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"invalid JSON: {error}") from None


def _is_scalar(value: object) -> bool:
    if isinstance(value, float) and not math.isfinite(value):
        return False
    return value is None or isinstance(value, (str, int, float))


# The stored form


def normalize_entry(entry: Entry) -> dict[str, Any]:
    """Return an entry in its stored form: neutral names, the value map as JSON text, an overwrite mode.

    IGNORED_KEYS are removed, other unknown keys are kept. An invalid value map is kept as it is.

    Raises:
        SyncConfigError: it is not a dictionary.
    """
    given = _with_neutral_names(entry)
    return {
        "source_field": given.pop("source_field", None) or "",
        "external_field": given.pop("external_field", None) or "",
        "value_map": _value_map_text(given.pop("value_map", None)),
        "overwrite": given.pop("overwrite", None) or "overwrite",
        **{key: value for key, value in given.items() if key not in IGNORED_KEYS},
    }


def normalize_mapping(mapping: object) -> StaticMapping:
    """Return a mapping, given as a dictionary or an object, with neutral names and normalized entries.

    Its entries may be the JSON text of a list. Unknown keys are removed.

    Raises:
        SyncConfigError: it is not a mapping, or its entries are not a list of dictionaries.
    """
    given = _with_neutral_names(mapping if isinstance(mapping, Mapping) else _attributes(mapping))
    names: dict[str, Any] = {key: given.get(key) or "" for key in MAPPING_KEYS}
    names["id"] = given.get("id")
    names["property_mappings"] = [normalize_entry(entry) for entry in _entries(given.get("property_mappings"))]
    return StaticMapping(**names)


def _attributes(mapping: object) -> dict[str, object]:
    found = {name: getattr(mapping, name) for name in (*MAPPING_KEYS, *NEUTRAL_NAMES) if hasattr(mapping, name)}
    if "property_mappings" not in found:
        raise SyncConfigError([f"A mapping needs {', '.join(MAPPING_KEYS)}; got {type(mapping).__name__}"])
    return found


def _with_neutral_names(given: object) -> dict[str, Any]:
    """Rename pretix's keys, except where the neutral key has a value too."""
    if not isinstance(given, Mapping):
        raise SyncConfigError([f"An entry is an object with {', '.join(ENTRY_KEYS)}; got {type(given).__name__}"])
    renamed = {name: given[other] for other, name in NEUTRAL_NAMES.items() if other in given and not given.get(name)}
    return {**{key: value for key, value in given.items() if key not in NEUTRAL_NAMES}, **renamed}


def _entries(given: object) -> Sequence[Any]:
    try:
        entries = _decode(given) if isinstance(given, str) else given
    except ValueError as error:
        raise SyncConfigError([f"The property mappings cannot be read: {error}"]) from None
    if entries is None:
        return []
    if not isinstance(entries, (list, tuple)):
        raise SyncConfigError([f"The property mappings must be a list of entries; got {type(entries).__name__}"])
    return list(entries)


def _value_map_text(value: object) -> object:
    try:
        value_map = parse_value_map(value)
    except ValueError:
        return value
    return json.dumps(value_map, ensure_ascii=False, separators=(",", ":")) if value_map else ""


# The copy of an event


def translate_property_mappings(
    property_mappings: Sequence[Entry], checkin_list_map: Mapping[int, int]
) -> list[dict[str, Any]]:
    """Return the entries for the copy of an event, whose check-in lists have other ids.

    `checkin_list_map` maps the id of each list to that of its copy. Keys `checkin_date_<id>` of lists without a copy
    get the prefix `_invalid_`. Everything else is unchanged, under neutral names.

    Raises:
        SyncConfigError: the entries are not a list of dictionaries.
    """
    copies = {f"checkin_date_{old}": f"checkin_date_{new}" for old, new in checkin_list_map.items()}
    translated = []
    for entry in map(_with_neutral_names, _entries(property_mappings)):
        key = entry.get("source_field") or ""
        if _CHECKIN_DATE.fullmatch(key):
            key = copies.get(key, f"{INVALID_PREFIX}{key}")
        translated.append({**entry, "source_field": key})
    return translated
