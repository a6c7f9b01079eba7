"""Where things lie in a clone. Everything the local run makes is below `.local/`."""

from __future__ import annotations

import json
import secrets
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from pathlib import Path


class LocalError(Exception):
    """Something a person has to put right; the message says what. `status` is the exit status."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Checkout:
    """A checkout of the project and the paths of its local run."""

    root: Path

    @property
    def state(self) -> Path:
        """The folder of all that the local run makes."""
        return self.root / ".local"

    @property
    def dags(self) -> Path:
        """The folder of DAG files."""
        return self.root / "dags"

    @property
    def logs(self) -> Path:
        """What the components print, one file each."""
        return self.state / "logs"

    @property
    def airflow_home(self) -> Path:
        """Airflow's own folder."""
        return self.state / "airflow"

    @property
    def task_logs(self) -> Path:
        """The task logs, in Airflow's layout."""
        return self.airflow_home / "logs"

    @property
    def passwords(self) -> Path:
        """Who may sign in to the web UI, with which password."""
        return self.state / "passwords.json"

    def dag_ids(self) -> list[str]:
        """The DAGs of the project: each has a file of its name."""
        return sorted(file.stem for file in self.dags.glob("*.py") if not file.name.startswith(("_", ".")))

    def secret(self, name: str) -> str:
        """A key of this clone, made at its first use and kept."""
        return _kept(self.state / "secrets.json", {name: urlsafe_b64encode(secrets.token_bytes(32)).decode()})[name]

    def password(self, user: str) -> str:
        """The password of a user of the web UI, made at its first use and kept."""
        return _kept(self.passwords, {user: secrets.token_urlsafe(9)})[user]


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read; a reader sees the old or the new text, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600)
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def _kept(path: Path, new: dict[str, str]) -> dict[str, str]:
    try:
        old: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        old = {}
    if new.keys() <= old.keys():
        return old
    write_private(path, json.dumps(new | old))
    return new | old
