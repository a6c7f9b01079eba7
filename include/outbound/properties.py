"""What a target is sent: the values of source fields, the overwrite modes, and the entries that describe both.

An entry has `source_field`, `external_field`, `value_map` (JSON text of an object, or "") and `overwrite`, one of
MODES; its format is that of https://docs.pretix.eu/dev/development/api/datasync.html
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

from include.errors import ProviderSyncError, SyncConfigError
from include.targets.base import StaticMapping

MODES = ("overwrite", "if_new", "if_empty", "append")
INVALID_PREFIX = "_invalid_"
"""Stands before the key of a check-in list that an event's copy does not have."""
ENTRY_KEYS = ("source_field", "external_field", "value_map", "overwrite")
MAPPING_KEYS = (
    "id", "source_model", "external_object_type", "source_id_field", "external_id_field", "property_mappings",
)  # fmt: skip
IGNORED_KEYS = ("ORDER", "DELETE")
"""What forms leave in the entries that they save."""

_OTHER_NAMES = {"pretix_field": "source_field", "pretix_model": "source_model", "pretix_id_field": "source_id_field"}
_CHECKIN_DATE = re.compile(r"checkin_date_([0-9]+)")
_MOST_NAMED = 60


def assign_properties(
    new_values: Iterable[tuple[str, Any, str]], old_values: Mapping[str, Any], is_new: bool, list_sep: str | None
) -> dict[str, Any]:
    """The fields to send, out of `(field, value, overwrite mode)` and what the object holds at the target.

    - `overwrite` sends the value, whatever it is.
    - `if_new` and `if_empty` send a value that is not empty to a field that is; `if_new` of new objects only.
    - `append` adds the items that the field lacks; with nothing to add the field is not sent.

    What an earlier triple assigned counts as held. `list_sep` separates the items of a text; None or "": the target
    has native lists.

    Raises:
        SyncConfigError: a mode that is none of MODES.
    """
    assigned: dict[str, Any] = {}
    for field, value, mode in new_values:
        if mode not in MODES:
            raise SyncConfigError(
                [f"Unknown overwrite mode {mode!r} of the field {field!r}; the modes are: {', '.join(MODES)}"]
            )
        held = assigned[field] if field in assigned else old_values.get(field)
        if mode == "overwrite":
            assigned[field] = value
        elif not value:
            continue
        elif mode == "append":
            if extended := _extended(held, value, list_sep):
                assigned[field] = extended
        elif not held and (is_new or mode == "if_empty"):
            assigned[field] = value
    return assigned


def _extended(held: Any, value: Any, list_sep: str | None) -> Any:
    """`held` with the items of `value` that it lacks at its end; None if it lacks none."""
    items = _items(held, list_sep)
    known = {str(item) for item in items}
    new = [item for item in _items(value if _is_list(value) else str(value), list_sep) if not _is_nothing(item)]
    missing = [item for item in new if str(item) not in known]
    if not missing:
        return None
    return list_sep.join(items + missing) if list_sep else items + missing


def _items(value: Any, list_sep: str | None) -> list[Any]:
    """The items of a field that may have several, as they are; separated ones are texts."""
    if _is_nothing(value):
        return []
    several = list(value) if _is_list(value) else [value]
    if not list_sep:
        return several
    return [item for each in several if not _is_nothing(each) for item in str(each).split(list_sep)]


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple))


def _is_nothing(value: Any) -> bool:
    """None and the empty text are no items; 0 and False are."""
    return value is None or value == ""


def evaluate(
    fields: Mapping[str, Any], inputs: Mapping[str, Any], entry: Mapping[str, Any], *, joiner: str | None, target: str
) -> Any:
    """The value of one entry: that of its source field, through its value map, several joined by `joiner`.

    - `fields`: source fields by key; `inputs`: what they are computed from, by name.
    - The value map is for fields with options; None or "" as joiner keeps lists. Of a joined text, items that are
      None are left out.

    Raises:
        SyncConfigError: a field that does not exist, lacks its input or cannot be computed, a value map that is none
            or lacks an option.
    """
    field = _find_field(fields, inputs, entry, target)
    value = _compute(field, inputs)
    if not _is_list(value):
        return value
    values = list(value)
    if field.enum_opts and (value_map := _value_map(field, entry)):
        values = [_translate_option(field, value_map, option) for option in values]
    return joiner.join([_as_text(each) for each in values if each is not None]) if joiner else values


