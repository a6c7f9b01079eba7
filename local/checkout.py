"""The paths of a checkout. The local run writes to `.local/` only."""

from __future__ import annotations

import json
import secrets
from base64 import urlsafe_b64encode
from pathlib import Path


class LocalError(Exception):
    """An error that the user can fix; the message says how. `status` is the exit status of the command."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


class Checkout:
    """A checkout of the project and the paths of its local run."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.dags = root / "dags"
        self.state = root / ".local"  # all that the local run writes
        self.logs = self.state / "logs"  # of the components, one file each
        self.airflow_home = self.state / "airflow"
        self.task_logs = self.airflow_home / "logs"  # in Airflow's layout
        self.passwords = self.state / "passwords.json"  # of the web UI's users

    def dag_ids(self) -> list[str]:
        """Return the ids of the project's DAGs, which are their file names."""
        return sorted(file.stem for file in self.dags.glob("*.py") if not file.name.startswith(("_", ".")))

    def secret(self, name: str) -> str:
        """Return a secret key of this checkout, generated at its first use."""
        return _stored(self.state / "secrets.json", {name: urlsafe_b64encode(secrets.token_bytes(32)).decode()})[name]

    def password(self, user: str) -> str:
        """Return the password of a user of the web UI, generated at its first use."""
        return _stored(self.passwords, {user: secrets.token_urlsafe(9)})[user]


def write_private(path: Path, text: str) -> None:
    """Write a file atomically, readable by its owner only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600)
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def _stored(path: Path, new: dict[str, str]) -> dict[str, str]:
    try:
        old: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        old = {}
    if new.keys() <= old.keys():
        return old
    write_private(path, json.dumps(new | old))
    return new | old
