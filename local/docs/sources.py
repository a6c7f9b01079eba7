"""What the generators read: the DAGs, and a migrated database. Each is loaded when a block first needs it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psycopg
    from airflow.sdk import DAG

ROOT = Path(__file__).resolve().parents[2]


class Sources(ExitStack):
    """Closes what it opened at the end of the `with` block.

    :param root: the project.
    :param conninfo: a migrated database; without it, an embedded PostgreSQL is started in a temporary folder.
    """

    def __init__(self, root: Path = ROOT, conninfo: str | None = None) -> None:
        super().__init__()
        self.root = root
        self._conninfo = conninfo

    @cached_property
    def dags(self) -> dict[str, DAG]:
        """The DAGs of the project by their id."""
        return read_dags(self.root / "dags")

    @cached_property
    def database(self) -> psycopg.Connection[Any]:
        """A connection to a database with all tables of the project."""
        import psycopg

        return self.enter_context(psycopg.connect(self._conninfo or self._temporary_database()))

    def _temporary_database(self) -> str:
        from include.store.migrate import migrate
        from local import postgres

        folder = self.enter_context(TemporaryDirectory(prefix="provider-sync-docs-", ignore_cleanup_errors=True))
        server = postgres.start(Path(folder, "data"))
        self.callback(postgres.stop, server.data)
        migrate(server.conninfo("postgres"))
        return server.conninfo("postgres")


def read_dags(folder: Path = ROOT / "dags") -> dict[str, DAG]:
    """Return the DAGs of a folder by their id.

    Raises:
        SystemExit: a file cannot be imported, or there is no DAG.
    """
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(str(folder))
    if bag.import_errors:
        raise SystemExit("\n".join(f"{name} cannot be imported:\n{error}" for name, error in bag.import_errors.items()))
    if not bag.dags:
        raise SystemExit(f"There is no DAG in {folder}")
    return {dag_id: bag.dags[dag_id] for dag_id in sorted(bag.dags)}


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in (head, *rows)]
    lines = [f"| {' | '.join(line)} |" for line in cells]
    return "\n".join([lines[0], f"| {' | '.join(['---'] * len(head))} |", *lines[1:]])
