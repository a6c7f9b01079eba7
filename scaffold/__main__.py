"""`python -m scaffold acme`: a provider, its DAG, test, stand-in, connection, pool and tag, which already run."""

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
"""The word by which the places to fill are found."""


class Refused(Exception):
    """The name cannot be taken, or something of it is there already."""


def names_of(name: str, subject: str, root: Path) -> dict[str, str]:
    """What the templates call things, from `acme` or `acme_events`.

    Raises:
        Refused: the name is no module name, or something has it already.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) or len(name) > 50 or keyword.iskeyword(name):
        raise Refused(f"NAME={name!r}: give a module's name such as acme or acme_events, in small letters")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", subject):
        raise Refused(f"SUBJECT={subject!r}: give a word in small letters, such as stocks or events")
    if name in _services():
        raise Refused(f"{name} is taken: the sandbox has a service of this name")
    taken = [path.format(module=name) for path in FILES.values() if (root / path.format(module=name)).exists()]
    if taken or f"conn_id: {name}_api\n" in (root / SETTINGS).read_text(encoding="utf-8"):
        raise Refused(f"{name} is taken: {', '.join(taken) or f'{name}_api stands in {SETTINGS}'}")
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
    """The services that the sandbox stands in for."""
    return {supplier.service for supplier in find_suppliers(World())} | {"algolia", "brevo", "teams"}


def write(root: Path, names: dict[str, str]) -> list[str]:
    """Write the files of a provider and enter it into the settings and tags; returns the paths written."""
    for template, path in FILES.items():
        text = Template((TEMPLATES / f"{template}.tmpl").read_text(encoding="utf-8")).substitute(names)
        (root / path.format(**names)).write_text(text, encoding="utf-8")
    _enter_connection(root / SETTINGS, names)
    _enter_tag(root / TAGS, names["subject"])
    return [*(path.format(**names) for path in FILES.values()), SETTINGS]


def _enter_connection(file: Path, names: dict[str, str]) -> None:
    """Put the connection last among the connections, and the pool last among the pools, as a person would."""
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
    """The number of the line behind the last entry of a block."""
    place = lines.index(f"  {block}:\n") + 1
    while place < len(lines) and lines[place].startswith("    "):
        place += 1
    return place


def _enter_tag(file: Path, subject: str) -> None:
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
    """Write the provider; returns the exit status."""
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
    print(f"{names['title']} is there and runs: `make test ARGS='-k {names['module']}'`, `make run`. Fill in:")
    for path in written:
        for number, line in enumerate((root / path).read_text(encoding="utf-8").splitlines(), start=1):
            if PLACES in line:
                print(f"  {path}:{number}  {line.strip().lstrip('# ')}")
    print(f"  {SETTINGS}: the address of {names['module']}_api, outside the local run")
    return 0


if __name__ == "__main__":
    sys.exit(main())
