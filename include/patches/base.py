"""What a patch is: a name, the attributes it reads and writes, and one pure function from record to values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from include.errors import ConfigurationError
from include.registry import Kind, load

Record = Mapping[str, Any]
Values = Mapping[str, Any]

_ABSENT: Any = object()


def _nothing(_: Record) -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class Patch:
    """Attributes that follow from others of the same record.

    - `values(record)` gives what the attributes in `writes` should hold, JSON values; one that it leaves out is left
      alone, an empty mapping leaves the whole record alone. It must be pure: the same record, the same values.
    - The record has `objectID`, and of the attributes in `reads` and `writes` those that are there.
    - `remark(record)` may give a short text about something odd; the report counts how often each came.
    """

    name: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    values: Callable[[Record], Values]
    remark: Callable[[Record], str | None] = _nothing


def attributes_of(patches: Sequence[Patch]) -> list[str]:
    """The attributes to read for these patches.

    Raises:
        ConfigurationError: no patch, two of one name, or two that write the same attribute.
    """
    if not patches:
        raise ConfigurationError("No patch is named: there is nothing to do on the index")
    names = [patch.name for patch in patches]
    writes = [attribute for patch in patches for attribute in patch.writes]
    for what, found in (("patches are named", names), ("patches write", writes)):
        if twice := sorted({each for each in found if found.count(each) > 1}):
            raise ConfigurationError(f"Two {what} {', '.join(twice)}")
    return list(dict.fromkeys([*(attribute for patch in patches for attribute in patch.reads), *writes]))


def differences(patch: Patch, record: Record) -> tuple[Values, dict[str, Any]]:
    """The values that a record should have, and those of them that it has not."""
    values = patch.values(record)
    return values, {name: value for name, value in values.items() if not _same(record.get(name, _ABSENT), value)}


def _same(held: Any, wanted: Any) -> bool:
    """Equal as JSON: true is not 1, however deep."""
    if isinstance(held, dict) and isinstance(wanted, dict):
        return held.keys() == wanted.keys() and all([_same(held[name], wanted[name]) for name in wanted])
    if isinstance(held, list) and isinstance(wanted, list):
        return len(held) == len(wanted) and all([_same(*pair) for pair in zip(held, wanted, strict=True)])
    return bool(held == wanted) and isinstance(held, bool) is isinstance(wanted, bool)


def _not_a_patch(found: object) -> str:
    return "" if isinstance(found, Patch) else f"not a Patch but a {type(found).__name__}"


PATCHES: Kind[Patch] = Kind("patch", packages=("include.search",), reason_against=_not_a_patch)


def load_patch(path: str) -> Patch:
    """The patch of a dotted path like `include.patches.customer_dispo.CUSTOMER_DISPO`.

    Raises:
        ConfigurationError: there is none.
    """
    return load(path, PATCHES)
