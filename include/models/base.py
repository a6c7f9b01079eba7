"""What every row that a provider feeds has in common, and what the engine must know of its table."""

from __future__ import annotations

from typing import ClassVar

import msgspec


class Providable(msgspec.Struct, gc=False):
    """A row that providers create and update.

    Fields are the columns of `table_name`, in any order, with the column's database default as default value, `id`
    first and the columns that providers may not write (`read_only`) last. On an update the object comes with what the
    database holds; a provider sets what its source sent, so a field that was not sent keeps its value and one sent as
    None is cleared. Assign new lists and dictionaries instead of changing the held ones in place.

    The sync columns (`id_at_providers`, `last_provider_id`, `date_modified_at_last_provider`, `fields_updated`) are
    the engine's own: every table has them, no object shows them.
    """

    table_name: ClassVar[str]
    read_only: ClassVar[tuple[str, ...]] = ()
    """Columns that the database keeps itself; a provider can read them."""
    is_shared: ClassVar[bool] = False
    """True for a table that several providers feed: it has `provider_dates`, the last date of each provider."""
    has_venue_reference: ClassVar[bool] = False
    """True for a table with `id_at_provider`, the reference within one venue."""
    has_thumbs: ClassVar[bool] = False
    """True for a table with pictures: it has `thumbs`, see `Product`."""
    can_be_gone: ClassVar[bool] = False
    """True for a table with `gone_since`, when a complete listing no longer had the row."""
    off_sale: ClassVar[str] = ""
    """Column that says that a row is off sale: one that is gone and is not is looked at again. Empty: none is."""
    parent: ClassVar[tuple[str, type[Providable]] | None] = None
    """Column and model of the row that this one belongs to; a model with a `venue_id` ends the chain."""
    passes_at: ClassVar[str] = ""
    """Column with the time from which a row is history: no listing needs to have it any more. Empty: never."""

    id: int | None = None
    """Primary key; None while the row does not exist."""