def _find_field(fields: Mapping[str, Any], inputs: Mapping[str, Any], entry: Mapping[str, Any], target: str) -> Any:
    key = entry.get("source_field") or entry.get("pretix_field") or ""
    field = fields.get(key)
    if field is None:
        _refuse_key(key, f"target {target}, external field {entry.get('external_field', '')!r}", fields)
    if field.required_input and field.required_input not in inputs:
        raise SyncConfigError(
            [f"The {describe(field)} needs {field.required_input}; this mapping has: {', '.join(inputs) or 'nothing'}"]
        )
    return field


def _refuse_key(key: str, where: str, fields: Mapping[str, Any]) -> NoReturn:
    if str(key).startswith(INVALID_PREFIX):
        what = f"Source field {key!r} means a check-in list that was not copied with its event"
    else:
        what = f"Unknown source field {key!r}" if key else "No source field is chosen"
    raise SyncConfigError([f"{what} ({where}); the fields are: {listed(fields)}"])


def _compute(field: Any, inputs: Mapping[str, Any]) -> Any:
    """What the getter returns; what it raises is told without the values that it worked on."""
    try:
        return field.getter(inputs)
    except ProviderSyncError:
        raise
    except Exception as error:
        reason = f"The {describe(field)}{_whose(inputs)} cannot be computed: {_what_was_wrong(error)}"
        raise SyncConfigError([reason]) from None


def _whose(inputs: Mapping[str, Any]) -> str:
    names = (("order", "code"), ("position", "number"), ("offer", "offer_id"), ("stock", "stock_id"))
    told = [f"{name} {getattr(inputs[name], of, '?')}" for name, of in names if inputs.get(name) is not None]
    return f" of {', '.join(told)}" if told else ""


def _what_was_wrong(error: Exception) -> str:
    """The kind of error and where it came from; its text only if that speaks of types, for others quote values."""
    text = f": {error}" if isinstance(error, (AttributeError, TypeError)) else ""
    return f"{type(error).__name__}{text} ({_place(error.__traceback__)})"


def _place(traceback: TracebackType | None) -> str:
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if traceback is None:
        return "nowhere"
    code = traceback.tb_frame.f_code
    return f"{code.co_name} in {Path(code.co_filename).name}, line {traceback.tb_lineno}"


def describe(field: Any) -> str:
    """How messages name a source field: key, and label in brackets."""
    return f"field {field.key} ({field.label})" if field.label else f"field {field.key}"


def listed(names: Iterable[Any]) -> str:
    """Valid values for the end of a message."""
    found = [str(name) for name in names]
    more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
    return (", ".join(found[:_MOST_NAMED]) or "none") + more


