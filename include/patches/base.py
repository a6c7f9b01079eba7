"""The contract of a patch: a name, the attributes it reads and writes, and a pure function that computes values.

Write a patch as a constant in a module of this package, and name it by its dotted path in a DAG:
`patches=["include.patches.customer_dispo.CUSTOMER_DISPO"]`. `tests/contract/test_patches.py` tests every patch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from include.errors import ConfigurationError
from include.registry import Kind, load

Record = Mapping[str, Any]
"""A record of the index: its `objectID` and those of the requested attributes that it has, as decoded JSON."""
Values = Mapping[str, Any]
"""JSON values by attribute."""

_ABSENT: Any = object()


def _no_remark(_: Record) -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class Patch:
    """Attributes of a search index that are computed from other attributes of the same record.

    ::

        def on_sale(record: Record) -> Values:
            return {"onSale": record.get("stock") not in (None, 0)}


        ON_SALE = Patch("on_sale", reads=("stock",), writes=("onSale",), values=on_sale)

    :param name: name in logs, alerts and the view `search_report`: lowercase letters, digits and underscores.
    :param reads: attributes that `values` and `remark` use. Only these, `writes` and `objectID` are requested.
    :param writes: attributes that `values` may return. No two patches of a DAG may write the same attribute.
    :param values: function that returns the values which the attributes in `writes` should have. Those that differ
        from the record are sent. An attribute that is not returned keeps its value, so an empty mapping leaves the
        record unchanged. The function must be pure: it does not change the record, and the same record gives the same
        values. Attributes may be absent, null or of any JSON type.
    :param remark: function that returns a short text about something unexpected in a record, such as a misspelled
        value, or None. The report counts how often each text occurs.

    `values` may raise `ValueError` with a reason for a record that it cannot handle. That record stays as it is, all
    others are patched, and the run then fails with the ids and reasons.
    """

    name: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    values: Callable[[Record], Values]
    remark: Callable[[Record], str | None] = _no_remark


def _not_a_patch(found: object) -> str:
    return "" if isinstance(found, Patch) else f"not a Patch but a {type(found).__name__}"


PATCHES: Kind[Patch] = Kind("patch", packages=("include.patches",), reason_against=_not_a_patch)


def load_patch(path: str) -> Patch:
    """Return the patch at a dotted path such as `include.patches.customer_dispo.CUSTOMER_DISPO`.

    Raises:
        ConfigurationError: there is none; the message lists the patches of the project.
    """
    return load(path, PATCHES)


def requested_attributes(patches: Sequence[Patch]) -> list[str]:
    """Return the attributes to request for these patches, each once.

    Raises:
        ConfigurationError: there is no patch, two have the same name, or two write the same attribute.
    """
    if not patches:
        raise ConfigurationError("No patch is given: there is nothing to do on the index")
    names = [patch.name for patch in patches]
    writes = [attribute for patch in patches for attribute in patch.writes]
    for what, found in (("patches are named", names), ("patches write", writes)):
        if duplicates := sorted({each for each in found if found.count(each) > 1}):
            raise ConfigurationError(f"Two {what} {', '.join(duplicates)}")
    return list(dict.fromkeys([*(attribute for patch in patches for attribute in patch.reads), *writes]))


def differences(patch: Patch, record: Record) -> tuple[Values, dict[str, Any]]:
    """Return the values that a patch gives a record, and those of them that the record does not have yet."""
    values = patch.values(record)
    return values, {name: value for name, value in values.items() if not _is_same(record.get(name, _ABSENT), value)}


def _is_same(current: Any, new: Any) -> bool:
    """Compare as JSON does, at any depth: `true` differs from `1`, while `5` equals `5.0`."""
    if isinstance(current, dict) and isinstance(new, dict):
        return current.keys() == new.keys() and all([_is_same(current[name], new[name]) for name in new])
    if isinstance(current, list) and isinstance(new, list):
        return len(current) == len(new) and all([_is_same(*pair) for pair in zip(current, new, strict=True)])
    return bool(current == new) and isinstance(current, bool) is isinstance(new, bool)
