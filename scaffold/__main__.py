"""`python -m scaffold acme`: write a provider that runs, with its DAG, test, stand-in, connection, pool and tag."""

from __future__ import annotations

import argparse
import keyword
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from string import Template

from sandbox.suppliers import find_suppliers
from sandbox.world import World

ROOT = Path(__file__).resolve().parent.parent
TEMPLATES = Path(__file__).parent / "templates"
FILES = {
    "provider.py": "include/providers/{module}.py",
    "dag.py": "dags/{module}.py",
    "supplier.py": "sandbox/suppliers/{module}.py",
    "test_provider.py": "tests/providers/test_{module}.py",
}
SETTINGS = "airflow_settings.yaml"
TAGS = "include/operators/tags.py"
PLACES = "FILL"
"""Marks the places in the templates that the author fills in."""


class Refused(Exception):
    """The name is invalid or already in use."""


def names_of(name: str, subject: str, root: Path) -> dict[str, str]:
    """Return the variables of the templates for a name such as `acme` or `acme_events`.

    Raises:
        Refused: the name is not a valid module name, or is already in use.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) or len(name) > 50 or keyword.iskeyword(name):
        raise Refused(f"NAME={name!r}: use a module name such as acme or acme_events, in lower case")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", subject):
        raise Refused(f"SUBJECT={subject!r}: use a word in lower case, such as stocks or events")
    if name in _services():
        raise Refused(f"{name} is in use: the sandbox has a service of this name")
    taken = [path.format(module=name) for path in FILES.values() if (root / path.format(module=name)).exists()]
    if taken or f"conn_id: {name}_api\n" in (root / SETTINGS).read_text(encoding="utf-8"):
        raise Refused(f"{name} is in use: {', '.join(taken) or f'{SETTINGS} has a connection {name}_api'}")
    camel = "".join(part.capitalize() for part in name.split("_"))
    suppliers = len(list((root / "sandbox" / "suppliers").glob("*.py")))
    return {
        "module": name,
        "title": name.replace("_", " ").capitalize(),
        "provider": camel,
        "record": f"{camel}Record",
        "page": f"{camel}Page",
        "subject": subject.upper(),
        "subcategory": subject.upper(),
        "number": str(10 * suppliers),
    }


def _services() -> set[str]:
    """Return the services that the sandbox imitates."""
    return {supplier.service for supplier in find_suppliers(World())} | {"algolia", "brevo", "teams"}


def write(root: Path, names: dict[str, str]) -> list[str]:
    """Write the files of a provider, and add it to the settings and tags; return the paths written."""
    for template, path in FILES.items():
        text = Template((TEMPLATES / f"{template}.tmpl").read_text(encoding="utf-8")).substitute(names)
        (root / path.format(**names)).write_text(text, encoding="utf-8")
    _add_connection(root / SETTINGS, names)
    _add_tag(root / TAGS, names["subject"])
    return [*(path.format(**names) for path in FILES.values()), SETTINGS]


def _add_connection(file: Path, names: dict[str, str]) -> None:
    """Append the connection and the pool to their blocks; comments and order of the file stay."""
    module, title = names["module"], names["title"]
    connection = f"""\
    - conn_id: {module}_api
      conn_type: http
      conn_description: {title}
      conn_host: http://host.docker.internal:8765/{module}
      conn_port:
      conn_schema:
      conn_login:
      conn_password:
      conn_extra:
        requests_per_second: 50
"""
    pool = f"""\
    - pool_name: {module}
      pool_slot: 8
      pool_description: Tasks that may call {title} in parallel
"""
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    for block, entry in (("connections", connection), ("pools", pool)):
        lines.insert(_end_of(block, lines), entry)
    file.write_text("".join(lines), encoding="utf-8")


def _end_of(block: str, lines: Sequence[str]) -> int:
    """Return the index of the line after the last entry of a block."""
    place = lines.index(f"  {block}:\n") + 1
    while place < len(lines) and lines[place].startswith("    "):
        place += 1
    return place


def _add_tag(file: Path, subject: str) -> None:
    text = file.read_text(encoding="utf-8")
    if f"    {subject} = " not in text.partition("class Subject")[2]:
        file.write_text(f'{text.rstrip()}\n    {subject} = "{subject.lower()}"\n', encoding="utf-8")


def _ruff(root: Path, files: Sequence[str]) -> None:
    for words in (["check", "--quiet", "--fix"], ["format", "--quiet"]):
        subprocess.run([sys.executable, "-m", "ruff", *words, *files], cwd=root, check=True)


def _document(root: Path) -> None:
    env = os.environ | {
        "PYTHONPATH": str(root),
        "AIRFLOW_HOME": str(root / ".local" / "tests" / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    }
    blocks = ("dag-table", "dags", "parameters", "connections", "pools")
    subprocess.run([sys.executable, "-W", "ignore", "-m", "local.docs", *blocks], cwd=root, env=env, check=True,
                   stdout=subprocess.DEVNULL)  # fmt: skip


def main(given: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Write the provider; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m scaffold", description=__doc__)
    parser.add_argument("name", nargs="?", default=os.environ.get("NAME", ""))
    parser.add_argument("--subject", default=os.environ.get("SUBJECT") or "stocks", help="tag of the DAG (%(default)s)")
    options = parser.parse_args(given)
    try:
        names = names_of(options.name, options.subject, root)
    except Refused as refused:
        print(f"Error: {refused}", file=sys.stderr)
        return 2
    written = write(root, names)
    _ruff(root, [path for path in written if path.endswith(".py")])
    _document(root)
    print(f"Wrote {names['title']}. It runs: `make test ARGS='-k {names['module']}'`, `make run`. Fill in:")
    for path in written:
        for number, line in enumerate((root / path).read_text(encoding="utf-8").splitlines(), start=1):
            if PLACES in line:
                print(f"  {path}:{number}  {line.strip().lstrip('# ')}")
    print(f"  {SETTINGS}: the address of {names['module']}_api (the local run uses the sandbox)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
