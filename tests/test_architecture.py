"""The structure of the code: who may import whom, where SQL lives, how long a piece may be, which words are not used.

docs/explanation/architecture.md explains the layers, docs/glossary.md the words.
"""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

LAYERS = (
    ("errors",),
    ("masking", "registry", "texts"),
    ("models",),
    ("connectors", "store", "sql"),
    ("providers", "targets", "patches"),
    ("inbound", "outbound", "search", "venue_links"),
    ("operators",),
)
"""Units of include/, from the bottom up. A unit may import units of lower layers, never its neighbours."""

SIDEWAYS = {("sql", "store")}
"""Migrations use the helper that runs a file of SQL statements."""

UPWARD = ("include/providers/base.py", "updateObjects", "inbound")
"""The one upward call: `provider.updateObjects()` runs the engine, for people who know that name."""

PROGRAMS = {
    "include": set(),
    "dags": {"include"},
    "sandbox": set(),
    "scaffold": {"sandbox"},
    "local": {"include", "sandbox"},
    "bench": {"include", "local", "sandbox"},
    "soak": {"include", "local", "sandbox", "bench"},
}
"""Top-level packages, and the others that each may import. The sandbox knows nothing about the code under test."""

MAX_CLASS_LINES = 250
MAX_FUNCTION_LINES = 60

SQL = re.compile(
    r"\s*(SELECT|INSERT INTO|UPDATE|DELETE FROM|COPY|CREATE|ALTER|DROP|TRUNCATE|SET|RESET|WITH)\s+[\w(*\"]"
)

WORDS = re.compile(
    r"(?<![\w`])(told|held|anew|whoever|wholly|beside|claimers?|markers?|episodes?)(?![\w`])"
    r"|, say\b|\bso many\b|\btaken for\b|\bby turns\b|\bmade to hold\b|\btold apart\b|\bgoes on after\b",
    re.IGNORECASE,
)
"""Words that readers stumble over, where the field has a term of its own: see docs/glossary.md."""

WORDS_ALLOWED = {
    "pyproject.toml",  # `markers` of pytest, and environment markers
    "requirements.lock",
    "include/sql/comments.sql",  # the column outbound_report.claimers
    "include/sql/views/outbound_report.sql",
}


def tracked(*patterns):
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    return [ROOT / name for name in sorted(set(names)) if (ROOT / name).is_file()]


def name_of(file):
    return file.relative_to(ROOT).as_posix()


def parsed(*patterns):
    return [(file, ast.parse(file.read_text())) for file in tracked(*patterns)]


def imports(tree):
    """Every imported module with its node: late imports and those for types only included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((f"{node.module}.{alias.name}", node) for alias in node.names)


def unit_of(module):
    return module.split(".")[1]


def enclosing_function(tree, node):
    functions = [found for found in ast.walk(tree) if isinstance(found, ast.FunctionDef)]
    around = [found.name for found in functions if found.lineno <= node.lineno <= found.end_lineno]
    return around[-1] if around else None


def test_imports_run_one_way():
    layer_of = {unit: number for number, units in enumerate(LAYERS) for unit in units}
    wrong = []
    upward = []
    for file, tree in parsed("include/*.py"):
        importer = Path(name_of(file)).with_suffix("").parts[1]
        if importer == "__init__":
            continue
        for module, node in imports(tree):
            if not module.startswith("include."):
                continue
            imported = unit_of(module)
            if imported == importer or (importer, imported) in SIDEWAYS:
                continue
            if layer_of[imported] < layer_of[importer]:
                continue
            found = (name_of(file), enclosing_function(tree, node), imported)
            (upward if found == UPWARD else wrong).append(found)
    assert wrong == []
    assert upward == [UPWARD]


def test_there_is_no_cycle_of_modules():
    trees = {
        ".".join(Path(name_of(file)).with_suffix("").parts).removesuffix(".__init__"): (name_of(file), tree)
        for file, tree in parsed("include/*.py", "local/*.py", "sandbox/*.py")
    }
    graph = {
        importer: {
            module if module in trees else module.rpartition(".")[0]
            for module, node in imports(tree)
            if (name, enclosing_function(tree, node)) != UPWARD[:2]
        }
        for importer, (name, tree) in trees.items()
    }
    graph = {importer: (found - {importer}) & graph.keys() for importer, found in graph.items()}
    while ends := {module for module, found in graph.items() if not found}:
        graph = {module: found - ends for module, found in graph.items() if module not in ends}
    assert graph == {}


def test_programs_import_only_what_they_may():
    wrong = []
    for program, allowed in PROGRAMS.items():
        for file, tree in parsed(f"{program}/*.py"):
            for module, _ in imports(tree):
                top = module.split(".")[0]
                if top in PROGRAMS.keys() - allowed - {program} or top == "tests":
                    wrong.append((name_of(file), module))
    assert wrong == []


def test_sql_is_under_store_and_sql_only():
    wrong = []
    for file, tree in parsed("include/*.py"):
        if name_of(file).startswith(("include/store/", "include/sql/")):
            continue
        docstrings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                if node.func.attr in ("execute", "executemany"):
                    wrong.append((name_of(file), node.lineno))
            elif (
                node not in docstrings
                and isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and SQL.match(node.value)
            ):
                wrong.append((name_of(file), node.lineno, node.value[:40]))
    assert wrong == []


@pytest.mark.parametrize(
    ("kind", "limit"),
    [(ast.ClassDef, MAX_CLASS_LINES), (ast.FunctionDef, MAX_FUNCTION_LINES)],
    ids=["class", "function"],
)
def test_no_piece_is_too_long(kind, limit):
    long = [
        (name_of(file), node.name, length)
        for file, tree in parsed("include/*.py")
        for node in ast.walk(tree)
        if isinstance(node, kind) and (length := node.end_lineno - node.lineno + 1) > limit
    ]
    assert long == []


def test_the_outbound_contract_is_typed():
    files = tracked("include/outbound/*.py", "include/targets/*.py")
    assert len(files) > 10
    assert sum(len(re.findall(r"\bAny\b", file.read_text())) for file in files) < 40


def test_words_that_the_field_does_not_use():
    places = tracked(
        "*.py", "*.sql", "*.md", "*.tmpl", "*.yaml", "*.toml", "*.txt", "Makefile", ".ci/run", "Dockerfile"
    )
    wrong = [
        f"{name_of(file)}:{number}: {found[0]}"
        for file in places
        if not name_of(file).startswith("tests/") and name_of(file) not in WORDS_ALLOWED
        for number, line in enumerate(file.read_text().splitlines(), 1)
        if (found := WORDS.search(re.sub(r"~~.*?~~", "", line)))  # struck through: a bad example
    ]
    assert wrong == [], f"{len(wrong)} places"


@pytest.mark.parametrize("text", ["it is held", "a venue, say", "so many rows", "Told once", "markers"])
def test_the_word_list_finds(text):
    assert WORDS.search(text)


@pytest.mark.parametrize("text", ["fields_held_back", "withheld", "`held`", "bookmarker", "besides that"])
def test_the_word_list_leaves_alone(text):
    assert not WORDS.search(text)
