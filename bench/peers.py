"""The environment of the peers, `.bench/venv`: created on first use from their lock file."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

LOCK = Path(__file__).with_name("requirements-peers.lock")


def python(folder: Path) -> Path:
    """Return the interpreter of the environment below `folder`."""
    return folder / "venv" / "bin" / "python"


def are_installed(folder: Path) -> bool:
    """Return whether the environment was made from this lock file."""
    made_from = folder / "venv" / LOCK.name
    return made_from.is_file() and made_from.read_bytes() == LOCK.read_bytes()


def install(folder: Path) -> None:
    """Create the environment."""
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder / "venv")], check=True)
    pip = [str(python(folder)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--no-deps", "--require-hashes", "--requirement", str(LOCK)], check=True)
    shutil.copy(LOCK, folder / "venv" / LOCK.name)