def _value_map(field: Any, entry: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return parse_value_map(entry.get("value_map"))
    except ValueError as error:
        raise SyncConfigError([f"The value map of the {describe(field)} is not right: {error}"]) from None


def _translate_option(field: Any, value_map: Mapping[str, Any], option: Any) -> Any:
    if str(option) in value_map:
        return value_map[str(option)]
    label = next((f" ({label})" for value, label in field.enum_opts if value == option), "")
    raise SyncConfigError(
        [f"The value map of the {describe(field)} has no entry for {option!r}{label}; it has: {listed(value_map)}"]
    )


def _as_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def parse_value_map(value: Any) -> dict[str, str | int | float | bool | None]:
    """The values at the target by option, out of JSON text or a dictionary; empty if there is none ("", None, "{}").

    Raises:
        ValueError: it is neither, or has values other than text, numbers, true, false and null.
    """
    if isinstance(value, str):
        value = _decode(value)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ValueError(f"it is a JSON object with a value for each option, but of type {type(value).__name__}")
    if wrong := [option for option, each in value.items() if not _is_scalar(each)]:
        raise ValueError(f"a value is text, a number, true, false or null, which those of {listed(wrong)} are not")
    return {str(option): each for option, each in value.items()}


def _decode(text: str) -> Any:
    try:
        return json.loads(text) if text.strip() else None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not JSON: {error}") from None


def _is_scalar(value: Any) -> bool:
    return value is None or (isinstance(value, (str, int, float)) and not _is_endless(value))


def _is_endless(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def normalize_entry(entry: Mapping[str, Any]) -> dict[str, Any]:
    """An entry in the form in which it is stored: neutral names, the value map as JSON text, a mode.

    What forms add (ORDER, DELETE) is left out, other keys are kept. A value map that is not right is left as it is.

    Raises:
        SyncConfigError: it is no dictionary.
    """
    given = _with_neutral_names(entry)
    return {
        "source_field": given.pop("source_field", None) or "",
        "external_field": given.pop("external_field", None) or "",
        "value_map": _value_map_text(given.pop("value_map", None)),
        "overwrite": given.pop("overwrite", None) or "overwrite",
        **{key: value for key, value in given.items() if key not in IGNORED_KEYS},
    }


def normalize_mapping(mapping: Any) -> StaticMapping:
    """A mapping, dictionary or object, under neutral names and with normalized entries; other keys are left out.

    Its entries may be JSON text of a list.

    Raises:
        SyncConfigError: it is neither, or its entries are no list of dictionaries.
    """
    given = _with_neutral_names(mapping if isinstance(mapping, Mapping) else _attributes(mapping))
    named: dict[str, Any] = {key: given.get(key) or "" for key in MAPPING_KEYS}
    named["id"] = given.get("id")
    named["property_mappings"] = [normalize_entry(entry) for entry in _entries(given.get("property_mappings"))]
    return StaticMapping(**named)


def _attributes(mapping: Any) -> dict[str, Any]:
    found = {name: getattr(mapping, name) for name in (*MAPPING_KEYS, *_OTHER_NAMES) if hasattr(mapping, name)}
    if "property_mappings" not in found:
        raise SyncConfigError(
            [f"A mapping has {', '.join(MAPPING_KEYS)}, but this is of type {type(mapping).__name__}"]
        )
    return found


def _with_neutral_names(given: Any) -> dict[str, Any]:
    """The same with keys that bear the other product's name renamed, unless the neutral one is there too."""
    if not isinstance(given, Mapping):
        raise SyncConfigError(
            [f"An entry is an object with {', '.join(ENTRY_KEYS)}, but this is of type {type(given).__name__}"]
        )
    renamed = {name: given[other] for other, name in _OTHER_NAMES.items() if other in given and not given.get(name)}
    return {**{key: value for key, value in given.items() if key not in _OTHER_NAMES}, **renamed}


def _entries(given: Any) -> Sequence[Any]:
    try:
        entries = _decode(given) if isinstance(given, str) else given
    except ValueError as error:
        raise SyncConfigError([f"The property mappings are not right: {error}"]) from None
    if entries is None:
        return []
    if not _is_list(entries):
        raise SyncConfigError([f"The property mappings are a list of entries, but of type {type(entries).__name__}"])
    return list(entries)


def _value_map_text(value: Any) -> Any:
    try:
        value_map = parse_value_map(value)
    except ValueError:
        return value
    return json.dumps(value_map, ensure_ascii=False, separators=(",", ":")) if value_map else ""


def translate_property_mappings(
    property_mappings: Sequence[Mapping[str, Any]] | str, checkin_list_map: Mapping[Any, Any]
) -> list[dict[str, Any]]:
    """The entries for the copy of an event, whose check-in lists have other ids.

    `checkin_list_map`: id of a list → the list in the copy, or its id. A `checkin_date_<id>` of a list that it does
    not have gets the prefix `_invalid_`. Everything else stays as it is, under neutral names.

    Raises:
        SyncConfigError: the entries are no list of dictionaries, or something in the map is no check-in list.
    """
    ids = {str(old): _id_of(new) for old, new in checkin_list_map.items() if new is not None}
    entries = [_with_neutral_names(entry) for entry in _entries(property_mappings)]
    return [{**entry, "source_field": _translate_key(entry.get("source_field") or "", ids)} for entry in entries]


def _translate_key(key: str, ids: Mapping[str, int]) -> str:
    match = _CHECKIN_DATE.fullmatch(key)
    if match is None:
        return key
    return f"checkin_date_{ids[match[1]]}" if match[1] in ids else f"{INVALID_PREFIX}{key}"


def _id_of(checkin_list: Any) -> int:
    found = getattr(checkin_list, "pk", None) or getattr(checkin_list, "id", None) or checkin_list
    try:
        return int(found)
    except (TypeError, ValueError):
        raise SyncConfigError(
            [f"This is no check-in list and no id of one, but of type {type(checkin_list).__name__}"]
        ) from None
