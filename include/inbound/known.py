"""What providers may look up while they fill: keys and rows of the objects that the chunk names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from include.errors import ConfigurationError, SkipObject
from include.models import Providable
from include.providers.base import ProvidableInfo
from include.store import Connection
from include.store.rows import RowsRefused, find_rows, is_usable_key
from include.store.tables import ID, KEY, table_of

P = TypeVar("P", bound=Providable)


class Known:
    """Implements `KnownRows` for one chunk; `provider_name` is for errors."""

    def __init__(
        self,
        connection: Connection,
        provider_id: int,
        provider_name: str,
        infos: Mapping[type[Providable], Sequence[ProvidableInfo]],
    ) -> None:
        self.ids: dict[type[Providable], dict[str, int]] = {}
        """Primary key per key, of the tables that others of the chunk may refer to."""
        self.is_copying = False
        """While rows are copied, the connection cannot look anything up."""
        self._connection = connection
        self._provider_id = provider_id
        self._provider_name = provider_name
        self._infos = infos
        self._rows: dict[type[Providable], dict[str, Providable]] = {}

    def id_of(self, model: type[Providable], id_at_providers: str) -> int:
        """Return the primary key of an object of this chunk; SkipObject if it has no row."""
        ids = self.ids.get(model)
        if ids is None:
            rows = self._rows_of(model)
            ids = self.ids[model] = {key: row.id for key, row in rows.items() if row.id is not None}
        try:
            return ids[id_at_providers]
        except KeyError:
            raise SkipObject(f"its {model.__name__} {id_at_providers} is not in the database") from None

    def row_of(self, model: type[P], id_at_providers: str) -> P:
        """Return the stored values of an object of this chunk; SkipObject if it has no row."""
        row = self._rows_of(model).get(id_at_providers)
        if row is None:
            raise SkipObject(f"its {model.__name__} {id_at_providers} is not in the database")
        return row  # type: ignore[return-value]

    def load_references(self) -> None:
        """Look up all references of the chunk, since nothing can be looked up while rows are copied."""
        for model, infos in self._infos.items():
            if infos[0].role == "reference":
                self._rows_of(model)

    def _rows_of(self, model: type[Providable]) -> dict[str, Providable]:
        """Return all rows of a model that the chunk names; one lookup, when the first of them is requested."""
        rows = self._rows.get(model)
        if rows is None:
            if self.is_copying:
                raise RowsRefused(f"{model.__name__} rows are looked up while others are copied")
            infos = self._infos.get(model)
            if infos is None:
                raise ConfigurationError(
                    f"{self._provider_name} looks up a {model.__name__} that its records do not name: "
                    f"add self.create_reference({model.__name__}, …) to the list that __next__ returns"
                )
            keys = [*{info.id_at_providers for info in infos if is_usable_key(info.id_at_providers)}]
            found = find_rows(self._connection, table_of(model), self._provider_id, keys, columns=True)
            rows = self._rows[model] = {row[KEY]: model(*row[ID:]) for row in found}
        return rows
