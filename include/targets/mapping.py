"""Mappings: which of our objects become which of a target's, and which fields they get."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from include.targets.compatibility import PretixMappingNames

Entry = Mapping[str, Any]
"""How one field is filled: `source_field`, `external_field`, `value_map` (JSON text of an object, or "") and
`overwrite` (one of overwrite.MODES). The format is that of https://docs.pretix.eu/dev/development/api/datasync.html"""


class ObjectMapping(Protocol):
    """What the engine and targets read from any mapping, StaticMapping or an author's own class."""

    @property
    def id(self) -> int: ...  # noqa: D102

    @property
    def external_object_type(self) -> str: ...  # noqa: D102

    @property
    def external_id_field(self) -> str: ...  # noqa: D102

    @property
    def property_mappings(self) -> Sequence[Entry]: ...  # noqa: D102


class StaticMapping(PretixMappingNames):
    """Maps one kind of our objects to one kind of theirs.

    - `id`: an integer, unique among the mappings of a target.
    - `source_model`: Order, OrderPosition, Offer or Stock.
    - `source_id_field`: the source field whose value identifies the object; `external_id_field`: the field that holds
      that value at the target.
    - `property_mappings`: the entries, one per field to fill.

    `pretix_model` and `pretix_id_field` are accepted for `source_model` and `source_id_field`.
    """

    __slots__ = (
        "external_id_field",
        "external_object_type",
        "id",
        "property_mappings",
        "source_id_field",
        "source_model",
    )

    def __init__(  # noqa: PLR0917 - the order of pretix's named tuple
        self,
        id: int,
        source_model: str | None = None,
        external_object_type: str = "",
        source_id_field: str | None = None,
        external_id_field: str = "",
        property_mappings: Sequence[Entry] = (),
        *,
        pretix_model: str | None = None,
        pretix_id_field: str | None = None,
    ) -> None:
        self.id = id
        self.source_model = source_model or pretix_model or ""
        self.external_object_type = external_object_type
        self.source_id_field = source_id_field or pretix_id_field or ""
        self.external_id_field = external_id_field
        self.property_mappings = list(property_mappings)
