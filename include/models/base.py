"""The base class of all rows that providers create and update, with what the engine needs to know about each table."""

from __future__ import annotations

from typing import ClassVar

import msgspec


class Providable(msgspec.Struct, gc=False):
    """A row that providers create and update.

    Fields are the columns of `table_name` with the column's database default as default value: `id` first, then the
    others in any order, then the columns that providers may not write (`read_only`). On an update the object has the
    stored values. A provider sets the fields that its source sent: a field that it does not set keeps its value, None
    clears it. Assign new lists and dictionaries instead of changing the stored ones in place.

    Every table also has the sync columns `id_at_providers`, `last_provider_id`, `date_modified_at_last_provider` and
    `fields_updated`. Only the engine uses them; they are not fields.
    """

    table_name: ClassVar[str]
    read_only: ClassVar[tuple[str, ...]] = ()
    """Columns that the database maintains; providers may read them."""
    is_shared: ClassVar[bool] = False
    """True if several providers feed the table: its column `provider_dates` has the last date of each provider."""
    has_venue_reference: ClassVar[bool] = False
    """True if the table has `id_at_provider`, the reference within one venue."""
    has_thumbs: ClassVar[bool] = False
    """True if the table has images, in the column `thumbs`; see `Product`."""
    can_be_gone: ClassVar[bool] = False
    """True if the table has `gone_since`, the time at which a complete listing first lacked the row."""
    off_sale: ClassVar[str] = ""
    """Column that is true while a row is off sale; removed rows that are on sale again are checked. Empty: none."""
    parent: ClassVar[tuple[str, type[Providable]] | None] = None
    """Foreign key column and model of the parent row; the chain ends at a model with a `venue_id`."""
    passes_at: ClassVar[str] = ""
    """Column with the time after which a row is in the past and need not be listed any more. Empty: never."""

    id: int | None = None
    """Primary key; None while the row does not exist."""
