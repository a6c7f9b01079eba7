"""The value of an entry: read from its source field, translated by its value map, joined if there are several."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from traceback import extract_tb

from include.errors import ProviderSyncError, SyncConfigError
from include.models.orders import Inputs, Scalar, Value
from include.targets.entries import INVALID_PREFIX, listed, parse_value_map
from include.targets.fields import Field
from include.targets.mapping import Entry


def evaluate(fields: Mapping[str, Field], inputs: Inputs, entry: Entry, *, joiner: str | None, target: str) -> Value:
    """Return the value of one entry.

    `fields` are the source fields by key. The value map applies to fields with options only. Several values are joined
    by `joiner`, without those that are None; None or "" as `joiner` keeps the list. `target` is named in errors.

    Raises:
        SyncConfigError: the field does not exist, lacks its input or cannot be computed; or the value map is invalid or
            lacks an option.
    """
    field = _find_field(fields, inputs, entry, target)
    value = _compute(field, inputs)
    if not isinstance(value, (list, tuple)):
        return value
    values: list[Scalar] = list(value)
    if field.enum_opts and (value_map := _value_map(field, entry)):
        values = [_translate_option(field, value_map, option) for option in values]
    return joiner.join([_as_text(each) for each in values if each is not None]) if joiner else values


def describe(field: Field) -> str:
    """Return what messages call a source field: its key and label."""
    return f"field {field.key} ({field.label})" if field.label else f"field {field.key}"


def _find_field(fields: Mapping[str, Field], inputs: Inputs, entry: Entry, target: str) -> Field:
    key = entry.get("source_field") or entry.get("pretix_field") or ""
    field = fields.get(key)
    if field is None:
        what = f"Unknown source field {key!r}" if key else "No source field is selected"
        if str(key).startswith(INVALID_PREFIX):
            what = f"Source field {key!r} refers to a check-in list that was not copied with its event"
        where = f"target {target}, external field {entry.get('external_field', '')!r}"
        raise SyncConfigError([f"{what} ({where}); the fields are: {listed(fields)}"])
    if field.required_input and field.required_input not in inputs:
        raise SyncConfigError(
            [f"The {describe(field)} needs {field.required_input}; this mapping has: {', '.join(inputs) or 'nothing'}"]
        )
    return field


def _compute(field: Field, inputs: Inputs) -> Value:
    """Call the getter. Its errors are reported without the (possibly personal) values that it worked on."""
    try:
        return field.getter(inputs)
    except ProviderSyncError:
        raise
    except Exception as error:
        reason = f"The {describe(field)}{_of_which(inputs)} cannot be computed: {_summarize(error)}"
        raise SyncConfigError([reason]) from None


def _of_which(inputs: Inputs) -> str:
    names = (("order", "code"), ("position", "number"), ("offer", "offer_id"), ("stock", "stock_id"))
    found = [f"{name} {getattr(inputs.get(name), id_, '?')}" for name, id_ in names if inputs.get(name) is not None]
    return f" of {', '.join(found)}" if found else ""


def _summarize(error: Exception) -> str:
    """Return the type and location of an error. The texts of other than type errors may quote values: left out."""
    text = f": {error}" if isinstance(error, (AttributeError, TypeError)) else ""
    frame = extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}{text} ({frame.name} in {Path(frame.filename).name}, line {frame.lineno})"


def _value_map(field: Field, entry: Entry) -> dict[str, Scalar]:
    try:
        return parse_value_map(entry.get("value_map"))
    except ValueError as error:
        raise SyncConfigError([f"The value map of the {describe(field)} is invalid: {error}"]) from None


def _translate_option(field: Field, value_map: Mapping[str, Scalar], option: Scalar) -> Scalar:
    if str(option) in value_map:
        return value_map[str(option)]
    label = next((f" ({label})" for value, label in field.enum_opts if value == option), "")
    raise SyncConfigError(
        [f"The value map of the {describe(field)} has no entry for {option!r}{label}; it has: {listed(value_map)}"]
    )


def _as_text(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
