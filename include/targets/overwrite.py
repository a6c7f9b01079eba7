"""The overwrite modes: which of the new values are sent, given what the object contains at the target."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from include.errors import SyncConfigError
from include.models.orders import Scalar, Value

MODES = ("overwrite", "if_new", "if_empty", "append")


def assign_properties(
    new_values: Iterable[tuple[str, Value, str]], old_values: Mapping[str, Value], is_new: bool, list_sep: str | None
) -> dict[str, Value]:
    """Return the fields to send.

    `new_values` are (field, value, overwrite mode) triples; a field may occur several times, and what an earlier triple
    assigned counts as its current value. `old_values` are the object's current values at the target.

    - `overwrite` always sends the value, even an empty one.
    - `if_empty` sends a non-empty value if the current one is empty; `if_new` does so only for new objects.
    - `append` adds the items that the current value lacks; if there are none, the field is not sent.

    `list_sep` separates the items of a text; None or "" means that the target has native lists.

    Raises:
        SyncConfigError: a mode is unknown.
    """
    assigned: dict[str, Value] = {}
    for field, value, mode in new_values:
        if mode not in MODES:
            raise SyncConfigError(
                [f"Unknown overwrite mode {mode!r} of the field {field!r}; the modes are: {', '.join(MODES)}"]
            )
        current = assigned[field] if field in assigned else old_values.get(field)
        if mode == "overwrite":
            assigned[field] = value
        elif not value:
            continue
        elif mode == "append":
            if extended := _append(current, value, list_sep):
                assigned[field] = extended
        elif not current and (is_new or mode == "if_empty"):
            assigned[field] = value
    return assigned


def _append(current: Value, value: Value, list_sep: str | None) -> Value:
    """Return `current` with the items of `value` that it lacks; None if it lacks none."""
    items = _items(current, list_sep)
    known = {str(item) for item in items}
    # A single value is compared and stored as text; the items of a list keep their types.
    given = value if isinstance(value, (list, tuple)) else str(value)
    new = [item for item in _items(given, list_sep) if not is_empty(item)]
    missing = [item for item in new if str(item) not in known]
    if not missing:
        return None
    return list_sep.join(map(str, items + missing)) if list_sep else items + missing


def _items(value: Value, list_sep: str | None) -> list[Scalar]:
    """Return the items of a value; with a separator they are texts."""
    if is_empty(value):
        return []
    several: list[Scalar] = [*value] if isinstance(value, (list, tuple)) else [value]
    if not list_sep:
        return several
    return [item for each in several if not is_empty(each) for item in str(each).split(list_sep)]


def is_empty(value: object) -> bool:
    """Whether a value is None or the empty text; 0 and False are not empty."""
    return value is None or value == ""
